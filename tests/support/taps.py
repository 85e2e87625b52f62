"""Taps that somebody else has made: how they are set, and programs that are attached to them."""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from pyroute2.ethtool.ioctl import IoctlEthtool

from tap2tap import device
from tap2tap.demo.lab import Host
from tap2tap.supervisor.tap_setup import FEATURES
from tests.support.command import AS_NOBODY, private

UID = 65534  # of AS_NOBODY

# How to run tap2tap as an ordinary user who may open /dev/net/tun, as is usual, and nothing else.
ORDINARY: dict[str, Any] = {
    "command": AS_NOBODY,
    "prefix": private("mount -t tmpfs none /dev/net", "mknod -m 666 /dev/net/tun c 10 200"),
}


class State(NamedTuple):
    """How a tap is set."""

    mtu: int
    address: str
    up: bool
    carrier: bool
    gso: tuple[int, int]
    offloads: frozenset[str]


def state(host: Host, interface: str = "tap0") -> State:
    """How a tap of a host is set now."""
    with host.netlink() as netlink, host.inside(), closing(IoctlEthtool(interface)) as ethtool:
        link = netlink.link("get", index=host.index(interface))[0]
        features = ethtool.get_features()
    return State(
        link.get_attr("IFLA_MTU"),
        link.get_attr("IFLA_ADDRESS"),
        bool(link["flags"] & 1),  # IFF_UP
        bool(link.get_attr("IFLA_CARRIER")),
        (link.get_attr("IFLA_GSO_MAX_SEGS"), link.get_attr("IFLA_GSO_MAX_SIZE")),
        frozenset(label for label, name in FEATURES.items() if features[name]),
    )


def make(host: Host, *words: str, offloads: int = 0) -> None:
    """Make the tap tap0 of a host, with more words of ip-tuntap(8), and let it have offloads (TUN_F_...)."""
    host.run(["ip", "tuntap", "add", "dev", "tap0", "mode", "tap", *words])
    with attached(host, multi_queue="multi_queue" in words) as fd:
        fcntl.ioctl(fd, device.TUNSETOFFLOAD, offloads)


@contextmanager
def attached(host: Host, *, multi_queue: bool = False) -> Iterator[int]:
    """Another program, which is this one, is attached to tap0."""
    flags = device.IFF_TAP | device.IFF_NO_PI | (device.IFF_MULTI_QUEUE if multi_queue else 0)
    with host.inside():  # a descriptor belongs to the network namespace in which it was opened
        fd = os.open(device.DEVICE, os.O_RDWR | os.O_CLOEXEC)
    with open(fd, "rb", buffering=0):
        fcntl.ioctl(fd, device.TUNSETIFF, struct.pack("16sH22x", b"tap0", flags))
        yield fd
