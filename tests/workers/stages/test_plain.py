"""The stages of the plain protocol: whose frames come in, which lengths, and when the peer is reminded of us."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap import clock, memory
from tap2tap.counters import Count, Drop, Slot
from tap2tap.endpoint import Endpoint, from_raw, from_sockaddr, load, store
from tap2tap.workers.arena import Arena
from tap2tap.workers.path import Path
from tap2tap.workers.stages.lengths import LengthFilter
from tap2tap.workers.stages.peer import BURST, QUIET, SILENCE, PeerFilter
from tap2tap.workers.stages.plain import Keepalive, PlainOpen, PlainSeal
from tap2tap.workers.train import Train
from tests.support import frames
from tests.support.ends import slots
from tests.support.pair import HERE, THERE

NOBODY_HERE = Endpoint(ipaddress.ip_address("0.0.0.0"), 1)
NOBODY = Endpoint(ipaddress.ip_address("255.255.255.255"), 1234).raw(socket.AF_INET)


class Opener:
    """The inbound stage of a server, or of a client; `sock` is borrowed."""

    def __init__(self, sock: socket.socket, *, client: bool = False) -> None:
        self.memory = memory.create()
        self.arena = Arena(1 << 17)
        peers = PeerFilter(self.memory.slots, Slot.PEER, Slot.PEER_HEARD, socket.AF_INET, NOBODY_HERE, fixed=client)
        self.stage = PlainOpen(self.memory.inbound, peers, LengthFilter(self.memory.inbound), sock)

    def opened(self, *datagrams: bytes, source: bytes = HERE) -> list[bytes]:
        """The frames in one train of datagrams."""
        return self.opened_train(frames.load(self.arena, 64, datagrams), source)

    def opened_train(self, train: Train, source: bytes = HERE) -> list[bytes]:
        """The frames in a train."""
        run, found = Train(), []
        while self.stage.open(train, run, source):
            assert not run.vouched
            found += frames.contents(self.arena, run)
        assert not train.count
        return found

    @property
    def drops(self) -> dict[str, int]:
        """What was dropped, by reason."""
        counts = self.memory.inbound
        return {drop.name: counts[Count.DROPPED + drop] for drop in Drop if counts[Count.DROPPED + drop]}


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    """A socket that reaches nobody but this host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        yield made


@pytest.fixture
def opener(sock: socket.socket) -> Opener:
    """The inbound stage of a server."""
    return Opener(sock)


def test_a_train_of_the_peer_is_a_train_of_frames(opener: Opener) -> None:
    train = [b"1" * 100, b"2" * 100, b"3" * 14]
    assert opener.opened(*train) == train
    assert opener.opened(*train, source=THERE) == []
    assert opener.drops == {"STRANGER": 3}
    assert load(opener.memory.slots, Slot.PEER) == from_raw(HERE)
    opener.memory.slots[Slot.PEER_HEARD] = clock.now_ns() - SILENCE
    assert opener.opened(*train, source=THERE) == train


def test_empty_datagrams_are_keepalives_and_make_a_peer(opener: Opener) -> None:
    assert opener.opened(b"") == []
    assert opener.memory.inbound[Count.KEEPALIVES] == 1
    assert load(opener.memory.slots, Slot.PEER) == from_raw(HERE)
    assert opener.opened(b"", source=THERE) == []
    assert opener.memory.inbound[Count.KEEPALIVES] == 1
    assert opener.drops == {"STRANGER": 1}


