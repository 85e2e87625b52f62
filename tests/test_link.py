"""The life of a cable on a simulated network: good days, bad days, and an attacker on the path."""

import itertools
import os
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.keys import CableKeys
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.actions import (
    CloseReceive,
    Note,
    OpenReceive,
    PeerDown,
    PeerMoved,
    PeerUp,
    Send,
    Timers,
    Traffic,
    UseForSending,
)
from tap2tap.protocols.secure.handshake import Identity, Initiation, Offer
from tap2tap.protocols.secure.link import Link
from tap2tap.protocols.secure.wire import Cipher
from tests.simulated import DELAY, ELSEWHERE, HOME, VPS, Fate, Host, Network, at, make_keys

LAN_TIME = 10 * DELAY


class Cable:
    """The usual case: home knows where vps is, vps waits."""

    def __init__(self, *, home: dict[str, Any] | None = None, vps: dict[str, Any] | None = None, seed: int = 0) -> None:
        self.keys = make_keys()
        self.network = Network(seed)
        self.vps = Host(self.network, self.keys[1], VPS, **{"keepalive": 0, **(vps or {})})
        self.home = Host(self.network, self.keys[0], HOME, **{"remote": VPS, **(home or {})})

    @property
    def hosts(self) -> tuple[Host, Host]:
        return self.home, self.vps

    def works(self) -> bool:
        """Tell whether both ends are up, and frames sent now arrive on both."""
        if not all(host.up for host in self.hosts):
            return False
        there, back = self.home.send_frame(), self.vps.send_frame()
        self.network.run(LAN_TIME)
        return there in self.vps.heard_frames and back in self.home.heard_frames


def both(**settings: Any) -> dict[str, Any]:
    """The same settings for both ends, and each knows where the other is."""
    return {"home": {"remote": VPS, **settings}, "vps": {"remote": HOME, **settings}}


def times(host: Host, kind: type) -> list[float]:
    return [when for when, _ in host.actions(kind)]


def notes(host: Host) -> list[str]:
    return [action.message for _, action in host.actions(Note) if isinstance(action, Note)]


# Good days.


def test_a_handshake_takes_two_round_trips_until_both_ends_send() -> None:
    cable = Cable()
    cable.network.run(5 * DELAY)
    assert cable.works()
    assert [datagram[0] for datagram, _, _ in cable.network.wire[:4]] == [
        wire.TYPE_INITIATION,
        wire.TYPE_RESPONSE,
        wire.TYPE_DATA,
        wire.TYPE_DATA,
    ]
    assert [action for _, action in cable.home.actions(PeerUp)] == [PeerUp(VPS)]
    assert [action for _, action in cable.vps.actions(PeerUp)] == [PeerUp(HOME)]
    for host in cable.hosts:
        status = host.link.status()
        assert (status.state, status.cipher, status.sessions) == ("up", Cipher.AES_256_GCM, 1)
        assert status.rekeys == 0


@pytest.mark.parametrize("weak", ["home", "vps"])
def test_without_hardware_aes_at_one_end_it_is_chacha(weak: str) -> None:
    cable = Cable(**{weak: {"aes": False}})  # type: ignore[arg-type]
    cable.network.run(1)
    assert cable.works()
    assert {host.link.status().cipher for host in cable.hosts} == {Cipher.CHACHA20_POLY1305}


def test_an_end_that_knows_no_remote_waits_without_a_sound() -> None:
    network = Network()
    vps = Host(network, make_keys()[1], VPS)
    network.run(1000)
    assert network.wire == []
    assert vps.ticks == 1  # the simulation's own, at the end
    assert vps.link.next_deadline() == float("inf")


@pytest.mark.parametrize("delay", [0.0001, DELAY, 0.7, 3.0])
def test_both_at_once_converge(delay: float) -> None:
    cable = Cable(**both())
    cable.network.policy = lambda datagram, source, destination: [(delay, datagram, source, destination)]
    cable.network.run(20 + 6 * delay)
    assert all(host.up for host in cable.hosts)
    rekeys = [host.link.status().rekeys for host in cable.hosts]
    # Later, one of them is the one that renews: not both, every time.
    cable.network.run(1200)
    done = [host.link.status().rekeys - before for host, before in zip(cable.hosts, rekeys, strict=True)]
    assert all(9 <= count <= 12 for count in done)
    assert all(len(host.actions(PeerUp)) == 1 for host in cable.hosts)


