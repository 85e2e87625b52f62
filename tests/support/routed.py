"""Two hosts with two routers between them, whose link may be narrower than the rest: nobody at the ends is told."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tap2tap.demo.lab import Host, Lab
from tests.support.nft import nft

NETS = (("left", "near"), ("near", "far"), ("far", "right"))


class Routed:
    """left - near - far - right, with IPv4 and IPv6; no message of ICMP about lengths leaves a router."""

    def __init__(self, mtu: int = 1500) -> None:
        self._stack = ExitStack()
        try:
            self.hosts = {name: self._host(name) for name in ("left", "near", "far", "right")}
            self.left, self.near, self.far, self.right = self.hosts.values()
            for number, (one, other) in enumerate(NETS, 1):
                self._join(number, self.hosts[one], self.hosts[other])
            self.left.ipv4, self.left.ipv6 = "10.214.1.1", "fd00:d214:1::1"
            self.right.ipv4, self.right.ipv6 = "10.214.3.2", "fd00:d214:3::2"
            self._route()
            self.narrow(mtu)
        except BaseException:
            self._stack.close()
            raise

    def _host(self, name: str) -> Host:
        host = Host(name)
        self._stack.callback(host.close)
        return host

    @staticmethod
    def _join(number: int, one: Host, other: Host) -> None:
        Lab._veth(one, f"to{number}", other, f"to{number}")
        for last, host in enumerate((one, other), 1):
            host.address(f"to{number}", f"10.214.{number}.{last}/24")
            host.address(f"to{number}", f"fd00:d214:{number}::{last}/64")

    def _route(self) -> None:
        for router in (self.near, self.far):
            router.sysctl("net/ipv4/ip_forward", "1")
            router.sysctl("net/ipv6/conf/all/forwarding", "1")
            nft(
                router,
                "add table inet silence",
                "add chain inet silence out { type filter hook output priority 0 ; }",
                "add rule inet silence out icmp type destination-unreachable drop",
                "add rule inet silence out icmpv6 type packet-too-big drop",
            )
        ways = (("left", 1, 2), ("near", 2, 2), ("far", 2, 1), ("right", 3, 1))
        for name, net, last in ways:
            host = self.hosts[name]
            host.run(["ip", "route", "add", "10.214.0.0/16", "via", f"10.214.{net}.{last}"])
            host.run(["ip", "-6", "route", "add", "fd00:d214::/32", "via", f"fd00:d214:{net}::{last}"])

    def narrow(self, mtu: int) -> None:
        """Change the MTU between the routers."""
        for router in (self.near, self.far):
            router.link("to2", mtu=mtu)

    def fragments(self) -> int:
        """How many fragments of IP all of them have made."""
        found = 0
        for host in self.hosts.values():
            lines = [line.split() for line in host.run(["cat", "/proc/net/snmp"]).stdout.splitlines()]
            names, values = (line for line in lines if line[0] == "Ip:")
            found += int(values[names.index("FragCreates")])
            six = dict(line.split() for line in host.run(["cat", "/proc/net/snmp6"]).stdout.splitlines())
            found += int(six["Ip6FragCreates"])
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
