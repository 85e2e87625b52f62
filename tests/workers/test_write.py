"""Writing to the tap: what the kernel gets is what was in the train, joined or not; a socket stands in for the tap."""

import errno
import random
import socket
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.counters import Count, Drop
from tap2tap.errors import TapGoneError
from tap2tap.memory import GROUP
from tap2tap.vnet import NO_OFFLOAD
from tap2tap.workers import write as module
from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.join import SCRATCH, Joiner
from tap2tap.workers.tap import Tap
from tap2tap.workers.train import ROOM, Train
from tap2tap.workers.write import RETRY_AFTER, Writer
from tests.support import frames
from tests.support.joining import BULK, check, make
from tests.support.lone import frame, roomy

SIZE = 2 * ROOM


class Output:
    """A writer, and what comes out of the tap behind it."""

    tap: "Refusing"

    def __init__(self, worker: socket.socket, kernel: socket.socket, *, join: bool) -> None:
        self.arena = Arena(SIZE + SCRATCH)
        self.counts = memoryview(array("Q", bytes(8 * GROUP)))
        self.kernel = kernel
        joiner = Joiner(self.arena, SIZE, udp=True) if join else None
        self.writer = Writer(Tap(worker.fileno(), self.arena), self.arena, self.counts, joiner)

    def write(self, some: Sequence[bytes], room: int = 0, *, vouched: bool = False) -> list[bytes]:
        """Write frames of one size, but for a shorter last, that lie `room` bytes apart; what came of it."""
        train = Train()
        train.at, train.size, train.count, train.last = 64, len(some[0]), len(some), len(some[-1])
        train.step, train.vouched = train.size + room, vouched
        for number, one in enumerate(some):
            self.arena.put(train.at + number * train.step, one)
        self.writer.write(train)
        return list(self.written())

    def written(self) -> Iterator[bytes]:
        """What has come out."""
        while True:
            try:
                yield self.kernel.recv(1 << 17)
            except BlockingIOError:
                return

    def counted(self, *which: int) -> list[int]:
        """These counts."""
        return [self.counts[each] for each in which]


