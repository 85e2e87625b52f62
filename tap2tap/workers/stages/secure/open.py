"""The inbound stage of the secure protocol: each datagram that is authentic and fresh is opened, where it lies.

What has been accepted is written to shared memory before a frame of it is delivered, so the successor of a killed
worker accepts nothing a second time.
"""

from tap2tap import clock
from tap2tap.counters import Count, Drop, Slot
from tap2tap.endpoint import from_raw, store
from tap2tap.memory import Memory, Private
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS, SAME_AGE
from tap2tap.protocols.secure.mailbox import Order, Task, WorkerEnd
from tap2tap.protocols.secure.wire import (
    HEADER_LENGTH,
    OVERHEAD,
    TYPE_CHALLENGE,
    TYPE_DATA,
    TYPE_DATA_VOUCHED,
    TYPE_INITIATION,
)
from tap2tap.workers.arena import Arena
from tap2tap.workers.stages.lengths import LengthFilter
from tap2tap.workers.stages.peer import Address
from tap2tap.workers.stages.secure.handshakes import Handshakes
from tap2tap.workers.stages.secure.sessions import Session, Sessions
from tap2tap.workers.train import Train

TOO_SHORT = Count.DROPPED + Drop.TOO_SHORT
NO_SESSION = Count.DROPPED + Drop.NO_SESSION
REPLAY = Count.DROPPED + Drop.REPLAY
AUTHENTICATION = Count.DROPPED + Drop.AUTHENTICATION
KEEPALIVES = Count.KEEPALIVES
LATEST, MAIL = Private.LATEST, Private.MAIL
PEER_HEARD = Slot.PEER_HEARD
SAME_AGE_NS = int(SAME_AGE * 1e9)


class SecureOpen:
    """The inbound stage: authentic, fresh datagrams of open sessions."""

    def __init__(self, memory: Memory, channel: WorkerEnd, family: int, arena: Arena, lengths: LengthFilter) -> None:
        self._memory = memory
        self._slots, self._counts = memory.slots, memory.inbound
        self._channel = channel
        self._arena = arena
        self._lengths = lengths
        self._handshakes = Handshakes(channel, memory.inbound)
        self._sessions = Sessions(memory.inbound)
        self._peer = Address(memory.slots, Slot.PEER, family)
        self._now = 0
        self._mail = -1  # what MAIL was when the orders were read last

    def open(self, train: Train, frames: Train, source: bytes) -> bool:
        """Open the next run of authentic, fresh datagrams of one session and type, with nothing else between them."""
        if not train.count:
            return False
        if self._counts[MAIL] != self._mail:
            self.idle()
        self._now = clock.now_ns()
        if self._now >= self._sessions.until:
            self._sessions.expire(self._now)
        frames.count = 0
        while train.count and not frames.count:
            self._begin(train, frames, source)
            if frames.count:
                self._lengths.keep(frames)
        return frames.count > 0

    def idle(self) -> None:
        """Carry out what the link has ordered, and forget the keys of sessions that are over."""
        self._mail = self._counts[MAIL]  # first: an order that comes after this raises it again
        self._sessions.expire(clock.now_ns())
        for order in self._channel.orders():
            self.obey(order)

    def obey(self, order: Order) -> None:
        """Carry out an order of the link."""
        if order.task is Task.OPEN or order.task is Task.CLOSE:
            self._sessions.obey(order)
        else:
            self._handshakes.obey(order)

    def _begin(self, train: Train, frames: Train, source: bytes) -> None:
        """Look at the first datagram of the train: it begins a run, or it is dealt with here."""
        session, count = None, 1
        length = train.size if train.count > 1 else train.last
        if length < OVERHEAD:
            count = train.count  # the last one, or all of them
            self._counts[TOO_SHORT] += count
        else:
            word = self._arena.load32le(train.at)
            kind = word & 0xFF
            if kind in (TYPE_DATA, TYPE_DATA_VOUCHED):
                session = self._sessions.find(word >> 8)
            if session is not None:
                self._run(session, word, train, frames, source)
                count = 0
            elif TYPE_INITIATION <= kind <= TYPE_CHALLENGE:
                self._handshakes.take(self._arena.take(train.at, length), source)
            else:
                self._counts[NO_SESSION] += 1
        train.at += count * train.step
        train.count -= count

    def _run(self, session: Session, word: int, train: Train, frames: Train, source: bytes) -> None:
        """Open datagrams that begin with `word`, type and index, until a frame is not followed by another."""
        arena, aead, window, counts = self._arena, session.aead, session.window, self._counts
        before = window.next
        heard = control = False
        while train.count:
            at = train.at
            length = train.size if train.count > 1 else train.last
            if length < OVERHEAD or arena.load32le(at) != word:
                break
            counter = arena.load32le(at + 4)
            length -= OVERHEAD
            train.at += train.step
            train.count -= 1
            if not window.fresh(counter):
                counts[REPLAY] += 1
            elif not aead.open(arena, at, length, counter):
                counts[AUTHENTICATION] += 1
            else:
                window.accept(counter)
                heard = True
                control = control or counter < CONTROL_COUNTERS
                if length:
                    if not frames.count:
                        frames.at, frames.size, frames.step = at + HEADER_LENGTH, length, train.step
                    frames.count += 1
                    frames.last = length
                    continue
                counts[KEEPALIVES] += 1
            if frames.count:
                break
        frames.vouched = word & 0xFF == TYPE_DATA_VOUCHED
        if heard:
            self._note(session, window.next > before, control, source)

    def _note(self, session: Session, newest: bool, control: bool, source: bytes) -> None:
        """Note what has been accepted, and tell whoever must know. `newest`: none is newer on this session.

        `control`: the peer's link sealed some of it.
        """
        counts = self._counts
        if counts[session.slot] < session.window.next:
            counts[session.slot] = session.window.next  # before any frame of it is delivered: see above
        if counts[LATEST] < session.until:
            counts[LATEST] = session.until
        self._slots[PEER_HEARD] = self._now
        # What was held back or overtaken says nothing of where the peer is now (docs/protocol.md, 3.2).
        newest = newest and counts[LATEST] - session.until <= SAME_AGE_NS
        if newest and source != self._peer.current():
            store(self._memory.slots, Slot.PEER, from_raw(source))
        if control or not session.proved:
            session.proved = self._channel.proved(session.index, from_raw(source), newest=newest)
