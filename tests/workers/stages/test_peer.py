"""Who may come in, and where frames go: the rules of the plain protocol for its peer."""

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.endpoint import ENDPOINT_SLOTS, Endpoint, from_raw, load, store
from tap2tap.workers.stages import peer as peer_module
from tap2tap.workers.stages.peer import BURST, QUIET, SILENCE, Address, PeerFilter

CHECK = ENDPOINT_SLOTS - 1
AT, HEARD = 1, 7
INET, INET6 = socket.AF_INET, socket.AF_INET6
SECOND = 10**9
ANYWHERE = Endpoint(ipaddress.ip_address("::"), 1234)


def raw(host: str, port: int, family: int = INET, local: str | None = None) -> bytes:
    """What the kernel says of a datagram's source, and of where it came to."""
    ours = ipaddress.ip_address(local) if local else None
    return Endpoint(ipaddress.ip_address(host), port, local=ours).raw(family)


ALICE = raw("192.0.2.1", 1234)
MALLORY = raw("192.0.2.66", 1234)
OTHER_PORT = raw("192.0.2.1", 1235)
WHO = {"alice": ("192.0.2.1", 1234), "mallory": ("192.0.2.66", 1234), "other port": ("192.0.2.1", 1235)}
OURS = (None, "198.51.100.1", "198.51.100.2")


def slots() -> memoryview:
    """Empty slots of a counter block."""
    return memoryview(bytearray(8 * 8)).cast("Q")


def server(block: memoryview, family: int = INET) -> PeerFilter:
    """The filter of a tunnel without --remote."""
    return PeerFilter(block, AT, HEARD, family, ANYWHERE, fixed=False)


def client(block: memoryview, remote: bytes, family: int = INET) -> PeerFilter:
    """The filter of a tunnel with --remote."""
    store(block, AT, from_raw(remote))
    return PeerFilter(block, AT, HEARD, family, ANYWHERE, fixed=True)


def test_a_client_admits_its_remote_only_and_for_ever() -> None:
    block = slots()
    peers = client(block, ALICE)
    for now in (0, 1, 3600 * SECOND):
        assert not peers.admits(MALLORY, now)
        assert not peers.admits(OTHER_PORT, now)
        assert load(block, AT) == from_raw(ALICE)
    assert peers.admits(ALICE, 7200 * SECOND)


def test_a_server_knows_nobody_until_the_first_one_calls() -> None:
    block = slots()
    peers = server(block)
    assert load(block, AT) is None
    assert peers.admits(ALICE, 5 * SECOND)
    assert load(block, AT) == from_raw(ALICE)


@pytest.mark.parametrize("forger", [MALLORY, OTHER_PORT])
def test_a_stranger_cannot_steal_a_live_tunnel(forger: bytes) -> None:
    block = slots()
    peers = server(block)
    now = 0
    for _ in range(10):
        now += SILENCE - 1
        assert peers.admits(ALICE, now)
        assert not peers.admits(forger, now + SILENCE - 1)
        assert load(block, AT) == from_raw(ALICE)


def test_after_thirty_seconds_of_silence_another_may_take_the_place() -> None:
    assert SILENCE == 30 * SECOND
    block = slots()
    peers = server(block)
    assert peers.admits(ALICE, SECOND)
    assert peers.admits(MALLORY, SECOND + SILENCE)
    assert load(block, AT) == from_raw(MALLORY)
    assert not peers.admits(ALICE, SECOND + SILENCE + 1)


def test_a_refused_stranger_does_not_count_as_a_word_from_the_peer() -> None:
    block = slots()
    peers = server(block)
    peers.admits(ALICE, 0)
    assert not peers.admits(MALLORY, SILENCE - 1)
    assert peers.admits(MALLORY, SILENCE)


def test_the_block_says_when_the_peer_was_heard_last() -> None:
    block = slots()
    peers = server(block)
    peers.admits(ALICE, 7)
    peers.admits(MALLORY, 8)
    assert block[HEARD] == 7
    peers.admits(ALICE, 9)
    assert block[HEARD] == 9


