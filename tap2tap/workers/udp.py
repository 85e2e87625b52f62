"""The socket's side of both directions: a batch of trains is sent, or received, by one system call where possible."""

import errno
import socket
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from operator import itemgetter

from tap2tap import log
from tap2tap.counters import Count, Counts, Drop
from tap2tap.endpoint import SockAddr, from_raw
from tap2tap.workers.mmsg import Incoming, Outgoing
from tap2tap.workers.train import MAX_SEGMENTS, ROOM, ROWS, STRIDE, TRAINS, Batch, Train, Trains

_SEND_DROPS = {
    errno.ENETUNREACH: Drop.UNREACHABLE,
    errno.EHOSTUNREACH: Drop.UNREACHABLE,
    errno.ENETDOWN: Drop.UNREACHABLE,
    errno.EADDRNOTAVAIL: Drop.UNREACHABLE,
    errno.ENONET: Drop.UNREACHABLE,
    errno.ECONNREFUSED: Drop.REFUSED,
    errno.EPERM: Drop.NOT_PERMITTED,
    errno.EACCES: Drop.NOT_PERMITTED,
    errno.ENOBUFS: Drop.NO_BUFFERS,
    errno.ENOMEM: Drop.NO_BUFFERS,
    errno.EAGAIN: Drop.NO_BUFFERS,
    errno.EMSGSIZE: Drop.TOO_LONG,
}
_OURS = (errno.EBADF, errno.ENOTSOCK, errno.EFAULT)  # faults of this program, not of the network
_REFUSED_AS_TRAIN = (errno.EMSGSIZE, errno.EINVAL)  # a segment exceeds the MTU of the route
_NO_SEGMENTATION = (errno.EIO, errno.EOPNOTSUPP, errno.ENOPROTOOPT)  # the device cannot checksum for the kernel

_NONE_TOO_LONG = 1 << 30
RETRY_AFTER = 4096  # trains sent piece by piece before one is tried whole again: routes change


class Sender:
    """Sends trains to the peer with UDP_SEGMENT, datagram by datagram where the kernel refuses that.

    `sock` is borrowed. `segment` False never tries UDP_SEGMENT.
    """

    def __init__(self, sock: socket.socket, counts: Counts, *, segment: bool) -> None:
        self._family, self._sendto = sock.family, sock.sendto
        self._counts = counts
        self._segment = segment
        self._trains = Outgoing(sock, MAX_SEGMENTS)
        self._datagrams = Outgoing(sock, MAX_SEGMENTS)
        self._sockaddr = b""
        self._name: SockAddr = ("", 0)  # the same as Python's sockets take it
        self._batch = Batch(0)  # the one that is being sent
        self._too_long = self._told = _NONE_TOO_LONG  # datagrams of this size do not fit the route as segments
        self._patience = 0  # trains until one of that size is tried whole again

    def send(self, batch: Batch, sockaddr: bytes) -> None:
        """Send every datagram of `batch`; what the kernel refuses is a counted drop.

        There are at most MAX_SEGMENTS trains. If the first has one datagram, so have all; if not, all have its size.
        """
        if sockaddr != self._sockaddr:
            self._aim(sockaddr)
        trains = batch.trains
        self._counts[Count.TRAINS] += len(trains)
        self._counts[Count.DATAGRAMS] += trains.frames
        if trains.frames == 1:
            try:
                self._send_one(batch)
            except OSError as error:
                self._drop(error, 1)
            return
        self._batch = batch
        base, put = batch.base, self._trains.put
        if trains[0].count > 1 and not self._whole(trains[0].size, len(trains)):
            for train in trains:
                self._one_by_one(train)
            return
        for number, (at, size, count, last) in enumerate(trains):
            put(number, base + at, size * (count - 1) + last, size if count > 1 else 0)
        self._send(self._trains, len(trains), self._refused)

    def keepalive(self, batch: Batch, sockaddr: bytes) -> bool:
        """Send the one datagram of `batch`; False when the kernel refused it."""
        if sockaddr != self._sockaddr:
            self._aim(sockaddr)
        try:
            self._send_one(batch)
        except OSError as error:
            if error.errno in _OURS:
                raise
            return False
        self._counts[Count.DATAGRAMS] += 1
        return True

    def _aim(self, sockaddr: bytes) -> None:
        self._sockaddr = sockaddr
        self._trains.aim(sockaddr)
        self._datagrams.aim(sockaddr)
        self._name = from_raw(sockaddr).sockaddr(self._family)

    def _send_one(self, batch: Batch) -> None:
        """Send a lone datagram. Python's own call is the shorter way, as there is nothing to set up. Raises OSError."""
        at, _, _, size = batch.trains[0]
        self._sendto(batch.buffer[at : at + size], self._name)

    def _send(self, messages: Outgoing, count: int, refused: Callable[[int, OSError], None]) -> None:
        """Send the first `count` messages; `refused` hears of each that the kernel would not take."""
        sent = 0
        while sent < count:
            try:
                sent += messages.send(sent, count)
            except InterruptedError:
                continue
            except OSError as error:
                refused(sent, error)
                sent += 1

    def _refused(self, number: int, error: OSError) -> None:
        train = self._batch.trains[number]
        if train.count > 1 and error.errno in _REFUSED_AS_TRAIN:
            self._shorten(train.size, error)
        elif train.count > 1 and error.errno in _NO_SEGMENTATION:
            if self._segment:
                log.warning("sending datagram by datagram: no UDP segmentation here", error=error.strerror)
            self._segment = False
        else:
            self._drop(error, train.count)
            return
        self._counts[Count.FALLBACKS] += 1
        self._one_by_one(train)

    def _one_by_one(self, train: Train) -> None:
        at, size, count, last = train
        at += self._batch.base
        for first in range(0, count, MAX_SEGMENTS):
            some = min(count - first, MAX_SEGMENTS)
            for number in range(some):
                length = size if first + number < count - 1 else last
                self._datagrams.put(number, at + (first + number) * size, length, 0)
            self._send(self._datagrams, some, lambda _, error: self._drop(error, 1))

    def _whole(self, size: int, trains: int) -> bool:
        """Whether to try trains of that size as such; now and then even if it has failed, for routes change."""
        if size >= self._too_long:
            self._patience -= trains
            if self._patience > 0:
                return False
            self._too_long = _NONE_TOO_LONG
        return self._segment

    def _shorten(self, size: int, error: OSError) -> None:
        if size < self._told:
            self._told = size
            log.info(
                "sending longer frames datagram by datagram: they exceed the path", bytes=size, error=error.strerror
            )
        self._too_long = min(size, self._too_long)
        self._patience = RETRY_AFTER

    def _drop(self, error: OSError, datagrams: int) -> None:
        if error.errno in _OURS:
            raise error
        self._counts[Count.DROPPED + _SEND_DROPS.get(error.errno or 0, Drop.OTHER)] += datagrams


