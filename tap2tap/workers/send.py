"""Sends to the socket: a train with one system call where the kernel takes it, else datagram by datagram."""

import errno
import os
import socket
import time
from collections.abc import Callable
from math import inf

from tap2tap import log
from tap2tap.counters import Count, Counts, Drop
from tap2tap.memory import Private
from tap2tap.workers.arena import Arena
from tap2tap.workers.backlog import Backlog
from tap2tap.workers.receive import OURS
from tap2tap.workers.train import Train
from tap2tap.workers.udp import Outgoing

_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
_REASONS = {
    Drop.UNREACHABLE: (
        *(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ENONET, errno.EADDRNOTAVAIL),
        *(errno.ENODEV, errno.ENXIO, errno.EPIPE, errno.EINVAL),  # the last two: a stand-in socket, and a blackhole
    ),
    Drop.REFUSED: (errno.ECONNREFUSED,),
    Drop.NOT_PERMITTED: (errno.EPERM, errno.EACCES),
    Drop.NO_BUFFERS: _FULL,
    Drop.TOO_LONG: (errno.EMSGSIZE,),
}
_SEND_DROPS = {number: reason for reason, numbers in _REASONS.items() for number in numbers}
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ECONNREFUSED)  # for a train or anything else
_FOR_LENGTH = (errno.EMSGSIZE, errno.EINVAL)  # a segment exceeds the MTU of the route

RETRY_AFTER = 10.0  # seconds until a train is tried again where one was refused: routes change
NEVER = 1 << 30  # bytes

TRAINS, DATAGRAMS, FALLBACKS, DROPPED = Count.TRAINS, Count.DATAGRAMS, Count.FALLBACKS, Count.DROPPED
NO_BUFFERS = int(Drop.NO_BUFFERS)
SINGLY, IN_TRAINS = Private.SINGLY, Private.IN_TRAINS


class Sender:
    """Sends trains to the peer with UDP_SEGMENT, datagram by datagram where the kernel refuses that.

    It never waits for room in the kernel: what there is none for, by the measure of tap2tap.workers.backlog, is
    dropped. `sock` is borrowed. `segment` False never tries UDP_SEGMENT. `too_long` is told the size of datagrams that
    were refused for it.
    """

    def __init__(
        self, sock: socket.socket, arena: Arena, counts: Counts, segment: bool, too_long: Callable[[int], None]
    ) -> None:
        self.out = Outgoing(sock, arena)
        self.counts = counts
        self.backlog = Backlog(self.out)
        self.too_long = too_long
        self.sockaddr = b""
        # Trains of datagrams of this size or more are refused as such; then a time when one is tried all the same.
        self.single_from, self.retry_at = (NEVER, -inf) if segment else (0, inf)

    def send(self, train: Train, sockaddr: bytes) -> int:
        """Send every datagram of `train`, which lie back to back; what the kernel refuses is a counted drop."""
        if sockaddr is not self.sockaddr:
            self._aim(sockaddr)
        count = train.count
        self.counts[TRAINS] += 1
        self.counts[DATAGRAMS] += count
        size, segment = train.last, 0
        retry = False
        if count > 1:
            size = segment = train.size
            if self.counts[SINGLY]:
                return self._send_each(train, 0)
            retry = size >= self.single_from
            if retry and self._singly():
                return self._send_each(train, 0)
        if count > self.backlog.free and self.backlog.admit(count, size) < count:
            self.counts[DROPPED + NO_BUFFERS] += count
            return 0
        length = train.length()
        refusal = self.out.send(train.at, length, segment)
        if refusal:
            return self._refused(train, -refusal)
        self.backlog.sent(1, count, length)
        if segment:
            self.counts[IN_TRAINS] += count
        if retry:
            self.single_from = NEVER
        return 0

    def single(self, train: Train, sockaddr: bytes) -> bool:
        """Send the one datagram of `train`, which holds no frame; False when the kernel refused it."""
        if sockaddr is not self.sockaddr:
            self._aim(sockaddr)
        refusal = self._send_first(train)
        if refusal:
            self._explain(-refusal, train.last)
            return False
        self.counts[DATAGRAMS] += 1
        return True

    def _aim(self, sockaddr: bytes) -> int:
        if sockaddr != self.sockaddr:
            self.out.aim(sockaddr)
        self.sockaddr = sockaddr
        return 0

    def _singly(self) -> bool:
        """Whether it is too early to try a train again."""
        return time.monotonic() < self.retry_at

    def _send_first(self, train: Train) -> int:
        """Send the first datagram of a train. Returns 0 or -errno."""
        size = train.size if train.count > 1 else train.last
        refusal = self.out.send(train.at, size, 0)
        if not refusal:
            self.backlog.sent(1, 1, size)
        return refusal

    def _refused(self, train: Train, number: int) -> int:
        """See to a train that was refused. Was it as a train? That is so if a single datagram of it is not."""
        if train.count == 1 or number in _FULL or number in _NO_WAY:
            self._drop(number, train.last, train.count)
            return 0
        refusal = self._send_first(train)
        if refusal:
            self._drop(-refusal, train.size, train.count)
            return 0
        self.counts[FALLBACKS] += 1
        self._switch_off(train.size if number in _FOR_LENGTH else 0, number)
        return self._send_each(train, 1)

    def _switch_off(self, size: int, number: int) -> int:
        """Send trains of datagrams of `size` bytes and more datagram by datagram for a while."""
        now = time.monotonic()
        if self.single_from == NEVER and now - self.retry_at > RETRY_AFTER:  # no news if it has only just been tried
            log.info("sending datagram by datagram: trains are refused", from_bytes=size, error=os.strerror(number))
        self.single_from = min(size, self.single_from)
        self.retry_at = now + RETRY_AFTER
        return 0

    def _send_each(self, train: Train, first: int) -> int:
        """Send the datagrams of a train from number `first` on, one by one, until there is no room."""
        size, left = train.size, train.count - first
        while left > 0:
            some = min(left, max(self.backlog.free, 0))
            if some < left:
                some = min(left, self.backlog.admit(1, size))
            if some < 1:
                self.counts[DROPPED + NO_BUFFERS] += left
                return 0
            last = train.last if some == left else size
            at = train.at + (train.count - left) * size
            done = self.out.send_each(at, size, size, some, last)
            if done > 0:
                self.backlog.sent(done, done, size * (done - 1) + (last if done == some else size))
                left -= done
            elif self._drop(-done, size if left > 1 else last, 1):
                left -= 1
            else:
                self.counts[DROPPED + NO_BUFFERS] += left - 1
                return 0
        return 0

    def _explain(self, number: int, size: int) -> None:
        """Say why a datagram of `size` bytes was refused to whom it concerns. Raises OSError for faults of ours."""
        if number in OURS:
            raise OSError(number, os.strerror(number))
        if number == errno.EMSGSIZE:
            self.too_long(size)

    def _drop(self, number: int, size: int, datagrams: int) -> bool:
        """Count datagrams of `size` bytes as dropped; whether there is any use in sending more. Raises OSError."""
        self._explain(number, size)
        self.counts[DROPPED + _SEND_DROPS.get(number, Drop.OTHER)] += datagrams
        return number not in _FULL
