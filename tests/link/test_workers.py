"""The two workers as the link process has them: what a successor is told, and whose counters are whose."""

from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from tap2tap import memory
from tap2tap.counters import Count, Role
from tap2tap.keys import CableKeys, public_key
from tap2tap.link.sampler import Sampler
from tap2tap.link.workers import Workers
from tap2tap.memory import Memory, Private
from tap2tap.protocols.secure.actions import NEVER, OpenReceive, Received, UseForSending
from tap2tap.protocols.secure.handshake import Identity
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS
from tap2tap.protocols.secure.mailbox import Order, Task, WorkerEnd, channel
from tap2tap.protocols.secure.wire import Cipher

IDENTITY = Identity(CableKeys(b"\1" * 32, public_key(b"\2" * 32)))
AES = Cipher.AES_256_GCM
UNTIL = 1e9


class Side:
    """Workers on a memory of their own, and what each of them is told."""

    def __init__(self) -> None:
        self.memory: Memory = memory.create()
        self.workers = Workers(self.memory, IDENTITY)

    @contextmanager
    def life(self, role: Role) -> Iterator[WorkerEnd]:
        """A new life of a worker."""
        ours, theirs = channel()
        with ours, theirs:
            self.workers.connect(role, ours)
            yield WorkerEnd(theirs)

    def open(self, index: int, *, use: bool = True) -> tuple[int, int]:
        """Open a session; return its slots, inbound and outbound."""
        with self.life(Role.INBOUND) as inbound, self.life(Role.OUTBOUND) as outbound:
            self.workers.open(OpenReceive(index, AES, bytes(32), until=UNTIL))
            if use:
                self.workers.use(UseForSending(index + 1, AES, bytes(32), until=UNTIL, parts=True))
            (opened,) = [each for each in inbound.orders() if each.task is Task.OPEN and each.index == index]
            used = [each for each in outbound.orders() if each.task is Task.USE]
        return opened.slot, used[-1].slot if used else -1


def test_a_successor_is_told_what_lives_as_resumed_and_nothing_that_was_for_the_moment() -> None:
    side = Side()
    with side.life(Role.OUTBOUND) as first:
        side.workers.use(UseForSending(7, AES, bytes(32), until=UNTIL, parts=True))
        side.workers.order(Role.OUTBOUND, Order(Task.CONTROL, size=1472, data=b"\1\0\0\0"))
        tasks = [order.task for order in first.orders()]
    assert tasks == [Task.ALL, Task.USE, Task.CONTROL]
    with side.life(Role.OUTBOUND) as second:
        used, every = second.orders()
    assert (used.task, used.index, used.parts, used.until) == (Task.USE, 7, True, int(UNTIL * 1e9))
    assert every.task is Task.ALL
    side.workers.open(OpenReceive(5, AES, bytes(32), until=UNTIL))
    side.workers.expect(bytes(16))
    with side.life(Role.INBOUND) as third:
        told = [*third.orders()]
    tasks = [order.task for order in told]
    assert tasks == [Task.PEER_MAC, Task.OWN_MAC, Task.EXPECT, Task.OPEN, Task.ALL]
    assert told[3].resumed


def write(side: Side, slot: int, next_counter: int, accepted: int, late: int) -> None:
    """What an inbound worker counts."""
    inbound = side.memory.inbound
    for kind, count in zip(
        (Private.SESSION, Private.ACCEPTED, Private.LATE), (next_counter, accepted, late), strict=True
    ):
        inbound[kind + slot] = count


def test_what_came_in_is_that_of_the_session_on_which_something_came_last() -> None:
    """Whatever is sent on: when both ends have called at once, that may be another one."""
    side = Side()
    for slot in range(memory.SESSIONS):  # of who had the slots before
        write(side, slot, 99, 99, 99)
    one, _ = side.open(5)
    other, _ = side.open(9, use=False)
    assert side.workers.received() is None
    write(side, one, CONTROL_COUNTERS, 0, 0)  # a proof
    assert side.workers.received() is None
    write(side, other, 40, 12, 3)
    for _ in range(2):
        assert side.workers.received() == Received(9, 40, 12, 3)
    write(side, one, 30, 12, 3)
    assert side.workers.received() == Received(5, 30, 12, 3)
    write(side, one, 31, 13, 3)
    write(side, other, 41, 13, 3)
    assert side.workers.received() == Received(9, 41, 13, 3)
    side.workers.stop()
    write(side, one, 32, 14, 3)
    assert side.workers.received() == Received(5, 32, 14, 3)
    side.workers.close(5)
    assert side.workers.received() is None
    write(side, other, 42, 14, 3)
    assert side.workers.received() == Received(9, 42, 14, 3)


def test_numbers_of_two_moments_are_cut_down_to_what_can_be() -> None:
    side = Side()
    slot, _ = side.open(5)
    write(side, slot, 20, 7, 9)  # that the next counter is 23 is not written yet
    assert side.workers.received() == Received(5, 20, 4, 4)


def test_what_is_sent_next_is_what_the_worker_has_published() -> None:
    side = Side()
    assert side.workers.next_counter == 0
    _, sending = side.open(5)
    assert side.workers.next_counter == CONTROL_COUNTERS
    side.memory.outbound[Private.SESSION + sending] = 77
    assert side.workers.next_counter == 77
    side.workers.stop()
    assert side.workers.next_counter == 0


SENT, KEPT, CONTROLLED = Count.DATAGRAMS, Count.KEEPALIVES, Count.CONTROL


@given(st.lists(st.sampled_from([(SENT,), (SENT, KEPT), (SENT, CONTROLLED)]), max_size=30))
def test_neither_keepalives_nor_control_datagrams_are_frames(sent: list[tuple[int, ...]]) -> None:
    side = Side()
    sampler, frame = Sampler(side.memory, side.workers), NEVER
    assert sampler.look(0.0).last_sent == NEVER
    for now, kind in enumerate(sent, 1):
        for slot in kind:
            side.memory.outbound[slot] += 1
        traffic = sampler.look(now)
        frame = now if kind == (SENT,) else frame
        assert (traffic.last_sent, traffic.last_frame_sent) == (now, frame)


def test_a_look_between_the_two_counts_of_a_datagram_sees_one_frame_too_many_and_no_second_one() -> None:
    side = Side()
    sampler = Sampler(side.memory, side.workers)
    side.memory.outbound[SENT] += 1
    assert sampler.look(1.0).last_frame_sent == 1.0
    side.memory.outbound[CONTROLLED] += 1
    assert sampler.look(2.0).last_frame_sent == 1.0


def test_what_is_counted_ever_is_told() -> None:
    side = Side()
    side.memory.outbound[Count.BYTES], side.memory.inbound[Count.BYTES] = 1000, 30
    side.memory.outbound[Private.IN_TRAINS] = 64
    traffic = Sampler(side.memory, side.workers).look(0.0)
    assert (traffic.bytes, traffic.in_trains) == (1030, 64)