class Receiver:
    """Receives batches of trains: whole ones where the socket has UDP_GRO, else of one datagram each.

    The kernel may hand over trains of any number of datagrams, as a sender on the same machine made them. A batch has
    at most ROWS datagrams for all that, in trains of at most MAX_SEGMENTS, all from one source; what goes beyond that
    is the batch of the next calls. `sock` is borrowed. `batch` is valid until the next call.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.batch = Batch()
        self._messages = Incoming(sock, TRAINS)
        for number in range(TRAINS):
            self._messages.pieces[2 * number] = self.batch.base + number * STRIDE
            self._messages.pieces[2 * number + 1] = ROOM
        self._more: Iterator[tuple[bytes, Trains]] | None = None  # what came with the last batch, but goes beyond it

    def receive(self) -> bytes | None:
        """Wait, fill `batch` and return where all of it came from; None after RECEIVE_TIMEOUT without a datagram.

        The socket itself does the waiting: to poll it first would cost a second system call and its way through
        Python, which is most of what a lone frame costs. Raises OSError for faults of this program alone.
        """
        if self._more:
            for source, trains in self._more:
                self.batch.trains = trains
                return source
            self._more = None
        messages = self._messages
        try:
            count = messages.receive()
        except OSError as error:
            if error.errno in _OURS:
                raise
            return None  # the time is over, ICMP had something to say of an earlier send, or there is no memory
        if count == 1:
            trains, bounded = _one(*messages.take_one())
        else:
            trains, bounded = _trains(*messages.take(count))
            bounded = bounded and messages.one_source(count)
        source = messages.source(0)
        if bounded:
            self.batch.trains = trains
            return source
        self._more = _bounded([(messages.source(number), train) for number, train in enumerate(trains)])
        source, self.batch.trains = next(self._more)
        return source


@lru_cache(128)  # hostile traffic may come in every shape
def _one(length: int, segment: int) -> tuple[Trains, bool]:
    return _trains((length,), (segment,))


@lru_cache(128)
def _trains(lengths: tuple[int, ...], segments: tuple[int, ...]) -> tuple[Trains, bool]:
    """The trains in the slots of a batch, one a slot, and whether they are within its bounds.

    Given are the bytes of each, and of each of its datagrams but the last; 0: there is but one.
    """
    trains = []
    for slot, (length, segment) in enumerate(zip(lengths, segments, strict=True)):
        size = min(segment, length) or length
        count = -(-length // size) if size else 1
        trains.append(Train(slot * STRIDE, size, count, length - size * (count - 1)))
    found = Trains(trains)
    return found, found.frames <= ROWS and all([train.count <= MAX_SEGMENTS for train in found])


def _bounded(came: Iterable[tuple[bytes, Train]]) -> Iterator[tuple[bytes, Trains]]:
    """Divide trains, each with its source, into batches, one after the other: there may be a great many."""
    for source, group in groupby(came, itemgetter(0)):
        some: list[Train] = []
        rows = 0
        for _, (at, size, count, last) in group:
            for first in range(0, count, MAX_SEGMENTS):
                part = min(MAX_SEGMENTS, count - first)
                if rows + part > ROWS:
                    yield source, Trains(some)
                    some, rows = [], 0
                some.append(Train(at + first * size, size, part, last if first + part == count else size))
                rows += part
        yield source, Trains(some)
