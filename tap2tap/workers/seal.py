"""The outbound stage of the secure protocol: each frame is sealed into one datagram.

Why a nonce never repeats under one key: the outbound worker writes the next counter to the memory that it shares with
the supervisor alone before it seals the first datagram of a train, so a successor goes on behind whatever its killed
predecessor may have sent; it goes by its own count where that is the higher one, so nothing that is written there makes
it go back; the supervisor reaps the predecessor before it forks the successor, so there is one worker at a time; and a
new supervisor has new sessions, whose keys come from fresh ephemeral keys.
"""

from functools import lru_cache

from tap2tap import clock
from tap2tap.counters import Count, Drop
from tap2tap.memory import Memory, Private
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.mailbox import Task, WorkerEnd
from tap2tap.protocols.secure.wire import OVERHEAD
from tap2tap.workers.geometry import Geometry, exhaust
from tap2tap.workers.train import ROWS, Batch, Train, Trains


class SecureSeal:
    """The outbound stage. It seals with the session that the supervisor ordered last."""

    overhead = OVERHEAD

    def __init__(self, memory: Memory, channel: WorkerEnd) -> None:
        self._counts = memory.outbound
        self._channel = channel
        self._sealed = Batch()
        self._empty = Batch(1)
        self._empty.trains = Trains([Train(0, 0, 1, 0)])
        sealed = self._sealed  # no cache holds its owner: the collector is off
        self._geometry = lru_cache(4)(lambda frames: Geometry(sealed, frames))  # of the reader's two batches, ...
        self._aead: wire.Aead | None = None
        self._cipher = wire.Cipher.AES_256_GCM
        self._nonces = wire.Nonces(self._cipher, ROWS)
        self._index = 0
        self._slot = Private.SESSION
        self._next = 0  # counter
        self._until = 0  # nanoseconds of the clock, when the session may be used no longer
        self._reminder = False

    def seal(self, batch: Batch) -> Batch | None:
        """Return the sealed datagrams of a batch of frames; None (counted) while there is no session to send on.

        The frames are rows of one size from the beginning of the batch on, each train's last one may be shorter.
        """
        self._obey()
        aead, counts, count = self._aead, self._counts, batch.trains.frames
        first = max(self._next, counts[self._slot])
        if aead is None or first + count > wire.REJECT_AFTER_MESSAGES:
            counts[Count.DROPPED + Drop.NO_SESSION] += count
            return None
        self._next = counts[self._slot] = first + count  # before anything is sealed: see above
        kind = wire.TYPE_DATA_VOUCHED if batch.vouched else wire.TYPE_DATA
        geometry = self._geometry(batch)
        _, size, _, last = batch.trains[0]
        size = size if count > 1 else last
        headers, outs, frames = geometry.rows(0, 0, size, count)
        if count == 1:  # NumPy is for many
            headers[0][:] = wire.header(kind, self._index, first)
            aead.encrypt_into(wire.nonce(self._cipher, first), frames[0], headers[0], outs[0])
        else:
            wire.write_headers(self._sealed.array, size + OVERHEAD, count, kind, self._index, first)
            self._nonces.fill(first, count)
            nonces, done = self._nonces.views, 0
            for at, _, some, last in batch.trains:
                end = at // size + some
                if last < size:
                    header, out, frame = geometry.row((end - 1) * (size + OVERHEAD), (end - 1) * size, last)
                    aead.encrypt_into(nonces[end - 1], frame, header, out)
                    full = slice(done, end - 1)
                    exhaust(map(aead.encrypt_into, nonces[full], frames[full], headers[full], outs[full]))
                    done = end
            full = slice(done, count)
            exhaust(map(aead.encrypt_into, nonces[full], frames[full], headers[full], outs[full]))
        self._sealed.trains = _sealed(batch.trains)
        return self._sealed

    def keepalive(self) -> Batch | None:
        """Return a sealed empty datagram when the supervisor has ordered one."""
        self._obey()
        if not self._reminder:
            return None
        self._reminder = False
        return self.seal(self._empty)

    def _obey(self) -> None:
        """Carry out what the supervisor has ordered; forget a key whose time is over, whether it has said so or not."""
        if self._channel.waiting():
            self._mail()
        if self._aead is not None and clock.now_ns() >= self._until:
            self._aead = None

    def _mail(self) -> None:
        for order in self._channel.orders():
            if order.task is Task.USE:
                self._aead = wire.aead(order.cipher, order.key)
                self._cipher = order.cipher
                self._nonces = wire.Nonces(order.cipher, ROWS)
                self._index = order.index
                self._slot = Private.SESSION + order.slot
                self._next = self._counts[self._slot]
                self._until = order.until
            elif order.task is Task.STOP:
                self._aead = None
            elif order.task is Task.KEEPALIVE:
                self._reminder = True


@lru_cache(64)  # hostile traffic may come in every shape
def _sealed(trains: Trains) -> Trains:
    """Trains as they are when each datagram has the protocol's overhead."""
    return Trains(
        Train(at + at // (size or 1) * OVERHEAD, size + OVERHEAD, count, last + OVERHEAD)
        for at, size, count, last in trains
    )
