"""The outbound stage of the secure protocol: each frame is sealed into one datagram, where it lies, or into parts.

Why a nonce never repeats under one key: the outbound worker writes the next counter to the memory that it shares with
the supervisor and the link alone before it seals the first datagram of a train, so a successor goes on behind whatever
its killed predecessor may have sent; it goes by its own count where that is the higher one, so nothing that is written
there makes it go back; the supervisor reaps the predecessor before it forks the successor, so there is one worker at a
time; and a new link has new sessions, whose keys come from fresh ephemeral keys.
"""

from collections import deque

from tap2tap import clock
from tap2tap.counters import Count, Drop, Slot
from tap2tap.memory import Memory, Private
from tap2tap.protocols.secure.limits import REJECT_AFTER_MESSAGES
from tap2tap.protocols.secure.mailbox import Order, Task, WorkerEnd
from tap2tap.protocols.secure.wire import (
    HEADER_LENGTH,
    MAX_PARTS,
    OVERHEAD,
    PART_HEADER_LENGTH,
    PART_VOUCHED,
    TYPE_CONTROL,
    TYPE_DATA,
    TYPE_DATA_VOUCHED,
    TYPE_PART,
)
from tap2tap.workers.aead import Aead
from tap2tap.workers.arena import Arena
from tap2tap.workers.ciphers import aead
from tap2tap.workers.path import Path
from tap2tap.workers.stages.secure.complaints import Complaints
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, ROOM, Train

MAIL, SEALED, LIMIT = Private.MAIL, Private.SEALED, Private.LIMIT
PARTS = Count.PARTS
NO_SESSION, UNCHECKED = Count.DROPPED + Drop.NO_SESSION, Count.DROPPED + Drop.UNCHECKED
TOO_LONG = Count.DROPPED + Drop.TOO_LONG
PEER_MTU = Slot.PEER_MTU
LONGEST_PART = 65535  # bytes of a frame that goes in parts: its length has two bytes
WAITING = 32  # control datagrams that may wait to be sent; the oldest makes room
AREA = ROOM + MAX_PARTS * (OVERHEAD + PART_HEADER_LENGTH)  # bytes of the arena that a SecureSeal uses


