"""What the link tells the seal and open stages, and what it hears from them."""

import ipaddress
import socket

import pytest

from tap2tap import clock
from tap2tap.counters import Count, Slot
from tap2tap.endpoint import from_raw
from tap2tap.memory import GROUP, SESSIONS, Private
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS, REJECT_AFTER_MESSAGES, SAME_AGE
from tap2tap.protocols.secure.mailbox import LinkEnd, Order, Proved, Task, WorkerEnd, channel
from tap2tap.protocols.secure.sealing import keepalive
from tap2tap.protocols.secure.wire import OVERHEAD, Cipher
from tap2tap.workers.arena import Arena
from tap2tap.workers.stages.secure.parts import AREA, Parts
from tap2tap.workers.stages.secure.sessions import Sessions
from tests.support.pair import HERE, THERE, Pair, counter, numbered, pair


def test_nothing_is_sealed_without_a_session_or_beyond_its_last_counter() -> None:
    with pair() as both:
        assert both.sealed(numbered(80, 80)) == []
        both.session(7)
        assert len(both.sealed(numbered(80, 80))) == 2
        both.memory.outbound[Private.SESSION + 7] = REJECT_AFTER_MESSAGES - 2
        assert both.opened(both.sealed(numbered(80, 80))) == numbered(80, 80)
        assert both.sealed(numbered(80)) == []
        both.session(8)
        both.out.order(Order(Task.STOP))
        assert both.sealed(numbered(80, 80, 80)) == []
        assert both.memory.outbound[Private.SESSION + 8] == CONTROL_COUNTERS
        assert both.drops_of(both.memory.outbound) == {"NO_SESSION": 6}


def test_a_closed_session_is_forgotten_and_its_slot_serves_another() -> None:
    with pair(7) as both:
        late = both.sealed(numbered(80))
        both.opened(both.sealed(numbered(*[80] * 60)))
        both.into.order(Order(Task.CLOSE, index=7))
        both.session(7 + SESSIONS)  # the same slot
        assert both.opened(late) == []
        assert both.drops == {"NO_SESSION": 1}
        assert both.opened(both.sealed(numbered(80, 80))) == numbered(80, 80)


def test_a_keepalive_is_sent_when_ordered_and_heard_but_no_frame() -> None:
    with pair(7) as both:
        assert both.keepalive() == []
        both.out.order(Order(Task.KEEPALIVE))
        frames = numbered(80, 80)
        data = both.sealed(frames)  # reads the order, too
        alone = both.keepalive()
        assert [len(each) for each in alone] == [OVERHEAD]
        assert both.keepalive() == []
        both.out.order(Order(Task.KEEPALIVE))
        behind = both.keepalive()
        assert both.opened(alone, THERE) == []
        assert both.memory.slots[Slot.PEER_HEARD]
        assert both.peer == "198.51.100.7:4321"
        assert both.opened([*data, *behind]) == frames  # the kernel may put it behind longer ones
        assert both.memory.inbound[Count.KEEPALIVES] == 2
        assert both.opened([*alone, *behind]) == []
        assert both.drops == {"REPLAY": 2}


def test_keepalives_in_one_train_are_counted_one_by_one() -> None:
    with pair(7) as both:
        key = (7).to_bytes(32, "big")
        proofs = [keepalive(Cipher.AES_256_GCM, key, 7, number) for number in range(4)]
        assert both.opened([*proofs, proofs[0]]) == []
        assert both.memory.inbound[Count.KEEPALIVES] == 4
        assert both.drops == {"REPLAY": 1}
        assert both.memory.inbound[Private.SESSION + 7] == 4


def test_the_link_hears_of_the_first_authentic_datagram_and_of_the_peers_link() -> None:
    with pair(7) as both:
        data = both.sealed(numbered(80, 80, 80))
        both.opened([bytes(each[:-1]) + b"?" for each in data])
        assert both.notices() == []
        both.opened(data[:1], THERE)
        (proved,) = both.notices()
        both.opened(data, THERE)
        assert both.notices() == []
        assert isinstance(proved, Proved)
        assert (proved.index, str(proved.source)) == (7, "198.51.100.7:4321")
        control = keepalive(Cipher.AES_256_GCM, (7).to_bytes(32, "big"), 7, CONTROL_COUNTERS - 1)
        both.opened([control], THERE)
        assert [type(each) for each in both.notices()] == [Proved]
        both.opened([control])  # a replay is none
        assert both.notices() == []


