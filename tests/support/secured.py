"""Tunnels with keys, all that crosses the wire between them, and a relay on the path that may do anything to it."""

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tap2tap.commands.genkey import genkey
from tap2tap.demo.lab import Host, wait_for
from tap2tap.protocols.secure import wire
from tap2tap.udp_socket import SO_RCVBUFFORCE
from tests.support import timed
from tests.support.datagrams import take_apart
from tests.support.traffic import ETH_P_ALL, SOL_PACKET
from tests.support.tunnel import COMMAND, RIGHT, Tunnel, address, wait_ping

PACKET_STATISTICS = 6  # linux/if_packet.h
PACKET_VNET_HDR = 15
VNET = struct.Struct("=BBHHHH")
GSO_UDP_L4 = 5  # linux/virtio_net.h
DATA = (wire.TYPE_DATA, wire.TYPE_DATA_VOUCHED, wire.TYPE_PART, wire.TYPE_CONTROL)
BUFFER = 8 << 20  # bytes

# The durations of a busy life in a few seconds; a test with a test's patience.
IMPATIENT = "late_keepalive=1,give_up=2,unanswered=2,passive_keepalive=1,poll=0.2,restart=0.2"


def make_keys(folder: Path, name: str = "") -> tuple[str, str]:
    """The key files of a new cable, the client's first."""
    files = str(folder / f"{name}home.key"), str(folder / f"{name}vps.key")
    assert genkey([*files]) == 0
    return files


def secure(host: Host, key: str, *options: str, timers: str = "", **popen: Any) -> Tunnel:
    """A tunnel with a key; `timers` changes the durations of the protocol."""
    return Tunnel(host, "--key", key, *options, command=timed.command(timers) if timers else COMMAND, **popen)


@contextmanager
def secured(
    left: Host, right: Host, folder: Path, *options: str, remote: str = "", timers: str = ""
) -> Iterator[tuple[Tunnel, Tunnel]]:
    """A client on the left and a server on the right, both with `options`; their taps have addresses and echo."""
    home, vps = make_keys(folder)
    with (
        secure(right, vps, *options, timers=timers) as server,
        secure(left, home, "--remote", remote or right.ipv4, *options, timers=timers) as client,
    ):
        address(left, right)
        wait_ping(left, RIGHT)
        yield client, server


def is_up(tunnel: Tunnel) -> bool:
    """Whether the peer is there."""
    return bool(tunnel.stats()["session"]["state"] == "up")


def wait_up(*tunnels: Tunnel) -> None:
    """Wait until they all have their peers."""
    for tunnel in tunnels:
        wait_for(lambda it=tunnel: is_up(it), 60, f"peer: {tunnel.log}")  # type: ignore[misc]


def plugged_in(host: Host) -> bool:
    """Whether the tap has its carrier."""
    flags = host.run(["ip", "-o", "link", "show", "tap0"]).stdout.split("<")[1].split(">")[0].split(",")
    assert ("LOWER_UP" in flags) != ("NO-CARRIER" in flags)
    return "LOWER_UP" in flags


class Datagram(NamedTuple):
    """One UDP datagram of the wire."""

    source: tuple[str, int]
    target: tuple[str, int]
    payload: bytes


