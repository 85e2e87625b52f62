"""The tap's side of both directions: frames and super-frames are read as trains, and trains are written as such."""

import errno
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NoReturn

from tap2tap.counters import Count, Counts, Drop
from tap2tap.errors import TAP_GONE
from tap2tap.vnet import NO_OFFLOAD, VIRTIO_NET_HDR_F_NEEDS_CSUM, VNET_LENGTH
from tap2tap.workers.checksum import MalformedError, complete
from tap2tap.workers.singles import Piece
from tap2tap.workers.split import Splitter
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, ROOM, ROWS, STRIDE, TRAINS, Batch, Train, Trains

Pieces = Callable[[Batch], Iterable[Piece]]
Carry = Callable[[Batch], None]

_CSUM = struct.Struct("=HH")  # csum_start and csum_offset, at 6 in a virtio_net_hdr
_GATHERED = 4  # trains of small frames that are read before they are sent
_ALONE = 16  # lone frames to be sent before a read looks whether more come again

_WRITE_DROPS = {
    errno.EIO: Drop.TAP_DOWN,
    errno.EINVAL: Drop.MALFORMED,
    errno.ENOBUFS: Drop.NO_BUFFERS,
    errno.ENOMEM: Drop.NO_BUFFERS,
    errno.EAGAIN: Drop.NO_BUFFERS,
}


