"""Traffic between two hosts of a lab: streams with a hash at both ends, and frames as they are on a device."""

import hashlib
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple, Self

from tap2tap.demo.lab import Host
from tap2tap.udp_socket import SO_RCVBUFFORCE, SOL_UDP, UDP_SEGMENT

TIMEOUT = 40.0  # seconds, for what has no reason to fail but a slow machine

ETH_P_ALL = 3  # linux/if_ether.h
PACKET_OUTGOING = 4  # linux/if_packet.h
SOL_PACKET = 263
PACKET_AUXDATA = 8
TP_STATUS_CSUMNOTREADY = 1 << 3
TP_STATUS_VLAN_VALID = 1 << 4
TP_STATUS_VLAN_TPID_VALID = 1 << 6
TP_STATUS_CSUM_VALID = 1 << 7
AUXDATA = struct.Struct("=IIIHHHH")  # tpacket_auxdata: status, len, snaplen, mac, net, vlan_tci, vlan_tpid


def family(address: str) -> socket.AddressFamily:
    """The family of an address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Stream:
    """One TCP connection that carries `size` bytes from `sender` to `receiver`, who is at `address`."""

    def __init__(self, sender: Host, receiver: Host, address: str, size: int = 2 << 20) -> None:
        self._data = random.Random(size).randbytes(size)
        self._got = hashlib.sha256()
        self.bytes = 0
        with ExitStack() as stack:  # what has been opened is closed if the rest fails
            listener = stack.enter_context(receiver.socket(family(address), socket.SOCK_STREAM))
            listener.settimeout(TIMEOUT)
            listener.bind((address, 0))
            listener.listen()
            self._out = stack.enter_context(sender.socket(family(address), socket.SOCK_STREAM))
            self._out.settimeout(TIMEOUT)
            self._out.connect(listener.getsockname())
            self._in, _ = listener.accept()
            self._in.settimeout(TIMEOUT)
            stack.pop_all()
            listener.close()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._receive)]

    def start(self) -> Self:
        """Let it flow."""
        for thread in self._threads:
            thread.start()
        return self

    def _send(self) -> None:
        try:
            with self._out:
                self._out.sendall(self._data)
        except OSError:
            pass  # what is missing shows at the other end

    def _receive(self) -> None:
        try:
            with self._in:
                while data := self._in.recv(1 << 16):
                    self._got.update(data)
                    self.bytes += len(data)
        except OSError:
            pass

    def check(self) -> None:
        """Wait for its end; everything has arrived as it was sent."""
        for thread in self._threads:
            thread.join(TIMEOUT)
        assert self.bytes == len(self._data)
        assert self._got.digest() == hashlib.sha256(self._data).digest()


def bulk(sender: Host, receiver: Host, *addresses: str, size: int = 2 << 20) -> None:
    """Carry `size` bytes from `sender` to each of the addresses of `receiver`, all at once."""
    streams = [Stream(sender, receiver, address, size).start() for address in addresses]
    for stream in streams:
        stream.check()


class Seen(NamedTuple):
    """A frame as it came up from a device, and whether the kernel takes its checksum for right without looking."""

    frame: bytes
    trusted: bool


class Wire:
    """The frames of one device: what is sent leaves as it is, what comes is seen with its VLAN tags in place."""

    def __init__(self, host: Host, device: str = "tap0") -> None:
        self.socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with host.inside():
            self.socket.bind((device, ETH_P_ALL))
        self.socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self.socket.settimeout(0.2)

    def send(self, *frames: bytes) -> None:
        """Send frames through the device."""
        for frame in frames:
            self.socket.send(frame)

    def seen(self) -> Seen | None:
        """The next frame that came in; None when there has been none for a moment."""
        while True:
            try:
                frame, ancillary, _, source = self.socket.recvmsg(1 << 17, socket.CMSG_SPACE(AUXDATA.size))
            except TimeoutError:
                return None
            if source[2] != PACKET_OUTGOING:
                break
        status, _, _, _, _, tci, tpid = AUXDATA.unpack_from(ancillary[0][2])
        if status & TP_STATUS_VLAN_VALID:
            kind = tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100
            frame = frame[:12] + struct.pack("!HH", kind, tci) + frame[12:]
        return Seen(frame, bool(status & (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID)))

    def collect(self, wanted: Callable[[bytes], bool], count: int) -> list[Seen]:
        """The next `count` frames that are `wanted`. Raises TimeoutError."""
        found: list[Seen] = []
        deadline = time.monotonic() + TIMEOUT
        while len(found) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(found)} of {count} frames came")
            seen = self.seen()
            if seen and wanted(seen.frame):
                found.append(seen)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()


def segment_size(size: int) -> list[tuple[int, int, bytes]]:
    """The ancillary data that makes the kernel cut one send into datagrams of `size`."""
    return [(SOL_UDP, UDP_SEGMENT, size.to_bytes(2, sys.byteorder))]


def numbered(count: int, size: int) -> Iterator[bytes]:
    """Payloads of `size` bytes that begin with their number."""
    filler = random.Random(size).randbytes(size)
    for number in range(count):
        yield struct.pack("!I", number) + filler[4:]
