"""Leaving an existing tap as it was found: a small process keeps the privileges for that, and does it at the end.

It is forked before the privileges go, for a tap that outlives the tunnel. It holds the tap and one end of a private
channel, from which it takes nothing but how the tap was found, before the tunnel is up. When the channel closes, also
because the supervisor was killed, it puts back what is still as the tunnel has set it, and ends.
"""

import errno
import json
import math
import struct
from socket import socket
from typing import NamedTuple

from tap2tap import clock, device, log, privileges
from tap2tap.device import Tap
from tap2tap.errors import FAILURE, OK
from tap2tap.supervisor import netlink, process, signals
from tap2tap.supervisor.loop import Part, next_second
from tap2tap.supervisor.netlink import Link
from tap2tap.supervisor.process import Process

PATIENCE = 5.0  # seconds that it may take in the end
_MESSAGE = 4096  # bytes
_ATTRIBUTES = {  # of Settings
    "mac": netlink.IFLA_ADDRESS,
    "mtu": netlink.IFLA_MTU,
    "gso_max_segs": netlink.IFLA_GSO_MAX_SEGS,
    "gso_max_size": netlink.IFLA_GSO_MAX_SIZE,
}


class Settings(NamedTuple):
    """What the tunnel may change of a link, and puts back: it stays up, as addresses and routes would go with that."""

    mac: str
    mtu: int
    gso_max_segs: int
    gso_max_size: int


class Memo(NamedTuple):
    """What to put back on the link of that index: `offloads` are TUN_F_..., or None where nobody knows."""

    link: int
    offloads: int | None
    before: Settings
    after: Settings


def settings(link: Link) -> Settings:
    """How a link is set."""
    return Settings(link.address.hex(":"), link.mtu, link.gso_max_segs, link.gso_max_size)


class Keeper(Part):
    """The process, from `start` to `close`; nothing before, and where no tap is to be put back. `fd` is for `remember`.

    It is looked at each second, so that one that was killed is no zombie for the rest of the tunnel's life.
    """

    def __init__(self) -> None:
        self.due = math.inf
        self._name = ""
        self._channel: socket | None = None
        self._process: Process | None = None

    def start(self, tap: Tap) -> None:
        """Start it. Raises StartError."""
        kind = "process that puts the tap back"
        try:
            self._channel, self._process = process.companion(
                "tap",
                lambda channel: _serve(channel, tap),
                [tap.fd],
                kind=f"the {kind}",
                capabilities=[privileges.CAP_NET_ADMIN],
            )
        except OSError as error:
            raise process.no_room(kind, error) from error
        self._name = tap.name
        self.due = next_second(clock.now())

    @property
    def started(self) -> bool:
        """Whether there is one."""
        return self._channel is not None

    @property
    def fd(self) -> int:
        """The channel's descriptor, where it was started."""
        assert self._channel is not None
        return self._channel.fileno()

    def remember(self, memo: Memo) -> None:
        """Tell it how the tap was found. Raises OSError."""
        assert self._channel is not None
        self._channel.send(json.dumps(memo).encode())

    def look(self) -> None:
        """See whether it is gone."""
        assert self._process is not None
        self.due = next_second(clock.now()) if self._process.poll() is None else math.inf

    def close(self) -> None:
        """Have it put the tap back, and wait for that."""
        if self._channel is None or self._process is None:
            return
        self._channel.close()
        self._channel = None
        self._process.wait(PATIENCE)
        code = self._process.poll()
        if code not in (OK, FAILURE):  # with which it has said itself what is wrong
            _warn(self._name, signals.decode(code) if code is not None else f"not done after {PATIENCE:.0f} seconds")


def _warn(interface: str, reason: str) -> None:
    log.warning("the interface is not as it was found", interface=interface, reason=reason)


def _serve(channel: socket, tap: Tap) -> int:
    """Be the process."""
    told = channel.recv(_MESSAGE)
    while channel.recv(_MESSAGE):  # whatever else comes
        pass
    if not told:
        return OK
    link, offloads, before, after = json.loads(told)
    try:
        _put_back(tap, Memo(link, offloads, Settings(*before), Settings(*after)))
    except OSError as error:
        if error.errno != errno.EBADFD:  # the tap was deleted
            _warn(tap.name, error.strerror or repr(error))
            return FAILURE
    return OK


def _put_back(tap: Tap, memo: Memo) -> None:
    """Put a tap back; one that was moved into another network namespace only as far as its descriptor does.

    Raises OSError: EBADFD where it was deleted.
    """
    if memo.offloads is not None:
        device.restore_offloads(tap.fd, memo.offloads)
    name, mac = device.name_and_mac(tap.fd)
    link = netlink.link(memo.link)
    if link and (link.name, link.address) == (name, mac):
        _set(link, memo, settings(link))


def _set(link: Link, memo: Memo, now: Settings) -> None:
    """Set again what the tunnel has set, and nobody since. Raises the last OSError."""
    refused = None
    for name, value in now._asdict().items():
        before = memo.before._asdict()[name]
        if value == memo.after._asdict()[name] != before:
            try:
                netlink.set_link(link.number, _ATTRIBUTES[name], _packed(before))
            except OSError as error:
                refused = error
    if refused:
        raise refused


def _packed(value: str | int) -> bytes:
    return bytes.fromhex(value.replace(":", "")) if isinstance(value, str) else struct.pack("=I", value)