def test_a_successor_knows_the_peer_and_how_long_it_has_been_silent() -> None:
    block = slots()
    server(block).admits(ALICE, SECOND)
    successor = server(block)
    assert not successor.admits(MALLORY, SILENCE)
    assert successor.admits(ALICE, SILENCE)


def test_a_peer_in_ipv4_is_known_again_by_an_ipv6_socket() -> None:
    mapped = raw("192.0.2.1", 1234, INET6)
    sockaddr = bytes.fromhex("04d2 00000000 00000000000000000000ffffc0000201 00000000")
    assert mapped == struct.pack("@H", INET6) + sockaddr + bytes(16)
    block = slots()
    assert server(block, INET6).admits(mapped, 1)
    successor = server(block, INET6)
    assert successor.admits(mapped, 2)
    assert str(load(block, AT)) == "192.0.2.1:1234"


def test_a_client_on_an_ipv6_socket_knows_its_remote_in_ipv4() -> None:
    block = slots()
    assert client(block, ALICE, INET6).admits(raw("192.0.2.1", 1234, INET6), 1)


@given(st.lists(st.tuples(st.sampled_from([ALICE, MALLORY, OTHER_PORT]), st.integers(0, 2 * SILENCE))))
def test_no_sequence_of_callers_moves_a_server_within_thirty_seconds(calls: list[tuple[bytes, int]]) -> None:
    block = slots()
    peers = server(block)
    peer: bytes | None = None
    now = heard = 0
    for source, pause in calls:
        now += pause
        expected = peer is None or source == peer or now - heard >= SILENCE
        assert peers.admits(source, now) == expected
        if expected:
            peer, heard = source, now
        assert load(block, AT) == (from_raw(peer) if peer else None)


@given(
    st.booleans(),
    st.lists(
        st.tuples(st.sampled_from([*WHO, "supervisor", "rest"]), st.sampled_from(OURS), st.integers(0, 2 * SILENCE)),
        max_size=30,
    ),
)
def test_frames_leave_from_where_the_peer_sends_to(fixed: bool, calls: list[tuple[str, str | None, int]]) -> None:
    block = slots()
    peers = client(block, ALICE) if fixed else server(block)
    peer, local = ("alice" if fixed else None), None
    now = heard = confirmed = paid_until = 0
    for what, to, pause in calls:
        now += pause
        if what == "supervisor":
            if fixed:  # it turns to another remote, or looks whether the one that it means is there
                peer, local = ("mallory", None) if to else (peer, local)
                store(block, AT, from_raw(raw(*WHO[peer or ""], local=local)))
            continue
        if what == "rest":
            peers.rest(now)
            local = None if fixed and now - heard >= SILENCE else local
        else:
            expected = what == peer or (not fixed and (peer is None or now - heard >= SILENCE))
            assert peers.admits(raw(*WHO[what], local=to), now) == expected
            if expected:
                paid = max(paid_until, now) + QUIET
                answers = not fixed and paid <= now + BURST * QUIET
                if not fixed or local in (None, to) or now - confirmed >= SILENCE:
                    local, confirmed = to, now  # else only a forger would choose another one
                peer, heard = what, now
                assert peers.answers(now) == answers
                paid_until = paid if answers else paid_until
        assert load(block, AT) == (from_raw(raw(*WHO[peer], local=local)) if peer else None)
        assert Address(block, AT, INET).current() == (raw(*WHO[peer], local=local) if peer else None)


def test_a_client_leaves_the_remote_to_the_supervisor_that_turns_to_another_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block = slots()
    peers = client(block, ALICE)

    def meanwhile(source: bytes) -> Endpoint:
        store(block, AT, from_raw(MALLORY))
        return from_raw(source)

    monkeypatch.setattr(peer_module, "from_raw", meanwhile)
    assert not peers.admits(raw(*WHO["alice"], local=OURS[1]), 1)
    assert load(block, AT) == from_raw(MALLORY)


