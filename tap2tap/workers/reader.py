"""The tap's side of the outbound direction: frames and super-frames are read as batches of trains."""

import io
import struct
from collections.abc import Callable
from functools import lru_cache, partial

from tap2tap.counters import Count, Counts, Drop
from tap2tap.vnet import VIRTIO_NET_HDR_F_NEEDS_CSUM, VNET_LENGTH
from tap2tap.workers.checksum import MalformedError, complete
from tap2tap.workers.gather import Places
from tap2tap.workers.split import Splitter
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, ROOM, STRIDE, TRAINS, Batch, Train, Trains
from tap2tap.workers.worker import end_if_gone

Carry = Callable[[Batch], None]

_CSUM = struct.Struct("=HH")  # csum_start and csum_offset, at 6 in a virtio_net_hdr
_GATHERED = 4  # trains of small frames that are read before they are sent
_ALONE = 16  # lone frames to be sent before a read looks whether more come again


class TapReader:
    """Reads the tap until it is empty, as batches of trains.

    Super-frames are read into slots, as many as there are, and split together. Ordinary frames are gathered: on the
    guess that they have the size of the first. One that is shorter ends the train as its last; one that does not belong
    there begins the next.
    `overhead` is the number of bytes that the protocol adds to each datagram. `fd` is borrowed.
    """

    def __init__(self, fd: int, counts: Counts, overhead: int) -> None:
        self._readinto = io.FileIO(fd, closefd=False).readinto  # two thirds of the time of os.readv; None: empty
        self._counts = counts
        self._overhead = overhead
        self._batch = Batch()  # slots for super-frames, or places of frames
        self._rows = Batch()  # frames of one size, behind each other
        self._splitter = Splitter(self._batch, MAX_PAYLOAD, MAX_SEGMENTS, overhead)
        self._slots = [self._batch.with_header(number * STRIDE, ROOM) for number in range(TRAINS)]
        self._headers = [slot[:VNET_LENGTH] for slot in self._slots]
        self._header = self._headers[0]  # that of the first frame, which holds for the whole batch
        # Hostile traffic may come in every size.
        self._places = lru_cache(16)(partial(_places_of, self._batch, self._rows, overhead))
        self._rest: list[tuple[int, int]] = []  # frames read that are not in the batch: place and size
        self._empty = False
        self._alone = 0

    def drain(self, carry: Carry) -> None:
        """Hand one batch after another to `carry`, each of at least one frame, until the tap is empty.

        When frames come one at a time (a ping, an answer), only one is read: what may have come behind it is found
        by the next poll, which is cheaper than a read that finds nothing. `carry` must not keep the batch.
        Raises SystemExit(TAP_GONE) when the device was deleted.
        """
        header, alone = self._header, self._batch
        frames = 0
        self._empty = False
        size = self._read(self._slots[0])
        while size >= 0:
            if header[1]:
                frames += 2
                self._super_frames(size, carry)
            else:
                if self._alone or self._rest:
                    batch = alone
                    batch.trains = _lone(size)
                else:
                    batch = self._gather(size)
                frames += batch.trains.frames
                if not header[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM:
                    batch.vouched = False
                    carry(batch)
                elif self._complete(batch):
                    batch.vouched = True
                    carry(batch)
                if self._alone:
                    self._alone -= 1
                    if self._alone:
                        return
            size = self._next() if self._rest else self._read(self._slots[0])
        self._alone = _ALONE if frames == 1 else 0

    def _read(self, place: memoryview) -> int:
        """Read a frame and its header and return the size of the frame; -1 when there is none."""
        if self._empty:
            return -1
        try:
            got = self._readinto(place)
        except OSError as error:
            end_if_gone(error)
            raise
        if got is None:
            self._empty = True
            return -1
        return got - VNET_LENGTH

    def _next(self) -> int:
        """Make a frame that was read already the first of a batch, and return its size."""
        at, size = self._rest.pop(0)
        self._slots[0][: VNET_LENGTH + size] = self._batch.with_header(at, size)
        return size

    def _super_frames(self, size: int, carry: Carry) -> None:
        """Read what follows the first super-frame, and split those that have its header."""
        counts, header = self._counts, bytes(self._header)
        sizes = [size]
        if not self._rest:
            for number in range(1, TRAINS):
                size = self._read(self._slots[number])
                if size < 0:
                    break
                if self._headers[number] != header:
                    self._rest.append((number * STRIDE, size))
                    break
                sizes.append(size)
        for batch in self._splitter.split(header, sizes):
            counts[Count.SUPER_FRAME_FRAMES] += batch.trains.frames
            carry(batch)
        malformed = self._splitter.malformed
        counts[Count.SUPER_FRAMES] += len(sizes) - malformed
        counts[Count.DROPPED + Drop.MALFORMED] += malformed

    def _gather(self, size: int) -> Batch:
        """Read what follows the first frame, and return the trains."""
        readinto, places, rest = self._readinto, self._places(size), self._rest
        full = size + VNET_LENGTH
        count = 1
        got: int | None = full
        try:
            for place in places.behind_the_first():
                got = readinto(place)
                if got != full:
                    break
                count += 1
        except OSError as error:
            end_if_gone(error)
            raise
        if got is None:
            self._empty = True
            got = full
        last = size
        if got != full:
            rest.append((count * places.spacing, got - VNET_LENGTH))
        if count + len(rest) > 1:
            alike = places.alike(count + (got < full))
            if alike > count:  # the short one is the last
                last = rest.pop()[1]
            else:
                rest[:0] = [(number * places.spacing, size) for number in range(alike, count)]
            if alike > 1:
                places.line_up(alike)
                self._rows.trains = _rows(size, alike, last, _room(self._overhead, size))
                return self._rows
        self._batch.trains = _lone(size)
        return self._batch

    def _complete(self, batch: Batch) -> bool:
        start, offset = _CSUM.unpack_from(self._header, 6)
        try:
            complete(batch, start, offset)
        except MalformedError:
            self._counts[Count.DROPPED + Drop.MALFORMED] += batch.trains.frames
            return False
        return True


def _room(overhead: int, size: int) -> int:
    """How many frames of that size a train may have."""
    return max(1, min(MAX_SEGMENTS, MAX_PAYLOAD // (size + overhead)))


def _places_of(batch: Batch, rows: Batch, overhead: int, size: int) -> Places:
    """Places for the frames of a few trains."""
    return Places(batch, rows, size, _GATHERED * _room(overhead, size))


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
