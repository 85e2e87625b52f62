"""Frames of all sizes through the tap's reader and writer, byte for byte, in order; a socket stands in for the tap."""

import socket
from array import array
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from tap2tap.vnet import NO_OFFLOAD, VIRTIO_NET_HDR_F_NEEDS_CSUM, VNET_HEADER, VNET_LENGTH
from tap2tap.workers.join import Joiner
from tap2tap.workers.reader import TapReader
from tap2tap.workers.runs import Run
from tap2tap.workers.singles import Single, singly
from tap2tap.workers.train import Batch
from tap2tap.workers.writer import Pieces, TapWriter
from tests import frames
from tests.joining import BULK, as_written, make

# Runs of one size, with what ends them: some shorter, some longer.
SIZES = st.lists(st.tuples(st.integers(14, 1500), st.integers(1, 12)), min_size=1, max_size=6).map(
    lambda runs: [size for size, count in runs for _ in range(count)]
)


def frame(number: int, size: int) -> bytes:
    """A frame of no known protocol, unlike its neighbours."""
    return bytes((number * 7 + at * 3) % 256 for at in range(12)).ljust(14, b"\x88") + bytes(
        (number + at) % 256 for at in range(size - 14)
    )


def completed(frame: bytes) -> bytes:
    """The frame with the checksum of what is behind its Ethernet header in the first two bytes of that."""
    data = frame[14:] + bytes(len(frame) % 2)
    total = sum(data[at] << 8 | data[at + 1] for at in range(0, len(data), 2)) % 65535
    return frame[:14] + (65535 - total).to_bytes(2, "big") + frame[16:]


def counts() -> memoryview:
    return memoryview(array("Q", bytes(8 * 256)))


class Tap:
    """What the worker has, and what the kernel would have; each write is one frame."""

    def __init__(self) -> None:
        self.worker, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.worker, self.kernel):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)

    def written(self) -> list[bytes]:
        came = []
        while True:
            try:
                came.append(self.kernel.recv(70000))
            except BlockingIOError:
                return came

    def close(self) -> None:
        self.worker.close()
        self.kernel.close()


def through(work: Callable[[Tap], None]) -> None:
    tap = Tap()
    try:
        work(tap)
    finally:
        tap.close()


@given(SIZES, st.integers(0, 30))
def test_what_is_read_is_what_came(sizes: list[int], odd: int) -> None:
    """`odd`: the frame whose header asks for a checksum; it must not be taken for that of its neighbours."""
    sent = [frame(number, size) for number, size in enumerate(sizes)]
    headers, wanted = [NO_OFFLOAD] * len(sent), list(sent)
    if odd < len(sent) and len(sent[odd]) >= 16:
        headers[odd] = VNET_HEADER.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 14, 0)
        wanted[odd] = completed(sent[odd])
    carried: list[bytes] = []

    def work(tap: Tap) -> None:
        reader = TapReader(tap.worker.fileno(), counts(), 0)
        for _ in range(2):  # the second time with all that is remembered
            for header, one in zip(headers, sent, strict=True):
                tap.kernel.send(header + one)
            for _ in sent:  # once is not enough where a lone frame is expected
                reader.drain(lambda batch: carried.extend(map(bytes, batch.datagrams())))

    through(work)
    assert carried == wanted * 2


@given(SIZES)
def test_what_is_written_is_what_was_to_be(sizes: list[int]) -> None:
    trains: list[list[bytes]] = []
    for number, size in enumerate(sizes):
        if not trains or size > len(trains[-1][0]) or len(trains[-1][-1]) < len(trains[-1][0]):
            trains.append([])
        trains[-1].append(frame(number, size))
    batch = Batch()

    def work(tap: Tap) -> None:
        for pieces in (singly, Joiner(udp=True).join):
            frames.load(batch, *trains)
            TapWriter(tap.worker.fileno(), counts(), pieces).write(batch)
            assert tap.written() == [NO_OFFLOAD + one for train in trains for one in train]

    through(work)


def test_single_frames_between_runs_leave_them_whole() -> None:
    stranger, run = frame(1, len(make(BULK)[0])), make(BULK)
    wanted: list[tuple[bytes, int]] = []

    def pieces(batch: Batch) -> list[Run | Single]:
        found = list(Joiner(udp=True).join(batch))
        wanted.extend(as_written(found))
        return found

    def work(tap: Tap, pieces: Pieces = pieces) -> None:
        batch = Batch()
        frames.load(batch, [stranger, *run, stranger, stranger, *run])
        TapWriter(tap.worker.fileno(), counts(), pieces).write(batch)
        assert tap.written() == [data for data, _ in wanted]

    through(work)
    assert [count for _, count in wanted] == [1, len(run), 1, 1, len(run)]
    assert all(len(data) > VNET_LENGTH for data, _ in wanted)