@pytest.mark.parametrize("timers", [None, Timers(rekey_after=1.0)], ids=["120 s", "1 s"])
@pytest.mark.parametrize("ends", [{}, both()], ids=["one knows where", "both know where"])
def test_rekeys_lose_nothing(timers: Timers | None, ends: dict[str, Any]) -> None:
    ends = {end: {**ends.get(end, {}), "timers": timers} for end in ("home", "vps")}
    cable = Cable(**ends)
    cable.network.run(1)
    seconds = 400 if timers is None else 40
    for host in cable.hosts:
        cable.network.every(seconds / 4000, seconds, host.send_frame)
    cable.network.run(seconds + 1)
    assert cable.home.sent_frames == cable.vps.sent_frames >= 3999
    assert len(cable.home.heard_frames) == cable.vps.sent_frames
    assert len(cable.vps.heard_frames) == cable.home.sent_frames
    least = 3 if timers is None else 30
    assert all(host.link.status().rekeys >= least for host in cable.hosts)
    assert all(host.link.status().sessions <= (4 if timers is None else 8) for host in cable.hosts)


def test_the_responder_rekeys_when_the_initiator_does_not() -> None:
    cable = Cable()
    cable.network.run(1)
    cable.network.policy = lambda datagram, source, destination: (
        [] if datagram[0] == wire.TYPE_INITIATION and source == HOME else [(DELAY, datagram, source, destination)]
    )
    cable.network.run(140)
    assert cable.works()
    assert all(host.link.status().rekeys == 1 for host in cable.hosts)


def test_many_messages_ask_for_a_rekey() -> None:
    cable = Cable(home={"timers": Timers(rekey_messages=500)}, vps={"timers": Timers(rekey_messages=500)})
    cable.network.run(1)
    cable.network.every(0.05, 60, cable.vps.send_frame)
    cable.network.run(61)
    # Only the responder sends much, so it goes first, at twice the count.
    assert [host.link.status().rekeys for host in cable.hosts] == [1, 1]
    assert len(cable.home.heard_frames) == cable.vps.sent_frames


def test_idle_ends_send_little_and_wake_up_seldom() -> None:
    cable = Cable()
    cable.network.run(10)
    sent = len(cable.network.wire)
    cable.network.run(3600)
    datagrams = cable.network.wire[sent:]
    assert sum(datagram[0] == wire.TYPE_INITIATION for datagram, _, _ in datagrams) in (29, 30)
    assert len(datagrams) < 2 * 3600 / 25 + 30 * 5
    assert all(host.ticks < 3600 for host in cable.hosts)
    assert all(len(host.actions(PeerUp)) == 1 and not host.actions(PeerDown) for host in cable.hosts)


def test_a_session_dies_at_180_seconds_and_its_keys_are_forgotten() -> None:
    cable = Cable()
    cable.network.run(1)
    cable.network.policy = lambda *_: []
    cable.network.run(185)
    for host in cable.hosts:
        assert host.inbound == {}
        assert host.outbound is None
        assert host.link.status().sessions == 0
        assert host.link.status().cipher is None


# Bad days.


def test_initiations_are_repeated_with_patience_and_a_fresh_key_each() -> None:
    cable = Cable()
    cable.network.policy = lambda *_: []
    cable.home.log.clear()
    cable.network.run(60)
    sends = times(cable.home, Send)
    gaps = [later - earlier for earlier, later in itertools.pairwise(sends)]
    assert all(least <= gap < least + 0.34 for gap, least in zip(gaps[:4], (2, 4, 5, 5), strict=True))
    assert 10 <= len(sends) <= 13
    keys = {datagram[20:52] for datagram, _, _ in cable.network.wire}
    assert len(keys) == len(cable.network.wire)
    assert len([note for note in notes(cable.home) if "no answer" in note]) == 1
    assert cable.home.link.status().state == "handshake"
    cable.network.run(3600)
    assert len(times(cable.home, Send)) > 600  # for ever
    cable.network.policy = Network().policy
    cable.network.run(6)
    assert cable.works()


