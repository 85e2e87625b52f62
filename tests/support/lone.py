"""One worker alone, as a test sees it: a process with a socketpair for its tap, and a real socket on the loopback.

A SOCK_SEQPACKET pair keeps frames apart as a tap does; what it lacks is a kernel that looks into them.
"""

import json
import mmap
import os
import random
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tap2tap import clock, log, memory
from tap2tap.counters import Count, Drop, Slot
from tap2tap.demo.lab import Host, wait_for
from tap2tap.endpoint import Endpoint, from_sockaddr, load, store
from tap2tap.memory import Memory
from tap2tap.protocols.secure.mailbox import LinkEnd, channel
from tap2tap.udp_socket import SO_RCVBUFFORCE, SO_SNDBUFFORCE, SOL_UDP, UDP_SEGMENT, enable_gro
from tap2tap.vnet import NO_OFFLOAD, VNET_LENGTH
from tap2tap.workers.inbound import inbound
from tap2tap.workers.outbound import outbound
from tap2tap.workers.pin import Pin
from tap2tap.workers.worker import Cable

ROOT = Path(__file__).parents[2]
BUFFER = 8 << 20  # bytes that may wait in a socket: no test may depend on how fast the other side is
TIMEOUT = 10.0
AHEAD = -1  # of the slots of the link's group, which no worker uses


def frame(size: int, seed: int = 0) -> bytes:
    """A frame of an EtherType for experiments."""
    header = bytes.fromhex("020000000002 020000000001 88b5")
    return header + random.Random(seed).randbytes(size - len(header))


def run(count: int, size: int) -> list[bytes]:
    """Different frames of one size."""
    return [frame(size, seed) for seed in range(count)]


def roomy(sock: socket.socket) -> socket.socket:
    """Let much wait in `sock`, as far as this user may; returns it."""
    for force, plain in ((SO_SNDBUFFORCE, socket.SO_SNDBUF), (SO_RCVBUFFORCE, socket.SO_RCVBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, BUFFER)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER)
    sock.settimeout(TIMEOUT)
    return sock


def find_room(size: int, *socks: socket.socket) -> None:
    """End the test if so much cannot wait in sockets as large as this user may make them."""
    have = min(sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) for sock in socks)
    if have < size:
        from tests.conftest import lacking  # not in the worker's process

        lacking(f"{size} bytes are to wait in a socket, and this user's hold {have}: root is not bound by wmem_max")


