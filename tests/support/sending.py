"""A sender with a test between it and the kernel, and with a clock of the test's."""

import ipaddress
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace

import pytest

from tap2tap import endpoint, udp_socket
from tap2tap.counters import Count, Drop
from tap2tap.memory import GROUP
from tap2tap.udp_socket import SOL_UDP, UDP_SEGMENT
from tap2tap.workers import send
from tap2tap.workers.arena import Arena
from tap2tap.workers.send import Sender
from tap2tap.workers.train import ROOM, Train
from tap2tap.workers.udp import Outgoing
from tests.support.lone import roomy

Refuse = Callable[[bool], int]  # whether the call would send a train; the error of it, or 0

NOTE = "sending datagram by datagram"


class Path:
    """A sender and whoever it sends to; `refuse` stands between it and the kernel. `now` is the sender's clock.

    The kernel takes `most` datagrams with one call when it is to send several, each by itself.
    """

    def __init__(self, sock: socket.socket, peer: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1e6
        self.refuse: Refuse = lambda _: 0
        self.calls = 0
        self.most = ROOM
        self.too_long: list[int] = []  # sizes that the sender was told are
        self.counts = memoryview(bytearray(GROUP * 8)).cast("Q")
        self._numbers = count()
        monkeypatch.setattr(send, "time", SimpleNamespace(monotonic=lambda: self.now))
        self._arena = Arena(ROOM)
        self._sender = Sender(sock, self._arena, self.counts, True, self.too_long.append)
        self._sender.out = _Refusing(self, sock, self._arena)
        self.sock, self._peer = sock, peer
        peer.setblocking(False)
        address, port = peer.getsockname()
        self._sockaddr = endpoint.Endpoint(ipaddress.ip_address(address), port).raw(sock.family)

    def refusal(self, *, train: bool) -> int:
        """What the kernel says to the next call: 0 or -errno."""
        self.calls += 1
        return -self.refuse(train)

    def send(self, *sizes: int, length: int = 10) -> list[bytes]:
        """Send a train of each size, and return their datagrams."""
        sent = []
        for size in sizes:
            datagrams = [next(self._numbers).to_bytes(4) + bytes(size - 4) for _ in range(length)]
            self._sender.send(lay(self._arena, datagrams), self._sockaddr)
            sent += datagrams
        return sent

    def keepalive(self, datagram: bytes) -> bool:
        """Send a keepalive; whether the kernel took it."""
        return self._sender.single(lay(self._arena, [datagram]), self._sockaddr)

    def came(self) -> list[bytes]:
        """What has come to the other end, at once."""
        found = []
        while True:
            try:
                found.append(self._peer.recv(1 << 16))
            except BlockingIOError:
                return found

    @property
    def drops(self) -> dict[str, int]:
        """Reason to count."""
        found = {drop.name: self.counts[Count.DROPPED + drop] for drop in Drop}
        return {name: number for name, number in found.items() if number}


class _Refusing(Outgoing):
    """The socket of a path."""

    def __init__(self, path: Path, sock: socket.socket, arena: Arena) -> None:
        super().__init__(sock, arena)
        self._path = path

    def send(self, at: int, length: int, segment: int) -> int:
        return self._path.refusal(train=segment > 0) or super().send(at, length, segment)

    def send_each(self, at: int, size: int, step: int, count: int, last: int) -> int:
        if count > self._path.most:
            count, last = self._path.most, size
        return self._path.refusal(train=False) or super().send_each(at, size, step, count, last)


def lay(arena: Arena, datagrams: list[bytes], at: int = 0) -> Train:
    """Put datagrams into an arena, back to back: all of one size but the last, which may be shorter."""
    arena.put(at, b"".join(datagrams))
    train = Train()
    train.at, train.count = at, len(datagrams)
    train.size = train.step = len(datagrams[0])
    train.last = len(datagrams[-1])
    return train


@contextmanager
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A path within this host."""
    with udp_socket.open_socket("127.0.0.1", 0) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        roomy(peer).bind(("127.0.0.1", 0))
        yield Path(sock, peer, monkeypatch)


def notes(capfd: pytest.CaptureFixture[str]) -> int:
    """How many lines about trains the log has got since the last look."""
    return capfd.readouterr().err.count(NOTE)


def most_segments() -> int:
    """How many datagrams a train may have on this kernel (UDP_MAX_SEGMENTS in linux/udp.h)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for most in (128, 64):
            try:
                sock.sendmsg([bytes(2 * most)], [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", 2))], 0, ("127.0.0.1", 9))
            except OSError:
                continue
            return most
    pytest.skip("this kernel has no UDP segmentation")