def test_a_lost_response_proof_or_confirmation_is_made_up_for() -> None:
    for lost in range(4):
        cable = Cable()
        dropped: list[bytes] = []

        def drop(datagram: bytes, source: Any, destination: Any, lost: int = lost, dropped: Any = dropped) -> Any:
            dropped.append(datagram)
            return [] if len(dropped) == lost else [(DELAY, datagram, source, destination)]

        cable.network.policy = drop
        cable.network.run(2)
        assert cable.works()


@pytest.mark.parametrize("who", ["home", "vps"])
def test_an_end_that_restarts_comes_back(who: str) -> None:
    cable = Cable()
    cable.network.run(50)
    getattr(cable, who).restart()
    cable.network.run(37 if who == "vps" else 1)  # vps cannot ask; home notices that a keepalive is late
    assert cable.works()


def test_frames_without_an_echo_find_a_restarted_peer_sooner() -> None:
    cable = Cable(home={"keepalive": 0})
    cable.network.run(50)
    cable.vps.restart()
    cable.network.every(0.5, 30, cable.home.send_frame)
    cable.network.run(20)
    assert cable.works()


def test_frames_in_one_direction_are_answered_with_keepalives_not_handshakes() -> None:
    cable = Cable(home={"keepalive": 0})
    cable.network.run(1)
    cable.network.every(0.1, 100, cable.home.send_frame)
    cable.network.run(100)
    assert sum(datagram[0] == wire.TYPE_INITIATION for datagram, _, _ in cable.network.wire) == 1
    from_vps = [datagram for datagram, source, _ in cable.network.wire if source == VPS]
    assert 8 <= len(from_vps) <= 13


def test_a_dead_peer_is_noticed_and_its_return_too() -> None:
    cable = Cable()
    cable.network.run(100)
    policy, cable.network.policy = cable.network.policy, lambda *_: []
    died = cable.network.now
    cable.network.run(80)
    for host in cable.hosts:
        (down,) = times(host, PeerDown)
        assert 20 <= down - died <= 2.5 * 25 + 5 + 3
        assert host.link.status().state in ("down", "handshake")
    cable.network.policy = policy
    cable.network.run(6)
    assert cable.works()
    assert all(len(host.actions(PeerUp)) == 2 for host in cable.hosts)


def test_without_keepalives_failing_handshakes_tell() -> None:
    cable = Cable(home={"keepalive": 0})
    cable.network.run(100)
    cable.network.policy = lambda *_: []
    cable.network.run(60)
    (down,) = times(cable.home, PeerDown)
    assert 1000 + 120 + 20 <= down <= 1000 + 123 + 25


def test_an_outage_shorter_than_a_session_needs_no_handshake_to_come_back() -> None:
    cable = Cable(**both(keepalive=2))
    cable.network.run(10)
    policy, cable.network.policy = cable.network.policy, lambda *_: []
    cable.network.run(30)
    assert not any(host.up for host in cable.hosts)
    cable.network.policy = lambda datagram, source, destination: (
        [] if datagram[0] in wire.HANDSHAKE_TYPES else policy(datagram, source, destination)
    )
    cable.network.run(5)
    assert cable.works()


def test_a_peer_that_moves_is_followed() -> None:
    cable = Cable()
    cable.network.run(10)
    cable.home.address = ELSEWHERE
    cable.home.send_frame()
    cable.network.run(3)
    assert [action for _, action in cable.vps.actions(PeerMoved)] == [PeerMoved(ELSEWHERE)]
    assert cable.works()
    assert not cable.home.actions(PeerMoved)
    cable.network.run(200)  # the next handshake goes there too
    assert cable.works()


def test_a_remote_with_a_new_address_is_found() -> None:
    """As with dynamic DNS: the supervisor resolves the name again."""
    cable = Cable()
    cable.network.run(10)
    cable.vps.address = ELSEWHERE
    cable.home.link.remote = ELSEWHERE
    cable.network.run(60)
    assert cable.works()
    assert PeerMoved(ELSEWHERE) in [action for _, action in cable.home.actions(PeerMoved)]


