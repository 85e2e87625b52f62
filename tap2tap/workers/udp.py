"""The socket's side of both directions: a batch of trains is sent, or received, by one system call where possible."""

import errno
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from math import inf
from operator import itemgetter

from tap2tap import log
from tap2tap.counters import Count, Counts, Drop
from tap2tap.endpoint import SockAddr, from_raw
from tap2tap.workers.backlog import Backlog
from tap2tap.workers.mmsg import Incoming, Outgoing
from tap2tap.workers.train import MAX_SEGMENTS, ROOM, ROWS, STRIDE, TRAINS, Batch, Train, Trains

_SEND_DROPS = {
    errno.ENETUNREACH: Drop.UNREACHABLE,
    errno.EHOSTUNREACH: Drop.UNREACHABLE,
    errno.EHOSTDOWN: Drop.UNREACHABLE,
    errno.ENETDOWN: Drop.UNREACHABLE,
    errno.ENODEV: Drop.UNREACHABLE,
    errno.ENXIO: Drop.UNREACHABLE,
    errno.EADDRNOTAVAIL: Drop.UNREACHABLE,
    errno.ENONET: Drop.UNREACHABLE,
    errno.EINVAL: Drop.UNREACHABLE,  # a blackhole
    errno.ECONNREFUSED: Drop.REFUSED,
    errno.EPERM: Drop.NOT_PERMITTED,
    errno.EACCES: Drop.NOT_PERMITTED,
    errno.ENOBUFS: Drop.NO_BUFFERS,
    errno.ENOMEM: Drop.NO_BUFFERS,
    errno.EAGAIN: Drop.NO_BUFFERS,
    errno.EMSGSIZE: Drop.TOO_LONG,
}
_OURS = (errno.EBADF, errno.ENOTSOCK, errno.EFAULT)  # faults of this program, not of the network
_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ECONNREFUSED)  # for a train or anything else
_FOR_LENGTH = (errno.EMSGSIZE, errno.EINVAL)  # a segment exceeds the MTU of the route

RETRY_AFTER = 10.0  # seconds until a train is tried again where one was refused: routes change
_NEVER = 1 << 30  # bytes
_ONES = (1,) * MAX_SEGMENTS


