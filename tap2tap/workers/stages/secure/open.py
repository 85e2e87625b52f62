"""The inbound stage of the secure protocol: each datagram that is authentic and fresh is opened, where it lies.

What has been accepted is written to shared memory before a frame of it is delivered, so the successor of a killed
worker accepts nothing a second time.
"""

from tap2tap import clock
from tap2tap.counters import Count, Drop, Slot
from tap2tap.endpoint import from_raw
from tap2tap.memory import Memory, Private
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS, MISSED, SAME_AGE
from tap2tap.protocols.secure.mailbox import MOST, Order, Task, WorkerEnd
from tap2tap.protocols.secure.wire import (
    HEADER_LENGTH,
    OVERHEAD,
    TYPE_CHALLENGE,
    TYPE_CONTROL,
    TYPE_DATA,
    TYPE_DATA_VOUCHED,
    TYPE_INITIATION,
    TYPE_PART,
)
from tap2tap.workers.arena import Arena
from tap2tap.workers.stages.lengths import LengthFilter
from tap2tap.workers.stages.peer import Address
from tap2tap.workers.stages.secure.handshakes import Handshakes
from tap2tap.workers.stages.secure.parts import Parts
from tap2tap.workers.stages.secure.sessions import Session, Sessions
from tap2tap.workers.train import Train

TOO_SHORT = Count.DROPPED + Drop.TOO_SHORT
NO_SESSION = Count.DROPPED + Drop.NO_SESSION
REPLAY = Count.DROPPED + Drop.REPLAY
AUTHENTICATION = Count.DROPPED + Drop.AUTHENTICATION
NO_BUFFERS = Count.DROPPED + Drop.NO_BUFFERS
KEEPALIVES, CONTROL = Count.KEEPALIVES, Count.CONTROL
LATEST, MAIL = Private.LATEST, Private.MAIL
PEER_HEARD = Slot.PEER_HEARD
SAME_AGE_NS = int(SAME_AGE * 1e9)
AGAIN = 10**8  # ns until the link is told once more that the peer is elsewhere, or that datagrams are missed
NOTHING = -2  # no text was accepted


