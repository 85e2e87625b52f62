"""The outbound stage of the secure protocol: each frame is sealed into one datagram.

Why a nonce never repeats under one key: the outbound worker writes the next counter to shared memory before it seals
the first datagram of a train, so a successor goes on behind whatever its killed predecessor may have sent; the
supervisor reaps the predecessor before it forks the successor, so there is one worker at a time; and a new supervisor
has new sessions, whose keys come from fresh ephemeral keys.
"""

from itertools import islice

from tap2tap.counters import Block, Count, Drop
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.mailbox import Task, WorkerEnd
from tap2tap.workers.geometry import Geometry, exhaust
from tap2tap.workers.train import MAX_SEGMENTS, Train


class SecureSeal:
    """The outbound stage. It seals with the session that the supervisor ordered last."""

    overhead = wire.OVERHEAD

    def __init__(self, block: Block, channel: WorkerEnd) -> None:
        self._counts = block.outbound
        self._channel = channel
        self._sealed = Train()
        self._empty = Train(0)
        self._empty.shape(0, 1, 0)
        self._geometries: dict[Train, Geometry] = {}  # by what frames come in: the reader's train, the splitter's, ours
        self._aead: wire.Aead | None = None
        self._cipher = wire.Cipher.AES_256_GCM
        self._nonces = wire.Nonces(self._cipher, MAX_SEGMENTS)
        self._index = 0
        self._slot = 0
        self._reminder = False

    def seal(self, train: Train) -> Train | None:
        """Return the sealed datagrams of a train of frames; None (counted) while there is no session to send on."""
        if self._channel.waiting():
            self._mail()
        aead, counts, count = self._aead, self._counts, train.count
        first = counts[self._slot]
        if aead is None or first + count > wire.REJECT_AFTER_MESSAGES:
            counts[Count.DROPPED + Drop.NO_SESSION] += count
            return None
        counts[self._slot] = first + count  # before anything is sealed: see above
        sealed, size, last = self._sealed, train.size, train.last
        sealed.shape(size + wire.OVERHEAD, count, last + wire.OVERHEAD)
        kind = wire.TYPE_DATA_VOUCHED if train.vouched else wire.TYPE_DATA
        geometry = self._geometries.get(train)
        if geometry is None:
            geometry = self._geometries[train] = Geometry(sealed.buffer, train.buffer)
        if count == 1:  # NumPy is for many
            header, out, frame = geometry.only(size)
            header[:] = wire.header(kind, self._index, first)
            aead.encrypt_into(wire.nonce(self._cipher, first), frame, header, out)
            return sealed
        wire.write_headers(sealed.rows, kind, self._index, first)
        self._nonces.fill(first, count)
        nonces = self._nonces.views
        full = count if last == size else count - 1
        if full:
            headers, outs, frames = geometry.rows(size, full)
            exhaust(map(aead.encrypt_into, nonces, islice(frames, full), headers, outs))
        if full < count:
            header, out, frame = geometry.row(full, size, last)
            aead.encrypt_into(nonces[full], frame, header, out)
        return sealed

    def keepalive(self) -> Train | None:
        """Return a sealed empty datagram when the supervisor has ordered one."""
        if self._channel.waiting():
            self._mail()
        if not self._reminder:
            return None
        self._reminder = False
        return self.seal(self._empty)

    def _mail(self) -> None:
        for order in self._channel.orders():
            if order.task is Task.USE:
                self._aead = wire.aead(order.cipher, order.key)
                self._cipher = order.cipher
                self._nonces = wire.Nonces(order.cipher, MAX_SEGMENTS)
                self._index = order.index
                self._slot = Count.SESSION + order.slot
            elif order.task is Task.STOP:
                self._aead = None
            elif order.task is Task.KEEPALIVE:
                self._reminder = True
