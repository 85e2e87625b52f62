"""The tap's side of both directions: frames are read as trains, trains are written as frames."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from tap2tap.counters import Count, Counts, Drop
from tap2tap.errors import TAP_GONE
from tap2tap.vnet import VIRTIO_NET_HDR_F_NEEDS_CSUM, VNET_LENGTH
from tap2tap.workers.checksum import complete
from tap2tap.workers.singles import Piece, Singles
from tap2tap.workers.split import MalformedError, Splitter
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, ROOM, Train

Pieces = Callable[[Train], Iterable[Piece]]

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
    size. One that is shorter ends the train as its last; one that does not belong there is carried to the next.
    `overhead` is the number of bytes that the protocol adds to each datagram. `fd` is borrowed.
    """

    def __init__(self, fd: int, counts: Counts, overhead: int) -> None:
        self._fd = fd
        self._counts = counts
        self._overhead = overhead
        self._train = Train()
        self._splitter = Splitter(MAX_PAYLOAD, MAX_SEGMENTS, overhead)
        padded = memoryview(bytearray(16))  # a virtio_net_hdr, as two words for a quick comparison
        self._words = padded.cast("Q")
        self._halves = padded.cast("H")
        self._header = padded[:VNET_LENGTH]
        self._first = [self._header, self._train.buffer[:ROOM]]
        self._vectors: dict[int, list[list[memoryview]]] = {}
        self._alone = False

    def trains(self) -> Iterator[Train]:
        """Yield one train after another, each of at least one frame, until the tap is empty.

        A train is valid until the next is asked for. Raises SystemExit(TAP_GONE) when the device was deleted.
        """
        readv, fd, train, words, header = os.readv, self._fd, self._train, self._words, self._header
        buffer = train.buffer
        first, halves = self._first, self._halves
        carried = empty = False
        at = size = frames = 0
        # When the last drain found a single frame, the first of this one goes out before another is looked for: what
        # is sent one by one (a ping, an answer) gains the time of a read that finds nothing.
        alone = self._alone
        self._alone = False
        while not empty:
            if not carried:
                try:
                    at, size = 0, readv(fd, first) - VNET_LENGTH
                except BlockingIOError:
                    break
                except OSError as error:
                    _gone(error)
            carried = False
            if header[1]:
                yield from self._split(buffer[at : at + size])
                continue
            if at:
                buffer[:size] = buffer[at : at + size]
            flags, start, offset = header[0], halves[3], halves[4]
            count, last = 1, size
            vectors = self._vectors.get(size) or self._places(size)
            room, alone = 1 if alone else len(vectors), False
            word, other = words
            try:
                while count < room:
                    last = readv(fd, vectors[count]) - VNET_LENGTH
                    if last > size or words[0] != word or words[1] != other:
                        carried = True
                        break
                    count += 1
                    if last < size:
                        break
            except BlockingIOError:
                empty = True
            except OSError as error:
                _gone(error)
            frames += count
            train.shape(size, count, size if carried else last)
            at, size = count * size, last
            if not flags & VIRTIO_NET_HDR_F_NEEDS_CSUM:
                train.vouched = False
                yield train
            elif self._complete(start, offset):
                train.vouched = True
                yield train
        self._alone = frames == 1

    def _places(self, size: int) -> list[list[memoryview]]:
        """Where the frames of a train of `size` are read to, each with room for whatever comes instead."""
        if len(self._vectors) >= 256:  # hostile traffic may come in every size
            self._vectors.clear()
        room = max(1, min(MAX_SEGMENTS, MAX_PAYLOAD // (size + self._overhead)))
        places = [[self._header, self._train.buffer[at : at + ROOM]] for at in range(0, room * size, size)]
        self._vectors[size] = places
        return places

    def _split(self, frame: memoryview) -> Iterator[Train]:
        counts = self._counts
        try:
            for train in self._splitter.split(self._header, frame):
                counts[Count.SUPER_FRAME_FRAMES] += train.count
                yield train
            counts[Count.SUPER_FRAMES] += 1
        except MalformedError:
            counts[Count.DROPPED + Drop.MALFORMED] += 1

    def _complete(self, start: int, offset: int) -> bool:
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
