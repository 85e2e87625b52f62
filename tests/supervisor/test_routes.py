"""What is made of the routes to the peer: told once, and the peer is called when there is one."""

import errno
import ipaddress
import os
import socket
from collections.abc import Iterator

import pytest

from tap2tap import clock, device, endpoint, memory
from tap2tap.counters import Count, Link, Slot
from tap2tap.endpoint import Endpoint
from tap2tap.supervisor import netlink, routes
from tap2tap.supervisor.netlink import Route
from tap2tap.supervisor.routes import LOOKS, LOOKS_OF_SESSION, STORM, Routes
from tap2tap.workers.worker import Cable

PEER = Endpoint(ipaddress.ip_address("192.0.2.1"), 1234)
OTHER = Endpoint(ipaddress.ip_address("2001:db8::1"), 1234)
TAP, ETHERNET = 7, 2  # indexes


class World:
    """Ways in a world of routes that a test changes: from a peer to an interface, or 0, none."""

    def __init__(self, patch: pytest.MonkeyPatch, sock: socket.socket, known: list[Endpoint]) -> None:
        self.routes = dict.fromkeys(known, ETHERNET)
        self.woken = 0
        self.carrier = [True]
        self.memory = memory.create()
        patch.setattr(routes, "route_to", self._route_to)
        patch.setattr(device, "name_and_mac", lambda _: ("tap0", b"mac"))
        patch.setattr(device, "set_carrier", lambda _, *, on: self.carrier.append(on))
        patch.setattr(netlink, "link", lambda **_: netlink.Link(TAP, "tap0", b"mac", 1500, 0, "tun"))
        cable = Cable("tap0", -1, sock, self.memory, 1500, True, 0, True, True, True, True)
        self.bound = True
        self.watched = Routes(cable, lambda: known, self._wake, lambda: self.bound)

    def _route_to(self, _: socket.socket, peer: Endpoint) -> Route:
        if not self.routes[peer]:
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
        return Route(self.routes[peer], 0)

    def _wake(self) -> None:
        self.woken += 1

    def look(self, times: int = 3, frames: int = 0) -> int:
        """Look some times; how often the peer was called meanwhile."""
        before = self.woken
        for _ in range(times):
            self.memory.outbound[Count.FRAMES] += frames
            self.watched.look()
        return self.woken - before


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """With two candidates."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        yield World(monkeypatch, sock, [PEER, OTHER])


def test_a_route_that_comes_is_a_reason_to_call(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.routes = {PEER: 0, OTHER: 0}
    assert world.look() == 0
    world.routes[OTHER] = ETHERNET
    assert world.look() == 1
    world.routes[PEER] = ETHERNET
    assert world.look() == 1
    said = capfd.readouterr().err.splitlines()
    assert [line.split("remote=")[1] for line in said] == [str(PEER), str(OTHER)]
    assert "no route to the peer, waiting for one" in said[0]


def test_a_peer_that_is_heard_without_a_route_to_it_is_told_once(
    world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    endpoint.store(world.memory.slots, Slot.PEER, PEER)
    world.routes = {PEER: 0, OTHER: 0}
    for heard in (0, clock.now_ns(), 0):
        world.memory.slots[Slot.PEER_HEARD] = heard
        world.look()
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_one_route_of_several_is_enough(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.routes[PEER] = 0
    assert world.look() == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("link", [Link.NONE, Link.UP])
def test_a_peer_that_is_there_is_called_elsewhere_when_there_is_no_route(
    world: World, capfd: pytest.CaptureFixture[str], link: Link
) -> None:
    """Once, and once more when it can be where it was."""
    endpoint.store(world.memory.slots, Slot.PEER, PEER)
    world.memory.slots[Slot.LINK] = link
    world.memory.slots[Slot.PEER_HEARD] = clock.now_ns()
    world.routes[OTHER] = 0
    assert world.look() == 0
    world.routes[OTHER] = ETHERNET
    assert world.look() == 0
    for interface in (0, ETHERNET):
        world.routes[PEER] = interface
        assert world.look(1) == 1
        assert world.look() == 0
    assert capfd.readouterr().err == ""


def test_a_session_without_a_route_is_told_of_while_it_lasts(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    endpoint.store(world.memory.slots, Slot.PEER, PEER)
    world.memory.slots[Slot.LINK] = Link.UP
    world.routes = {PEER: 0, OTHER: 0}
    assert world.look(LOOKS_OF_SESSION - 1) == 0
    assert capfd.readouterr().err == ""
    assert world.look() == 0
    assert capfd.readouterr().err.count("no route to the peer") == 1
    world.routes[OTHER] = ETHERNET
    assert world.look() == 1
    assert capfd.readouterr().err.count("there is a route to the peer") == 1


def test_what_is_over_soon_is_not_told(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """As of an address that is tentative yet."""
    for interface in (0, ETHERNET, 0, ETHERNET):
        world.routes = {PEER: interface, OTHER: interface}
        world.look(LOOKS - 1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("link", [Link.NONE, Link.UP])
def test_a_route_into_our_own_tap_is_told_once(world: World, capfd: pytest.CaptureFixture[str], link: Link) -> None:
    world.memory.slots[Slot.LINK] = link
    endpoint.store(world.memory.slots, Slot.PEER, PEER)
    world.look()
    assert capfd.readouterr().err == ""
    world.routes[PEER] = TAP
    world.look()
    (line,) = capfd.readouterr().err.splitlines()
    assert all(word in line for word in ("192.0.2.1", "ip route add", "--device", "--mark"))
    world.routes[PEER] = ETHERNET
    world.look()
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("link", [Link.NONE, Link.UP, Link.DOWN])
def test_a_loop_is_cut_and_what_is_no_loop_is_not(world: World, link: Link) -> None:
    world.memory.slots[Slot.LINK] = link
    endpoint.store(world.memory.slots, Slot.PEER, PEER)
    world.look(frames=10 * STORM)
    world.routes[PEER] = TAP
    world.look(frames=STORM // 10)
    assert world.carrier == [True]
    world.look(1, frames=STORM)
    assert world.carrier == [True, False]
    world.look(1)
    world.routes[PEER] = ETHERNET
    assert world.look() == 1
    assert world.carrier[2:] == ([True] if link is Link.NONE else []), "with a key the link plugs it in, who is called"


def test_where_much_comes_in_the_route_is_another_one_than_it_seems(world: World) -> None:
    """As with a firewall that marks, and so reroutes, what has left the socket."""
    world.routes[PEER] = TAP
    for _ in range(3):
        world.memory.inbound[Count.DATAGRAMS] += STORM
        world.look(1, frames=STORM)
    assert world.carrier == [True]


def test_a_stand_in_for_the_socket_has_no_routes(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.bound = False
    world.routes = {PEER: 0, OTHER: 0}
    world.look()
    assert capfd.readouterr().err == ""
