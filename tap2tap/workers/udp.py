"""The UDP socket's system calls: trains and datagrams between an arena and the network.

This is one of two implementations: udp.pyx is the compiled one and does the same with sendmmsg(2) and recvmmsg(2),
which Python's sockets do not have. Calls that the kernel refuses give -errno; what lies outside the arena is an
IndexError.
"""

import fcntl
import socket
import time
from array import array
from socket import MSG_DONTWAIT
from termios import TIOCOUTQ

from tap2tap.endpoint import SOCKADDR_LENGTH, SockAddr, from_raw, from_sockaddr
from tap2tap.udp_socket import GONE, PKTINFO, SOL_UDP, UDP_GRO, UDP_SEGMENT, from_address
from tap2tap.workers.arena import Arena
from tap2tap.workers.train import ROOM

TRAINS = 8  # messages that are received together: more gain little, and fall out of the processor's cache
MARGIN = 64  # bytes in front of each, of which the headers of a frame may take some
STRIDE = MARGIN + ROOM  # from one to the next: at a power of two they would share cache lines
AREA = TRAINS * STRIDE  # bytes of the arena that received messages take

_CONTROL_SPACE = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(20)  # UDP_GRO, and struct in6_pktinfo or in_pktinfo


def refused(sock: socket.socket) -> str | None:  # noqa: ARG001
    """The name of a system call that is needed here and that the kernel, or a filter of a container, refuses."""
    return None


class Outgoing:
    """Sends from `arena` through `sock`, which is borrowed. It never waits for room in the kernel.

    Where the local address that it is to send from is none of ours any more, it sends from another one, and tries that
    one again from second to second.
    """

    def __init__(self, sock: socket.socket, arena: Arena) -> None:
        self._sock, self._arena = sock, arena
        self._name: SockAddr = ("", 0)
        self._local: list[tuple[int, int, bytes]] = []
        self._pinned = False  # whether that is used
        self._gone_at = 0  # seconds of time.monotonic
        self._queued = array("i", [0])

    def aim(self, raw: bytes) -> None:
        """Say where to, and from which address of ours: what Endpoint.raw gives for the socket's family."""
        family = self._sock.family
        local = raw[SOCKADDR_LENGTH[family] :]
        if len(local) != PKTINFO[family][3]:
            raise ValueError(f"{len(raw)} bytes are no address and local address")
        self._name = from_raw(raw).sockaddr(family)
        self._local = [from_address(local)] if any(local) else []
        self._pinned = bool(self._local)

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
        if self._local and not self._pinned:
            self._pinned = int(time.monotonic()) > self._gone_at
        refusal = self._transmit(at, length, segment)
        if self._pinned and -refusal in GONE:
            self._pinned = False
            refusal = self._transmit(at, length, segment)
            if refusal:
                self._pinned = True  # it was not the address
            else:
                self._gone_at = int(time.monotonic())
        return refusal

    def _transmit(self, at: int, length: int, segment: int) -> int:
        data = self._arena.take(at, length)
        try:
            control: list[tuple[int, int, array[int] | bytes]] = [*self._local] if self._pinned else []
            if segment:
                control.append((SOL_UDP, UDP_SEGMENT, array("H", [segment])))
            self._sock.sendmsg([data], control, MSG_DONTWAIT, self._name)
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
        self._came: list[tuple[int, int, SockAddr, bytes]] = []  # length, segment, source, local address of each
        self._last: tuple[SockAddr, bytes, bytes] = (("", 0), b"", b"")  # of the last that was asked for; its raw form

    def receive(self) -> int:
        """Wait for a message as SO_RCVTIMEO says, take those that have come, and return their number, or -errno."""
        self._came = []
        flags = 0
        *pktinfo, offset, size = PKTINFO[self._sock.family]
        try:
            for slot in self._slots:
                length, control, _, source = self._sock.recvmsg_into([slot], _CONTROL_SPACE, flags)
                segment, local = 0, bytes(size)
                for level, kind, value in control:
                    if (level, kind) == (SOL_UDP, UDP_GRO):
                        segment = array("i", value)[0]
                    elif [level, kind] == pktinfo:
                        local = value[offset : offset + size]
                self._came.append((length, segment, source, local))
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
        """Where it came from, and to which address of ours: what Endpoint.raw gives for the socket's family.

        Our own address is zeros where the kernel has not told. The same object as long as it is the same.
        """
        _, _, source, local = self._came[number]
        if (source, local) != self._last[:2]:
            family = self._sock.family
            raw = from_sockaddr(source).raw(family)[: SOCKADDR_LENGTH[family]] + local
            self._last = source, local, raw
        return self._last[2]
