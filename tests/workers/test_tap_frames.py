"""Frames of all sizes through the tap's reader and writer, byte for byte, in order; a socket stands in for the tap."""

import socket
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from tap2tap.vnet import NO_OFFLOAD, VIRTIO_NET_HDR_F_NEEDS_CSUM, VNET_HEADER, VNET_LENGTH
from tap2tap.workers.join import Joiner
from tap2tap.workers.reader import TapReader
from tap2tap.workers.runs import Run
from tap2tap.workers.singles import Single, singly
from tap2tap.workers.train import Batch
from tap2tap.workers.writer import TapWriter
from tests.support import frames
from tests.support.joining import BULK, as_written, make
from tests.support.lone import frame, roomy

# Runs of one size, with what ends them: some shorter, some longer.
SIZES = st.lists(st.tuples(st.integers(14, 1500), st.integers(1, 12)), min_size=1, max_size=6).map(
    lambda runs: [frame(size, seed) for seed, size in enumerate(size for size, count in runs for _ in range(count))]
)


def completed(frame: bytes) -> bytes:
    """The frame with the checksum of what is behind its Ethernet header in the first two bytes of that."""
    check = ~frames.fold(frame[14:]) & 0xFFFF or 0xFFFF
    return frame[:14] + check.to_bytes(2, "big") + frame[16:]


def counts() -> memoryview:
    return memoryview(array("Q", bytes(8 * 256)))


@contextmanager
def tap() -> Iterator[tuple[socket.socket, socket.socket]]:
    """What the worker has, and what the kernel would have; each write is one frame."""
    worker, kernel = (roomy(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    with worker, kernel:
        worker.setblocking(False)
        kernel.setblocking(False)
        yield worker, kernel


def written(kernel: socket.socket) -> list[bytes]:
    came = []
    while True:
        try:
            came.append(kernel.recv(70000))
        except BlockingIOError:
            return came


@given(SIZES, st.integers(0, 30))
def test_what_is_read_is_what_came(sent: list[bytes], odd: int) -> None:
    """`odd`: the frame whose header asks for a checksum; it must not be taken for that of its neighbours."""
    headers, wanted = [NO_OFFLOAD] * len(sent), list(sent)
    if odd < len(sent) and len(sent[odd]) >= 16:
        headers[odd] = VNET_HEADER.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 14, 0)
        wanted[odd] = completed(sent[odd])
    carried: list[bytes] = []
    with tap() as (worker, kernel):
        reader = TapReader(worker.fileno(), counts(), 0)
        for _ in range(2):  # the second time with all that is remembered
            for header, one in zip(headers, sent, strict=True):
                kernel.send(header + one)
            for _ in sent:  # once is not enough where a lone frame is expected
                reader.drain(lambda batch: carried.extend(frames.contents(batch)))
    assert carried == wanted * 2


@given(SIZES)
def test_what_is_written_is_what_was_to_be(sent: list[bytes]) -> None:
    batch = Batch()
    with tap() as (worker, kernel):
        for pieces in (singly, Joiner(udp=True).join):
            frames.load(batch, *frames.trains_of(sent))
            TapWriter(worker.fileno(), counts(), pieces).write(batch)
            assert written(kernel) == [NO_OFFLOAD + one for one in sent]


def test_single_frames_between_runs_leave_them_whole() -> None:
    run = make(BULK)
    stranger = frame(len(run[0]))
    wanted: list[tuple[bytes, int]] = []

    def pieces(batch: Batch) -> list[Run | Single]:
        found = list(Joiner(udp=True).join(batch))
        wanted.extend(as_written(found))
        return found

    batch = frames.load(Batch(), [stranger, *run, stranger, stranger, *run])
    with tap() as (worker, kernel):
        TapWriter(worker.fileno(), counts(), pieces).write(batch)
        assert written(kernel) == [data for data, _ in wanted]
    assert [count for _, count in wanted] == [1, len(run), 1, 1, len(run)]
    assert all(len(data) > VNET_LENGTH for data, _ in wanted)
