"""Noticing that the tap is a port of a bridge that has longer ports, whose long frames the bridge drops in silence.

The supervisor looks when the tunnel begins, and again when the kernel says that a link has changed, but seldom in a
storm of changes. A tap that was moved into another network namespace is out of its sight, and no other device of that
name is taken for it.
"""

import socket
from collections.abc import Callable
from contextlib import suppress

from tap2tap import clock, device, log
from tap2tap.protocols.secure.wire import OVERHEAD
from tap2tap.supervisor import netlink
from tap2tap.supervisor.loop import Part
from tap2tap.supervisor.netlink import Link

MOST = device.MAX_MTU - OVERHEAD  # of --mtu, with or without a key
PAUSE = 1.0  # seconds between two looks, at least


class Bridges(Part):
    """Looks after the tap of descriptor `tap`, which stays the caller's. Times are those of `clock`.

    `parts`: the protocol carries long frames without IP fragments.
    """

    def __init__(self, tap: int, *, parts: bool) -> None:
        self.due = 0.0  # when to look next, if nothing changes
        self._tap = tap
        self._parts = parts
        self._last = 0.0
        self._told = 0  # the longest port that was warned of: only a longer one is news
        self._changes: socket.socket | None = None
        with suppress(OSError):  # no netlink here: the tunnel works as well
            self._changes = netlink.changes()

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when a link changes; empty while a look is due anyway, however many do."""
        return {self._changes.fileno(): self._changed} if self._changes and self.due == float("inf") else {}

    def _changed(self) -> None:
        self.due = self._last + PAUSE

    def look(self) -> None:
        """Look now, and warn once of what is wrong."""
        self._last = clock.now()
        self.due = float("inf")
        with suppress(OSError):
            if self._changes:
                netlink.forget(self._changes)
            self._compare()

    def _compare(self) -> None:
        """Compare the tap with the other ports of its bridge. Raises OSError."""
        name, mac = device.name_and_mac(self._tap)
        tap = netlink.link(name=name)
        bridge = netlink.link(tap.master) if tap and tap.master and tap.address == mac else None
        if not tap or not bridge or bridge.kind != "bridge":
            return
        others = [each for each in netlink.ports(bridge.number) if each.number != tap.number]
        longest = max(others, key=lambda port: port.mtu, default=tap)
        if longest.mtu > max(tap.mtu, self._told):
            self._told = longest.mtu
            self._warn(tap, bridge, longest)

    def _warn(self, tap: Link, bridge: Link, port: Link) -> None:
        mtu = min(port.mtu, MOST)
        remedy = f"--mtu {mtu}" if self._parts else f"--key, or with --mtu {mtu}, which takes IP fragments"
        log.warning(
            f"the bridge drops frames that are too long for this tap: start both ends with {remedy}",
            bridge=bridge.name,
            port=port.name,
            port_mtu=port.mtu,
            interface=tap.name,
            mtu=tap.mtu,
        )

    def close(self) -> None:
        """Look no more."""
        if self._changes:
            self._changes.close()
