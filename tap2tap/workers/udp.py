"""The socket's side of both directions: a batch of trains is sent, or received, by one system call where possible."""

import errno
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from socket import MSG_DONTWAIT

from tap2tap import log
from tap2tap.counters import Count, Counts, Drop
from tap2tap.endpoint import SockAddr, from_raw
from tap2tap.workers.backlog import Backlog
from tap2tap.workers.bounds import bounded, one, several
from tap2tap.workers.mmsg import Incoming, Outgoing
from tap2tap.workers.train import MAX_SEGMENTS, ROOM, STRIDE, TRAINS, Batch, Train, Trains

_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
_REASONS = {
    Drop.UNREACHABLE: (
        *(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ENONET, errno.EADDRNOTAVAIL),
        *(errno.ENODEV, errno.ENXIO, errno.EINVAL),  # the last: a blackhole
    ),
    Drop.REFUSED: (errno.ECONNREFUSED,),
    Drop.NOT_PERMITTED: (errno.EPERM, errno.EACCES),
    Drop.NO_BUFFERS: _FULL,
    Drop.TOO_LONG: (errno.EMSGSIZE,),
}
_SEND_DROPS = {number: reason for reason, numbers in _REASONS.items() for number in numbers}
_OURS = (errno.EBADF, errno.ENOTSOCK, errno.EFAULT)  # faults of this program, not of the network
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
        """Send the first datagram of a train; Python's own call has nothing to set up. Raises OSError."""
        at, size, count, last = train
        if count == 1:
            size = last
        self._sendto(batch.buffer[at : at + size], MSG_DONTWAIT, self._name)
        self._backlog.sent(1, 1, size)

    def _send(
        self, messages: Outgoing, counts: Sequence[int], size: int, refuse: Callable[[int, OSError], bool]
    ) -> int:
        """Send messages of counts[i] datagrams of at most `size` bytes each; how many were seen to before it was full.

        `refuse` hears of each that the kernel would not take, and says whether to go on.
        """
        done, end, backlog, frames = 0, len(counts), self._backlog, sum(counts)
        free = frames <= backlog.free
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
            datagrams = frames if sent == end else sum(counts[done : done + sent])
            backlog.sent(sent, datagrams, sum(messages.pieces[2 * done + 1 : 2 * (done + sent) : 2]))
            done += sent
        return done

    def _refuse_train(self, number: int, error: OSError) -> bool:
        """See to a train that was refused. Was it as a train? That is so if a single datagram of it is not."""
        train = self._batch.trains[number]
        self._refused = True
        if train.count == 1 or error.errno in _NO_WAY:
            return self._drop(error, train.count)
        try:
            self._send_one(self._batch, train)
        except OSError as another:
            return self._drop(another, train.count)
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
            done = self._send(self._datagrams, _ONES[:some], size, lambda _, error: self._drop(error, 1))
            if done < some:
                self._counts[Count.DROPPED + Drop.NO_BUFFERS] += count - first - done
                return False
        return True

    def _no_room(self, trains: Iterable[Train]) -> None:
        self._counts[Count.DROPPED + Drop.NO_BUFFERS] += sum([train.count for train in trains])

    def _drop(self, error: OSError, datagrams: int) -> bool:
        """Count datagrams as dropped; whether there is any use in sending more."""
        if error.errno in _OURS:
            raise error
        self._counts[Count.DROPPED + _SEND_DROPS.get(error.errno or 0, Drop.OTHER)] += datagrams
        return error.errno not in _FULL


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
            trains, whole = one(*messages.take_one())
        else:
            trains, whole = several(*messages.take(count))
            whole = whole and messages.one_source(count)
        source = messages.source(0)
        if whole:
            self.batch.trains = trains
            return source
        self._more = bounded([(messages.source(number), train) for number, train in enumerate(trains)])
        source, self.batch.trains = next(self._more)
        return source
