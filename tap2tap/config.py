"""What one tunnel is to be: the options, checked."""

import re
import shutil
from dataclasses import dataclass

from tap2tap import cpus, device, endpoint, udp_socket
from tap2tap.errors import UsageError
from tap2tap.numbers import whole_number
from tap2tap.protocols.secure.wire import OVERHEAD

PORT = 1234
MTU = 1500  # with --key: that of the LANs which a cable joins, whatever the path
PLAIN_MTU = {4: 1458, 6: 1438}  # without, by the version of IP: a path of 1500 less 14 (Ethernet), 20 or 40, 8 (UDP)
REMOTES = 16  # each name among them has a process that looks it up
NOBODY = 65534
MAX_MARK = 2**32 - 1
KEEPALIVE = 25  # seconds: below the shortest UDP timeout that home routers are known to have, 30


@dataclass(frozen=True)
class Config:
    """The options of one tunnel. `check` says whether they can be right together."""

    interface: str | None = None
    remotes: tuple[tuple[str, int], ...] = ()  # hosts and ports, in the order of preference; none: server mode
    bind: str | None = None  # None: any address, IPv4 and IPv6
    port: int = PORT
    mark: int | None = None  # SO_MARK of the socket
    device: str | None = None  # that the socket is bound to
    mtu: int | None = None  # None: MTU or PLAIN_MTU
    mac: str | None = None  # of the tap, as hardware_address.parse_mac gives it; None: one of its own that stays
    key: str | None = None  # path of the key file; None: the plain protocol
    up: str | None = None
    down: str | None = None
    on_peer: str | None = None
    uid: int | None = None  # None: nobody's, where the program may change it
    gid: int | None = None
    cpus: tuple[int, int] | None = None  # outbound, inbound; None: chosen
    keepalive: int | None = None  # seconds; None: KEEPALIVE with a remote, else off
    offload: bool = True
    segmentation: bool = True  # trains, where there is offload
    clamp: bool = True  # lower the MSS of TCP to what fits one datagram
    call_back: bool = True  # remember where the peer was, and call there after a restart

    @property
    def client(self) -> bool:
        """Whether it is configured where the peer is: else it waits to be called."""
        return bool(self.remotes)

    @property
    def overhead(self) -> int:
        """Bytes that the protocol adds to each frame."""
        return OVERHEAD if self.key else 0

    def tap_mtu(self, version: int) -> int:
        """The MTU of the tap; `version` is that of IP below, 6 where it may be either."""
        return self.mtu or (MTU if self.key else PLAIN_MTU[version])

    @property
    def programs(self) -> dict[str, str]:
        """The hooks by event."""
        peer = ("peer-up", "peer-down", "peer-moved", "path-mtu")
        wanted = {"up": self.up, "down": self.down, **dict.fromkeys(peer, self.on_peer)}
        return {event: program for event, program in wanted.items() if program}

    @property
    def keepalive_seconds(self) -> int:
        """Seconds of silence before a keepalive goes out; 0 is never."""
        if self.keepalive is not None:
            return self.keepalive
        return KEEPALIVE if self.client else 0

    def check(self) -> None:
        """Raise UsageError, with the option's name and what it takes, for a value that cannot be right."""
        if self.interface is not None:
            device.check_name(self.interface)
        if len(self.remotes) > REMOTES:
            raise UsageError(f"--remote is given {len(self.remotes)} times: at most {REMOTES}")
        for host, port in self.remotes:
            endpoint.literal(host, port)  # may be one that no host has
        if not 1 <= self.port <= 65535:
            raise UsageError(f"--port {self.port}: a port is a number from 1 to 65535")
        _, zone = udp_socket.parse_bind(self.bind, self.device)
        for name in (self.device, zone or None):
            if name is not None:
                device.check_name(name)
        self.check_outside(self.interface)
        most = device.MAX_MTU - self.overhead
        if self.mtu is not None and not device.MIN_MTU <= self.mtu <= most:
            raise UsageError(f"--mtu {self.mtu}: the mtu is a number from {device.MIN_MTU} to {most}")
        if self.key == "":  # an unset variable in a script must not mean a tunnel in the clear
            raise UsageError("--key names no file; without a key, leave the option out")
        if self.on_peer is not None and self.key is None:
            raise UsageError("--on-peer needs --key: the plain protocol cannot tell whether the peer is there")
        if self.keepalive is not None and not 0 <= self.keepalive <= 3600:
            raise UsageError(f"--keepalive {self.keepalive}: seconds from 1 to 3600, or 0 for none")
        for option, program in (("--up", self.up), ("--down", self.down), ("--on-peer", self.on_peer)):
            if program is not None and shutil.which(program) is None:
                raise UsageError(f"{option} {program}: no such program, or not executable")
        if self.cpus:
            missing = sorted(set(self.cpus) - cpus.allowed())
            if missing:
                allowed = ",".join(map(str, sorted(cpus.allowed())))
                raise UsageError(f"--cpus: CPU {missing[0]} is not among those that this process may use ({allowed})")

    def check_outside(self, interface: str | None) -> None:
        """Raise UsageError when the socket is to be bound to the tunnel's own interface."""
        _, zone = udp_socket.parse_bind(self.bind, self.device)
        if interface is None or interface not in (self.device, zone):
            return
        what = f"--device {self.device} is" if interface == self.device else f"--bind {self.bind} is on"
        raise UsageError(f"{what} this tunnel's own interface: name the one that leads outside")


def parse_cpus(text: str) -> tuple[int, int]:
    """Read OUT,IN. Raises UsageError."""
    outward, _, inward = text.partition(",")
    out, into = whole_number(outward, 10**9 - 1), whole_number(inward, 10**9 - 1)
    if out is None or into is None:
        raise UsageError(f"--cpus {text}: two CPU numbers, as in --cpus 1,2: the outbound worker's, the inbound one's")
    return out, into


def parse_mark(text: str) -> int:
    """Read the mark of a socket. Raises UsageError."""
    found = whole_number(text, MAX_MARK)
    if found is None and re.fullmatch("0x[0-9a-f]{1,8}", text.lower()):
        found = int(text, 16)
    if found is None:
        raise UsageError(f"--mark {text}: a number from 0 to {MAX_MARK}, as in --mark 51820 or --mark 0xca6c")
    return found