def test_the_peer_is_where_its_newest_authentic_datagram_came_from() -> None:
    with pair(7) as both:
        old, new, newer = both.sealed(numbered(80, 80, 80))
        both.opened([new])
        assert both.peer == "192.0.2.1:1234"
        for datagram in (old, new, newer[:-1] + b"?", b"?" * 60):  # late, replayed, forged, rubbish
            both.opened([datagram], THERE)
            assert both.peer == "192.0.2.1:1234"
        both.opened([newer], THERE)
        assert both.peer == "198.51.100.7:4321"


def test_a_worker_obeys_the_deadline_of_an_order_without_hearing_of_its_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "now_ns", lambda: int(now * 1e9))
    with pair(7, until=1180.0) as both:
        frames = numbered(80, 80)
        late = both.sealed(frames)
        now = 1179.9
        assert both.opened(both.sealed(frames)) == frames
        now = 1180.0
        assert both.sealed(frames) == []
        assert both.opened(late) == []
        assert both.opened(late[:1]) == []
        assert both.drops_of(both.memory.outbound) == {"NO_SESSION": 2}
        assert both.drops == {"NO_SESSION": 3}
        both.replace()  # nor does a successor take it up again
        assert both.sealed(frames) == []
        assert both.opened(late) == []


def test_the_count_of_a_session_never_goes_back_whatever_is_written_to_the_memory() -> None:
    with pair(7) as both:
        first = both.sealed(numbered(80, 80, 80))
        both.memory.outbound[Private.SESSION + 7] = CONTROL_COUNTERS
        second = both.sealed(numbered(80, 80, 80))
        assert [counter(each) for each in [*first, *second]] == list(range(CONTROL_COUNTERS, CONTROL_COUNTERS + 6))
        assert both.memory.outbound[Private.SESSION + 7] == CONTROL_COUNTERS + 6


def test_a_new_session_begins_anew_although_its_slot_was_written_to_by_the_one_before() -> None:
    with pair(7) as both:
        both.opened(both.sealed(numbered(*[80] * 60)))
        both.into.order(Order(Task.CLOSE, index=7))
        both.session(7 + SESSIONS)  # the same slot
        both.memory.inbound[Private.SESSION + 7] = CONTROL_COUNTERS + 60  # the worker had not read of the closing yet
        frames = numbered(80, 80)
        assert both.opened(both.sealed(frames)) == frames
        assert not both.drops


