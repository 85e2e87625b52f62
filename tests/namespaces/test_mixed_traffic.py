"""Mixed traffic through two real tunnels: whatever arrives is what was sent, once, byte for byte, in its order.

Frames of all layouts and sizes are put into the left tap, some as super-frames, while programs of both hosts send UDP
datagrams of several sizes and TCP segments of several sizes. The workers are held up for a moment at a time, so that
they find much of all this at once.
"""

import os
import random
import signal
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tap2tap.demo.lab import Host, Lab, wait_for
from tap2tap.udp_socket import SO_RCVBUFFORCE
from tap2tap.vnet import NO_OFFLOAD, VNET_HEADER, VNET_LENGTH
from tests.support import frames
from tests.support.lone import roomy
from tests.support.mixture import FROM, ODD, TO, check, mixture
from tests.support.secured import PACKET_STATISTICS, PACKET_VNET_HDR, secured
from tests.support.traffic import (
    AUXDATA,
    ETH_P_ALL,
    PACKET_AUXDATA,
    PACKET_OUTGOING,
    SOL_PACKET,
    TP_STATUS_VLAN_TPID_VALID,
    TP_STATUS_VLAN_VALID,
    Stream,
    family,
    numbered,
    segment_size,
)
from tests.support.tunnel import RIGHT, RIGHT6, Tunnel, joined

END = TO + FROM + ODD + b"the end"
BURSTS = 6


def tap(host: Host) -> socket.socket:
    """A packet socket on the tap of a host, which gives and takes a virtio_net_hdr with each frame."""
    sock = host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
    sock.settimeout(0.2)
    with host.inside():
        sock.bind(("tap0", ETH_P_ALL))
    return sock


class Arrivals:
    """What arrives on the tap of a host from FROM, super-frames cut again; how many those were, how many to a group."""

    def __init__(self, host: Host) -> None:
        self.frames: list[bytes] = []
        self.super_frames = self.for_many = 0
        self.ended = False
        self._socket = tap(host)
        self._stopping = False
        self._missed = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping:
            with suppress(TimeoutError):
                data, ancillary, _, source = self._socket.recvmsg(1 << 17, socket.CMSG_SPACE(AUXDATA.size))
                status, _, _, _, _, tci, tpid = AUXDATA.unpack_from(ancillary[0][2])
                header, frame = data[:VNET_LENGTH], data[VNET_LENGTH:]
                if status & TP_STATUS_VLAN_VALID:
                    tag = struct.pack("!HH", tpid if status & TP_STATUS_VLAN_TPID_VALID else 0x8100, tci)
                    frame = frame[:12] + tag + frame[12:]
                if frame[6:12] == FROM and source[2] != PACKET_OUTGOING:
                    self._note(header, frame)

    def _note(self, header: bytes, frame: bytes) -> None:
        _, kind, _, mss, _, _ = VNET_HEADER.unpack(header)
        if frame == END:
            self.ended = True
        elif kind:
            self.super_frames += 1
            self.for_many += frame[0] & 1
            self.frames += frames.segments(*frames.dissect(frame), mss)
        else:
            self.frames.append(frame)

    @property
    def missed(self) -> int:
        """How many frames the socket had no room for."""
        self._missed += struct.unpack("=II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
        return self._missed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping = True
        self._thread.join(10)
        self._socket.close()


class Datagrams:
    """Datagrams of one size from one program to another; the number of each is in it."""

    def __init__(self, stack: ExitStack, lab: Lab, address: str, size: int, *, segment: bool) -> None:
        self.sent: list[bytes] = []
        self.came: list[bytes] = []
        self._segment = segment_size(size) if segment else []
        self._source = numbered(1 << 20, size)
        kind = family(address), socket.SOCK_DGRAM
        self._in = stack.enter_context(roomy(lab.right.socket(*kind)))
        self._in.bind((address, 0))
        self._in.setblocking(False)
        self._out = stack.enter_context(roomy(lab.left.socket(*kind)))
        self._out.connect(self._in.getsockname())

    def send(self, count: int) -> None:
        """Send some more."""
        some = [next(self._source) for _ in range(count)]
        if self._segment:
            self._out.sendmsg([b"".join(some)], self._segment)
        else:
            for datagram in some:
                self._out.send(datagram)
        self.sent += some

    def check(self, *, complete: bool) -> None:
        """Those that came were sent, each once, in their order."""
        with suppress(BlockingIOError):
            while True:
                self.came.append(self._in.recv(1 << 16))
        position = iter(self.sent)
        assert all(datagram in position for datagram in self.came)
        assert len(self.came) == len(self.sent) or not complete


class Segments(Stream):
    """A TCP connection whose segments carry at most `mss` bytes."""

    def __init__(self, lab: Lab, address: str, mss: int, size: int) -> None:
        super().__init__(lab.left, lab.right, address, size)
        self._out.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        self._out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)  # much less than waits in any queue