class Lone:
    """The worker `direction` on its own. What is fed to it before `start` waits for it, all at once.

    `remote` False is server mode. Without a `host` the sockets are on this one's loopback. `secure` is for the stage of
    the secure protocol, whose `link` the test is.
    """

    def __init__(
        self,
        direction: str,
        *,
        remote: bool = True,
        host: Host | None = None,
        secure: bool = False,
        **cable: Any,
    ) -> None:
        self.direction = direction
        self.host = host
        self.tap, self._tap = (roomy(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.sock = self.udp()
        self.peer = self.udp()
        self._waiting = 0  # bytes that have been fed to it before it started
        self._shared = os.memfd_create("memory")  # stands in for the anonymous memory, which only a fork could share
        os.truncate(self._shared, memory.SIZE)
        self.memory = mapped(self._shared)
        self.counts = self.memory.outbound if direction == "outbound" else self.memory.inbound
        self._channel: socket.socket | None = None
        if secure:
            ours, self._channel = channel()
            self.link = LinkEnd(ours, self.counts)
        self._facts = {"mtu": 1458, "keepalive": 0, "offload": False} | cable
        self._facts = dict.fromkeys(("trains", "join_udp", "clamp"), True) | self._facts
        self._facts["client"] = remote
        if self._facts["trains"]:
            enable_gro(self.sock)
        if remote:
            self.point_at(from_sockaddr(self.peer.getsockname()))
        self.process: subprocess.Popen[bytes] | None = None

    def udp(self) -> socket.socket:
        """Another UDP socket on the worker's loopback; the caller closes it."""
        kinds = socket.AF_INET, socket.SOCK_DGRAM
        sock = roomy(self.host.socket(*kinds) if self.host else socket.socket(*kinds))
        sock.bind(("127.0.0.1", 0))
        return sock

    def point_at(self, peer: Endpoint) -> None:
        """Write the peer into the memory."""
        store(self.memory.slots, Slot.PEER, peer)

    def sleep(self, seconds: int) -> None:
        """Set the worker's clock ahead of the true one, as if the machine had slept; 0 puts it right again."""
        self.memory.link[AHEAD] = seconds * 10**9

    @property
    def known(self) -> Endpoint | None:
        """The peer that the memory names."""
        return load(self.memory.slots, Slot.PEER)

    def start(self) -> Self:
        """Start the process."""
        self._tap.setblocking(False)
        fds = [self._tap.fileno(), self.sock.fileno(), self._shared]
        fds += [self._channel.fileno()] if self._channel else []
        argv = [sys.executable, "-m", "tests.support.lone", self.direction, json.dumps(self._facts), *map(str, fds)]
        if self.host:
            argv = self.host.command(argv)
        self.process = subprocess.Popen(argv, pass_fds=fds, cwd=ROOT)
        return self

    def _find_room(self, size: int) -> None:
        if not self.process:  # else it takes what comes
            self._waiting += 4 * size + 4096  # with what the kernel needs for its own, at most
            find_room(self._waiting, self.tap, self.sock)

    def feed(self, *frames: bytes, header: bytes = NO_OFFLOAD) -> None:
        """Put frames into the tap, each behind `header`."""
        for frame in frames:
            self._find_room(len(frame))
            self.tap.sendmsg([header, frame])

    def written(self) -> tuple[bytes, bytes]:
        """What the worker wrote to the tap next: header and frame."""
        data = self.tap.recv(1 << 17)
        return data[:VNET_LENGTH], data[VNET_LENGTH:]

    def call(self, *datagrams: bytes, source: socket.socket | None = None) -> None:
        """Send datagrams to the worker, from the peer or from another."""
        for datagram in datagrams:
            self._find_room(len(datagram))
            (source or self.peer).sendto(datagram, self.sock.getsockname())

    def call_train(self, data: bytes, size: int) -> None:
        """Send `data` to the worker as one train of datagrams of `size`."""
        ancillary = [(SOL_UDP, UDP_SEGMENT, size.to_bytes(2, sys.byteorder))]
        self._find_room(len(data))
        self.peer.sendmsg([data], ancillary, 0, self.sock.getsockname())

    def received(self, count: int) -> list[bytes]:
        """The next datagrams at the peer."""
        return [self.peer.recv(1 << 16) for _ in range(count)]

    def dropped(self, reason: Drop) -> int:
        """How much the worker dropped for this reason."""
        return int(self.counts[Count.DROPPED + reason])

    def wait_dropped(self, reason: Drop, count: int = 1) -> None:
        """Wait until `count` in all are dropped for this reason, and nothing for another."""
        wait_for(lambda: self.dropped(reason) >= count, TIMEOUT, f"{count} drops as {reason.name}: {self.drops}")
        assert self.drops == {reason.name: count}

    @property
    def drops(self) -> dict[str, int]:
        """Reason to count."""
        return {reason.name: self.dropped(reason) for reason in Drop if self.dropped(reason)}

    def alive(self) -> bool:
        """Whether the worker still runs."""
        return self.process is not None and self.process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
        for sock in (self.tap, self._tap, self.sock, self.peer):
            sock.close()
        if self._channel:
            self._channel.close()
            self.link.close()
        os.close(self._shared)


def mapped(fd: int) -> Memory:
    """The memory in a file; `fd` stays the caller's."""
    return Memory(memoryview(mmap.mmap(fd, memory.SIZE)).cast("Q"))


def main(argv: Sequence[str]) -> None:
    """Be the worker: DIRECTION FACTS TAP SOCKET MEMORY [CHANNEL], all from the third on being descriptors."""
    facts = json.loads(argv[1])
    tap, sock, fd, *link = map(int, argv[2:])
    shared = mapped(fd)
    log.setup(argv[0], log.WARNING)
    loop = outbound if argv[0] == "outbound" else inbound
    now_ns = clock.now_ns
    clock.now_ns = lambda: now_ns() + shared.link[AHEAD]  # type: ignore[assignment]
    cable = Cable(name="lone", tap=tap, sock=socket.socket(fileno=sock), memory=shared, **facts)
    loop(
        cable,
        Pin(min(os.sched_getaffinity(0)), os.sched_getaffinity(0)),
        socket.socket(fileno=link[0]) if link else None,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