@pytest.mark.parametrize(
    ("here", "source"),
    [
        (ANYWHERE, raw("198.51.100.1", 1234, INET6, "198.51.100.1")),
        (ANYWHERE, raw("2001:db8::1", 1234, INET6, "2001:db8::1")),
        (from_raw(raw("198.51.100.1", 1234)), raw("198.51.100.1", 1234)),
    ],
)
@pytest.mark.parametrize("fixed", [False, True])
def test_we_are_no_peer_of_ourselves(here: Endpoint, source: bytes, fixed: bool) -> None:
    block, family = slots(), INET if len(source) == len(ALICE) else INET6
    if fixed:
        store(block, AT, from_raw(source).from_anywhere)
    peers = PeerFilter(block, AT, HEARD, family, here._replace(port=1235), fixed=fixed)
    assert peers.admits(source, 1)
    block = slots()
    peers = PeerFilter(block, AT, HEARD, family, here, fixed=fixed)
    assert not peers.admits(source, 1)
    assert block[HEARD] == 0
    assert load(block, AT) is None


def test_every_answer_that_makes_a_peer_is_sent_and_a_few_more() -> None:
    peers = server(slots())
    for who, start in ((ALICE, 0), (MALLORY, SILENCE + SECOND)):
        for number in range(BURST + 1):
            assert peers.admits(who, start + number)
            assert peers.answers(start + number) == (number < BURST)
        assert not peers.answers(start + QUIET - 1)
        assert peers.answers(start + QUIET)


@given(st.integers(0, 2000), st.integers(0, 2 * QUIET), st.integers(1, 2))
def test_two_servers_that_a_forger_made_each_others_peers_fall_silent(delay: int, start: int, forged: int) -> None:
    """`delay` is in milliseconds, for one direction."""
    ends = [server(slots()), server(slots())]
    for at in range(forged):
        now, answers = start, 0
        while ends[at].admits(ALICE, now) and ends[at].answers(now):  # each is Alice to the other
            at, now, answers = 1 - at, now + delay * 10**6, answers + 1
            assert answers <= 10 * BURST


def test_there_is_nowhere_to_send_until_a_peer_is_known() -> None:
    block = slots()
    address = Address(block, AT, INET)
    assert address.current() is None
    server(block).admits(ALICE, 1)
    assert address.current() == ALICE


def test_frames_follow_the_peer_when_it_moves() -> None:
    block = slots()
    peers, address = server(block), Address(block, AT, INET)
    peers.admits(ALICE, 0)
    assert address.current() == ALICE
    peers.admits(MALLORY, SILENCE)
    assert address.current() == MALLORY


def test_frames_go_to_the_old_peer_while_the_new_one_is_being_written() -> None:
    block, new = slots(), slots()
    store(block, AT, from_raw(ALICE))
    store(new, AT, from_raw(MALLORY))
    address = Address(block, AT, INET)
    assert address.current() == ALICE
    for index in range(AT, AT + CHECK):
        block[index] = new[index]
        assert address.current() == ALICE
    block[AT + CHECK] = new[AT + CHECK] ^ 2  # a check of something else altogether
    assert address.current() == ALICE
    block[AT + CHECK] = new[AT + CHECK]
    assert address.current() == MALLORY


def test_the_address_has_the_form_of_the_socket() -> None:
    block = slots()
    store(block, AT, Endpoint(ipaddress.ip_address("192.0.2.1"), 9))
    assert Address(block, AT, INET).current() == struct.pack("@H", INET) + bytes.fromhex(
        "0009 c0000201 0000000000000000 00000000"
    )
    assert Address(block, AT, INET6).current() == raw("::ffff:192.0.2.1", 9, INET6)


def test_a_client_goes_on_from_where_the_server_knows_it_while_that_is_heard() -> None:
    block = slots()
    peers = client(block, ALICE)
    true, forged = (raw(*WHO["alice"], local=ours) for ours in OURS[1:])
    assert peers.admits(true, SECOND)
    assert peers.admits(forged, SILENCE)
    assert load(block, AT) == from_raw(true)
    assert peers.admits(forged, SILENCE + SECOND)  # nothing has come to the other one for long: it may be gone
    assert load(block, AT) == from_raw(forged)