class Sender:
    """Sends trains to the peer with UDP_SEGMENT, datagram by datagram where the kernel refuses that.

    It never waits for room in the kernel: what there is none for, by the measure of tap2tap.workers.backlog, is
    dropped. `sock` is borrowed. `segment` False never tries UDP_SEGMENT.
    """

    def __init__(self, sock: socket.socket, counts: Counts, *, segment: bool) -> None:
        self._family, self._sendto = sock.family, sock.sendto
        self._counts = counts
        self._backlog = Backlog(sock)
        self._trains = Outgoing(sock, MAX_SEGMENTS)
        self._datagrams = Outgoing(sock, MAX_SEGMENTS)
        self._sockaddr = b""
        self._name: SockAddr = ("", 0)  # the same as Python's sockets take it
        self._batch = Batch(0)  # the one that is being sent
        # Trains of datagrams of this size or more are refused as such; then a time when one is tried all the same.
        self._single_from, self._retry_at = (_NEVER, -inf) if segment else (0, inf)
        self._refused = False  # whether a train of the batch was

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
            self._send_lone(batch)
            return
        self._batch = batch
        size = trains[0].size
        retry = size >= self._single_from and trains[0].count > 1
        if retry and time.monotonic() < self._retry_at:
            for number, train in enumerate(trains):
                if not self._one_by_one(train):
                    self._no_room(trains[number + 1 :])
                    break
            return
        base, put = batch.base, self._trains.put
        for number, (at, size, count, last) in enumerate(trains):
            put(number, base + at, size * (count - 1) + last, size if count > 1 else 0)
        self._refused = False
        done = self._send(self._trains, [train.count for train in trains], trains.longest, self._refuse_train)
        if done < len(trains):
            self._no_room(trains[done:])
        if retry and done and not self._refused:
            self._single_from = _NEVER

    def keepalive(self, batch: Batch, sockaddr: bytes) -> bool:
        """Send the one datagram of `batch`; False when the kernel refused it."""
        if sockaddr != self._sockaddr:
            self._aim(sockaddr)
        try:
            self._send_one(batch, batch.trains[0])
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

    def _send_lone(self, batch: Batch) -> None:
        train = batch.trains[0]
        if self._backlog.free < 1 and not self._backlog.admit(_ONES[:1], 0, train.size):
            self._no_room((train,))
            return
        try:
            self._send_one(batch, train)
        except OSError as error:
            self._drop(error, 1)

    def _send_one(self, batch: Batch, train: Train) -> None:
        """Send the first datagram of a train. Raises OSError.

        Python's own call is the shorter way, as there is nothing to set up.
        """
        at, size, _, _ = train
        self._sendto(batch.buffer[at : at + size], socket.MSG_DONTWAIT, self._name)
        self._backlog.sent(1, 1, size)

    def _send(
        self, messages: Outgoing, counts: Sequence[int], size: int, refuse: Callable[[int, OSError], bool]
    ) -> int:
        """Send messages of counts[i] datagrams of at most `size` bytes each; how many were seen to before it was full.

        `refuse` hears of each that the kernel would not take, and says whether to go on.
        """
        done, end, backlog = 0, len(counts), self._backlog
        free = sum(counts) <= backlog.free
        while done < end:
            some = end - done if free else backlog.admit(counts, done, size)
            if not some:
                break
            try:
                sent = messages.send(done, done + some)
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno in _FULL:
                    break
                done += 1
                if not refuse(done - 1, error):
                    break
                continue
            datagrams = sum(counts[done : done + sent])
            backlog.sent(sent, datagrams, datagrams * size)
            done += sent
        return done

    def _refuse_train(self, number: int, error: OSError) -> bool:
        """See to a train that was refused. Was it as a train? That is so if a single datagram of it is not."""
        train = self._batch.trains[number]
        self._refused = True
        if train.count == 1 or error.errno in _NO_WAY:
            self._drop(error, train.count)
            return True
        try:
            self._send_one(self._batch, train)
        except OSError as another:
            self._drop(another, train.count)
            return another.errno not in _FULL
        self._counts[Count.FALLBACKS] += 1
        self._switch_off(train.size if error.errno in _FOR_LENGTH else 0, error)
        at, size, count, last = train
        return self._one_by_one(Train(at + size, size, count - 1, last))

    def _switch_off(self, size: int, error: OSError) -> None:
        """Send trains of datagrams of `size` bytes and more datagram by datagram for a while."""
        now = time.monotonic()
        if self._single_from == _NEVER and now - self._retry_at > RETRY_AFTER:  # no news if it has only just been tried
            log.info("sending datagram by datagram: trains are refused", from_bytes=size, error=error.strerror)
        self._single_from = min(size, self._single_from)
        self._retry_at = now + RETRY_AFTER

    def _one_by_one(self, train: Train) -> bool:
        """Send a train datagram by datagram; False when it was full before the end."""
        at, size, count, last = train
        at += self._batch.base
        for first in range(0, count, MAX_SEGMENTS):
            some = min(count - first, MAX_SEGMENTS)
            for number in range(some):
                length = size if first + number < count - 1 else last
                self._datagrams.put(number, at + (first + number) * size, length, 0)
            done = self._send(self._datagrams, _ONES[:some], size, self._refuse_datagram)
            if done < some:
                self._counts[Count.DROPPED + Drop.NO_BUFFERS] += count - first - done
                return False
        return True

    def _refuse_datagram(self, _: int, error: OSError) -> bool:
        self._drop(error, 1)
        return True

    def _no_room(self, trains: Iterable[Train]) -> None:
        self._counts[Count.DROPPED + Drop.NO_BUFFERS] += sum([train.count for train in trains])

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
