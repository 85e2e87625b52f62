"""The UDP socket's system calls: trains and datagrams between an arena and the network.

This is one of two implementations: udp.pyx is the compiled one and does the same with sendmmsg(2) and recvmmsg(2),
which Python's sockets do not have. Calls that the kernel refuses give -errno; what lies outside the arena is an
IndexError.
"""

import fcntl
import socket
from array import array
from socket import MSG_DONTWAIT
from termios import TIOCOUTQ

from tap2tap.endpoint import SockAddr, from_raw, from_sockaddr
from tap2tap.udp_socket import SOL_UDP, UDP_GRO, UDP_SEGMENT
from tap2tap.workers.arena import Arena
from tap2tap.workers.train import ROOM

TRAINS = 8  # messages that are received together: more gain little, and fall out of the processor's cache
MARGIN = 64  # bytes in front of each, of which the headers of a frame may take some
STRIDE = MARGIN + ROOM  # from one to the next: at a power of two they would share cache lines
AREA = TRAINS * STRIDE  # bytes of the arena that received messages take

_CONTROL_SPACE = socket.CMSG_SPACE(4)


def refused(sock: socket.socket) -> str | None:  # noqa: ARG001
    """The name of a system call that is needed here and that the kernel, or a filter of a container, refuses."""
    return None


class Outgoing:
    """Sends from `arena` through `sock`, which is borrowed. It never waits for room in the kernel."""

    def __init__(self, sock: socket.socket, arena: Arena) -> None:
        self._sock, self._arena = sock, arena
        self._name: SockAddr = ("", 0)
        self._queued = array("i", [0])

    def aim(self, sockaddr: bytes) -> None:
        """Say where to: a `struct sockaddr` of the socket's family."""
        self._name = from_raw(sockaddr).sockaddr(self._sock.family)

    def send(self, at: int, length: int, segment: int) -> int:
        """Send `length` bytes as datagrams of `segment` bytes each (UDP_SEGMENT); 0: as one. Returns 0 or -errno."""
        return self._send(at, length, segment)

    def send_each(self, at: int, size: int, step: int, count: int, last: int) -> int:
        """Send `count` > 0 datagrams of `size` bytes, the last of `last`, one every `step` bytes, each by itself.

        Returns how many were sent before one was refused, or -errno when that was the first.
        """
        for number in range(count):
            refusal = self._send(at + number * step, size if number < count - 1 else last, 0)
            if refusal:
                return number or refusal
        return count

    def _send(self, at: int, length: int, segment: int) -> int:
        data = self._arena.take(at, length)
        try:
            if segment:
                control = [(SOL_UDP, UDP_SEGMENT, array("H", [segment]))]
                self._sock.sendmsg([data], control, MSG_DONTWAIT, self._name)
            else:
                self._sock.sendto(data, MSG_DONTWAIT, self._name)
        except OSError as error:
            return -(error.errno or 0)
        return 0

    def queued(self) -> int:
        """What waits below the socket, in bytes of truesize (SIOCOUTQ, which is TIOCOUTQ). Raises OSError."""
        fcntl.ioctl(self._sock.fileno(), TIOCOUTQ, self._queued)
        return self._queued[0]


class Incoming:
    """Receives up to TRAINS messages together into AREA bytes of `arena` from `first` on. `sock` is borrowed.

    A message is a datagram, or a train of them (UDP_GRO). What is asked about message `number` holds until the next
    `receive`.
    """

    def __init__(self, sock: socket.socket, arena: Arena, first: int) -> None:
        if first < 0 or first + AREA > arena.size:
            raise IndexError(f"{AREA} bytes at {first} of {arena.size}")
        self._sock = sock
        self._first = first
        self._slots = [arena.view[self.at(number) : self.at(number) + ROOM] for number in range(TRAINS)]
        self._came: list[tuple[int, int, SockAddr]] = []  # length, segment, source of each
        self._last: tuple[SockAddr, bytes] = (("", 0), b"")  # the last source that was asked for, and its raw form

    def receive(self) -> int:
        """Wait for a message as SO_RCVTIMEO says, take those that have come, and return their number, or -errno."""
        self._came = []
        flags = 0
        try:
            for slot in self._slots:
                length, control, _, source = self._sock.recvmsg_into([slot], _CONTROL_SPACE, flags)
                segment = next((array("i", value)[0] for _, kind, value in control if kind == UDP_GRO), 0)
                self._came.append((length, segment, source))
                flags = MSG_DONTWAIT
        except OSError as error:
            if not self._came:
                return -(error.errno or 0)
        return len(self._came)

    def at(self, number: int) -> int:
        """Where in the arena message `number` lies; the MARGIN bytes in front of it are free."""
        return self._first + number * STRIDE + MARGIN

    def length(self, number: int) -> int:
        """Bytes of the message."""
        return self._came[number][0]

    def segment(self, number: int) -> int:
        """Bytes of each of its datagrams but the last, which may exceed its length; 0: it is one datagram."""
        return self._came[number][1]

    def source(self, number: int) -> bytes:
        """Where it came from: a `struct sockaddr` of the socket's family; the same object as long as it is the same."""
        source = self._came[number][2]
        if source != self._last[0]:
            self._last = source, from_sockaddr(source).raw(self._sock.family)
        return self._last[1]
