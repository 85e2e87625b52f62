"""The private channel between the link process and one worker.

Keys and control messages go down; handshakes, proofs, control messages and what was lost or too long come up.

A channel belongs to one life of a worker: a successor gets a fresh one, and is told everything afresh. It outlives the
link process, of whose end the supervisor has a duplicate for the next one: the worker does not notice. The link raises
the worker's MAIL slot with every order, so that a worker in full flow learns by one look at its memory that there is
something to read. An order is in the channel before the datagram goes out that makes the peer rely on it.
"""

import contextlib
import dataclasses
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

from tap2tap import endpoint
from tap2tap.counters import Counts
from tap2tap.endpoint import Endpoint
from tap2tap.memory import Private
from tap2tap.protocols.secure.wire import Cipher

_ORDER = struct.Struct("=BBIIQ?H?")  # task, cipher, index, slot, until, resumed, size, parts; and then the data
_PROVED = b"P"
_HANDSHAKE = b"H"
_CONTROL = b"C"
_TOO_LONG = b"L"
_MISSED = b"M"
_ENDPOINT = 1 + endpoint.PACKED  # a letter, and a packed endpoint
_INDEX_AND_NEWEST = struct.Struct("=I?")
_RECEIVED = struct.Struct("=IIH")  # index, counter, bytes of the datagram; and then the text
_SIZE = struct.Struct("=H")
FIRST = 0.5  # seconds that the link has to tell the successor of a dead worker which sessions there are
MOST = 32  # bytes of data in an order, or of a text
BUFFER = 1 << 16  # bytes that may wait in a channel: a flood of handshakes is cut off here


class Task(IntEnum):
    """What the link process tells a worker to do."""

    OPEN = 1  # inbound: accept this session
    CLOSE = 2  # inbound: forget it
    USE = 3  # outbound: seal with this session
    STOP = 4  # outbound: forget it
    KEEPALIVE = 5  # outbound: send an empty datagram
    PEER_MAC = 6  # inbound: `data` is that of the mac of the peer's handshake datagrams
    OWN_MAC = 7  # inbound: `data` is that of our own
    ALL = 9  # that is all that holds so far
    CONTROL = 10  # outbound: send a control datagram with the text `data`
    EXPECT = 8  # inbound: `data` is the mac of an initiation that a challenge may be about


@dataclass(frozen=True, slots=True)
class Order:
    """One order, which a worker obeys until `until`, nanoseconds of the clock (tap2tap.clock).

    `slot` is where the counters of the session are kept: the number of a slot from Private.SESSION on. What stands
    there counts only if the session is `resumed` from the life of a dead worker. `data` is the key of a session, or
    what the task says. `size` is that of a whole control datagram, with zeros behind its text; 0: no longer than the
    text. `parts`: the peer takes frames in parts on this session.
    """

    task: Task
    cipher: Cipher = Cipher.CHACHA20_POLY1305
    index: int = 0
    slot: int = 0
    until: int = 2**63 - 1
    resumed: bool = False
    size: int = 0
    parts: bool = False
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Proved:
    """An authentic datagram came on the session of this index: its first, one of the control counters, or a newest one
    from elsewhere than the peer was.

    `newest` says that it tells where the peer is (docs/protocol.md, 3.2).
    """

    index: int
    source: Endpoint
    newest: bool


@dataclass(frozen=True, slots=True)
class Handshake:
    """A datagram of the handshake came from `source`."""

    datagram: bytes
    source: Endpoint


@dataclass(frozen=True, slots=True)
class Received:
    """A control datagram of `size` bytes came; `text` is its text, of a long one the beginning."""

    index: int
    counter: int
    size: int
    text: bytes


@dataclass(frozen=True, slots=True)
class TooLong:
    """The kernel did not send a datagram of `size` bytes: it is longer than the way out allows (EMSGSIZE)."""

    size: int


@dataclass(frozen=True, slots=True)
class Missed:
    """Several counters in a row were skipped: what had them is lost, or late."""


Notice: TypeAlias = Proved | Handshake | Received | TooLong | Missed