class Sniffer:
    """Every UDP datagram that a device of a host sends or gets, each by itself: trains are cut as the kernel would."""

    def __init__(self, host: Host, device: str = "eth0") -> None:
        self.datagrams: list[Datagram] = []
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 * BUFFER)
        with host.inside():
            self._socket.bind((device, ETH_P_ALL))
        self._socket.settimeout(0.1)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                packet = self._socket.recv(1 << 17)
            except TimeoutError:
                if self._stopping:
                    return
            else:
                self.datagrams += dissect(packet)

    def stop(self) -> list[Datagram]:
        """Return all that was seen, when nothing more comes; nothing was missed."""
        self._stopping = True
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self._socket.fileno() >= 0:
            _, missed = struct.unpack("=II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            assert not missed
            self._socket.close()
        return self.datagrams

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def dissect(packet: bytes) -> Iterator[Datagram]:
    """The UDP datagrams in a packet with its virtio_net_hdr; none if it has another protocol."""
    _, gso_type, _, gso_size, _, _ = VNET.unpack_from(packet)
    frame = packet[VNET.size :]
    if frame[12:14] == b"\x08\x00" and frame[23] == socket.IPPROTO_UDP:
        family, addresses, at = socket.AF_INET, (frame[26:30], frame[30:34]), 14 + 4 * (frame[14] & 15)
    elif frame[12:14] == b"\x86\xdd" and frame[20] == socket.IPPROTO_UDP:
        family, addresses, at = socket.AF_INET6, (frame[22:38], frame[38:54]), 54
    else:
        return
    here, there, length = struct.unpack_from("!HHH", frame, at)
    source, target = (socket.inet_ntop(family, each) for each in addresses)
    payload = frame[at + 8 :] if gso_type == GSO_UDP_L4 else frame[at + 8 : at + length]
    step = gso_size if gso_type == GSO_UDP_L4 else max(1, len(payload))
    for start in range(0, max(1, len(payload)), step):
        yield Datagram((source, here), (target, there), payload[start : start + step])


def assert_no_nonce_repeats(datagrams: Iterable[Datagram]) -> int:
    """No two data datagrams of one direction have a session (whose index stands for its key) and a counter in common.

    Each crosses the wire once, so even a copy would be a fault. Returns the number of sessions.
    """
    seen: set[tuple[tuple[str, int], int, int]] = set()
    for source, _, payload in datagrams:
        kind, index, counter = take_apart(payload)
        if kind in DATA:
            assert (source, index, counter) not in seen
            seen.add((source, index, counter))
    return len({(source, index) for source, index, _ in seen})


Fate = tuple[bytes, bool]  # a datagram, and whether it goes outward: from the client's side to the server's


class Relay:
    """A host on the path: the client calls it, and it calls the server, from a port that may change.

    `policy` makes of each datagram any number of others, in either direction; all that came is in `recorded`.
    """

    def __init__(self, host: Host, server: str) -> None:
        self.host = host
        self.recorded: list[Fate] = []
        self.policy: Callable[[bytes, bool], Iterable[Fate]] = lambda datagram, outward: [(datagram, outward)]
        self._server = (server, 1234)
        self._client: tuple[str, int] | None = None
        self._sockets = [self._udp(1234), self._udp(0)]
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _udp(self, port: int) -> socket.socket:
        sock = self.host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        sock.bind((self.host.ipv4, port))
        return sock

    @property
    def port(self) -> int:
        """Where the server sees the client."""
        return int(self._sockets[-1].getsockname()[1])

    def rebind(self) -> int:
        """Call the server from another port, as a NAT that has forgotten a mapping; return it. The old one is deaf."""
        self._sockets.append(self._udp(0))
        return self.port

    def forget(self) -> None:
        """Call the server from the port of before again."""
        self._sockets.pop().close()

    def send(self, datagram: bytes, outward: bool) -> None:
        """Send a datagram on, or one of the relay's own."""
        with suppress(OSError):
            if outward:
                self._sockets[-1].sendto(datagram, self._server)
            elif self._client:
                self._sockets[0].sendto(datagram, self._client)

    def _run(self) -> None:
        while not self._stopping:
            front, back = self._sockets[0], self._sockets[-1]
            for sock in select.select([front, back], [], [], 0.05)[0]:
                try:
                    datagram, source = sock.recvfrom(1 << 16)
                except OSError:  # an ICMP message: that end is not there
                    continue
                outward = sock is front
                if outward:
                    self._client = source
                self.recorded.append((datagram, outward))
                for fate in self.policy(datagram, outward):
                    self.send(*fate)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping = True
        self._thread.join(10)
        for sock in self._sockets:
            sock.close()