@contextmanager
def held(tunnel: Tunnel, direction: str) -> Iterator[None]:
    """One worker stands still."""
    pid = tunnel.kill_worker(direction, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def losses(lab: Lab, tunnels: Sequence[Tunnel], arrivals: Arrivals) -> dict[str, int]:
    """How much the kernel and the workers have dropped so far on the way from left to right, by place."""
    places = {"packet socket": arrivals.missed}
    for tunnel, way in zip(tunnels, ("outbound", "inbound"), strict=True):
        places[way] = sum(tunnel.worker(way)["dropped"].values())
    for host, device in ((lab.left, "tap0"), (lab.left, "eth0"), (lab.right, "eth0")):
        counters = host.counters()[device]
        places[f"{host.name} {device}"] = counters.tx_dropped + counters.rx_dropped
    for table in ("udp", "udp6"):
        sockets = Path(f"/proc/{lab.right.pid}/net/{table}").read_text().splitlines()[1:]
        places[table] = sum(int(line.split()[12]) for line in sockets)
    return places


@pytest.mark.parametrize("key", [False, True], ids=["plain", "key"])
def test_whatever_arrives_was_sent(lab: Lab, tmp_path: Path, key: bool) -> None:
    dice = random.Random(11)
    sent: list[bytes] = []
    with ExitStack() as stack:
        tunnels = secured(lab.left, lab.right, tmp_path) if key else joined(lab.left, lab.right)
        client, server = stack.enter_context(tunnels)
        arrivals = stack.enter_context(Arrivals(lab.right))
        entry = stack.enter_context(tap(lab.left))
        datagrams = [
            Datagrams(stack, lab, address, size, segment=size % 2 > 0)
            for address in (RIGHT, RIGHT6)
            for size in (1200, 800, 100, 501, 1001)
        ]
        streams = [Segments(lab, address, mss, 3 << 19) for address in (RIGHT, RIGHT6) for mss in (1300, 536, 900)]
        before_all = losses(lab, (client, server), arrivals)
        for stream in streams:
            stream.start()
        for _ in range(BURSTS):
            before = client.worker("outbound")["frames"]
            with held(server, "inbound"):
                count = 0
                with held(client, "outbound"):
                    for number, (header, frame, cut) in enumerate(mixture(dice, 25, 1400)):
                        if count + len(cut) > 400:  # the tap holds 1000
                            break
                        entry.send(header + frame)
                        sent += cut
                        count += len(cut)
                        for flow in datagrams if number % 40 == 0 else ():
                            flow.send(dice.randint(1, 4))
                with suppress(TimeoutError):  # frames may have been dropped
                    wait_for(lambda: client.worker("outbound")["frames"] >= before + count, 5)  # noqa: B023
        for stream in streams:
            stream.check()

        def ended() -> bool:
            entry.send(NO_OFFLOAD + END)
            return arrivals.ended

        wait_for(ended, 30, "last frame")
        lost = losses(lab, (client, server), arrivals) != before_all
        check(sent, arrivals.frames, complete=not lost)
        for flow in datagrams:
            flow.check(complete=not lost)
        assert len(arrivals.frames) > len(sent) // 2
        assert arrivals.super_frames
        assert not arrivals.for_many
        for tunnel in (client, server):
            assert not sum(worker["restarts"] for worker in tunnel.stats()["workers"].values())
