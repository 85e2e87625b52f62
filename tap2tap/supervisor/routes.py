"""Watching over the route to the peer: there may be none yet, or one that leads into the tunnel itself.

The kernel is asked as it would decide for the socket: with its mark, its device and its address.
"""

import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from tap2tap import clock, device, endpoint, log, udp_socket
from tap2tap.counters import Count, Link, Slot
from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.limits import ROUND
from tap2tap.supervisor import netlink
from tap2tap.supervisor.loop import Part, next_second
from tap2tap.workers.worker import Cable

SILENCE = 5.0  # seconds in which the plain protocol has heard nothing
MOST = ROUND  # addresses that are asked for: as many as the link calls together
NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)  # EINVAL: a blackhole
STORM = 1000  # frames a second that go out while next to nothing comes in
# Looks without any route before that is told: an address is tentative for up to two seconds when it is new (RFC 4862,
# 5.4), and a session outlives an interface that comes back soon.
LOOKS, LOOKS_OF_SESSION = 3, 5


def route_to(sock: socket.socket, peer: Endpoint) -> netlink.Route:
    """The route that datagrams of `sock` to `peer` take. Raises OSError: one of NO_ROUTE when there is none."""
    here, name = endpoint.from_sockaddr(sock.getsockname()), udp_socket.bound_device(sock)
    source = None if here.address.is_unspecified or here.address.version != peer.address.version else here.address
    interface = peer.scope or (socket.if_nametoindex(name) if name else 0)
    return netlink.route(peer, here.port, source, udp_socket.mark_of(sock), interface, os.fstat(sock.fileno()).st_uid)


class Routes(Part):
    """`known` tells where the peer may be; `wake` is called when there is a route again, or only another one.

    `bound` tells whether the socket is bound: what it is to be bound to is waited for elsewhere. `loops` of this object
    tells whether the last look has found a route that leads into the tunnel itself.
    """

    def __init__(
        self,
        cable: Cable,
        known: Callable[[], Sequence[Endpoint]],
        wake: Callable[[], None],
        bound: Callable[[], bool],
    ) -> None:
        self.due = next_second(clock.now())
        self._cable = cable
        self._known = known
        self._wake = wake
        self._bound = bound
        self._none: set[Endpoint] = set()  # to which there was no route
        self._looks = 0  # since there was one
        self.loops = self._waits = self._unplugged = False
        self._other = 0  # the index of an interface that is not our tap
        self._frames = self._datagrams = 0

    def look(self) -> None:
        """Ask the kernel, and tell once what is wrong and that it is right again."""
        self.due = next_second(clock.now())
        if not self._bound():
            return
        slots = self._cable.memory.slots
        peer = endpoint.load(slots, Slot.PEER)
        there = [peer.from_anywhere] if peer else []
        heard = self._heard(slots)
        routes = {each: self._ask(each) for each in there}
        if not heard or None in routes.values():
            others = [each for each in self._known() if each not in there]
            routes.update({each: self._ask(each) for each in others[: MOST - len(there)]})
        self._loop([each for each, found in routes.items() if found and self._is_tap(found.interface)])
        reached = [each for each, found in routes.items() if found]
        gained = not self._none.isdisjoint(reached)
        lost = heard and any(routes[each] is None and each not in self._none for each in there)
        self._none = {*routes}.difference(reached)
        self._tell([*routes], reached, LOOKS_OF_SESSION if heard else LOOKS)
        if gained or (lost and reached):
            self._wake()

    def _tell(self, peers: Sequence[Endpoint], reached: Sequence[Endpoint], patience: int) -> None:
        """Tell once that there is no route to any of these for so many looks, and that there is one again."""
        self._looks = 0 if reached or not peers else self._looks + 1
        if self._looks >= patience and not self._waits:
            self._waits = True
            log.warning("no route to the peer, waiting for one (ip route get tells more)", remote=peers[0])
        elif self._waits and reached:
            self._waits = False
            log.info("there is a route to the peer", remote=reached[0])

    def _heard(self, slots: memoryview) -> bool:
        """Whether the peer is there, as far as is known."""
        if slots[Slot.LINK]:
            return bool(slots[Slot.LINK] == Link.UP)
        return bool(clock.now() - slots[Slot.PEER_HEARD] / 1e9 < SILENCE)

    def _ask(self, peer: Endpoint) -> netlink.Route | None:
        """The route, None when there is none; one to nowhere if the kernel does not tell."""
        try:
            return route_to(self._cable.sock, peer)
        except OSError as error:
            return None if error.errno in NO_ROUTE else netlink.Route(0, 0)

    def _is_tap(self, interface: int) -> bool:
        """Whether this is the index of our tap, which may have been moved, or renamed, as far as the kernel tells."""
        if interface in (0, self._other):
            return False
        with suppress(OSError):
            name, mac = device.name_and_mac(self._cable.tap)
            found = netlink.link(name=name)
            if found and found.number == interface and found.address == mac:
                return True
            self._other = interface
        return False

    def _loop(self, peers: Sequence[Endpoint]) -> None:
        """Tell that datagrams to these come back as frames, and plug the cable out once they do so in great number."""
        frames, datagrams = self._cable.memory.outbound[Count.FRAMES], self._cable.memory.inbound[Count.DATAGRAMS]
        storm = frames - self._frames >= STORM and (datagrams - self._datagrams) * 100 < frames - self._frames
        self._frames, self._datagrams = frames, datagrams
        if peers and not self.loops:
            address = peers[0].address
            log.warning(
                f"the route to {address} leads into this tunnel: give it one outside, ip route add {address} via"
                " GATEWAY, or start with --device NAME, or with --mark N and an ip rule for that mark",
                interface=self._cable.name,
            )
        if self.loops and not peers:
            log.info("the route to the peer does not lead into this tunnel any more")
            self._plug()
            self._wake()
        self.loops = bool(peers)
        if storm and self.loops:
            self._unplugged = True
            device.set_carrier(self._cable.tap, on=False)

    def _plug(self) -> None:
        """Plug the cable in again; with a key the link does so when it is to call the peer, if it is to be."""
        if self._unplugged and self._cable.memory.slots[Slot.LINK] == Link.NONE:
            device.set_carrier(self._cable.tap, on=True)
        self._unplugged = False
