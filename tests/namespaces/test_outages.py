"""What goes away comes back: routes, links, taps and peers; and what strangers send changes nothing."""

import random
import signal
import socket
from collections.abc import Iterator

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


def test_traffic_flows_again_when_the_route_is_back(lab: Lab) -> None:
    with joined(lab.left, lab.right) as tunnels:
        lab.left.route("del", "10.213.0.0/24")
        assert not ping(lab.left, RIGHT)
        wait_dropped(tunnels[0], "outbound", "unreachable")
        lab.left.route("add", "10.213.0.0/24")
        wait_ping(lab.left, RIGHT)
        bulk(lab.left, lab.right, RIGHT, size=1 << 20)
        assert unharmed(*tunnels)


def test_traffic_flows_again_when_the_underlay_is_up(lab: Lab) -> None:
    with joined(lab.left, lab.right) as tunnels:
        lab.left.link("eth0", state="down")
        assert not ping(lab.left, RIGHT)
        wait_dropped(tunnels[0], "outbound", "unreachable")
        lab.left.link("eth0", state="up")
        wait_ping(lab.left, RIGHT)
        bulk(lab.right, lab.left, LEFT, size=1 << 20)
        assert unharmed(*tunnels)


def test_traffic_flows_again_when_the_tap_is_up(lab: Lab) -> None:
    with joined(lab.left, lab.right) as tunnels:
        lab.right.link("tap0", state="down")
        assert not ping(lab.left, RIGHT)
        wait_dropped(tunnels[1], "inbound", "tap_down")
        lab.right.link("tap0", state="up")
        wait_ping(lab.left, RIGHT)
        bulk(lab.left, lab.right, RIGHT, size=1 << 20)
        assert unharmed(*tunnels)


@pytest.mark.parametrize("leaves", ["client", "server"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
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


def test_a_firewall_of_this_host_may_come_and_go(lab: Lab) -> None:
    with joined(lab.left, lab.right) as tunnels:
        lab.left.run(["ip", "route", "add", "prohibit", lab.right.ipv4])
        assert not ping(lab.left, RIGHT)
        wait_dropped(tunnels[0], "outbound", "not_permitted")
        lab.left.run(["ip", "route", "del", "prohibit", lab.right.ipv4])
        wait_ping(lab.left, RIGHT)
        assert unharmed(*tunnels)


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


@pytest.mark.parametrize("victim", ["left", "right"])
def test_a_live_tunnel_cannot_be_stolen(street: Lab, victim: str) -> None:
    left, right, thief = street.left, street.right, street["thief"]
    with joined(left, right) as (client, server):
        stolen = client if victim == "left" else server
        peers = client.stats()["peer"], server.stats()["peer"]
        sent = loot()
        with thief.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((thief.ipv4, 1234))
            for datagram in sent:
                sock.sendto(datagram, (street[victim].ipv4, 1234))
            wait_dropped(stolen, "inbound", "stranger", len(sent))
            assert ping(left, RIGHT)
            bulk(left, right, RIGHT, size=1 << 20)
            bulk(right, left, LEFT, size=1 << 20)
            assert (client.stats()["peer"], server.stats()["peer"]) == peers
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):  # nor does the victim answer
                sock.recv(1)
        assert stolen.worker("inbound")["dropped"] == {"stranger": len(sent)}
        assert unharmed(client, server)
