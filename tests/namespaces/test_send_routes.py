"""Trains that the kernel refuses for real, and routes that come and go under a tunnel."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest

from tap2tap import udp_socket
from tap2tap.counters import Count
from tap2tap.demo.lab import Host, Lab, wait_for
from tap2tap.workers.send import RETRY_AFTER
from tests.support.lone import roomy
from tests.support.nft import nft
from tests.support.sending import Path, notes
from tests.support.traffic import segment_size
from tests.support.tunnel import RIGHT, Tunnel, joined

SO_NO_CHECK = 11  # asm-generic/socket.h


@contextmanager
def between(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A path from the left host to the right one."""
    with ExitStack() as stack:
        with lab.left.inside():
            sock = stack.enter_context(udp_socket.open_socket(lab.left.ipv4, 1234))
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
        path.now += RETRY_AFTER
        for _ in range(4):
            assert carried()
        assert trains == 5
        assert path.counts[Count.FALLBACKS] == 1
        assert notes(capfd) == 0
        assert not path.drops


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