class SecureSeal:
    """The outbound stage. It seals with the session that the link ordered last; `area` is a place in the arena."""

    def __init__(self, memory: Memory, channel: WorkerEnd, arena: Arena, area: int) -> None:
        self.front, self.overhead = HEADER_LENGTH, OVERHEAD
        self._slots, self._counts = memory.slots, memory.outbound
        self._channel = channel
        self._arena = arena
        self._area = area
        self._path = Path(memory.slots, OVERHEAD)
        self._complaints = Complaints(memory, channel)
        self._aead: Aead | None = None
        self._index = 0
        self._slot = Private.SESSION
        self._next = 0  # counter
        self._until = 0  # nanoseconds of the clock, when the session may be used no longer
        self._parts = False  # whether the peer takes frames in parts
        self._sealed = Train()  # parts that have not been handed out yet
        self._reminder = False
        self._orders: deque[Order] = deque(maxlen=WAITING)  # control datagrams
        self._mail = -1  # what MAIL was when the orders were read last

    def seal(self, frames: Train, train: Train) -> bool:
        """Seal the frames that fit one datagram together, where they lie; of one that does not, its parts."""
        if self._sealed.count:
            return self._hand_out(train)
        if frames.count:
            self._obey()
        while frames.count:
            length = frames.size if frames.count > 1 else frames.last
            if self._parts and length > self._path.room():
                if self._cut(frames, length, self._path.room() - PART_HEADER_LENGTH):
                    return self._hand_out(train)
            elif self._whole(frames, train):
                return True
        return False

    def keepalive(self, train: Train) -> bool:
        """Make `train` a sealed datagram without a frame when the link has ordered one."""
        self._obey()
        if not self._reminder:
            return False
        self._reminder = False
        train.at, train.count, train.vouched = self._area + HEADER_LENGTH, 1, False
        train.size = train.last = 0
        train.step = OVERHEAD
        return self._whole(train, train)

    def control(self, train: Train) -> bool:
        """Make `train` the next control datagram; those that may not be sent are forgotten."""
        self._obey()
        while self._orders:
            order = self._orders.popleft()
            length = max(len(order.data), order.size - OVERHEAD)
            # A path check must come through to end the limit; what is padded can wait.
            limited = length > len(order.data)
            if self._refusal(1, length + OVERHEAD if limited else 0):
                continue
            at = self._area
            self._arena.zero(at + HEADER_LENGTH, length)
            self._arena.put(at + HEADER_LENGTH, order.data)
            self._seal_one(at, length, TYPE_CONTROL, self._take(1, length + OVERHEAD))
            train.at, train.count, train.vouched = at, 1, False
            train.size = train.step = train.last = length + OVERHEAD
            return True
        return False

    def too_long(self, size: int) -> None:
        """Tell the link that the way out does not take a datagram of `size` bytes."""
        self._complaints.too_long(size)

    def _whole(self, frames: Train, train: Train) -> bool:
        """Seal all frames; False (counted) when they may not be sent."""
        count, size, last = frames.count, frames.size, frames.last
        length = frames.length() + count * OVERHEAD
        frames.count = 0
        arena, key = self._arena, self._aead
        refusal = self._refusal(count, length)
        if refusal or key is None:
            self._counts[refusal] += count
            return False
        if self._slots[PEER_MTU]:
            self._complaints.long_frames(size, last, count)
        first = self._take(count, length)
        word = (TYPE_DATA_VOUCHED if frames.vouched else TYPE_DATA) | self._index << 8
        at, step = frames.at - HEADER_LENGTH, frames.step
        train.at, train.step, train.count, train.vouched = at, step, count, frames.vouched
        train.size, train.last = size + OVERHEAD, last + OVERHEAD
        for number in range(count):
            if number == count - 1:
                size = last
            arena.store32le(at, word)
            arena.store32le(at + 4, first + number)
            key.seal(arena, at, size, first + number)
            at += step
        return True

    def _cut(self, frames: Train, length: int, most: int) -> bool:
        """Seal the first frame in parts of at most `most` bytes; False (counted) when it may not be sent.

        Those behind it that are as long follow in the same train, if all their parts are of one size.
        """
        at, count = frames.at, 1
        if length <= LONGEST_PART and length <= most * MAX_PARTS:
            count = (length + most - 1) // most
        piece = (length + count - 1) // count
        size = piece + PART_HEADER_LENGTH + OVERHEAD
        alike = 1
        if piece * count == length:
            most = min(MAX_SEGMENTS, MAX_PAYLOAD // size)
            alike = most // count
            alike = max(1, min(alike, frames.count if frames.last == length else frames.count - 1))
        frames.at += alike * frames.step
        frames.count -= alike
        total = alike * (length + count * (PART_HEADER_LENGTH + OVERHEAD))
        refusal = TOO_LONG if count == 1 else self._refusal(alike * count, total)
        if refusal:
            self._counts[refusal] += alike
            return False
        if self._slots[PEER_MTU]:
            self._complaints.long_frames(length, length, alike)
        counter = self._take(alike * count, total)
        word = count << 8 | length << 16 | (PART_VOUCHED if frames.vouched else 0)
        for number in range(alike):
            to = self._area + number * count * size
            self._seal_parts(at + number * frames.step, to, word, piece, counter + number * count)
        self._counts[PARTS] += alike
        sealed = self._sealed
        sealed.at, sealed.count, sealed.size = self._area, alike * count, size
        sealed.last = length - (count - 1) * piece + PART_HEADER_LENGTH + OVERHEAD
        return True

    def _seal_parts(self, at: int, to: int, word: int, piece: int, counter: int) -> None:
        """Seal the frame at `at` in parts of `piece` bytes to `to`; `word` is what they say of it, but for number."""
        left, number = word >> 16, 0
        while left > 0:
            if piece > left:
                piece = left
            self._arena.store32le(to + HEADER_LENGTH, word | number)
            self._arena.copy(to + HEADER_LENGTH + PART_HEADER_LENGTH, at, piece)
            self._seal_one(to, PART_HEADER_LENGTH + piece, TYPE_PART, counter + number)
            to += piece + PART_HEADER_LENGTH + OVERHEAD
            at += piece
            left -= piece
            number += 1

    def _hand_out(self, train: Train) -> bool:
        """Make `train` the next parts, as many as a train may hold."""
        sealed = self._sealed
        size, count = sealed.size, sealed.count
        if count * size > MAX_PAYLOAD:
            count = MAX_PAYLOAD // size
        train.at, train.count, train.vouched = sealed.at, count, False
        train.size = train.step = size
        sealed.at += count * size
        sealed.count -= count
        train.last = size if sealed.count else sealed.last
        return True

    def _refusal(self, count: int, length: int) -> int:
        """Why `count` datagrams of `length` bytes in all may not be sent: where that is counted; 0: they may."""
        counts = self._counts
        first = self._next
        if first < counts[self._slot]:
            first = self._next = counts[self._slot]
        if self._aead is None or first > REJECT_AFTER_MESSAGES - count:
            return NO_SESSION
        if length and counts[LIMIT] and counts[SEALED] + length > counts[LIMIT]:
            return UNCHECKED
        return 0

    def _take(self, count: int, length: int) -> int:
        """Take the counters of `count` datagrams, after `_refusal` has found nothing; the first of them."""
        first = self._next
        self._counts[SEALED] += length
        self._next = self._counts[self._slot] = first + count  # before anything is sealed: see above
        return first

    def _seal_one(self, at: int, length: int, kind: int, counter: int) -> None:
        """Write the header of a datagram to `at`, and seal the `length` bytes behind it."""
        key = self._aead
        if key is not None:
            self._arena.store32le(at, kind | self._index << 8)
            self._arena.store32le(at + 4, counter)
            key.seal(self._arena, at, length, counter)

    def _obey(self) -> None:
        """Carry out what the link has ordered; forget a key whose time is over, whether it has said so or not."""
        if self._counts[MAIL] != self._mail:
            self._read()
        if self._aead is not None and clock.now_ns() >= self._until:
            self._aead = None

    def _read(self) -> None:
        self._mail = self._counts[MAIL]  # first: an order that comes after this raises it again
        for order in self._channel.orders():
            self.obey(order)

    def obey(self, order: Order) -> None:
        """Carry out an order of the link."""
        if order.task is Task.USE:
            self._aead = aead(order.cipher, order.data)
            self._index = order.index
            self._slot = Private.SESSION + order.slot
            self._next = self._counts[self._slot]
            self._until = order.until
            self._parts = order.parts
            self._orders.clear()  # they were about the session before
        elif order.task is Task.STOP:
            self._aead = None
        elif order.task is Task.KEEPALIVE:
            self._reminder = True
        elif order.task is Task.CONTROL:
            self._orders.append(order)
