"""Reading the tap: what comes out of it is what went in, byte for byte, in order; a socket stands in for the tap."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EBADF, EBADFD, ENODEV

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.errors import TapGoneError
from tap2tap.vnet import NO_OFFLOAD, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, VNET_HEADER, VNET_LENGTH
from tap2tap.workers.arena import Arena
from tap2tap.workers.gather import AREA, Gather, fail
from tap2tap.workers.tap import Tap
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, Train
from tests.support.lone import frame, roomy

Read = tuple[bytes, bytes]  # a virtio_net_hdr and its frame

SUPER = VNET_HEADER.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, 54, 1446, 34, 16)
HEADERS = (NO_OFFLOAD, NO_OFFLOAD, NO_OFFLOAD, VNET_HEADER.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, 0, 0, 34, 16), SUPER)
SIZES = st.sampled_from((14, 15, 20, 60, 60, 1514, 9000, 40000, 65549))
# Runs of one size and one header, with what ends them: shorter ones, longer ones, other headers.
READS = st.lists(st.tuples(st.sampled_from(HEADERS), SIZES, st.integers(1, 8)), min_size=1, max_size=8).map(
    lambda runs: [
        (header, frame(size, 10 * seed + number))
        for seed, (header, size, count) in enumerate(runs)
        for number in range(1 if header is SUPER else count)
    ]
)
ALONE = 16  # of tap2tap.workers.gather
NO_DESCRIPTOR = 1_000_000
OVERHEADS = st.sampled_from((0, 24))


@contextmanager
def tap() -> Iterator[tuple[socket.socket, socket.socket]]:
    """What the worker has, and what the kernel would have; each write is one frame."""
    worker, kernel = (roomy(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    with worker, kernel:
        worker.setblocking(False)
        kernel.setblocking(False)
        yield worker, kernel


def trains(gather: Gather, arena: Arena) -> Iterator[tuple[Train, list[Read]]]:
    """Every train that can be read now, and its frames, each with the header of the first."""
    train, empty = Train(), 0
    while empty < 2:  # behind a frame that was alone, once is not enough
        if not gather.read(train):
            empty += 1
            continue
        empty = 0
        header = arena.take(train.at - VNET_LENGTH, VNET_LENGTH)
        yield (
            train,
            [(header, arena.take(train.at + n * train.step, train.size_of(n))) for n in range(train.count)],
        )


def fed(kernel: socket.socket, reads: Sequence[Read]) -> list[Read]:
    """Put into the tap what it has room for, and return that."""
    done: list[Read] = []
    for header, one in reads:
        try:
            kernel.send(header + one)
        except BlockingIOError:  # an ordinary user's buffer is small
            break
        done.append((header, one))
    return done


@settings(max_examples=60)
@given(READS, OVERHEADS)
def test_what_is_read_is_what_came(reads: list[Read], overhead: int) -> None:
    arena = Arena(AREA)
    with tap() as (worker, kernel):
        gather = Gather(Tap(worker.fileno(), arena), arena, 0, overhead)
        for _ in range(2):  # the second time behind all that was there before
            sent = fed(kernel, reads)
            came = []
            for train, some in trains(gather, arena):
                assert train.step == train.size + overhead
                assert train.count == 1 or train.count <= MAX_SEGMENTS
                assert train.count == 1 or train.step * train.count <= MAX_PAYLOAD
                assert 0 < train.last <= train.size
                assert some[0][0][1] == 0 or train.count == 1
                came += some
            assert came == sent


@settings(max_examples=40)
@given(st.integers(14, 1514), st.integers(2, 200), OVERHEADS)
def test_frames_of_one_size_are_one_train_as_far_as_there_is_room(size: int, count: int, overhead: int) -> None:
    arena = Arena(AREA)
    with tap() as (worker, kernel):
        sent = fed(kernel, [(NO_OFFLOAD, frame(size, number)) for number in range(count)])
        gather = Gather(Tap(worker.fileno(), arena), arena, 0, overhead)
        counts = [train.count for train, _ in trains(gather, arena)]
    room = min(MAX_SEGMENTS, MAX_PAYLOAD // (size + overhead))
    full, rest = divmod(len(sent), room)
    assert counts == [room] * full + [rest] * (rest > 0)


def test_frames_that_come_alone_are_read_alone_until_it_is_looked_again() -> None:
    arena = Arena(AREA)
    with tap() as (worker, kernel):
        gather = Gather(Tap(worker.fileno(), arena), arena, 0, 0)
        assert [train.count for train in fed_and_read(gather, kernel, 1)] == [1]
        for _ in range(ALONE - 1):
            assert [train.count for train in fed_and_read(gather, kernel, 1)] == [1]
        fed(kernel, [(NO_OFFLOAD, frame(60, number)) for number in range(8)])
        assert [train.count for train in fed_and_read(gather, kernel, 0)] == [1]
        assert [train.count for train in fed_and_read(gather, kernel, 0)] == [7]


def fed_and_read(gather: Gather, kernel: socket.socket, count: int) -> list[Train]:
    """Put some frames of one size into the tap, and read once."""
    fed(kernel, [(NO_OFFLOAD, frame(60, number)) for number in range(count)])
    train, found = Train(), []
    while gather.read(train):
        found.append(train)
    return found


def test_a_tap_that_is_empty_is_asked_once_behind_a_train_and_then_again() -> None:
    arena = Arena(AREA)
    with tap() as (worker, kernel):
        gather = Gather(Tap(worker.fileno(), arena), arena, 0, 0)
        for number in range(3):
            assert not list(trains(gather, arena))
            sent = fed(kernel, [(NO_OFFLOAD, frame(60, number))])
            assert [some for _, some in trains(gather, arena)] == [sent]


def test_a_tap_that_was_deleted_is_told_from_other_failures() -> None:
    for error in (EBADFD, ENODEV):
        with pytest.raises(TapGoneError):
            fail(error)
    with pytest.raises(OSError, match="Bad file descriptor"):
        fail(EBADF)
    arena = Arena(AREA)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Gather(Tap(NO_DESCRIPTOR, arena), arena, 0, 0).read(Train())