class TapReader:
    """Reads the tap until it is empty, as batches of trains.

    Super-frames are read into slots, as many as there are, and split together. An ordinary frame is read straight into
    its place in a train: behind the ones before it, on the guess that it has their size. One that is shorter ends the
    train as its last; one that does not belong there begins the next.
    `overhead` is the number of bytes that the protocol adds to each datagram. `fd` is borrowed.
    """

    def __init__(self, fd: int, counts: Counts, overhead: int) -> None:
        self._fd = fd
        self._counts = counts
        self._overhead = overhead
        self._batch = Batch()  # slots for super-frames, or rows of frames
        self._splitter = Splitter(self._batch, MAX_PAYLOAD, MAX_SEGMENTS, overhead)
        self._headers = bytearray(VNET_LENGTH * ROWS)  # the virtio_net_hdr of each frame
        self._header = memoryview(self._headers)[:VNET_LENGTH]  # that of the first, which holds for the whole batch
        self._slots = [self._place(number, number * STRIDE) for number in range(TRAINS)]
        # Where frames behind the first are read to, by their size; hostile traffic may come in every size.
        self._places: Callable[[int], list[list[memoryview]]] = lru_cache(16)(lambda _size: [])
        self._rest: list[tuple[int, int, int]] = []  # frames read that are not in the batch: number, place and size
        self._empty = False
        self._alone = 0

    def drain(self, carry: Carry) -> None:
        """Hand one batch after another to `carry`, each of at least one frame, until the tap is empty.

        When frames come one at a time (a ping, an answer), only one is read: what may have come behind it is found
        by the next poll, which is cheaper than a read that finds nothing. `carry` must not keep the batch.
        Raises SystemExit(TAP_GONE) when the device was deleted.
        """
        header, batch = self._header, self._batch
        frames = 0
        self._empty = False
        size = self._read()
        while size >= 0:
            if header[1]:
                frames += 2
                self._super_frames(size, carry)
            else:
                if self._alone or self._rest:
                    batch.trains = _lone(size)
                else:
                    self._gather(size)
                frames += batch.trains.frames
                if not header[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM:
                    batch.vouched = False
                    carry(batch)
                elif self._complete():
                    batch.vouched = True
                    carry(batch)
                if self._alone:
                    self._alone -= 1
                    if self._alone:
                        return
            size = self._next() if self._rest else self._read()
        self._alone = _ALONE if frames == 1 else 0

    def _read(self) -> int:
        """Read the first frame of a batch and return its size; -1 when there is none."""
        if self._empty:
            return -1
        try:
            return os.readv(self._fd, self._slots[0]) - VNET_LENGTH
        except BlockingIOError:
            return -1
        except OSError as error:
            _gone(error)

    def _next(self) -> int:
        """Make a frame that was read already the first of a batch, and return its size."""
        number, at, size = self._rest.pop(0)
        buffer, start = self._batch.buffer, number * VNET_LENGTH
        buffer[:size] = buffer[at : at + size]
        self._header[:] = self._headers[start : start + VNET_LENGTH]
        return size

    def _super_frames(self, size: int, carry: Carry) -> None:
        """Read what follows the first super-frame, and split those that have its header."""
        fd, readv, counts, header = self._fd, os.readv, self._counts, bytes(self._header)
        sizes = [size]
        if not self._rest:
            try:
                for vector in self._slots[1:]:
                    sizes.append(readv(fd, vector) - VNET_LENGTH)
                    if vector[0] != header:
                        number = len(sizes) - 1
                        self._rest.append((number, number * STRIDE, sizes.pop()))
                        break
            except BlockingIOError:
                self._empty = True
            except OSError as error:
                _gone(error)
        for batch in self._splitter.split(header, sizes):
            counts[Count.SUPER_FRAME_FRAMES] += batch.trains.frames
            carry(batch)
        malformed = self._splitter.malformed
        counts[Count.SUPER_FRAMES] += len(sizes) - malformed
        counts[Count.DROPPED + Drop.MALFORMED] += malformed

    def _gather(self, size: int) -> None:
        """Read what follows the first frame, and shape the trains."""
        fd, readv, rest = self._fd, os.readv, self._rest
        full = size + VNET_LENGTH
        count, got = 1, full
        try:
            for vector in self._places_behind(size):
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
            self._batch.trains = _lone(size)
            return
        same = self._same(count + (got < full))
        if same > count:  # the short one is the last
            rest.clear()
        else:
            rest[:0] = [(number, number * size, size) for number in range(same, count)]
            last = size
        self._batch.trains = _rows(size, same, last, self._room(size))

    def _same(self, count: int) -> int:
        """How many of the first `count` frames have the header of the first."""
        headers, first = self._headers, bytes(self._header)
        if headers[: count * VNET_LENGTH] == first * count:
            return count
        return next(n for n in range(count) if headers[n * VNET_LENGTH : (n + 1) * VNET_LENGTH] != first)

    def _room(self, size: int) -> int:
        """How many frames of that size a train may have."""
        return max(1, min(MAX_SEGMENTS, MAX_PAYLOAD // (size + self._overhead)))

    def _places_behind(self, size: int) -> Iterator[list[memoryview]]:
        """Where frames behind the first one of `size` are read to, each with room for whatever comes instead."""
        known = self._places(size)
        yield from known
        room = self._room(size)
        rows = min(_GATHERED * room, (len(self._batch.buffer) - ROOM) // size // room * room)
        for number in range(len(known) + 1, rows):
            known.append(self._place(number, number * size))
            yield known[-1]

    def _place(self, number: int, at: int) -> list[memoryview]:
        """Where frame `number` and its header are read to."""
        header = memoryview(self._headers)[number * VNET_LENGTH : (number + 1) * VNET_LENGTH]
        return [header, self._batch.buffer[at : at + ROOM]]

    def _complete(self) -> bool:
        start, offset = _CSUM.unpack_from(self._header, 6)
        try:
            complete(self._batch, start, offset)
        except MalformedError:
            self._counts[Count.DROPPED + Drop.MALFORMED] += self._batch.trains.frames
            return False
        return True


class TapWriter:
    """Writes the frames of trains to the tap.

    `pieces` says in which pieces: a Joiner's `join`, or `singly`. `fd` is borrowed.
    """

    def __init__(self, fd: int, counts: Counts, pieces: Pieces) -> None:
        self._fd = fd
        self._counts = counts
        self._pieces = pieces
        self._frames: list[memoryview] = []  # of the batch in hand, when something has been refused
        self._lost_frames = self._lost_bytes = 0  # of it

    def write(self, batch: Batch) -> None:
        """Write every frame of `batch` and count it; what the kernel refuses is a counted drop.

        Raises SystemExit(TAP_GONE) when the device was deleted.
        """
        fd, counts, writev = self._fd, self._counts, os.writev
        trains = batch.trains
        if trains.frames == 1:
            at, size, _, _ = trains[0]
            try:
                writev(fd, [NO_OFFLOAD, batch.buffer[at : at + size]])
            except OSError as error:
                self._lose(error, [batch.buffer[at : at + size]])
            else:
                counts[Count.FRAMES] += 1
                counts[Count.BYTES] += size
            return
        self._lost_frames = self._lost_bytes = done = joined = joined_frames = 0
        for vector, frames in self._pieces(batch):
            try:
                writev(fd, vector)
            except OSError as error:
                self._refused(batch, done, frames, error)
            else:
                if frames > 1:
                    joined += 1
                    joined_frames += frames
            done += frames
        if joined:
            counts[Count.SUPER_FRAMES] += joined
            counts[Count.SUPER_FRAME_FRAMES] += joined_frames
        counts[Count.FRAMES] += done - self._lost_frames
        counts[Count.BYTES] += trains.length - self._lost_bytes

    def _refused(self, batch: Batch, done: int, frames: int, error: OSError) -> None:
        """See to what the kernel did not take: `frames` of the batch behind the first `done`."""
        if not self._lost_frames:
            self._frames = batch.datagrams()
        refused = self._frames[done : done + frames]
        if frames == 1 or error.errno != errno.EINVAL:
            self._lose(error, refused)
            return
        self._counts[Count.FALLBACKS] += 1
        for frame in refused:
            try:
                os.writev(self._fd, [NO_OFFLOAD, frame])
            except OSError as another:
                self._lose(another, [frame])

    def _lose(self, error: OSError, frames: Sequence[memoryview]) -> None:
        """Count what the kernel refused for good."""
        if error.errno in (errno.EBADF, errno.EFAULT):
            raise error  # ours, not the frame's
        if error.errno in (errno.EBADFD, errno.ENODEV):
            _gone(error)
        self._counts[Count.DROPPED + _WRITE_DROPS.get(error.errno or 0, Drop.OTHER)] += len(frames)
        self._lost_frames += len(frames)
        self._lost_bytes += sum(map(len, frames))


@lru_cache(64)  # hostile traffic may come in every size
def _lone(size: int) -> Trains:
    """One frame."""
    return Trains([Train(0, size, 1, size)])


@lru_cache(64)
def _rows(size: int, count: int, last: int, room: int) -> Trains:
    """Frames behind each other, at most `room` in a train."""
    return Trains(
        Train(first * size, size, min(room, count - first), size if first + room < count else last)
        for first in range(0, count, room)
    )


def _gone(error: OSError) -> NoReturn:
    if error.errno in (errno.EBADFD, errno.ENODEV):
        raise SystemExit(TAP_GONE) from error
    raise error
