"""The inbound stage of the secure protocol: each datagram that is authentic and fresh is opened into one frame.

What has been accepted is written to shared memory before a frame of it is delivered, so the successor of a killed
worker accepts nothing a second time.
"""

import time
from dataclasses import dataclass, field
from itertools import islice

from cryptography.exceptions import InvalidTag

from tap2tap.counters import Block, Count, Drop, Slot
from tap2tap.endpoint import SockAddr, from_sockaddr, store
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.mailbox import Task, WorkerEnd
from tap2tap.protocols.secure.replay import ReplayWindow
from tap2tap.workers.fit import fits
from tap2tap.workers.geometry import Geometry, exhaust
from tap2tap.workers.peer import Address
from tap2tap.workers.train import MAX_SEGMENTS, Train


@dataclass(slots=True)
class _Session:
    """A session that the inbound worker accepts. `slot` holds the counter behind the newest that was accepted."""

    index: int
    slot: int
    cipher: wire.Cipher
    nonces: wire.Nonces
    window: ReplayWindow
    aead: wire.Aead = field(repr=False)
    proved: bool = False


class SecureOpen:
    """The inbound stage: authentic, fresh datagrams of the sessions that the supervisor opened. `longest`: bytes."""

    def __init__(self, block: Block, channel: WorkerEnd, family: int, longest: int) -> None:
        self._slots = block.slots
        self._counts = block.inbound
        self._channel = channel
        self._longest = longest
        self._frames = Train()
        self._geometry: Geometry | None = None
        self._sessions: dict[int, _Session] = {}
        self._peer = Address(block.slots, Slot.PEER, family)
        self._source: SockAddr = ("", 0)  # of the train in hand, and
        self._newest = False  # whether it holds the newest datagram so far

    def open(self, train: Train, source: SockAddr) -> Train | None:
        """Return the frames of the authentic, fresh datagrams of `train`; None when there are none (counted).

        It is the same train, the receiver's, every time.
        """
        if self._channel.waiting():
            self.mail()
        counts, frames = self._counts, self._frames
        if train.size < wire.OVERHEAD:
            counts[Count.DROPPED + Drop.TOO_SHORT] += train.count or 1
            return None
        if train.last < wire.OVERHEAD:
            counts[Count.DROPPED + Drop.TOO_SHORT] += 1
            train.shape(train.size, train.count - 1, train.size)
            if not train.count:
                return None
        size = train.size - wire.OVERHEAD
        frames.shape(size, 0, size)
        frames.vouched = True
        self._source, self._newest = source, False
        if train.count == 1:  # NumPy is for many
            self._run(train, 0, 1, wire.word(train.buffer))
        else:
            headers = wire.read_headers(train.rows)
            if train.count <= MAX_SEGMENTS and wire.is_run(headers):
                self._run(train, 0, train.count, wire.word(headers))
            else:
                self._runs(train, wire.words(headers))
        if not frames.count:
            return None
        self._heard(source)
        if not frames.last:  # a keepalive, alone or behind the last frame
            counts[Count.KEEPALIVES] += 1 if size else frames.count
            frames.shape(size, frames.count - 1 if size else 0, size)
        return frames if frames.count and fits(frames, self._longest, counts) else None

    def mail(self) -> None:
        """Carry out what the supervisor has ordered."""
        for order in self._channel.orders():
            if order.task is Task.CLOSE:
                self._sessions.pop(order.index, None)
            elif order.task is Task.OPEN and order.index not in self._sessions:
                slot = Count.SESSION + order.slot
                self._sessions[order.index] = _Session(
                    index=order.index,
                    slot=slot,
                    cipher=order.cipher,
                    nonces=wire.Nonces(order.cipher, MAX_SEGMENTS),
                    window=ReplayWindow(start=self._counts[slot]),
                    aead=wire.aead(order.cipher, order.key),
                )

    def _runs(self, train: Train, words: list[int]) -> None:
        """Open a train whose counters do not simply count up: run by run."""
        at, count = 0, train.count
        while at < count:
            end = at + 1
            while end < count and end - at < MAX_SEGMENTS and words[end] - words[end - 1] == wire.COUNTER_ONE:
                end += 1
            self._run(train, at, end - at, words[at])
            at = end

    def _run(self, train: Train, at: int, count: int, word: int) -> None:
        """Open rows at, at + 1, ... of consecutive counters behind the frames that are open already."""
        kind, index, first = wire.take_apart(word)
        session = self._sessions.get(index)
        if kind not in (wire.TYPE_DATA, wire.TYPE_DATA_VOUCHED) or session is None:
            if kind in wire.HANDSHAKE_TYPES:  # the kernel may put one behind data from the same source, and before it
                self._pass_on(train, at, count)
            else:
                self._counts[Count.DROPPED + Drop.NO_SESSION] += count
            return
        if kind == wire.TYPE_DATA:
            self._frames.vouched = False
        if session.window.fresh_run(first, count) and self._open_all(session, train, at, count, first):
            session.window.accept_run(first, count)
            self._accept(session, train, at, count, first + count)
            return
        for number in range(count):  # some are old, or not authentic
            if not session.window.fresh_run(first + number, 1):
                self._counts[Count.DROPPED + Drop.REPLAY] += 1
            elif not self._open_all(session, train, at + number, 1, first + number):
                self._counts[Count.DROPPED + Drop.AUTHENTICATION] += 1
            else:
                session.window.accept_run(first + number, 1)
                self._accept(session, train, at + number, 1, first + number + 1)

    def _open_all(self, session: _Session, train: Train, at: int, count: int, first: int) -> bool:
        """Decrypt rows to behind the frames that are open already; False when any of them is not authentic."""
        size, done = self._frames.size, self._frames.count
        geometry = self._geometry
        if geometry is None:
            geometry = self._geometry = Geometry(train.buffer, self._frames.buffer)
        if train.count == 1:
            header, text, frame = geometry.only(size)
            try:
                session.aead.decrypt_into(wire.nonce(session.cipher, first), text, header, frame)
            except InvalidTag:
                return False
            return True
        session.nonces.fill(first, count)
        nonces = session.nonces.views
        short = at + count == train.count and train.last < train.size
        full = count - 1 if short else count
        try:
            if full:
                headers, sealed, _ = rows = geometry.rows(size, at + full)
                if at == done == 0:
                    exhaust(map(session.aead.decrypt_into, nonces, islice(sealed, full), headers, rows[2]))
                else:
                    pieces = (islice(rows[part], start, start + full) for part, start in ((1, at), (0, at), (2, done)))
                    exhaust(map(session.aead.decrypt_into, nonces, *pieces))
            if short:
                length = train.last - wire.OVERHEAD
                header, text, _ = geometry.row(at + full, size, length)
                frame = self._frames.buffer[(done + full) * size : (done + full) * size + length]
                session.aead.decrypt_into(nonces[full], text, header, frame)
        except InvalidTag:
            return False
        return True

    def _accept(self, session: _Session, train: Train, at: int, count: int, end: int) -> None:
        """Add rows to the open frames, and tell whoever must know."""
        self._counts[session.slot] = session.window.next  # before any frame of it is delivered: see above
        self._newest = self._newest or session.window.next == end
        last = train.last - wire.OVERHEAD if at + count == train.count else self._frames.size
        self._frames.shape(self._frames.size, self._frames.count + count, last)
        if not session.proved or end <= wire.CONTROL_COUNTERS:
            session.proved = self._channel.proved(session.index, from_sockaddr(self._source))

    def _heard(self, source: SockAddr) -> None:
        """Note that the peer lives, and that it is where its newest datagram came from."""
        self._slots[Slot.PEER_HEARD] = time.monotonic_ns()
        if self._newest and source != self._peer.current():
            store(self._slots, Slot.PEER, from_sockaddr(source))

    def _pass_on(self, train: Train, at: int, count: int) -> None:
        """Hand rows that are datagrams of the handshake to the supervisor, as many as its channel takes."""
        source = from_sockaddr(self._source)
        for start in range(at * train.size, (at + count) * train.size, train.size):
            datagram = train.buffer[start : min(start + train.size, train.length)]
            if len(datagram) > wire.MAX_HANDSHAKE_LENGTH:
                self._counts[Count.DROPPED + Drop.AUTHENTICATION] += 1
            elif not self._channel.handshake(datagram, source):
                self._counts[Count.DROPPED + Drop.NO_BUFFERS] += 1