@contextmanager
def output(*, join: bool) -> Iterator[Output]:
    """A tap that takes everything."""
    worker, kernel = (roomy(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    with worker, kernel:
        worker.setblocking(False)
        kernel.setblocking(False)
        yield Output(worker, kernel, join=join)


@settings(max_examples=60)
@given(st.integers(14, 1500), st.integers(1, 40), st.integers(14, 1500), st.sampled_from((0, 24)), st.booleans())
def test_frames_that_belong_together_nowhere_are_written_as_they_are(
    size: int, count: int, last: int, room: int, join: bool
) -> None:
    sent = [*(frame(size, number) for number in range(count)), frame(min(last, size), count)]
    with output(join=join) as out:
        assert out.write(sent, room) == [NO_OFFLOAD + one for one in sent]
        assert out.counted(Count.FRAMES, Count.BYTES, Count.SUPER_FRAMES) == [len(sent), sum(map(len, sent)), 0]


@pytest.mark.parametrize("room", [0, 24])
def test_single_frames_between_runs_leave_them_whole(room: int) -> None:
    run, other = make(BULK), make(frames.Flow(options=frames.TIMESTAMPS, ports=(7, 8)))
    stranger = frame(len(run[0]))
    with output(join=True) as out:
        sent = [stranger, *run, stranger, stranger, *other]
        written = out.write(sent, room)
        back = [frames.resegment(write) for write in written]
    assert [one for some in back for one in some] == sent
    assert [len(some) for some in back] == [1, len(run), 1, 1, len(other)]
    assert out.counted(Count.SUPER_FRAMES, Count.SUPER_FRAME_FRAMES) == [2, len(run) + len(other)]
    assert out.counted(Count.FRAMES, Count.BYTES) == [len(sent), sum(map(len, sent))]


def test_without_a_joiner_nothing_is_joined() -> None:
    run = make(BULK)
    with output(join=False) as out:
        assert out.write(run) == [NO_OFFLOAD + one for one in run]


class Refusing(Tap):
    """A tap that refuses super-frames with `error`, and frames with `single`; 0: it does not."""

    error, single, tries = errno.EINVAL, 0, 0

    def write_added(self) -> int:
        self.tries += 1
        done = super().write_added()  # which a test can tell by its header
        return -self.error or done

    def write(self, at: int, length: int) -> int:
        return -self.single if self.single else super().write(at, length)


@contextmanager
def refused(error: int, single: int = 0) -> Iterator[Output]:
    """A tap that refuses."""
    worker, kernel = (roomy(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    with worker, kernel:
        worker.setblocking(False)
        kernel.setblocking(False)
        out = Output(worker, kernel, join=True)
        out.tap = tap = Refusing(worker.fileno(), out.arena)
        tap.error, tap.single = error, single
        out.writer = Writer(tap, out.arena, out.counts, Joiner(out.arena, SIZE, udp=True))
        yield out


KINDS = {
    "TCPv4": frames.Flow(options=frames.TIMESTAMPS),
    "TCPv6": frames.Flow(version=6),
    "UDP": frames.Flow(tcp=False),
}


class Clock:
    """What a test sets."""

    now = 1e6

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("kind", KINDS)
def test_joining_of_a_kind_that_is_refused_pauses_and_is_told_once(
    kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    cut = {name: frames.segments(flow, frames.payload(3000, 5), 1000) for name, flow in KINDS.items()}

    with refused(errno.EINVAL) as out:
        tap = out.tap

        def tried(name: str, *, ok: bool) -> int:
            """How many super-frames the tap is given for a run of that kind."""
            before, tap.error = tap.tries, 0 if ok else errno.EINVAL
            written = [each for each in out.write(cut[name]) if ok or each.startswith(NO_OFFLOAD)]
            assert [frame for each in written for frame in frames.resegment(each)] == cut[name]
            return tap.tries - before

        assert tried(kind, ok=False) == 1
        assert [tried(name, ok=True) for name in KINDS] == [int(name != kind) for name in KINDS]
        clock.now += RETRY_AFTER - 0.01
        assert tried(kind, ok=True) == 0
        clock.now += 0.02
        assert tried(kind, ok=False) == 1
        assert tried(kind, ok=True) == 0
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1
        assert kind in lines[0]
        assert "--no-offload" in lines[0]
        clock.now += RETRY_AFTER
        assert tried(kind, ok=True) == 1  # it works, so the next refusal is news
        assert tried(kind, ok=False) == 1
        assert len(capfd.readouterr().err.splitlines()) == 1
        assert out.counted(Count.FALLBACKS) == [3]


def test_joining_goes_on_where_frames_are_refused_by_themselves_too() -> None:
    run = make(BULK)
    with refused(errno.EINVAL, errno.EINVAL) as out:
        for number in range(3):
            out.write(run)
            assert out.tap.tries == number + 1


@pytest.mark.parametrize("room", [0, 24])
def test_a_super_frame_that_the_kernel_refuses_is_written_frame_by_frame(room: int) -> None:
    sent = [*make(BULK), frame(len(make(BULK)[0]), random.randrange(100))]
    with refused(errno.EINVAL) as out:
        written = [each for each in out.write(sent, room) if each.startswith(NO_OFFLOAD)]
        assert written == [NO_OFFLOAD + one for one in sent]
        assert out.counted(Count.FALLBACKS, Count.SUPER_FRAMES, Count.FRAMES) == [1, 0, len(sent)]
        assert out.counted(Count.BYTES) == [sum(map(len, sent))]


@pytest.mark.parametrize(
    ("error", "drop"),
    [
        (errno.EIO, Drop.TAP_DOWN),
        (errno.ENOBUFS, Drop.NO_BUFFERS),
        (errno.ENOMEM, Drop.NO_BUFFERS),
        (errno.EAGAIN, Drop.NO_BUFFERS),
        (errno.EPERM, Drop.OTHER),
    ],
)
def test_what_the_kernel_refuses_for_good_is_counted_by_its_reason(error: int, drop: Drop) -> None:
    sent = [*make(BULK), frame(len(make(BULK)[0]))]
    with refused(error, error) as out:
        assert not [each for each in out.write(sent) if each.startswith(NO_OFFLOAD)]
        assert out.counted(Count.DROPPED + drop, Count.FRAMES, Count.BYTES) == [len(sent), 0, 0]


def test_a_frame_that_the_kernel_refuses_is_malformed() -> None:
    with refused(errno.EINVAL, errno.EINVAL) as out:
        out.write([frame(60)])
        assert out.counted(Count.DROPPED + Drop.MALFORMED) == [1]


@pytest.mark.parametrize("error", [errno.EBADFD, errno.ENODEV])
def test_a_tap_that_was_deleted_ends_the_worker(error: int) -> None:
    for some in ([frame(60)], make(BULK)):
        with refused(error, error) as out, pytest.raises(TapGoneError):
            out.write(some)


@pytest.mark.parametrize("error", [errno.EBADF, errno.EFAULT])
def test_a_fault_of_ours_is_no_drop(error: int) -> None:
    with refused(error, error) as out, pytest.raises(OSError, match="Bad"):
        out.write([frame(60)])


@settings(max_examples=60)
@given(st.lists(st.tuples(frames.flows(joinable=True), st.integers(1, 9)), min_size=1, max_size=4), st.booleans())
def test_whatever_is_joined_gives_its_frames_back(flows: list[tuple[frames.Flow, int]], vouched: bool) -> None:
    size = max(flow.hl for flow, _ in flows) + 200
    sent: list[bytes] = []
    for number, (flow, count) in enumerate(flows):
        mss = size - flow.hl
        sent += frames.segments(flow, frames.payload(count * mss, number), mss)
    with output(join=True) as out:
        written = out.write(sent, vouched=vouched)
        check(sent, [(each, len(frames.resegment(each))) for each in written])
