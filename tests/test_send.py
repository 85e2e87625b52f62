"""What the kernel refuses: which trains go datagram by datagram then, for how long, and what is dropped as what."""

import errno
import ipaddress
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap import endpoint
from tap2tap.counters import Count, Drop
from tap2tap.endpoint import SockAddr
from tap2tap.lab import Host, Lab, wait_for
from tap2tap.memory import GROUP
from tap2tap.workers import udp
from tap2tap.workers.mmsg import Outgoing
from tap2tap.workers.train import Batch
from tap2tap.workers.udp import Sender
from tests import frames
from tests.conftest import lacking
from tests.lone import roomy
from tests.traffic import segment_size
from tests.tunnel import RIGHT, Tunnel, joined

Refuse = Callable[[bool], int]  # whether the call would send a train; the error of it, or 0

NOTE = "sending datagram by datagram"
SEND = Outgoing.send
FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
SO_NO_CHECK = 11  # asm-generic/socket.h
OURS = (errno.EBADF, errno.ENOTSOCK, errno.EFAULT)


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


# Faults on demand


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOPROTOOPT, errno.EPERM, errno.EPROTO]
)
def test_trains_that_are_refused_as_such_are_tried_again_after_seconds(
    number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tried = 0

    def refuse(train: bool) -> int:
        nonlocal tried
        tried += train
        return number if train and broken else 0

    with loopback(monkeypatch) as path:
        path.refuse, broken = refuse, True
        for _ in range(3):  # for longer and longer
            before = tried
            for _ in range(5):
                assert path.send(1000) == path.came()
            assert tried == before + 1
            path.now += udp.RETRY_AFTER
        assert notes(capfd) == 1
        broken = False
        before = tried
        for _ in range(5):
            assert path.send(1000) == path.came()
        assert tried == before + 5
        assert path.counts[Count.FALLBACKS] == 3
        assert not path.drops
        broken = True  # much later, it is news again
        path.now += 100 * udp.RETRY_AFTER
        assert path.send(1000) == path.came()
        assert notes(capfd) == 1


@pytest.mark.parametrize(
    ("number", "shorter"), [(errno.EMSGSIZE, True), (errno.EINVAL, True), (errno.EIO, False), (errno.EPERM, False)]
)
def test_shorter_datagrams_still_go_in_trains_where_length_was_the_reason(
    number: int, shorter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains = 0

    def refuse(train: bool) -> int:
        nonlocal trains
        trains += train
        return number if train and trains == 1 else 0

    with loopback(monkeypatch) as path:
        path.refuse = refuse
        for size, seen in ((1000, 1), (1000, 1), (900, 2 if shorter else 1)):
            assert path.send(size) == path.came()
            assert trains == seen


def test_where_single_datagrams_are_refused_too_it_was_not_the_train(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in {*errno.errorcode} - {*OURS, *FULL, errno.EINTR}:
        with loopback(monkeypatch) as path:
            path.refuse = lambda _, number=number: number  # type: ignore[misc]
            sent = path.send(1000, 1000)
            assert path.came() == []
            assert sum(path.drops.values()) == len(sent)
            assert path.calls <= 4
            path.refuse = lambda _: 0
            path.calls = 0
            assert path.send(1000, 1000) == path.came()
            assert path.calls == 1
            assert path.counts[Count.FALLBACKS] == 0
        monkeypatch.undo()
    assert notes(capfd) == 0


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EINVAL, Drop.UNREACHABLE),  # a blackhole
        (errno.EHOSTUNREACH, Drop.UNREACHABLE),
        (errno.ENETUNREACH, Drop.UNREACHABLE),
        (errno.ENETDOWN, Drop.UNREACHABLE),
        (errno.ENODEV, Drop.UNREACHABLE),
        (errno.EACCES, Drop.NOT_PERMITTED),
        (errno.EPERM, Drop.NOT_PERMITTED),
        (errno.ECONNREFUSED, Drop.REFUSED),
        (errno.EMSGSIZE, Drop.TOO_LONG),
        (errno.EPROTO, Drop.OTHER),
    ],
)
@pytest.mark.parametrize("length", [1, 10])
def test_drops_are_counted_by_their_reason(
    number: int, reason: Drop, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback(monkeypatch) as path:
        path.refuse = lambda _: number
        path.send(1000, length=length)
        assert path.drops == {reason.name: length}


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("trains", [True, False], ids=["trains", "datagrams"])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_what_follows_a_refusal_for_want_of_room_is_dropped_with_it(
    number: int, trains: bool, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback(monkeypatch) as path:
        if not trains:
            path.refuse = lambda train: errno.EIO if train else 0
            path.send(500)
            path.came()
        monkeypatch.setattr(path, "_sendmmsg", lambda messages, first, _: SEND(messages, first, first + 1))
        path.calls = 0
        path.refuse = lambda _: number if path.calls > before else 0
        sent = path.send(*[500] * 4)
        came = path.came()
        assert came == sent[: len(came)]
        assert len(came) == before * (10 if trains else 1)
        assert path.calls == before + 1
        assert path.drops == {"NO_BUFFERS": len(sent) - len(came)}


ERRORS = st.sampled_from((0, 0, 0, errno.EAGAIN, errno.EINTR, errno.EIO, errno.EINVAL, errno.EPERM, errno.EHOSTUNREACH))


@given(st.lists(st.tuples(ERRORS, st.integers(1, 8)), max_size=40), st.lists(st.integers(1, 4), min_size=1, max_size=4))
@settings(max_examples=100)
def test_whatever_calls_are_refused_all_is_sent_once_in_order_or_counted(
    outcomes: Sequence[tuple[int, int]], batches: Sequence[int]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch, loopback(monkeypatch) as path:
        script = iter(outcomes)
        most = 8

        def refuse(train: bool) -> int:
            nonlocal most
            number, most = next(script, (0, 8))
            return 0 if number == errno.EINTR and not train else number  # Python's own call sees to that

        path.refuse = refuse
        monkeypatch.setattr(
            path, "_sendmmsg", lambda messages, first, end: SEND(messages, first, min(end, first + most))
        )
        sent = [datagram for trains in batches for datagram in path.send(*[300] * trains)]
        came = path.came()
        left = iter(sent)
        assert all(datagram in left for datagram in came)  # a part of it, in its order
        assert len(came) + sum(path.drops.values()) == len(sent)


# Real refusals of trains by the kernel


@contextmanager
def between(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A path from the left host to the right one."""
    with ExitStack() as stack:
        with lab.left.inside():
            sock = stack.enter_context(endpoint.open_socket(lab.left.ipv4, 1234))
        peer = roomy(stack.enter_context(lab.right.socket(socket.AF_INET, socket.SOCK_DGRAM)))
        peer.bind((lab.right.ipv4, 1234))
        path = Path(sock, peer, monkeypatch)
        path.send(100)
        wait_for(path.came, what="neighbours")
        yield path


class Trouble(NamedTuple):
    """What makes the kernel refuse trains on a path from a host, and what ends that."""

    begin: Callable[[Host, Path], None]
    end: Callable[[Host, Path], None]


def nft(host: Host, *commands: str) -> None:
    """Have the firewall of a host changed."""
    try:
        for command in commands:
            host.run(["nft", *command.split()])
    except (OSError, subprocess.CalledProcessError) as error:
        lacking(f"nft: {error}")


def without_checksums(path: Path, *, on: bool) -> None:
    """Let the socket send without checksums, or not: EINVAL, whatever the length."""
    path.sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, on)


TROUBLES = {
    "mtu": Trouble(lambda left, _: left.link("eth0", mtu=900), lambda left, _: left.link("eth0", mtu=1500)),
    "firewall": Trouble(
        lambda left, _: nft(
            left,
            "add table inet t",
            "add chain inet t c { type filter hook output priority 0 ; }",
            "add rule inet t c meta length > 4000 drop",
        ),
        lambda left, _: nft(left, "delete table inet t"),
    ),
    "checksums": Trouble(
        lambda _, path: without_checksums(path, on=True), lambda _, path: without_checksums(path, on=False)
    ),
}


@pytest.mark.parametrize("kind", TROUBLES)
def test_trains_that_the_kernel_refuses_arrive_all_the_same_and_are_trains_again_later(
    lab: Lab, kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    trains = 0

    def count_trains(train: bool) -> int:
        nonlocal trains
        trains += train
        return 0

    with between(lab, monkeypatch) as path:
        path.refuse = count_trains

        def carried() -> bool:
            sent, came = path.send(1000), list[bytes]()

            def complete() -> bool:
                came.extend(path.came())
                return len(came) == len(sent)

            wait_for(complete, what="arrival of all")
            return came == sent

        assert carried()
        TROUBLES[kind].begin(lab.left, path)
        trains = 0
        for _ in range(4):
            assert carried()
        assert trains == 1
        assert path.counts[Count.FALLBACKS] == 1
        assert notes(capfd) == 1
        TROUBLES[kind].end(lab.left, path)
        path.now += udp.RETRY_AFTER
        for _ in range(4):
            assert carried()
        assert trains == 5
        assert path.counts[Count.FALLBACKS] == 1
        assert notes(capfd) == 0
        assert not path.drops


# The whole tunnel

ROUTES = {"blackhole": "unreachable", "unreachable": "unreachable", "prohibit": "not_permitted", "throw": "unreachable"}


def test_routes_come_and_go_under_a_tunnel_and_trains_stay(lab: Lab) -> None:
    with (
        joined(lab.left, lab.right, ipv6=False) as (client, _),
        lab.left.socket(socket.AF_INET, socket.SOCK_DGRAM) as out,
        roomy(lab.right.socket(socket.AF_INET, socket.SOCK_DGRAM)) as into,
    ):
        into.bind((RIGHT, 7777))
        into.settimeout(0.2)

        def arrives() -> bool:
            out.sendmsg([bytes(20_000)], segment_size(1000), 0, (RIGHT, 7777))
            try:
                return len(into.recv(1 << 16)) == 1000
            except TimeoutError:
                return False

        for kind, reason in ROUTES.items():
            wait_for(arrives, 30, "datagrams")
            lab.left.run(["ip", "route", "add", kind, lab.right.ipv4])
            most = drops(client).get(reason, 0) + 60
            while drops(client).get(reason, 0) < most:
                arrives()
            lab.left.run(["ip", "route", "del", kind, lab.right.ipv4])
        wait_for(arrives, 30, "datagrams")
        outbound = client.worker("outbound")
        assert set(outbound["dropped"]) == {"unreachable", "not_permitted"}
        assert (outbound["restarts"], outbound["fallbacks"]) == (0, 0)
        assert not client.said("datagram by datagram")


def drops(tunnel: Tunnel) -> dict[str, int]:
    """What the outbound worker has dropped."""
    found: dict[str, int] = tunnel.worker("outbound")["dropped"]
    return found
