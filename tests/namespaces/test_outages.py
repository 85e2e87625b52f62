"""What goes away comes back: routes, links, taps and peers; and what strangers send changes nothing."""

import random
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tap2tap.demo.lab import Lab, wait_for
from tests.conftest import lacking
from tests.support import frames
from tests.support.traffic import bulk
from tests.support.tunnel import LEFT, RIGHT, Tunnel, address, joined, ping, wait_ping


def wait_dropped(tunnel: Tunnel, direction: str, reason: str, at_least: int = 1) -> None:
    """Wait until a worker has dropped something for this reason."""

    def dropped() -> bool:
        return bool(tunnel.worker(direction)["dropped"].get(reason, 0) >= at_least)

    wait_for(dropped, 20, f"{reason} at the {direction} worker")


def unharmed(*tunnels: Tunnel) -> bool:
    """Whether all workers are still the first ones."""
    return not any(worker["restarts"] for tunnel in tunnels for worker in tunnel.stats()["workers"].values())


def test_traffic_flows_again_when_route_underlay_tap_and_permission_are_back(lab: Lab) -> None:
    with joined(lab.left, lab.right) as tunnels:
        client, server = tunnels
        with outage(lab, client, "outbound", "unreachable"):
            lab.left.route("del", "10.213.0.0/24")
        lab.left.route("add", "10.213.0.0/24")
        flows_again(lab, tunnels)
        with outage(lab, client, "outbound", "unreachable"):
            lab.left.link("eth0", state="down")
        lab.left.link("eth0", state="up")
        flows_again(lab, tunnels)
        with outage(lab, server, "inbound", "tap_down"):
            lab.right.link("tap0", state="down")
        lab.right.link("tap0", state="up")
        flows_again(lab, tunnels)
        with outage(lab, client, "outbound", "not_permitted"):
            lab.left.run(["ip", "route", "add", "prohibit", lab.right.ipv4])
        lab.left.run(["ip", "route", "del", "prohibit", lab.right.ipv4])
        flows_again(lab, tunnels)


@contextmanager
def outage(lab: Lab, tunnel: Tunnel, direction: str, reason: str) -> Iterator[None]:
    """What is done within lets nothing pass, and a worker counts that with its reason."""
    before = tunnel.worker(direction)["dropped"].get(reason, 0)
    yield
    assert not ping(lab.left, RIGHT)
    wait_dropped(tunnel, direction, reason, before + 1)


def flows_again(lab: Lab, tunnels: tuple[Tunnel, Tunnel]) -> None:
    """Wait until it does, both ways."""
    wait_ping(lab.left, RIGHT)
    bulk(lab.left, lab.right, RIGHT, size=1 << 19)
    bulk(lab.right, lab.left, LEFT, size=1 << 19)
    assert unharmed(*tunnels)


@pytest.mark.parametrize(("leaves", "number"), [("client", signal.SIGKILL), ("server", signal.SIGTERM)])
def test_a_peer_may_go_and_come_back(lab: Lab, leaves: str, number: signal.Signals) -> None:
    def client() -> Tunnel:
        return Tunnel(lab.left, "--remote", lab.right.ipv4)

    def server() -> Tunnel:
        return Tunnel(lab.right)

    with server() as right, client() as left:
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        going, staying, host = (left, right, lab.left) if leaves == "client" else (right, left, lab.right)
        going.stop(number)
        wait_for(lambda: not host.has_link("tap0"), what="end of the tap")
        other, target = (lab.right, LEFT) if leaves == "client" else (lab.left, RIGHT)
        assert not ping(other, target)  # nobody listens, and the kernel says so
        with client() if leaves == "client" else server():
            host.address("tap0", f"{LEFT if leaves == 'client' else RIGHT}/24")
            # A tap made anew has another MAC address, which the other end learns when it asks again.
            other.run(["ip", "neighbour", "flush", "dev", "tap0"])
            wait_ping(other, target)
            bulk(lab.left, lab.right, RIGHT, size=1 << 20)
        assert unharmed(staying)


@pytest.fixture
def street() -> Iterator[Lab]:
    """Two hosts and a thief on one switch."""
    try:
        made = Lab(("left", "right", "thief"), switch=True)
    except PermissionError as error:
        lacking(str(error))
    with made:
        yield made


def loot() -> list[bytes]:
    """What a thief would send: rubbish, and frames that look right."""
    noise = random.Random(1)
    rubbish = [noise.randbytes(size) for size in (14, 60, 500, 1472)]
    return [*rubbish, *frames.segments(frames.Flow(), frames.payload(10_000), 1400), b""]


def test_a_live_tunnel_cannot_be_stolen(street: Lab) -> None:
    left, right, thief = street.left, street.right, street["thief"]
    with joined(left, right) as tunnels:
        peers = [tunnel.stats()["peer"] for tunnel in tunnels]
        sent = loot()
        with thief.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((thief.ipv4, 1234))
            for tunnel in tunnels:
                for datagram in sent:
                    sock.sendto(datagram, (tunnel.host.ipv4, 1234))
                wait_dropped(tunnel, "inbound", "stranger", len(sent))
            assert ping(left, RIGHT)
            bulk(left, right, RIGHT, size=1 << 20)
            bulk(right, left, LEFT, size=1 << 20)
            assert [tunnel.stats()["peer"] for tunnel in tunnels] == peers
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):  # nor does a victim answer
                sock.recv(1)
        for tunnel in tunnels:
            assert tunnel.worker("inbound")["dropped"] == {"stranger": len(sent)}
        assert unharmed(*tunnels)
