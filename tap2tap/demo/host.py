"""One host of the lab: a network namespace held open by a process, and the things that a test does to a host.

The *holder* sits in its own network namespace until the pipe that it reads from closes, which happens at the latest
when whoever made the lab dies, however that comes about. The holder then kills every process that is left in its
namespace, so nothing outlives a lab, not even after SIGKILL. Namespaces have no names: nothing collides when labs run
side by side, and nothing is needed but CAP_SYS_ADMIN in a user namespace of one's own.
"""

import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pyroute2 import IPRoute

CLONE_NEWNET = 0x40000000  # linux/sched.h
IFA_F_NODAD = 0x02  # linux/if_addr.h: usable at once, without duplicate address detection
RT_SCOPE_LINK = 253  # linux/rtnetlink.h
IPV6 = Path("/proc/sys/net/ipv6")

# Runs in its namespace, as little of Python as possible. The parent may be inside for a moment: it is spared.
HOLDER = r"""
import os, signal, sys, time
home, spared = os.readlink("/proc/self/ns/net"), {os.getpid(), os.getppid()}
def others():
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            # An exited process has no namespace any more, so zombies do not count.
            if int(name) not in spared and os.readlink(f"/proc/{name}/ns/net") == home:
                yield int(name)
        except OSError:
            pass
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.write(1, b"ready")
while os.read(0, 64):
    pass
for attempt in range(500):
    victims = list(others())
    if not victims:
        break
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    time.sleep(0.01)
"""

libc = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


PAUSE = 0.005  # seconds between two looks at what is waited for


def enter_namespace(descriptor: int) -> None:
    """Move the calling thread into the network namespace of `descriptor`, which stays the caller's to close."""
    if libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def wait_for(condition: Callable[[], T], timeout: float = 30.0, what: str = "condition") -> T:
    """Poll `condition` until it gives something true and return that; raises TimeoutError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {what} within {timeout:g} s")
        time.sleep(PAUSE)
    return value


class LinkCounters(NamedTuple):
    """What the kernel counts for one device."""

    rx_bytes: int
    rx_packets: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_dropped: int


class Host:
    """One network namespace, with the things that a test does to a host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ipv4 = self.ipv6 = ""  # of eth0, without the prefix; given by the lab
        self.popens: list[subprocess.Popen[Any]] = []
        self.holder = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-I", "-S", "-c", HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.holder.stdout is not None
        ready = self.holder.stdout.read(5) == b"ready"
        self.holder.stdout.close()
        if not ready:
            self.close()
            raise PermissionError("cannot make a network namespace: root or a user namespace is needed")
        self.pid = self.holder.pid
        self.namespace = f"/proc/{self.pid}/ns/net"
        if IPV6.exists():
            for which in ("all", "default"):
                with suppress(OSError):  # /proc/sys is read-only in some containers; addresses say nodad anyway
                    self.sysctl(f"net/ipv6/conf/{which}/accept_dad", "0")
        self.link("lo", state="up")

    def close(self) -> None:
        """Kill everything in the namespace and let it go."""
        assert self.holder.stdin is not None
        self.holder.stdin.close()
        self.holder.wait()
        for process in self.popens:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with suppress(OSError):  # unwritten input of a killed process
                        stream.close()

    def command(self, argv: Sequence[str]) -> list[str]:
        """What to type outside to run `argv` on this host; the process id stays that of the program."""
        return ["nsenter", f"--net={self.namespace}", "--", *argv]

    def run(self, argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, output captured as text; raises CalledProcessError unless check=False is given."""
        defaults = {"check": True, "timeout": 30.0, "text": True, "stdin": subprocess.DEVNULL}
        if not {"stdout", "stderr", "capture_output"} & options.keys():
            defaults["capture_output"] = True
        return subprocess.run(self.command(argv), **(defaults | options))

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a program; it is killed and reaped with the lab if it still runs by then."""
        process = subprocess.Popen(self.command(argv), **({"text": True, "stdin": subprocess.DEVNULL} | options))
        self.popens.append(process)
        return process

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in this host's namespace; sockets opened meanwhile stay there for good."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(self.namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                enter_namespace(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                enter_namespace(here)
        finally:
            os.close(here)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this host for the caller to use and to close, wherever the caller is."""
        with self.inside():
            return socket.socket(family, kind, protocol)

    @contextmanager
    def netlink(self) -> Iterator[Any]:
        """A pyroute2.IPRoute of this host."""
        with self.inside():
            route = IPRoute()
        with route:
            yield route

    def sysctl(self, key: str, value: str) -> None:
        """Set e.g. net/ipv4/ip_forward of this host."""
        with self.inside():
            Path("/proc/sys", key).write_text(value)

    def index(self, device: str) -> int:
        """The index of a device; raises OSError when there is none."""
        with self.inside():
            return socket.if_nametoindex(device)

    def has_link(self, device: str) -> bool:
        """Whether this host has such a device now."""
        return device in self.counters()

    def link(self, device: str, **attributes: Any) -> None:
        """Change a device: state="up", state="down", mtu=1400, ..., as pyroute2 names them."""
        with self.netlink() as route:
            route.link("set", index=self.index(device), **attributes)

    def delete_link(self, device: str) -> None:
        """Remove a device."""
        with self.netlink() as route:
            route.link("del", index=self.index(device))

    def address(self, device: str, address: str, verb: str = "add") -> None:
        """Give a device an address such as 10.9.0.1/24 or fd00::1/64, usable at once; verb="del" takes it away."""
        host, _, prefix = address.partition("/")
        extra = {"flags": IFA_F_NODAD} if ":" in host and verb == "add" else {}
        with self.netlink() as route:
            route.addr(verb, index=self.index(device), address=host, prefixlen=int(prefix), **extra)

    def route(self, verb: str, destination: str, device: str = "eth0", **attributes: Any) -> None:
        """Change a route by `verb` ("add", "replace", "del"); with gateway=ADDRESS, or else to what is on the wire."""
        if "gateway" not in attributes and ":" not in destination:
            attributes.setdefault("scope", RT_SCOPE_LINK)
        with self.netlink() as route:
            route.route(verb, dst=destination, oif=self.index(device), **attributes)

    def counters(self) -> dict[str, LinkCounters]:
        """The counters of every device by its name (/sys shows the namespace that mounted it, so not from there)."""
        found = {}
        for line in Path(f"/proc/{self.pid}/net/dev").read_text().splitlines()[2:]:
            name, _, numbers = line.partition(":")
            n = [int(number) for number in numbers.split()]
            found[name.strip()] = LinkCounters(n[0], n[1], n[3], n[8], n[9], n[11])
        return found
