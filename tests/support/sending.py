"""A sender with a test between it and the kernel, and with a clock of the test's."""

import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace

import pytest

from tap2tap import endpoint
from tap2tap.counters import Count, Drop
from tap2tap.endpoint import SockAddr
from tap2tap.memory import GROUP
from tap2tap.workers import udp
from tap2tap.workers.mmsg import Outgoing
from tap2tap.workers.train import Batch
from tap2tap.workers.udp import Sender
from tests.support import frames
from tests.support.lone import roomy

Refuse = Callable[[bool], int]  # whether the call would send a train; the error of it, or 0

NOTE = "sending datagram by datagram"


class Path:
    """A sender and whoever it sends to; `refuse` stands between it and the kernel. `now` is the sender's clock."""

    def __init__(self, sock: socket.socket, peer: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1e6
        self.refuse: Refuse = lambda _: 0
        self.calls = 0
        self.counts = memoryview(bytearray(GROUP * 8)).cast("Q")
        self._numbers = count()
        monkeypatch.setattr(udp, "time", SimpleNamespace(monotonic=lambda: self.now))
        self._sendmmsg = Outgoing.send
        monkeypatch.setattr(Outgoing, "send", lambda *call: self._send(*call))
        self._sender = Sender(sock, self.counts, segment=True)
        self._sendto = self._sender._sendto
        monkeypatch.setattr(self._sender, "_sendto", self._send_one)
        self.sock, self._peer = sock, peer
        peer.setblocking(False)
        address, port = peer.getsockname()
        self._sockaddr = endpoint.Endpoint(ipaddress.ip_address(address), port).raw(sock.family)

    def _check(self, train: bool) -> None:
        self.calls += 1
        number = self.refuse(train)
        if number:
            raise OSError(number, os.strerror(number))

    def _send(self, messages: Outgoing, first: int, end: int) -> int:
        self._check(
            train=bool(messages._segments[first * len(messages._segments) // len(messages) + socket.CMSG_LEN(0) // 2])
        )
        return self._sendmmsg(messages, first, end)

    def _send_one(self, data: memoryview, flags: int, name: SockAddr) -> None:
        assert flags & socket.MSG_DONTWAIT
        self._check(train=False)
        self._sendto(data, flags, name)

    def send(self, *sizes: int, length: int = 10) -> list[bytes]:
        """Send a batch of one train of each size, and return its datagrams."""
        trains = [[next(self._numbers).to_bytes(4) + bytes(size - 4) for _ in range(length)] for size in sizes]
        self._sender.send(frames.load(Batch(), *trains), self._sockaddr)
        return [datagram for train in trains for datagram in train]

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


@contextmanager
def loopback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A path within this host."""
    with endpoint.open_socket("127.0.0.1", 0) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        roomy(peer).bind(("127.0.0.1", 0))
        yield Path(sock, peer, monkeypatch)


def notes(capfd: pytest.CaptureFixture[str]) -> int:
    """How many lines about trains the log has got since the last look."""
    return capfd.readouterr().err.count(NOTE)
