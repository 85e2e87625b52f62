"""Leaving an existing tap as it was found: a small process keeps the privileges for that, and does it at the end.

It is forked before the privileges go, for a tap that outlives the tunnel. It holds the tap and one end of a private
channel, from which it takes nothing but how the tap was found, before the tunnel is up. When the channel closes, also
because the supervisor was killed, it puts back what is still as the tunnel has set it, and ends.
"""

import json
import os
from contextlib import suppress
from socket import socket
from typing import NamedTuple

from tap2tap import device, log
from tap2tap.device import Tap
from tap2tap.errors import OK, StartError
from tap2tap.supervisor import netlink, process
from tap2tap.supervisor.netlink import Link

PATIENCE = 5.0  # seconds that it may take in the end
_MESSAGE = 4096  # bytes


class Settings(NamedTuple):
    """What the tunnel may change of a link."""

    mac: str
    mtu: int
    gso_max_segs: int
    gso_max_size: int
    up: bool


class Memo(NamedTuple):
    """What to put back on the link of that index: `offloads` are TUN_F_..., or None where nobody knows."""

    link: int
    offloads: int | None
    before: Settings
    after: Settings


def settings(link: Link) -> Settings:
    """How a link is set."""
    return Settings(link.address.hex(":"), link.mtu, link.gso_max_segs, link.gso_max_size, link.up)


class Keeper:
    """The process, from the creation of this to `close`. `fd` is for `remember`. Raises StartError."""

    def __init__(self, tap: Tap) -> None:
        try:
            self._channel, self._process = process.companion(
                "tap", lambda channel: _serve(channel, tap), [tap.fd], kind="the process that puts the tap back"
            )
        except OSError as error:
            raise StartError(f"cannot start the process that puts the tap back: {error.strerror}") from error
        self.fd = self._channel.fileno()

    def remember(self, memo: Memo) -> None:
        """Tell it how the tap was found. Raises OSError."""
        self._channel.send(json.dumps(memo).encode())

    def close(self) -> None:
        """Have it put the tap back, and wait for that."""
        self._channel.close()
        self._process.wait(PATIENCE)


def _serve(channel: socket, tap: Tap) -> int:
    """Be the process."""
    told = channel.recv(_MESSAGE)
    while channel.recv(_MESSAGE):  # whatever else comes
        pass
    if told:
        link, offloads, before, after = json.loads(told)
        _put_back(tap, Memo(link, offloads, Settings(*before), Settings(*after)))
    return OK


def _put_back(tap: Tap, memo: Memo) -> None:
    """Put a tap back, unless it was deleted, or moved out of sight, meanwhile."""
    try:
        name, mac = device.name_and_mac(tap.fd)
        link = netlink.link(memo.link)
    except OSError:
        return
    if link is None or (link.name, link.address) != (name, mac):
        return
    if memo.offloads is not None:
        with suppress(OSError):
            device.restore_offloads(tap.fd, memo.offloads)
    _set(link, memo, settings(link))


def _set(link: Link, memo: Memo, now: Settings) -> None:
    """Set again what the tunnel has set, and nobody since."""
    from pyroute2 import IPRoute, NetlinkError  # only now: it is large, and this process waits as long as the tunnel

    before, after = memo.before._asdict(), memo.after._asdict()
    wanted = {name: before[name] for name, value in now._asdict().items() if value == after[name] != before[name]}
    with IPRoute() as route:
        for name, value in wanted.items():
            attribute = {"mac": {"address": value}, "up": {"state": "up" if value else "down"}}.get(name, {name: value})
            try:
                route.link("set", index=link.number, **attribute)
            except NetlinkError as error:
                reason = os.strerror(error.code)
                log.warning("the interface is not as it was found", interface=link.name, reason=reason)