def test_a_learnt_endpoint_is_not_pestered_for_ever() -> None:
    cable = Cable()
    cable.network.run(10)
    cable.home.address = ELSEWHERE  # and never speaks again
    cable.home.link.remote = None
    cable.network.hosts.remove(cable.home)
    cable.network.run(400)
    sent = len(cable.network.wire)
    cable.network.run(400)
    assert len(cable.network.wire) == sent
    assert cable.vps.link.status().state == "down"
    assert cable.vps.link.next_deadline() == float("inf")


# Wrong keys.


def with_keys(home: CableKeys, vps: CableKeys, *, both_know: bool = False) -> Cable:
    cable = Cable()
    cable.network = Network()
    cable.vps = Host(cable.network, vps, VPS, remote=HOME if both_know else None)
    cable.home = Host(cable.network, home, HOME, remote=VPS)
    cable.network.run(100)
    return cable


def test_a_wrong_key_file_meets_silence_and_one_line_in_each_log() -> None:
    cable = with_keys(make_keys()[0], make_keys()[1])
    assert {source for _, source, _ in cable.network.wire} == {HOME}
    (line,) = notes(cable.vps)
    assert "failed authentication" in line
    (line,) = notes(cable.home)
    assert "no answer" in line
    assert cable.vps.link.status().refused["authentication"] > 10
    assert cable.vps.link.status().sessions == 0


def test_another_psk_is_another_cable() -> None:
    home, vps = make_keys()
    cable = with_keys(CableKeys(home.private, home.peer, bytes(32)), vps)
    assert {source for _, source, _ in cable.network.wire} == {HOME}


def test_the_same_file_at_both_ends_is_silent_and_named() -> None:
    home, _ = make_keys()
    cable = with_keys(home, home, both_know=True)
    assert {datagram[0] for datagram, _, _ in cable.network.wire} == {wire.TYPE_INITIATION}
    for host in cable.hosts:
        assert len([line for line in notes(host) if "same key file" in line]) == 1
        assert host.link.status().sessions == 0


def test_swapped_files_are_simply_the_other_end() -> None:
    home, vps = make_keys()
    assert with_keys(vps, home).works()


