"""Frames that come in parts: put together here, and given up when they take too long (docs/protocol.md, 2.6).

The counters of the parts of a frame are consecutive, so `counter - number` of any part names the frame. All parts but
the last have one size, which every single part tells: so each can be checked, and copied to where it belongs, as it
comes. What an authentic peer may do wrong costs it a frame: memory is fixed, and nothing is written outside of it.
"""

from tap2tap.counters import Count, Counts, Drop
from tap2tap.device import ETHERNET_HEADER
from tap2tap.protocols.secure.wire import MAX_PARTS, PART_HEADER_LENGTH, PART_VOUCHED
from tap2tap.workers.arena import Arena
from tap2tap.workers.train import Train

UNFINISHED = 16  # frames
PATIENCE = 1024  # counters of its session until a frame is given up
MARGIN = 64  # bytes in front of each frame, for its virtio_net_hdr
STRIDE = MARGIN + 65536  # from one frame to the next: at a power of two they would share cache lines
AREA = UNFINISHED * STRIDE  # bytes of the arena that Parts use

PARTS = Count.PARTS
TOO_SHORT, MALFORMED = Count.DROPPED + Drop.TOO_SHORT, Count.DROPPED + Drop.MALFORMED
INCOMPLETE = Count.DROPPED + Drop.INCOMPLETE


class Unfinished:
    """A frame in the making, at `at` of the arena. With `left` 0 there is none."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.session = self.first = 0  # the index of the session, and the counter of the first part
        self.count = self.length = self.piece = 0  # parts, bytes, bytes of each part but the last
        self.left = 0  # parts that have not come
        self.came = 0  # bit n: part n has come
        self.vouched = False
        self.age = 0  # the least is that of the oldest; 0 if there is none

    def end(self) -> None:
        """Make room for another one."""
        self.left = self.age = 0


class Parts:
    """At most UNFINISHED frames, in the AREA bytes of the arena from `area` on."""

    def __init__(self, arena: Arena, area: int, counts: Counts) -> None:
        self._arena = arena
        self._counts = counts
        self._frames = [Unfinished(area + number * STRIDE + MARGIN) for number in range(UNFINISHED)]
        self._begun = 0

    def take(self, session: int, counter: int, newest: int, at: int, length: int, frames: Train) -> bool:
        """Take the part of `length` bytes at `at`, as it was sealed; whether that makes `frames` a whole frame.

        `newest` is the newest counter of the session so far. A frame holds until the next call.
        """
        arena, counts = self._arena, self._counts
        if length <= PART_HEADER_LENGTH:
            counts[MALFORMED] += 1
            return False
        word = arena.load32le(at)
        number, count, whole = word & PART_VOUCHED - 1, word >> 8 & 0xFF, word >> 16
        length -= PART_HEADER_LENGTH
        piece = piece_of(number, count, whole, length)
        first = counter - number
        if not piece or first < 0:
            counts[MALFORMED] += 1
            return False
        if whole < ETHERNET_HEADER:
            counts[TOO_SHORT] += 1
            return False
        frame = self._find(session, first)
        if newest - first >= PATIENCE:
            if frame is not None:
                counts[INCOMPLETE] += 1
                frame.end()
            return False
        if frame is None:
            frame = self._begin(session, first, newest)
            if frame is None:
                return False
            frame.count = frame.left = count
            frame.length, frame.piece = whole, piece
        bit = 1
        bit <<= number
        if frame.count != count or frame.length != whole or frame.piece != piece or frame.came & bit:
            counts[MALFORMED] += 1
            frame.end()
            return False
        arena.copy(frame.at + number * piece, at + PART_HEADER_LENGTH, length)
        frame.came |= bit
        frame.left -= 1
        if not word & PART_VOUCHED:
            frame.vouched = False
        if frame.left:
            return False
        frame.end()
        counts[PARTS] += 1
        frames.at, frames.count, frames.vouched = frame.at, 1, frame.vouched
        frames.size = frames.last = frames.step = whole
        return True

    def forget(self, session: int) -> None:
        """Give up the frames of a session that is closed."""
        for frame in self._frames:
            if frame.left and frame.session == session:
                self._counts[INCOMPLETE] += 1
                frame.end()

    def _find(self, session: int, first: int) -> Unfinished | None:
        for frame in self._frames:
            if frame.first == first and frame.left and frame.session == session:
                return frame
        return None

    def _begin(self, session: int, first: int, newest: int) -> Unfinished | None:
        """Make room for a frame: those of its session whose time is over are given up, or else the oldest.

        None if that is this one: what comes late of a frame that was given up must not drive out the next ones.
        """
        chosen = self._frames[0]
        for frame in self._frames:
            if frame.left and frame.session == session and newest - frame.first >= PATIENCE:
                self._counts[INCOMPLETE] += 1
                frame.end()
            if frame.age < chosen.age:
                chosen = frame
        if chosen.left:
            if chosen.session == session and first < chosen.first:
                return None
            self._counts[INCOMPLETE] += 1
        self._begun += 1
        chosen.session, chosen.first, chosen.age = session, first, self._begun
        chosen.came, chosen.vouched = 0, True
        return chosen


def piece_of(number: int, count: int, whole: int, length: int) -> int:
    """How long the parts of a frame of `whole` bytes are, all but the last, as part `number` of `length` bytes says.

    0: there can be no such part.
    """
    if count < 2 or count > MAX_PARTS or number >= count:
        return 0
    piece = length
    if number == count - 1:
        piece = (whole - length) // (count - 1)
        if piece < length or piece * (count - 1) != whole - length:
            return 0
    return piece if piece * (count - 1) < whole <= piece * count else 0
