"""The socket's side of both directions: trains are sent and received, in one system call each where the kernel can."""

import errno
import socket
import struct
import sys

from tap2tap import log
from tap2tap.counters import Count, Counts, Drop
from tap2tap.endpoint import SOL_UDP, UDP_SEGMENT, SockAddr
from tap2tap.workers.train import Train

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
        self._sock = sock
        self._counts = counts
        self._segment = segment
        self._ancillary: dict[int, list[tuple[int, int, bytes]]] = {}
        self._too_long = _NONE_TOO_LONG  # datagrams of this size do not fit the route as segments
        self._patience = 0  # trains until one of that size is tried whole again

    def send(self, train: Train, peer: SockAddr) -> None:
        """Send every datagram of `train`; what the kernel refuses is a counted drop."""
        counts = self._counts
        counts[Count.DATAGRAMS] += train.count
        counts[Count.TRAINS] += 1
        if train.count == 1:
            try:
                self._sock.sendto(train.buffer[: train.size], peer)
            except OSError as error:
                self._drop(error, 1)
            return
        if not self._segment:
            self._one_by_one(train, peer)
            return
        size = train.size
        if size >= self._too_long and not self._try_again():
            self._one_by_one(train, peer)
            return
        ancillary = self._ancillary.get(size)
        if ancillary is None:
            if len(self._ancillary) >= 256:  # hostile traffic may come in every size
                self._ancillary.clear()
            ancillary = self._ancillary[size] = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))]
        try:
            self._sock.sendmsg([train.buffer[: train.length]], ancillary, 0, peer)
        except OSError as error:
            if error.errno in _REFUSED_AS_TRAIN:
                self._shorten(size, error)
            elif error.errno in _NO_SEGMENTATION:
                self._segment = False
                log.warning("sending datagram by datagram: no UDP segmentation here", error=error.strerror)
            else:
                self._drop(error, train.count)
                return
            counts[Count.FALLBACKS] += 1
            self._one_by_one(train, peer)
        else:
            if size >= self._too_long:
                self._too_long = _NONE_TOO_LONG  # the route has changed

    def keepalive(self, train: Train, peer: SockAddr) -> bool:
        """Send the one datagram of `train`, or an empty one where it has none; False when the kernel refused it."""
        try:
            self._sock.sendto(train.buffer[: train.length], peer)
        except OSError as error:
            if error.errno in _OURS:
                raise
            return False
        self._counts[Count.DATAGRAMS] += 1
        return True

    def _one_by_one(self, train: Train, peer: SockAddr) -> None:
        send, buffer, size, end = self._sock.sendto, train.buffer, train.size, train.length
        for at in range(0, end, size):
            try:
                send(buffer[at : min(at + size, end)], peer)
            except OSError as error:
                self._drop(error, 1)

    def _shorten(self, size: int, error: OSError) -> None:
        if size < self._too_long:
            log.info(
                "sending longer frames datagram by datagram: they exceed the path", bytes=size, error=error.strerror
            )
        self._too_long = min(size, self._too_long)
        self._patience = RETRY_AFTER

    def _try_again(self) -> bool:
        self._patience -= 1
        return self._patience <= 0

    def _drop(self, error: OSError, datagrams: int) -> None:
        if error.errno in _OURS:
            raise error
        self._counts[Count.DROPPED + _SEND_DROPS.get(error.errno or 0, Drop.OTHER)] += datagrams


class Receiver:
    """Receives trains: whole ones where the socket has UDP_GRO, else of one datagram each. `sock` is borrowed."""

    def __init__(self, sock: socket.socket) -> None:
        self.train = Train()
        self._sock = sock
        self._buffers = [self.train.buffer]
        self._space = socket.CMSG_SPACE(4)

    def receive(self) -> SockAddr | None:
        """Wait, fill `train` and return where it came from; None after RECEIVE_TIMEOUT without a datagram.

        An empty datagram leaves the train empty. The socket itself does the waiting: to poll it first would cost a
        second system call and its way through Python, which is most of what a lone frame costs.
        """
        try:
            length, ancillary, _, source = self._sock.recvmsg_into(self._buffers, self._space)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _OURS:
                raise
            return None  # what ICMP had to say of an earlier send
        if ancillary:
            size = int.from_bytes(ancillary[0][2], sys.byteorder)  # UDP_GRO: the size of all but the last
            count = -(-length // size)
            self.train.shape(size, count, length - size * (count - 1))
        else:
            self.train.shape(length, 1 if length else 0, length)
        return source  # type: ignore[no-any-return]