@pytest.mark.parametrize("client", [False, True])
def test_a_server_tells_the_link_to_which_address_the_peer_sends_and_a_client_only_where_it_is(
    client: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now_ns()
    monkeypatch.setattr(clock, "now_ns", lambda: now)
    here, there = (from_raw(each) for each in (HERE, THERE))
    places = [
        each._replace(local=ipaddress.ip_address(ours)) for each in (here, there) for ours in ("10.0.0.1", "10.0.0.2")
    ]
    with pair(7, client=client) as both:
        for place, news in zip([*places, places[-1]], [True, not client, True, not client, False], strict=True):
            frames = numbered(80, 80)
            assert both.opened(both.sealed(frames), place.raw(socket.AF_INET)) == frames
            assert [(each.source, each.newest) for each in both.notices() if isinstance(each, Proved)] == [
                (place, True)
            ] * news
            now += 10**9


def moved_by(both: Pair, *datagrams: bytes, source: bytes = THERE) -> list[bool]:
    """Which of these, coming from `source`, move the peer; it is sent back to HERE by a newer frame each time."""
    moves = []
    for datagram in datagrams:
        both.opened([datagram], source)
        moves.append(both.peer == "198.51.100.7:4321")
    return moves


def test_an_older_session_moves_the_peer_no_more_once_anything_came_on_a_newer_one() -> None:
    now = clock.now()
    with pair(7, until=now + 180 - SAME_AGE - 1) as both:
        both.opened(both.sealed(numbered(80)))
        old = both.sealed(numbered(80, 80))
        both.session(8, until=now + 180)
        assert moved_by(both, old[0]) == [True]  # nothing came on the newer one yet
        both.opened(both.sealed(numbered(80)), HERE)
        assert both.peer == "192.0.2.1:1234"
        assert moved_by(both, old[1]) == [False]
        both.replace()
        assert moved_by(both, *both.sealed(numbered(80))) == [True]


def test_a_peer_that_confirms_one_session_but_sends_on_another_of_the_same_age_is_followed() -> None:
    now = clock.now()
    with pair(7, until=now + 180 - SAME_AGE) as both:
        both.opened(both.sealed(numbered(80)))
        both.session(8, use=False, until=now + 180)  # both ends began at once: the peer goes on with the other session
        confirmation = keepalive(Cipher.AES_256_GCM, (8).to_bytes(32, "big"), 8, 0)
        assert both.opened([confirmation], HERE) == []
        assert moved_by(both, *both.sealed(numbered(80))) == [True]


def test_the_link_hears_whether_a_proof_was_the_newest_datagram() -> None:
    with pair(7) as both:
        held_back = keepalive(Cipher.AES_256_GCM, (7).to_bytes(32, "big"), 7, 3)
        both.opened(both.sealed(numbered(80)))
        both.opened([held_back], THERE)
        notices = [each for each in both.notices() if isinstance(each, Proved)]
        assert [(str(each.source), each.newest) for each in notices] == [
            ("192.0.2.1:1234", True),
            ("198.51.100.7:4321", False),
        ]
        assert both.peer == "192.0.2.1:1234"


def test_two_sessions_of_one_slot_never_write_it_down() -> None:
    """As when the link was replaced, and its successor knows nothing of a session that a worker still has."""
    with pair(7) as both:
        before = both.sealed(numbered(*[80] * 60))
        both.opened(before[:50])
        both.session(7 + SESSIONS)
        both.memory.inbound[Private.SESSION + 7] = CONTROL_COUNTERS + 50  # no matter what its successor writes there
        assert both.opened(both.sealed(numbered(80, 80))) == numbered(80, 80)
        assert both.memory.inbound[Private.SESSION + 7] == CONTROL_COUNTERS + 50
        both.opened(before[50:])
        assert both.memory.inbound[Private.SESSION + 7] == CONTROL_COUNTERS + 60
        both.replace()
        assert both.opened(before) == []


def test_what_a_link_sent_before_it_was_killed_is_read_when_another_takes_its_end_over() -> None:
    """Else a worker that waits for orders would wake up for it for ever."""
    with pair(7) as both:
        both.sealed(numbered(80))
        counts = both.memory.outbound
        before = counts[Private.MAIL]
        both.out.order(Order(Task.KEEPALIVE))
        counts[Private.MAIL] = before  # it came no further
        assert both.keepalive() == []
        LinkEnd(both.out.sock, counts)
        assert len(both.keepalive()) == 1


def test_keys_are_forgotten_when_their_session_ends_though_strangers_keep_the_worker_busy() -> None:
    """`open` is called for whatever comes, `idle` for want of anything only."""
    counts = memoryview(bytearray(8 * GROUP)).cast("Q")
    sessions = Sessions(counts, Parts(Arena(AREA), 0, counts))
    for index, until in ((1, 500), (2, 300), (3, 900)):
        sessions.obey(Order(Task.OPEN, Cipher.AES_256_GCM, index, index, until, data=bytes(32)))
    assert sessions.until == 300
    sessions.expire(300)
    assert [sessions.find(index) is not None for index in (1, 2, 3)] == [True, False, True]
    assert sessions.until == 500
    sessions.obey(Order(Task.CLOSE, index=1))
    assert sessions.until == 900


def test_a_successor_takes_what_it_is_told_at_first_and_not_what_comes_later() -> None:
    ours, theirs = channel()
    with ours, theirs:
        link, worker = LinkEnd(ours, memoryview(bytearray(8 * GROUP)).cast("Q")), WorkerEnd(theirs)
        for order in (Order(Task.PEER_MAC), Order(Task.ALL), Order(Task.KEEPALIVE)):
            link.order(order)
        assert [order.task for order in worker.first_orders()] == [Task.PEER_MAC]