def test_a_server_answers_empty_datagrams_of_its_peer_now_and_then(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now_ns()
    monkeypatch.setattr(clock, "now_ns", lambda: now)
    with ExitStack() as stack:
        callers = []
        for _ in range(2):
            callers.append(stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
            callers[-1].bind(("127.0.0.1", 0))
            callers[-1].setblocking(False)
        first, second = (from_sockaddr(each.getsockname()).raw(socket.AF_INET) for each in callers)

        def answers() -> list[int]:
            """How many came to each."""
            found = []
            for caller in callers:
                found.append(0)
                with suppress(BlockingIOError):
                    while True:
                        assert caller.recvfrom(100) == (b"", sock.getsockname())
                        found[-1] += 1
            return found

        server = Opener(sock)
        for source, pause, expected in (
            (first, 0, [1, 0]),  # at once
            *[(first, 0, [1, 0])] * (BURST - 1),
            (first, 0, [0, 0]),
            (first, QUIET - 1, [0, 0]),
            (second, 0, [0, 0]),
            (first, 1, [1, 0]),
            (second, SILENCE - 1, [0, 0]),
            (second, 1, [0, 1]),  # at once, too: it is the peer now
            *[(second, 0, [0, 1])] * (BURST - 1),
            (second, 0, [0, 0]),
            (first, QUIET, [0, 0]),
        ):
            now += pause
            server.opened(b"", source=source)
            assert answers() == expected
            server.opened(b"x" * 60, source=source)
            assert answers() == [0, 0]
        client = Opener(sock, client=True)
        store(client.memory.slots, Slot.PEER, from_raw(first))
        client.opened(b"", source=first)
        assert client.memory.inbound[Count.KEEPALIVES] == 1
        assert answers() == [0, 0]


def test_an_answer_that_the_kernel_refuses_is_no_fault(opener: Opener) -> None:
    assert opener.opened(b"", source=NOBODY) == []
    assert opener.opened(b"x" * 60, source=NOBODY) == [b"x" * 60]


def test_an_idle_client_lets_the_kernel_choose_its_address_after_silence(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now_ns()
    monkeypatch.setattr(clock, "now_ns", lambda: now)
    called = from_raw(HERE)._replace(local=ipaddress.ip_address("192.0.2.9"))
    for client in (True, False):
        opener = Opener(sock, client=client)
        store(opener.memory.slots, Slot.PEER, from_raw(HERE))
        frame = b"x" * 60
        assert opener.opened(frame, source=called.raw(socket.AF_INET)) == [frame]
        now += SILENCE - 1
        opener.stage.idle()
        assert load(opener.memory.slots, Slot.PEER) == called
        now += 1
        opener.stage.idle()
        assert load(opener.memory.slots, Slot.PEER) == (called.from_anywhere if client else called)


def test_what_is_no_frame_makes_no_peer(opener: Opener) -> None:
    assert opener.opened(b"x" * 13, source=THERE) == []
    assert load(opener.memory.slots, Slot.PEER) is None
    assert opener.drops == {"TOO_SHORT": 1}


@given(
    size=st.integers(0, 3000) | st.sampled_from((13, 14, 65507)),
    count=st.integers(1, 70),
    last=st.integers(0, 3000) | st.sampled_from((13, 14, 65507)),
)
def test_what_fits_is_what_every_single_frame_says(size: int, count: int, last: int) -> None:
    last = min(size, last)
    counts = memory.create().inbound
    train = Train()
    train.at, train.size, train.step, train.count, train.last = 64, size, size + 24, count, last
    places = [(64 + number * (size + 24), last if number == count - 1 else size) for number in range(count)]
    expected = [(at, length) for at, length in places if length >= 14]
    assert LengthFilter(counts).keep(train) == bool(expected)
    left = [(train.at + number * train.step, train.size_of(number)) for number in range(train.count)]
    assert left == expected
    assert counts[Count.DROPPED + Drop.TOO_SHORT] == sum(length < 14 for _, length in places)


@pytest.mark.parametrize(("size", "count"), [(1, 65507), (13, 5000)])
def test_a_train_of_tiny_datagrams_is_dropped_and_counted(size: int, count: int, opener: Opener) -> None:
    train = Train()
    train.at, train.size, train.step, train.count, train.last = 64, size, size, count, size
    assert opener.opened_train(train) == []
    assert opener.drops == {"TOO_SHORT": count}


def test_frames_are_sealed_by_leaving_them_alone() -> None:
    counts, train = memory.create().outbound, Train()
    train.at, train.size, train.step, train.count, train.last = 64, 100, 100, 5, 70
    stage = PlainSeal(counts, Path(slots(), 0), 0, 25)
    assert (stage.front, stage.overhead) == (0, 0)
    sent = Train()
    assert stage.seal(train, sent)
    assert (sent.at, sent.size, sent.step, sent.count, sent.last) == (64, 100, 100, 5, 70)
    assert not stage.seal(train, sent)
    assert sent.count == 5
    assert not stage.control(sent)


@given(size=st.integers(14, 2000), count=st.integers(1, 64), last=st.integers(14, 2000), path=st.integers(0, 2000))
def test_frames_that_go_in_ip_fragments_are_counted(size: int, count: int, last: int, path: int) -> None:
    shared, train = memory.create(), Train()
    shared.slots[Slot.PATH] = path
    last = size if count == 1 else min(size, last)
    train.at, train.size, train.step, train.count, train.last = 64, size, size, count, last
    assert PlainSeal(shared.outbound, Path(shared.slots, 0), 0, 25).seal(train, sent := Train())
    assert sent.count == count
    train.count = count
    lengths = [train.size_of(number) for number in range(count)]
    assert shared.outbound[Count.PARTS] == sum(length > path > 0 for length in lengths)  # 0: nobody knows the path


def test_a_reminder_is_one_empty_datagram() -> None:
    counts, train = memory.create().outbound, Train()
    stage = PlainSeal(counts, Path(slots(), 0), 128, 25)
    assert stage.keepalive(train)
    assert (train.at, train.size, train.count, train.last) == (128, 0, 1, 0)
    counts[Count.DATAGRAMS] += 1
    assert not stage.keepalive(train)
    assert not PlainSeal(counts, Path(slots(), 0), 0, 0).keepalive(train)


def test_keepalives_are_due_at_once_and_then_after_silence() -> None:
    keepalive = Keepalive(25)
    assert keepalive.due(0, 1000.0)
    assert not keepalive.due(1, 1000.0)
    assert not keepalive.due(1, 1024.9)
    assert keepalive.due(1, 1025.0)
    assert not keepalive.due(2, 1025.1)
    assert not keepalive.due(90, 1040.0)  # frames do as well
    assert not keepalive.due(90, 1064.9)
    assert keepalive.due(90, 1065.0)
    assert not Keepalive(0).due(0, 1e9)