class LinkEnd:
    """The end that orders. `sock` is its own; `deserted` says that the worker at the other end is dead."""

    def __init__(self, sock: socket.socket, counts: Counts) -> None:
        self.sock = sock
        self.deserted = False
        self._counts = counts
        sock.setblocking(False)
        counts[Private.MAIL] += 1  # a link process that was killed may have sent an order, and come no further

    def order(self, order: Order) -> None:
        """Put an order into the channel. A worker that leaves it full hangs: its successor is told everything anew."""
        with contextlib.suppress(OSError):
            *head, data = dataclasses.astuple(order)
            self.sock.send(_ORDER.pack(*head) + data)
        self._counts[Private.MAIL] += 1

    def notices(self, most: int = 64) -> Iterator[Notice]:
        """Take what the worker has sent, at most so many: the rest waits for the next turn of the loop."""
        for _ in range(most):
            try:
                packed = self.sock.recv(256)
            except OSError:
                return
            if not packed:
                self.deserted = True
                return
            if packed[:1] == _TOO_LONG and len(packed) == 1 + _SIZE.size:
                yield TooLong(*_SIZE.unpack(packed[1:]))
                continue
            if packed[:1] == _CONTROL and len(packed) > 1 + _RECEIVED.size:
                index, counter, size = _RECEIVED.unpack_from(packed, 1)
                yield Received(index, counter, size, packed[1 + _RECEIVED.size :])
                continue
            if packed == _MISSED:
                yield Missed()
                continue
            if len(packed) <= _ENDPOINT:  # a worker writes nothing so short; but it reads what strangers wrote
                continue
            source, rest = endpoint.unpack(packed[1:_ENDPOINT]), packed[_ENDPOINT:]
            if packed[:1] == _HANDSHAKE:
                yield Handshake(rest, source)
            elif len(rest) == _INDEX_AND_NEWEST.size:
                index, newest = _INDEX_AND_NEWEST.unpack(rest)
                yield Proved(index, source, newest)

    def close(self) -> None:
        """Close the channel."""
        self.sock.close()


class WorkerEnd:
    """The end that obeys. `sock` is the worker's alone."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        sock.setblocking(False)

    def fileno(self) -> int:
        """What to poll for orders."""
        return self._sock.fileno()

    def orders(self) -> Iterator[Order]:
        """Take every order. Whether there are any, the worker's MAIL slot tells, to be looked at first."""
        while True:
            try:
                packed = self._sock.recv(_ORDER.size + MOST)
            except OSError:
                return
            if len(packed) < _ORDER.size:  # the supervisor, who has a duplicate of the other end, is gone
                return
            task, cipher, index, slot, until, resumed, size, parts = _ORDER.unpack_from(packed)
            data = packed[_ORDER.size :]
            yield Order(Task(task), Cipher(cipher), index, slot, until, resumed, size, parts, data)

    def first_orders(self) -> Iterator[Order]:
        """Take what the link tells a worker in the beginning, up to its word that this is all; waits FIRST at most."""
        poll, deadline = select.poll(), time.monotonic() + FIRST
        poll.register(self._sock, select.POLLIN)
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            for order in self.orders():
                if order.task is Task.ALL:
                    return
                yield order

    def proved(self, index: int, source: Endpoint, *, newest: bool) -> bool:
        """Tell the link process; False when the channel is full."""
        return self._send(_PROVED + endpoint.pack(source) + _INDEX_AND_NEWEST.pack(index, newest))

    def handshake(self, datagram: bytes, source: Endpoint) -> bool:
        """Pass a datagram of the handshake on; False when the channel is full."""
        return self._send(_HANDSHAKE + endpoint.pack(source) + datagram)

    def control(self, index: int, counter: int, size: int, text: bytes) -> bool:
        """Pass on the text of a control datagram of `size` bytes; False when the channel is full."""
        return self._send(_CONTROL + _RECEIVED.pack(index, counter, size) + text[:MOST])

    def too_long(self, size: int) -> bool:
        """Tell that a datagram of `size` bytes is too long for the way out; False when the channel is full."""
        return self._send(_TOO_LONG + _SIZE.pack(size))

    def missed(self) -> bool:
        """Tell that several counters in a row were skipped; False when the channel is full."""
        return self._send(_MISSED)

    def _send(self, packed: bytes) -> bool:
        try:
            self._sock.send(packed)
        except OSError:
            return False
        return True


def channel() -> tuple[socket.socket, socket.socket]:
    """Make the two ends: the link process's and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return ours, theirs