def test_strangers_get_no_answer_whatever_they_send() -> None:
    cable = Cable()
    cable.network.run(1)
    genuine = [datagram for datagram, _, _ in cable.network.wire]
    before = len(cable.network.wire)
    opened = len(cable.vps.actions(OpenReceive))
    for length in (0, 1, 3, 4, 23, 24, 35, 36, 37, 83, 84, 85, 99, 100, 101, 1500):
        for kind in range(8):
            cable.network.inject((bytes([kind]) + bytes(3) + os.urandom(1500))[:length], ELSEWHERE, VPS)
    for datagram in genuine:
        for bit in range(0, len(datagram) * 8, 5):
            forged = bytearray(datagram)
            forged[bit // 8] ^= 1 << bit % 8
            cable.network.inject(bytes(forged), ELSEWHERE, VPS)
            cable.network.inject(bytes(forged), ELSEWHERE, HOME)
    cable.network.run(0.5)
    assert len(cable.network.wire) == before
    assert len(cable.vps.actions(OpenReceive)) == opened
    assert not cable.vps.actions(PeerMoved)
    assert cable.works()


# An attacker on the path.


def recordings(sender: CableKeys, count: int) -> list[bytes]:
    """Genuine initiations from long ago, as many as an attacker on the path had the patience to collect."""
    identity = Identity(sender)
    return [
        Initiation(identity, Offer(number + 1, True, 25), ephemeral=os.urandom(32)).datagram for number in range(count)
    ]


def test_replays_of_everything_change_nothing() -> None:
    cable = Cable()
    cable.network.run(125)  # with a rekey in it
    assert cable.works()
    session = [host.actions(UseForSending) for host in cable.hosts]
    captured = list(cable.network.wire)
    for datagram, _, destination in captured:
        cable.network.inject(datagram, ELSEWHERE, destination)
    cable.network.run(1)
    assert len(cable.network.wire) == len(captured)  # not one answer
    assert [host.actions(UseForSending) for host in cable.hosts] == session
    assert not any(host.actions(PeerMoved) for host in cable.hosts)
    assert cable.works()


def test_everything_reflected_to_its_sender_changes_nothing() -> None:
    cable = Cable(**both())

    def reflect(datagram: bytes, source: Any, destination: Any) -> Iterable[Fate]:
        return [(DELAY, datagram, source, destination), (DELAY / 2, datagram, destination, source)]

    cable.network.policy = reflect
    cable.network.run(300)
    assert cable.works()
    assert len([line for line in notes(cable.home) if "came back" in line]) == 1


def test_a_flood_of_recordings_stops_neither_handshake_nor_rekey_nor_frames() -> None:
    cable = Cable()
    cable.network.hosts.clear()
    old = recordings(cable.keys[0], 3000)  # more than anyone remembers
    at_once = iter(range(1 << 30))

    def flood() -> None:
        for _ in range(10):
            cable.network.inject(old[next(at_once) % len(old)], HOME, VPS)

    network = cable.network
    network.every(0.02, 150, flood)
    cable.vps = Host(network, cable.keys[1], VPS, keepalive=0)
    network.run(2)  # the flood is there before the peer is
    cable.home = Host(network, cable.keys[0], HOME, remote=VPS)
    network.run(1)
    assert cable.works()
    network.every(0.1, 145, cable.home.send_frame)
    network.run(147)
    assert len(cable.vps.heard_frames) == cable.home.sent_frames
    assert [host.link.status().rekeys for host in cable.hosts] == [1, 1]
    assert cable.works()
    refused = cable.vps.link.status().refused
    assert refused["challenged"] > 50_000
    # What the flood cost: two handshakes a second.
    assert len(cable.vps.actions(OpenReceive)) < 2.1 * 150 + 10
    assert len(cable.vps.inbound) <= 24


def test_a_flood_of_few_recordings_is_not_even_answered() -> None:
    cable = Cable()
    cable.network.run(1)
    before = len(cable.network.wire)
    for _ in range(100):
        for recording in recordings(cable.keys[0], 1) * 20:
            cable.network.inject(recording, ELSEWHERE, VPS, cable.network.random.random() * 100)
    cable.network.run(101)
    answers = [one for one in cable.network.wire[before:] if one[2] == ELSEWHERE]
    assert len(answers) <= 100
    assert all(len(datagram) < 100 for datagram, _, _ in answers)
    assert not cable.vps.actions(PeerMoved)
    assert cable.works()


def test_recordings_cannot_push_out_a_session_that_is_about_to_be_proved() -> None:
    """The proof comes two seconds late, the flood meanwhile."""
    cable = Cable()
    cable.network.hosts.clear()
    network = cable.network
    old = recordings(cable.keys[0], 500)
    cable.vps = Host(network, cable.keys[1], VPS, keepalive=0)
    for number, recording in enumerate(old):
        network.inject(recording, ELSEWHERE, VPS, number / 50)
    network.run(3)
    cable.home = Host(network, cable.keys[0], HOME, remote=VPS)
    network.policy = lambda datagram, source, destination: [
        (2.0 if datagram[0] == wire.TYPE_DATA else DELAY, datagram, source, destination)
    ]
    network.run(6)
    assert all(host.up for host in cable.hosts)


def test_an_initiation_held_back_and_played_later_changes_nothing() -> None:
    cable = Cable()
    held: list[bytes] = []

    def hold(datagram: bytes, source: Any, destination: Any) -> Iterable[Fate]:
        if datagram[0] == wire.TYPE_INITIATION and not held:
            held.append(datagram)
            return []
        return [(DELAY, datagram, source, destination)]

    cable.network.policy = hold
    cable.home.restart()
    cable.network.run(30)
    assert cable.works()
    used = [len(host.actions(UseForSending)) for host in cable.hosts]
    cable.network.inject(held[0], ELSEWHERE, VPS)
    cable.network.run(30)
    assert [len(host.actions(UseForSending)) for host in cable.hosts] == used
    assert not cable.vps.actions(PeerMoved)
    assert cable.vps.actions(CloseReceive)  # what was opened for it is gone again
    assert cable.works()


def test_a_challenge_is_answered_once_and_only_if_it_is_for_us() -> None:
    cable = Cable()
    cable.network.policy = lambda *_: []
    cable.home.restart()
    first = cable.network.wire[-1][0]
    challenge = Identity(cable.keys[1]).sign(b"\x03" + first[-16:-13] + b"cookie cookie co", first[-16:])
    link = cable.home.link
    now = cable.network.now + 0.1
    assert link.received(now, challenge[:-1] + bytes([challenge[-1] ^ 1]), VPS) == []
    (send,) = link.received(now, challenge, VPS)
    assert isinstance(send, Send)
    assert send.datagram[4:20] == b"cookie cookie co"
    assert link.received(now, challenge, VPS) == []


def test_no_key_shows_in_actions_or_sessions() -> None:
    cable = Cable()
    cable.network.run(1)
    keys = {action.key for _, action in cable.home.log if isinstance(action, (OpenReceive, UseForSending))}
    assert len(keys) == 2
    shown = repr(cable.home.log) + repr(vars(cable.home.link)) + repr(list(cable.home.link._sessions))
    for key in keys:
        assert repr(key)[2:-1] not in shown


def test_a_data_datagram_given_to_the_link_is_ignored() -> None:
    link = Link(make_keys()[0], remote=None, keepalive=0, hardware_aes=True, random=os.urandom)
    assert link.start(5.0) == []
    for kind in (0, 4, 5, 6, 255):
        assert link.received(6.0, bytes([kind]) + bytes(99), HOME) == []
    assert link.received(6.0, b"", HOME) == []
    assert link.proved(6.0, 77, HOME) == []
    assert link.tick(7.0, Traffic()) == []


# All at once, by chance.


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.6),
    repeat=st.floats(0, 0.5),
    slowness=st.floats(0, 4),
    reflect=st.floats(0, 0.3),
    flip=st.floats(0, 0.2),
    both_know=st.booleans(),
    incidents=st.lists(
        st.tuples(st.integers(0, 180), st.sampled_from(["home restarts", "vps restarts", "home moves", "replay all"])),
        max_size=5,
    ),
)
def test_after_any_storm_the_cable_works(
    seed: int,
    loss: float,
    repeat: float,
    slowness: float,
    reflect: float,
    flip: float,
    both_know: bool,
    incidents: list[tuple[int, str]],
) -> None:
    cable = Cable(**(both() if both_know else {}), seed=seed)
    network = cable.network
    chance = network.random.random

    def storm(datagram: bytes, source: Any, destination: Any) -> Iterable[Fate]:
        fates = []
        while chance() >= loss:
            what = datagram
            if chance() < flip:
                where = network.random.randrange(len(datagram))
                what = (
                    datagram[:where]
                    + bytes([datagram[where] ^ 1 << network.random.randrange(8)])
                    + datagram[where + 1 :]
                )
            fates.append((DELAY + slowness * chance(), what, source, destination))
            if chance() < reflect:
                fates.append((DELAY, datagram, destination, source))
            if chance() >= repeat:
                break
        return fates

    def happen(what: str) -> None:
        if what == "replay all":
            for datagram, source, destination in list(network.wire):
                network.inject(datagram, source, destination, chance())
        elif what == "home moves":
            cable.home.address = at("192.0.2.1", 1024 + network.random.randrange(60000))
        else:
            {"home restarts": cable.home, "vps restarts": cable.vps}[what].restart()

    calm, network.policy = network.policy, storm
    for when, what in incidents:
        network.after(when, lambda what=what: happen(what))  # type: ignore[misc]
    for host in cable.hosts:
        network.every(0.7, 200, host.send_frame)
    network.run(200)
    network.policy = calm
    network.run(60)
    assert cable.works()
    for host in cable.hosts:
        assert len(host.inbound) <= 24
        opened = {action.index: action.key for _, action in host.log if isinstance(action, OpenReceive)}
        other = cable.vps if host is cable.home else cable.home
        for _, action in other.actions(UseForSending):
            assert isinstance(action, UseForSending)
            assert opened[action.index] == action.key  # nobody ever sent on what the other had not opened
    network.run(400)
    assert cable.works()
    assert all(host.link.status().sessions <= 4 for host in cable.hosts)
