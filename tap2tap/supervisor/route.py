"""The path to the peer as the kernel's routes know it, for the plain protocol, which asks nobody else.

What is longer goes out in IP fragments all the same: that is how the plain protocol carries it. But TCP need not pay
for that, and whoever can choose another MTU is told once.
"""

import socket
from collections.abc import Callable
from contextlib import suppress

from tap2tap import clock, device, endpoint, log, udp_socket
from tap2tap.counters import Count, Slot
from tap2tap.endpoint import HEADERS, Endpoint
from tap2tap.supervisor import netlink
from tap2tap.supervisor.loop import next_second
from tap2tap.supervisor.ways import way
from tap2tap.workers.worker import Cable

IP_MTU, IPV6_MTU = 14, 24  # linux/in.h, linux/in6.h
UNKNOWN = 1500  # the MTU of most paths
MAX_PAYLOAD = 65507  # bytes of UDP over IPv4


def path_mtu(peer: Endpoint, sock: socket.socket) -> int:
    """The MTU of the route to `peer` from the local address of `sock`; UNKNOWN where there is none."""
    local = endpoint.from_sockaddr(sock.getsockname())
    family = socket.AF_INET if peer.address.version == 4 else socket.AF_INET6
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as other:
        try:
            udp_socket.restrict(other, udp_socket.mark_of(sock) or None, udp_socket.bound_device(sock) or None)
        except PermissionError:  # the privilege of marking went when the tunnel had begun
            found = way(sock, peer)
            link = None if found.mtu else netlink.link(found.interface)
            return found.mtu or (link.mtu if link else UNKNOWN)
        if not local.address.is_unspecified:  # routes may go by it
            other.bind(local._replace(port=0).sockaddr(family))
        other.connect(peer.sockaddr(family))
        option = (socket.IPPROTO_IP, IP_MTU) if family == socket.AF_INET else (socket.IPPROTO_IPV6, IPV6_MTU)
        return other.getsockopt(*option)
    return UNKNOWN


def measure(cable: Cable) -> tuple[int, int]:
    """Enter what one datagram to the peer may hold, Slot.PATH; return it, and the bytes of the headers around it."""
    slots = cable.memory.slots
    peer = endpoint.load(slots, Slot.PEER)
    headers = HEADERS[peer.address.version if peer else udp_socket.version(cable.sock, None)]
    payload = max(0, min((path_mtu(peer, cable.sock) if peer else UNKNOWN) - headers, MAX_PAYLOAD))
    slots[Slot.PATH] = payload
    return payload, headers


class Route:
    """Measures now and then, and tells once that frames go in fragments."""

    def __init__(self, cable: Cable) -> None:
        self.due = next_second(clock.now())
        self.waiting: dict[int, Callable[[], None]] = {}
        self._cable = cable
        self._told = False

    def look(self) -> None:
        """Measure again: the peer, the routes, and what ICMP has told of them may have changed."""
        self.due = next_second(clock.now())
        payload, headers = measure(self._cable)
        if self._cable.memory.outbound[Count.PARTS] and not self._told:
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
