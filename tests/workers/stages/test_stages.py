"""The contract of the stages, kept by those of each protocol, and which ones a cable gets."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tap2tap import counters, memory
from tap2tap.counters import Slot
from tap2tap.endpoint import from_raw, store
from tap2tap.memory import Private
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS
from tap2tap.protocols.secure.mailbox import LinkEnd, Order, Task, channel
from tap2tap.protocols.secure.wire import OVERHEAD
from tap2tap.workers.arena import Arena
from tap2tap.workers.stages import PARTS_AREA, STAGE_AREA, Open, Seal, opener, sealer
from tap2tap.workers.train import Train
from tap2tap.workers.worker import Cable
from tests.support.frames import contents, load
from tests.support.pair import HERE, numbered

MTU = 1500
ROOM = 1 << 16  # where the outbound stage has its own place in the arena


class Ends:
    """Both stages of one protocol, on a cable whose peer is this end itself."""

    def __init__(self, stack: ExitStack, secure: bool) -> None:
        self.memory = memory.create()
        store(self.memory.slots, Slot.PEER, from_raw(HERE))
        sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        cable = Cable("lone", -1, sock, self.memory, MTU, True, 25, True, True, True, True)
        self.arena = Arena(ROOM + STAGE_AREA + PARTS_AREA)
        self.out = self.into = None
        out = into = None
        if secure:
            (ours, out), (ours_into, into) = channel(), channel()
            for each in (ours, out, ours_into, into):
                stack.enter_context(each)
            order = Order(Task.USE, index=7, data=bytes(range(32)))
            self.memory.outbound[Private.SESSION] = CONTROL_COUNTERS
            self.out = LinkEnd(ours, self.memory.outbound)
            self.into = LinkEnd(ours_into, self.memory.inbound)
            self.out.order(order)
            self.out.order(Order(Task.KEEPALIVE))
            self.into.order(Order(Task.OPEN, index=7, data=bytes(range(32))))
        self.seal: Seal = sealer(cable, self.arena, ROOM, out)
        self.open: Open = opener(cable, self.arena, ROOM + STAGE_AREA, into)


@pytest.fixture(params=[False, True], ids=["plain", "secure"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    with ExitStack() as stack:
        yield Ends(stack, request.param)


def arrived(ends: Ends, train: Train) -> Train:
    """The datagrams as the kernel hands them over: back to back."""
    return load(ends.arena, 64, contents(ends.arena, train))


@pytest.mark.parametrize("vouched", [False, True])
def test_what_was_sealed_where_it_lay_opens_where_it_lies(ends: Ends, vouched: bool) -> None:
    frames = numbered(100, 100, 100, 60)
    train = load(ends.arena, 64 + ends.seal.front, frames, room=ends.seal.overhead, vouched=vouched)
    read, train = train, Train()
    assert ends.seal.seal(read, train)
    assert train.at == 64
    assert [len(each) for each in contents(ends.arena, train)] == [len(each) + ends.seal.overhead for each in frames]
    assert not read.count
    assert not ends.seal.seal(read, train)
    assert (train.at, train.count) == (64, 4)
    received, found = arrived(ends, train), Train()
    assert ends.open.open(received, found, HERE)
    assert contents(ends.arena, found) == frames
    assert found.vouched == (vouched and ends.seal.overhead > 0)  # nobody vouches for what is not authenticated
    assert not ends.open.open(received, found, HERE)
    ends.open.idle()


def test_a_keepalive_holds_no_frame_and_is_made_in_the_place_for_it(ends: Ends) -> None:
    train, found = Train(), Train()
    ends.arena.put(0, b"\xa5" * ROOM)
    assert ends.seal.keepalive(train)
    assert ends.arena.take(0, ROOM) == b"\xa5" * ROOM
    assert (train.count, train.size, train.last) == (1, ends.seal.overhead, ends.seal.overhead)
    assert ROOM <= train.at <= ROOM + STAGE_AREA - train.size
    assert not ends.open.open(arrived(ends, train), found, HERE)
    assert ends.memory.inbound[counters.Count.KEEPALIVES] == 1


def test_frames_of_any_mtu_come_in_that_have_an_ethernet_header(ends: Ends) -> None:
    for size, passes in ((MTU + 1000, True), (60_000, True), (14, True), (13, False)):
        read, train = load(ends.arena, 64 + ends.seal.front, numbered(size), room=ends.seal.overhead), Train()
        assert ends.seal.seal(read, train)
        assert ends.open.open(arrived(ends, train), Train(), HERE) == passes


def test_a_cable_with_a_link_gets_the_secure_protocol() -> None:
    with ExitStack() as stack:
        plain, secure = Ends(stack, False), Ends(stack, True)
        assert (plain.seal.front, plain.seal.overhead) == (0, 0)
        assert (secure.seal.front, secure.seal.overhead) == (8, OVERHEAD)
