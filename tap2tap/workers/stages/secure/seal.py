"""The outbound stage of the secure protocol: each frame is sealed into one datagram, where it lies.

Why a nonce never repeats under one key: the outbound worker writes the next counter to the memory that it shares with
the supervisor and the link alone before it seals the first datagram of a train, so a successor goes on behind whatever
its killed predecessor may have sent; it goes by its own count where that is the higher one, so nothing that is written
there makes it go back; the supervisor reaps the predecessor before it forks the successor, so there is one worker at a
time; and a new link has new sessions, whose keys come from fresh ephemeral keys.
"""

from tap2tap import clock
from tap2tap.counters import Count, Counts, Drop
from tap2tap.memory import Private
from tap2tap.protocols.secure.limits import REJECT_AFTER_MESSAGES
from tap2tap.protocols.secure.mailbox import Order, Task, WorkerEnd
from tap2tap.protocols.secure.wire import HEADER_LENGTH, OVERHEAD, TYPE_DATA, TYPE_DATA_VOUCHED
from tap2tap.workers.aead import Aead
from tap2tap.workers.arena import Arena
from tap2tap.workers.ciphers import aead
from tap2tap.workers.train import Train

MAIL = Private.MAIL
NO_SESSION = Count.DROPPED + Drop.NO_SESSION


class SecureSeal:
    """The outbound stage. It seals with the session that the link ordered last. `room` is a place in the arena."""

    def __init__(self, counts: Counts, channel: WorkerEnd, arena: Arena, room: int) -> None:
        self.front, self.overhead = HEADER_LENGTH, OVERHEAD
        self._counts = counts
        self._channel = channel
        self._arena = arena
        self._room = room
        self._aead: Aead | None = None
        self._index = 0
        self._slot = Private.SESSION
        self._next = 0  # counter
        self._until = 0  # nanoseconds of the clock, when the session may be used no longer
        self._reminder = False
        self._mail = -1  # what MAIL was when the orders were read last

    def seal(self, train: Train) -> bool:
        """Seal every frame of the train; False (counted) while there is no session to send on."""
        self._obey()
        aead, arena, count = self._aead, self._arena, train.count
        first = self._next
        if first < self._counts[self._slot]:
            first = self._counts[self._slot]
        if aead is None or first > REJECT_AFTER_MESSAGES - count:
            self._counts[NO_SESSION] += count
            return False
        self._next = self._counts[self._slot] = first + count  # before anything is sealed: see above
        word = (TYPE_DATA_VOUCHED if train.vouched else TYPE_DATA) | self._index << 8
        train.at -= HEADER_LENGTH
        at, size = train.at, train.size
        for number in range(count):
            if number == count - 1:
                size = train.last
            arena.store32le(at, word)
            arena.store32le(at + 4, first + number)
            aead.seal(arena, at, size, first + number)
            at += train.step
        train.size += OVERHEAD
        train.last += OVERHEAD
        return True

    def keepalive(self, train: Train) -> bool:
        """Make `train` a sealed datagram without a frame when the link has ordered one."""
        self._obey()
        if not self._reminder:
            return False
        self._reminder = False
        train.at, train.count, train.vouched = self._room + HEADER_LENGTH, 1, False
        train.size = train.last = 0
        train.step = OVERHEAD
        return self.seal(train)

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
        elif order.task is Task.STOP:
            self._aead = None
        elif order.task is Task.KEEPALIVE:
            self._reminder = True
