"""Two LANs that a tunnel is to make one: a host behind a bridge on either side, and a path that tells nobody its MTU.

    left --- west: br0 of port and tap0 --- road --- east: br0 of port and tap0 --- right

All devices have MTU 1500. The routes of the road may have less: what is longer is cut into fragments there where it may
be, and else dropped without a word.
"""

import ctypes
import fcntl
import json
import socket
import struct
from contextlib import AbstractContextManager
from types import TracebackType

from tap2tap.demo.host import IPV6, Host

SIOCETHTOOL = 0x8946  # linux/sockios.h
ETHTOOL_STSO = 0x1F  # linux/ethtool.h

RULES = """
add table inet road
add counter inet road fragments
add chain inet road seen { type filter hook prerouting priority -450 ; }
add rule inet road seen ip frag-off & 0x3fff != 0 counter name fragments
add rule inet road seen exthdr frag exists counter name fragments
add chain inet road silent { type filter hook output priority 0 ; }
add rule inet road silent icmp type destination-unreachable drop
add rule inet road silent icmpv6 type packet-too-big drop
"""


class Bridged(AbstractContextManager["Bridged"]):
    """The hosts and what is between them, without a tunnel. `tap` makes one part of it."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        try:
            names = ("left", "right", "west", "east", "road")
            for name in names:
                self.hosts.append(Host(name))
            self.left, self.right, self.west, self.east, self.road = self.hosts
            for number, (site, host) in enumerate(((self.west, self.left), (self.east, self.right)), 1):
                self._lan(host, site, number)
                self._underlay(site, number)
            self.road.sysctl("net/ipv4/ip_forward", "1")
            if IPV6.exists():
                self.road.sysctl("net/ipv6/conf/all/forwarding", "1")
            for rule in RULES.strip().splitlines():
                self.road.run(["nft", *rule.split()])
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _lan(host: Host, site: Host, number: int) -> None:
        _veth(site, "port", host, "eth0")
        with site.netlink() as route:
            route.link("add", ifname="br0", kind="bridge", br_mcast_snooping=0)
        site.link("port", master=site.index("br0"))
        site.link("br0", state="up")
        host.ipv4 = f"10.77.0.{number}"
        host.address("eth0", f"{host.ipv4}/24")
        if IPV6.exists():
            host.ipv6 = f"fd00:77::{number}"
            host.address("eth0", f"{host.ipv6}/64")

    def _underlay(self, site: Host, number: int) -> None:
        _veth(site, "eth0", self.road, f"to{number}")
        site.ipv4, site.ipv6 = f"10.213.{number}.2", f"fd00:d213:{number}::2"
        ways = [(f"10.213.{number}.%d/24", "0.0.0.0/0")]
        if IPV6.exists():
            ways.append((f"fd00:d213:{number}::%d/64", "::/0"))
        for network, everywhere in ways:
            self.road.address(f"to{number}", network % 1)
            site.address("eth0", network % 2)
            site.route("add", everywhere, gateway=(network % 1).partition("/")[0])

    def path(self, mtu: int) -> None:
        """Set the MTU of the path, both ways."""
        for number in (1, 2):
            device, limit = f"to{number}", ("mtu", "lock", str(mtu))
            self.road.run(["ip", "route", "replace", f"10.213.{number}.0/24", "dev", device, *limit])
            if IPV6.exists():
                six = f"fd00:d213:{number}::/64"
                self.road.run(["ip", "-6", "route", "replace", six, "dev", device, "metric", "1", *limit])

    def plug(self) -> None:
        """Make the taps of both sites ports of their bridges."""
        for site in (self.west, self.east):
            site.link("tap0", master=site.index("br0"))

    def fragments(self) -> int:
        """How many IP fragments have come to the road."""
        listed = json.loads(self.road.run(["nft", "-j", "list", "counters"]).stdout)["nftables"]
        return sum(each["counter"]["packets"] for each in listed if "counter" in each)

    def close(self) -> None:
        """Take everything down."""
        for host in self.hosts:
            host.close()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def tso(host: Host, device: str, *, on: bool) -> None:
    """Switch TCP segmentation offload of a device, as `ethtool -K DEVICE tso on` does."""
    value = ctypes.create_string_buffer(struct.pack("=II", ETHTOOL_STSO, on), 8)
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCETHTOOL, struct.pack("16sP16x", device.encode(), ctypes.addressof(value)))


def _veth(one: Host, device: str, other: Host, peer: str) -> None:
    with one.netlink() as route:
        route.link("add", ifname=device, kind="veth", peer={"ifname": peer, "net_ns_pid": other.pid})
    one.link(device, state="up")
    other.link(peer, state="up")
