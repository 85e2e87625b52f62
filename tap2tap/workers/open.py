"""The inbound stage of the secure protocol: each datagram that is authentic and fresh is opened into one frame.

What has been accepted is written to shared memory before a frame of it is delivered, so the successor of a killed
worker accepts nothing a second time.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice

from cryptography.exceptions import InvalidTag

from tap2tap import clock
from tap2tap.counters import Count, Drop, Slot
from tap2tap.endpoint import from_raw, store
from tap2tap.memory import Memory, Private
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.mailbox import Task, WorkerEnd
from tap2tap.protocols.secure.replay import ReplayWindow
from tap2tap.workers.fit import fits
from tap2tap.workers.geometry import Geometry, exhaust
from tap2tap.workers.handshakes import Handshakes
from tap2tap.workers.peer import Address
from tap2tap.workers.train import ROWS, Batch, Train, Trains

_SAME_AGE = int(wire.SAME_AGE * 1e9)  # ns
_DATA = (wire.TYPE_DATA, wire.TYPE_DATA_VOUCHED)
_trains = lru_cache(64)(Trains)  # the same come again and again; hostile traffic may come in every shape


@lru_cache(64)
def _opened(trains: Trains) -> Trains:
    """The frames of trains of datagrams: each in the place of its datagram, if there are no headers and tags."""
    return Trains(Train(at, size - wire.OVERHEAD, count, last - wire.OVERHEAD) for at, size, count, last in trains)


def _headers(batch: Batch, trains: Trains) -> list[wire.Bytes]:
    """Views of the headers of each train."""
    return [wire.headers(batch.array, at, size, count) for at, size, count, _ in trains]


@dataclass(slots=True)
class _Session:
    """A session that the inbound worker accepts before `until`, nanoseconds of the clock.

    `slot` holds the counter behind the newest that was accepted.
    """

    index: int
    slot: int
    until: int
    cipher: wire.Cipher
    nonces: wire.Nonces
    window: ReplayWindow
    aead: wire.Aead = field(repr=False)
    proved: bool = False


class SecureOpen:
    """The inbound stage: authentic, fresh datagrams of the sessions that the supervisor opened. `longest`: bytes."""

    def __init__(self, memory: Memory, channel: WorkerEnd, family: int, longest: int) -> None:
        self._slots = memory.slots
        self._counts = memory.inbound
        self._channel = channel
        self._handshakes = Handshakes(channel, self._counts)
        self._longest = longest
        self._frames = Batch()
        self._geometry = Geometry(self._frames, self._frames)  # of the receiver's batch, always the same one
        self._headers: Callable[[Batch, Trains], list[wire.Bytes]] = lru_cache(32)(_headers)
        self._sessions: dict[int, _Session] = {}
        self._peer = Address(memory.slots, Slot.PEER, family)
        self._opened: list[Train] = []  # the frames of the batch in hand,
        self._datagrams = self._frames  # its datagrams,
        self._source = b""  # where it came from,
        self._heard = False  # whether any of it was authentic and fresh,
        self._newest = False  # whether that was the newest datagram so far,
        self._now = 0  # and when that is

    def open(self, batch: Batch, source: bytes) -> Batch | None:
        """Return the frames of the authentic, fresh datagrams of `batch`; None when there are none (counted).

        It is the same batch, the receiver's, every time.
        """
        if self._channel.waiting():
            self.mail()
        frames = self._frames
        frames.vouched = True
        if batch is not self._datagrams:
            self._geometry = Geometry(batch, frames)
        self._datagrams, self._source = batch, source
        self._heard = self._newest = False
        self._now = clock.now_ns()
        if not self._whole(batch.trains):
            self._opened = []
            for train in batch.trains:
                self._train(train)
            frames.trains = _trains(tuple(self._opened))
        if self._heard:
            self._slots[Slot.PEER_HEARD] = self._now
            if self._newest and source != self._peer.current():
                store(self._slots, Slot.PEER, from_raw(source))
        return frames if fits(frames, self._longest, self._counts) else None

    def mail(self) -> None:
        """Carry out what the supervisor has ordered, and forget the keys of sessions that are over."""
        now = clock.now_ns()
        for session in [each for each in self._sessions.values() if each.until <= now]:
            del self._sessions[session.index]
        for order in self._channel.orders():
            if order.task is Task.CLOSE:
                self._sessions.pop(order.index, None)
            elif order.task is Task.OPEN and order.index not in self._sessions:
                slot = Private.SESSION + order.slot
                if not order.resumed:
                    self._counts[slot] = 0  # we may have written to it for the session that had it before
                self._sessions[order.index] = _Session(
                    index=order.index,
                    slot=slot,
                    until=order.until,
                    cipher=order.cipher,
                    nonces=wire.Nonces(order.cipher, ROWS),
                    window=ReplayWindow(start=self._counts[slot]),
                    aead=wire.aead(order.cipher, order.key),
                )
            elif order.task is not Task.OPEN:
                self._handshakes.obey(order)

    def _session(self, index: int) -> _Session | None:
        """The session of that index, unless it is over."""
        session = self._sessions.get(index)
        if session is not None and self._now >= session.until:
            del self._sessions[index]
            return None
        return session

    def _whole(self, trains: Trains) -> bool:
        """Open the whole batch at once, which is possible if all its counters count up, as they nearly always do.

        False, with nothing done, if not.
        """
        count = trains.frames
        if count > ROWS or not all([train.size == train.last > wire.OVERHEAD for train in trains]):
            return False
        if count == 1:  # NumPy is for many
            word = wire.word(self._datagrams.buffer[trains[0].at :])
        else:
            packed = b"".join([view.tobytes() for view in self._headers(self._datagrams, trains)])
            if not wire.is_run(packed):
                return False
            word = wire.word(packed)
        kind, index, first = wire.take_apart(word)
        session = self._session(index)
        if kind not in _DATA or session is None or not session.window.fresh(first, count):
            return False
        end = first
        for train in trains:
            if not self._decrypt(session, train, 0, train.count, end):
                return False
            end += train.count
        session.window.accept(first, count)
        self._note(session, end)
        self._frames.trains = _opened(trains)
        self._frames.vouched = kind == wire.TYPE_DATA_VOUCHED
        return True

    def _train(self, train: Train) -> None:
        """Open a train. Nearly always its counters simply count up; if not, it is opened run by run."""
        at, size, count, last = train
        if last < wire.OVERHEAD:
            short = 1 if size >= wire.OVERHEAD else count
            self._counts[Count.DROPPED + Drop.TOO_SHORT] += short
            if short == count:
                return
            train = Train(at, size, count - 1, size)
            count -= 1
        if count == 1:  # NumPy is for many
            self._run(train, 0, 1, wire.word(self._datagrams.buffer[at : at + wire.HEADER_LENGTH]))
            return
        headers = wire.headers(self._datagrams.array, at, size, count).tobytes()
        if count <= ROWS and wire.is_run(headers):
            self._run(train, 0, count, wire.word(headers))
            return
        words = wire.words(headers)
        first = 0
        while first < count:
            end = first + 1
            if words[first] & 0xFF in wire.HANDSHAKE_TYPES:  # there may be data before and behind them
                while end < count and words[end] & 0xFF in wire.HANDSHAKE_TYPES:
                    end += 1
                self._handshake(train, first, end - first)
            else:
                while end < count and end - first < ROWS and words[end] - words[end - 1] == wire.COUNTER_ONE:
                    end += 1
                self._run(train, first, end - first, words[first])
            first = end

    def _run(self, train: Train, row: int, count: int, word: int) -> None:
        """Open rows row, row + 1, ... of consecutive counters."""
        kind, index, first = wire.take_apart(word)
        session = self._session(index)
        if kind not in _DATA or session is None:
            if kind in wire.HANDSHAKE_TYPES:
                self._handshake(train, row, count)
            else:
                self._counts[Count.DROPPED + Drop.NO_SESSION] += count
            return
        if kind == wire.TYPE_DATA:
            self._frames.vouched = False
        if session.window.fresh(first, count) and self._decrypt(session, train, row, count, first):
            session.window.accept(first, count)
            self._accept(session, train, row, count, first + count)
            return
        for number in range(count):  # some are old, or not authentic
            if not session.window.fresh(first + number):
                self._counts[Count.DROPPED + Drop.REPLAY] += 1
            elif not self._decrypt(session, train, row + number, 1, first + number):
                self._counts[Count.DROPPED + Drop.AUTHENTICATION] += 1
            else:
                session.window.accept(first + number)
                self._accept(session, train, row + number, 1, first + number + 1)

    def _decrypt(self, session: _Session, train: Train, row: int, count: int, first: int) -> bool:
        """Decrypt rows, each to its place among the frames; False when any of them is not authentic."""
        at, sealed_size, rows, last = train
        size = sealed_size - wire.OVERHEAD
        geometry = self._geometry
        full = count
        decrypt = session.aead.decrypt_into
        try:
            if row + count == rows and last < sealed_size:
                full -= 1
                end = row + full
                header, text, frame = geometry.row(at + end * sealed_size, at + end * size, last - wire.OVERHEAD)
                decrypt(wire.nonce(session.cipher, first + full), text, header, frame)
            if full == 1:
                header, text, frame = geometry.row(at + row * sealed_size, at + row * size, size)
                decrypt(wire.nonce(session.cipher, first), text, header, frame)
            elif full:
                session.nonces.fill(first, full)
                headers, texts, frames = geometry.rows(at, at, size, row + full)
                if row:
                    headers, texts, frames = headers[row:], texts[row:], frames[row:]
                exhaust(map(decrypt, islice(session.nonces.views, full), texts, headers, frames))
        except InvalidTag:
            return False
        return True

    def _note(self, session: _Session, end: int) -> None:
        """Note that everything up to counter `end` may have been accepted, and tell whoever must know."""
        self._counts[session.slot] = session.window.next  # before any frame of it is delivered: see above
        self._heard = True
        latest = self._counts[Private.LATEST] = max(session.until, self._counts[Private.LATEST])
        # What was held back or overtaken says nothing of where the peer is now (docs/protocol.md, 3.2).
        newest = session.window.next == end and session.until >= latest - _SAME_AGE
        self._newest = self._newest or newest
        if not session.proved or end <= wire.CONTROL_COUNTERS:
            session.proved = self._channel.proved(session.index, from_raw(self._source), newest=newest)

    def _accept(self, session: _Session, train: Train, row: int, count: int, end: int) -> None:
        """Take rows for open frames."""
        self._note(session, end)
        size = train.size - wire.OVERHEAD
        last = train.last - wire.OVERHEAD if row + count == train.count else size
        if not last:  # a keepalive, alone or behind the last frame
            keepalives = 1 if size else count
            self._counts[Count.KEEPALIVES] += keepalives
            count, last = count - keepalives, size
        if not count:
            return
        opened, at = self._opened, train.at + row * size
        if opened and opened[-1].at + opened[-1].length == at and opened[-1].size == size == opened[-1].last:
            at, count = opened[-1].at, opened.pop().count + count
        opened.append(Train(at, size, count, last))

    def _handshake(self, train: Train, row: int, count: int) -> None:
        """See to rows that are datagrams of the handshake."""
        end = train.at + train.length
        for start in range(train.at + row * train.size, train.at + (row + count) * train.size, train.size):
            self._handshakes.take(bytes(self._datagrams.buffer[start : min(start + train.size, end)]), self._source)
