"""The tap's side of both directions: frames are read as trains, trains are written as frames."""

import errno
import os
import struct
from collections.abc import Callable, Iterable
from typing import NoReturn

from tap2tap.counters import Count, Counts, Drop
from tap2tap.errors import TAP_GONE
from tap2tap.vnet import VIRTIO_NET_HDR_F_NEEDS_CSUM, VNET_LENGTH
from tap2tap.workers.checksum import complete
from tap2tap.workers.singles import Piece, Singles
from tap2tap.workers.split import MalformedError, Splitter
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, ROOM, Train

Pieces = Callable[[Train], Iterable[Piece]]

_CSUM = struct.Struct("=HH")  # csum_start and csum_offset, at 6 in a virtio_net_hdr
_ALONE = 16  # lone frames to be sent before a read looks whether more come again

_WRITE_DROPS = {
    errno.EIO: Drop.TAP_DOWN,
    errno.EINVAL: Drop.MALFORMED,
    errno.ENOBUFS: Drop.NO_BUFFERS,
    errno.ENOMEM: Drop.NO_BUFFERS,
    errno.EAGAIN: Drop.NO_BUFFERS,
}


class TapReader:
    """Reads the tap until it is empty, as trains.

    A frame is read straight into its place in the train: behind the ones before it, on the guess that it has their
    size. One that is shorter ends the train as its last; one that does not belong there begins the next.
    `overhead` is the number of bytes that the protocol adds to each datagram. `fd` is borrowed.
    """

    def __init__(self, fd: int, counts: Counts, overhead: int) -> None:
        self._fd = fd
        self._counts = counts
        self._overhead = overhead
        self._train = Train()
        self._splitter = Splitter(MAX_PAYLOAD, MAX_SEGMENTS, overhead)
        self._headers = bytearray(VNET_LENGTH * MAX_SEGMENTS)  # the virtio_net_hdr of each frame
        self._header = memoryview(self._headers)[:VNET_LENGTH]  # that of the first, which holds for the whole train
        self._first = [self._header, self._train.buffer[:ROOM]]
        self._vectors: dict[int, list[list[memoryview]]] = {}
        self._rest: list[tuple[int, int, int]] = []  # frames read that are not in the train: number, place and size
        self._empty = False
        self._alone = 0

    def drain(self, carry: Callable[[Train], None]) -> None:
        """Hand one train after another to `carry`, each of at least one frame, until the tap is empty.

        When frames come one at a time (a ping, an answer), only one is read: what may have come behind it is found
        by the next poll, which is cheaper than a read that finds nothing. `carry` must not keep the train.
        Raises SystemExit(TAP_GONE) when the device was deleted.
        """
        header, train = self._header, self._train
        frames = 0
        self._empty = False
        size = self._read()
        while size >= 0:
            if header[1]:
                frames += 2
                self._split(train.buffer[:size], carry)
            else:
                if self._alone or self._rest:
                    train.shape(size, 1, size)
                else:
                    self._gather(size)
                frames += train.count
                if not header[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM:
                    train.vouched = False
                    carry(train)
                elif self._complete():
                    train.vouched = True
                    carry(train)
                if self._alone:
                    self._alone -= 1
                    if self._alone:
                        return
            size = self._next() if self._rest else self._read()
        self._alone = _ALONE if frames == 1 else 0

    def _read(self) -> int:
        """Read the first frame of a train and return its size; -1 when there is none."""
        if self._empty:
            return -1
        try:
            return os.readv(self._fd, self._first) - VNET_LENGTH
        except BlockingIOError:
            return -1
        except OSError as error:
            _gone(error)

    def _next(self) -> int:
        """Make a frame that was read already the first of a train, and return its size."""
        number, at, size = self._rest.pop(0)
        buffer, start = self._train.buffer, number * VNET_LENGTH
        buffer[:size] = buffer[at : at + size]
        self._header[:] = self._headers[start : start + VNET_LENGTH]
        return size

    def _gather(self, size: int) -> None:
        """Read what follows the first frame, and shape the train."""
        fd, readv, rest = self._fd, os.readv, self._rest
        full = size + VNET_LENGTH
        count, got = 1, full
        try:
            for vector in self._vectors.get(size) or self._places(size):
                got = readv(fd, vector)
                if got != full:
                    break
                count += 1
        except BlockingIOError:
            self._empty = True
        except OSError as error:
            _gone(error)
        last = got - VNET_LENGTH
        if got != full:
            rest.append((count, count * size, last))
        elif count == 1:
            self._train.shape(size, 1, size)
            return
        same = self._same(count + (got < full))
        if same > count:  # the short one is the last
            rest.clear()
            self._train.shape(size, same, last)
            return
        rest[:0] = [(number, number * size, size) for number in range(same, count)]
        self._train.shape(size, same, size)

    def _same(self, count: int) -> int:
        """How many of the first `count` frames have the header of the first."""
        headers, first = self._headers, bytes(self._header)
        if headers[: count * VNET_LENGTH] == first * count:
            return count
        return next(n for n in range(count) if headers[n * VNET_LENGTH : (n + 1) * VNET_LENGTH] != first)

    def _places(self, size: int) -> list[list[memoryview]]:
        """Where the frames behind the first one of `size` are read to, each with room for whatever comes instead."""
        if len(self._vectors) >= 256:  # hostile traffic may come in every size
            self._vectors.clear()
        room = max(1, min(MAX_SEGMENTS, MAX_PAYLOAD // (size + self._overhead)))
        headers, buffer = memoryview(self._headers), self._train.buffer
        places = [
            [headers[n * VNET_LENGTH : (n + 1) * VNET_LENGTH], buffer[n * size : n * size + ROOM]]
            for n in range(1, room)
        ]
        self._vectors[size] = places
        return places

    def _split(self, frame: memoryview, carry: Callable[[Train], None]) -> None:
        counts = self._counts
        try:
            for train in self._splitter.split(self._header, frame):
                counts[Count.SUPER_FRAME_FRAMES] += train.count
                carry(train)
            counts[Count.SUPER_FRAMES] += 1
        except MalformedError:
            counts[Count.DROPPED + Drop.MALFORMED] += 1

    def _complete(self) -> bool:
        start, offset = _CSUM.unpack_from(self._header, 6)
        try:
            complete(self._train, start, offset)
        except MalformedError:
            self._counts[Count.DROPPED + Drop.MALFORMED] += self._train.count
            return False
        return True


class TapWriter:
    """Writes the frames of trains to the tap.

    `pieces` says in which pieces: a Joiner's `join`, or `Singles`. `fd` is borrowed.
    """

    def __init__(self, fd: int, counts: Counts, pieces: Pieces) -> None:
        self._fd = fd
        self._counts = counts
        self._pieces = pieces
        self._singles = Singles()
        self._lost_frames = self._lost_bytes = 0  # of the train in hand

    def write(self, train: Train) -> None:
        """Write every frame of `train` and count it; what the kernel refuses is a counted drop.

        Raises SystemExit(TAP_GONE) when the device was deleted.
        """
        fd, counts, writev = self._fd, self._counts, os.writev
        self._lost_frames = self._lost_bytes = done = 0
        if train.count == 1:
            try:
                writev(fd, self._singles.only(train))
            except OSError as error:
                self._lose(error, train, 0, 1)
            else:
                counts[Count.FRAMES] += 1
                counts[Count.BYTES] += train.size
            return
        for vector, frames in self._pieces(train):
            try:
                writev(fd, vector)
            except OSError as error:
                if frames > 1 and error.errno == errno.EINVAL:
                    counts[Count.FALLBACKS] += 1
                    self._one_by_one(train, done, frames)
                else:
                    self._lose(error, train, done, frames)
            else:
                if frames > 1:
                    counts[Count.SUPER_FRAMES] += 1
                    counts[Count.SUPER_FRAME_FRAMES] += frames
            done += frames
        counts[Count.FRAMES] += train.count - self._lost_frames
        counts[Count.BYTES] += train.length - self._lost_bytes

    def _one_by_one(self, train: Train, done: int, frames: int) -> None:
        """Write what the kernel refused as a super-frame."""
        for vector, _ in self._singles(train)[done : done + frames]:
            try:
                os.writev(self._fd, vector)
            except OSError as error:
                self._lose(error, train, done, 1)
            done += 1

    def _lose(self, error: OSError, train: Train, done: int, frames: int) -> None:
        """Count what the kernel refused for good."""
        if error.errno in (errno.EBADF, errno.EFAULT):
            raise error  # ours, not the frame's
        if error.errno in (errno.EBADFD, errno.ENODEV):
            _gone(error)
        self._counts[Count.DROPPED + _WRITE_DROPS.get(error.errno or 0, Drop.OTHER)] += frames
        self._lost_frames += frames
        self._lost_bytes += min((done + frames) * train.size, train.length) - done * train.size


def _gone(error: OSError) -> NoReturn:
    if error.errno in (errno.EBADFD, errno.ENODEV):
        raise SystemExit(TAP_GONE) from error
    raise error
