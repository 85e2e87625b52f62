"""The route that datagrams of a socket take, as the kernel tells it: by mark, device, source, and zone."""

import ipaddress
import socket

import pytest

from tap2tap import udp_socket
from tap2tap.demo.lab import Lab
from tap2tap.endpoint import Endpoint
from tap2tap.supervisor import plain_path
from tap2tap.supervisor.routes import NO_ROUTE, route_to

FAR = Endpoint(ipaddress.ip_address("198.51.100.7"), 1234)
MARK = 0x80000005


@pytest.fixture
def routes(lab: Lab) -> Lab:
    """The left host reaches FAR by a mark alone."""
    lab.left.run(["ip", "rule", "add", "fwmark", hex(MARK), "table", "55"])
    lab.left.run(["ip", "route", "add", "198.51.100.0/24", "via", lab.right.ipv4, "mtu", "1290", "table", "55"])
    return lab


def test_a_route_may_be_there_for_a_mark_alone(routes: Lab) -> None:
    with routes.left.inside(), udp() as plain, udp() as marked:
        with pytest.raises(OSError) as caught:
            route_to(plain, FAR)
        assert caught.value.errno in NO_ROUTE
        udp_socket.restrict(marked, MARK, None)
        assert route_to(marked, FAR) == (socket.if_nametoindex("eth0"), 1290)
        assert plain_path.path_mtu(FAR, marked) == 1290
        assert plain_path.path_mtu(near(routes), marked) == 1500


def udp() -> socket.socket:
    """A socket as a tunnel has it."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.bind(("::", 0))
    return sock


def near(lab: Lab) -> Endpoint:
    """The right host."""
    return Endpoint(ipaddress.ip_address(lab.right.ipv4), 1234)


def test_a_route_to_nowhere_is_none(lab: Lab) -> None:
    with lab.left.inside(), udp() as sock:
        for number, kind in enumerate(("blackhole", "unreachable", "prohibit")):
            for target in (f"203.0.113.{number}", f"2001:db8::{number}"):
                lab.left.run(["ip", "route", "add", kind, target])
                with pytest.raises(OSError) as caught:
                    route_to(sock, Endpoint(ipaddress.ip_address(target), 1234))
                assert caught.value.errno in NO_ROUTE


def test_an_interface_may_be_asked_for(lab: Lab) -> None:
    lab.left.run(["ip", "link", "add", "other", "type", "veth", "peer", "name", "end"])
    lab.left.link("other", state="up")
    lab.left.link("end", state="up")
    lab.left.address("other", "fe80::5/64")
    eth0, other = lab.left.index("eth0"), lab.left.index("other")
    zoned = Endpoint(ipaddress.ip_address("fe80::7"), 1234, other)
    with lab.left.inside(), udp() as sock, udp() as bound:
        assert route_to(sock, near(lab)).interface == eth0
        assert route_to(sock, zoned).interface == other
        udp_socket.restrict(bound, None, "other")
        assert route_to(bound, near(lab)).interface == other
