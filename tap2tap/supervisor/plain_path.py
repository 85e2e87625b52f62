"""The path to the peer as the kernel's routes know it, for the plain protocol, which asks nobody else.

What is longer goes out in IP fragments all the same: that is how the plain protocol carries it. But TCP need not pay
for that, and whoever can choose another MTU is told once.
"""

import socket
from contextlib import suppress

from tap2tap import clock, device, endpoint, log, udp_socket
from tap2tap.counters import Count, Slot
from tap2tap.endpoint import HEADERS, Endpoint
from tap2tap.supervisor import netlink
from tap2tap.supervisor.loop import Part, next_second
from tap2tap.supervisor.routes import Routes, route_to
from tap2tap.workers.worker import Cable

UNKNOWN = 1500  # the MTU of most paths
MAX_PAYLOAD = 65507  # bytes of UDP over IPv4


def path_mtu(peer: Endpoint, sock: socket.socket) -> int:
    """The MTU of the route that datagrams of `sock` to `peer` take; UNKNOWN where there is none."""
    with suppress(OSError):
        found = route_to(sock, peer)
        link = None if found.mtu else netlink.link(found.interface)
        return found.mtu or (link.mtu if link else UNKNOWN)
    return UNKNOWN


def measure(cable: Cable) -> tuple[int, int]:
    """Enter what one datagram to the peer may hold, Slot.PATH; return it, and the bytes of the headers around it."""
    slots = cable.memory.slots
    peer = endpoint.load(slots, Slot.PEER)
    headers = HEADERS[peer.address.version if peer else udp_socket.version(cable.sock, None)]
    payload = max(0, min((path_mtu(peer, cable.sock) if peer else UNKNOWN) - headers, MAX_PAYLOAD))
    slots[Slot.PATH] = payload
    return payload, headers


class PlainPath(Part):
    """Measures now and then, and tells once that frames go in fragments.

    Not while the route leads into the tunnel itself, which is told elsewhere: then datagrams come back as frames, too
    long all of them.
    """

    def __init__(self, cable: Cable, routes: Routes) -> None:
        self.due = next_second(clock.now())
        self._cable = cable
        self._routes = routes
        self._told = False
        self._parts = 0  # that frames have gone in so far, and were no reason to tell it

    def look(self) -> None:
        """Measure again: the peer, the routes, and what ICMP has told of them may have changed."""
        self.due = next_second(clock.now())
        parts = self._cable.memory.outbound[Count.PARTS]
        if self._routes.loops:
            self._parts = parts
            return
        payload, headers = measure(self._cable)
        if parts != self._parts and not self._told:
            self._told = True
            self._warn(payload, headers)

    def _warn(self, payload: int, headers: int) -> None:
        fits = payload - device.ETHERNET_HEADER
        if self._cable.mtu <= fits:  # the tap is small enough but for tags
            fits -= device.VLAN_TAGS
        log.warning(
            f"frames are too long for the path and go in IP fragments: --mtu {fits} avoids that, and --key does",
            interface=self._cable.name,
            mtu=self._cable.mtu,
            path_mtu=payload + headers,
        )