class SecureOpen:
    """The inbound stage: authentic, fresh datagrams of open sessions.

    `family` is that of sources; parts.AREA bytes of the arena at `area` are for frames that come in parts. A `client`
    does not mind to which address of its own the peer sends.
    """

    def __init__(
        self,
        memory: Memory,
        channel: WorkerEnd,
        family: int,
        arena: Arena,
        area: int,
        lengths: LengthFilter,
        *,
        client: bool,
    ) -> None:
        self._slots, self._counts = memory.slots, memory.inbound
        self._channel = channel
        self._arena = arena
        self._lengths = lengths
        self._handshakes = Handshakes(channel, memory.inbound)
        self._parts = Parts(arena, area, memory.inbound)
        self._sessions = Sessions(memory.inbound, self._parts)
        self._peer = Address(memory.slots, Slot.PEER, family)
        self._family, self._client = family, client
        self._source = self._place = b""  # the source of what came last, and that as the peer's address has it
        self._now = 0
        self._accepted = self._late = self._proofs = 0  # of what is being opened; the last: of the peer's link
        self._skipped, self._missed_at = 0, 0  # counters in a row, of the same; when the link was told of such
        self._told, self._told_at = b"", 0  # which source the link was told of, and when
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
            if TYPE_DATA <= kind <= TYPE_CONTROL:
                session = self._sessions.find(word >> 8)
            if session is not None:
                count = 0
                if kind <= TYPE_DATA_VOUCHED:
                    self._run(session, word, train, frames, source)
                elif kind == TYPE_PART:
                    self._part(session, train, length - OVERHEAD, frames, source)
                else:
                    self._control(session, train, length - OVERHEAD, source)
            elif TYPE_INITIATION <= kind <= TYPE_CHALLENGE:
                self._handshakes.take(self._arena.take(train.at, length), source)
            else:
                self._counts[NO_SESSION] += 1
        train.at += count * train.step
        train.count -= count

    def _run(self, session: Session, word: int, train: Train, frames: Train, source: bytes) -> None:
        """Open datagrams that begin with `word`, type and index, until a frame is not followed by another."""
        arena, before = self._arena, session.window.next
        self._accepted = self._late = self._proofs = 0
        while train.count:
            at = train.at
            length = train.size if train.count > 1 else train.last
            if length < OVERHEAD or arena.load32le(at) != word:
                break
            length = self._take(session, train, length - OVERHEAD)
            if length > 0:
                if not frames.count:
                    frames.at, frames.size, frames.step = at + HEADER_LENGTH, length, train.step
                frames.count += 1
                frames.last = length
                continue
            if not length:
                self._counts[KEEPALIVES] += 1
            if frames.count:
                break
        frames.vouched = word & 0xFF == TYPE_DATA_VOUCHED
        if self._accepted + self._proofs:
            self._note(session, session.window.next > before, source)

    def _part(self, session: Session, train: Train, length: int, frames: Train, source: bytes) -> None:
        """Open the first datagram of the train, a part with a text of `length` bytes; it may complete a frame."""
        at, before = train.at, session.window.next
        self._accepted = self._late = self._proofs = 0
        length = self._take(session, train, length)
        if length != NOTHING:
            self._note(session, session.window.next > before, source)
            counter, newest = self._arena.load32le(at + 4), session.window.next - 1
            self._parts.take(session.index, counter, newest, at + HEADER_LENGTH, length, frames)

    def _control(self, session: Session, train: Train, length: int, source: bytes) -> None:
        """Open the first datagram of the train, a control datagram with a text of `length` bytes: the link's."""
        at, before = train.at, session.window.next
        self._accepted = self._late = self._proofs = 0
        length = self._take(session, train, length)
        if length != NOTHING:
            self._note(session, session.window.next > before, source)
            self._counts[CONTROL] += 1
            counter, text = self._arena.load32le(at + 4), self._arena.take(at + HEADER_LENGTH, min(length, MOST))
            if text and not self._channel.control(session.index, counter, length + OVERHEAD, text):
                self._counts[NO_BUFFERS] += 1

    def _take(self, session: Session, train: Train, length: int) -> int:
        """Take the first datagram off the train, and open it: the length of its text, or NOTHING."""
        at, window = train.at, session.window
        counter = self._arena.load32le(at + 4)
        train.at += train.step
        train.count -= 1
        if not window.fresh(counter):
            self._counts[REPLAY] += 1
            return NOTHING
        if not session.aead.open(self._arena, at, length, counter):
            self._counts[AUTHENTICATION] += 1
            return NOTHING
        if counter < CONTROL_COUNTERS:
            self._proofs += 1
        else:
            self._accepted += 1
            if counter < window.next:
                self._late += 1
            else:
                self._skipped = max(self._skipped, counter - max(window.next, CONTROL_COUNTERS))
        window.accept(counter)
        return length

    def _note(self, session: Session, newest: bool, source: bytes) -> None:
        """Note what has been accepted, and tell whoever must know. `newest`: none is newer on this session."""
        counts = self._counts
        counts[session.accepted] += self._accepted
        counts[session.late] += self._late
        if counts[session.slot] < session.window.next:
            counts[session.slot] = session.window.next  # before any frame of it is delivered: see above
        if counts[LATEST] < session.until:
            counts[LATEST] = session.until
        self._slots[PEER_HEARD] = self._now
        # What was held back or overtaken says nothing of where the peer is now (docs/protocol.md, 3.2).
        newest = newest and counts[LATEST] - session.until <= SAME_AGE_NS
        elsewhere = newest and self._where(source) != self._peer.current() and self._is_news(source)
        if elsewhere or self._proofs or not session.proved:
            session.proved = self._channel.proved(session.index, from_raw(source), newest=newest)
        if self._skipped >= MISSED and self._now - self._missed_at >= AGAIN:
            self._missed_at = self._now
            self._channel.missed()
        self._skipped = 0

    def _where(self, source: bytes) -> bytes:
        if source is not self._source:
            self._source = source
            self._place = from_raw(source).from_anywhere.raw(self._family) if self._client else source
        return self._place

    def _is_news(self, source: bytes) -> bool:
        """Whether the link is to hear that the peer is there, and not where it is said to be."""
        if source == self._told and self._now - self._told_at < AGAIN:
            return False
        self._told, self._told_at = source, self._now
        return True
