"""Where the headers of a frame are: Ethernet with VLAN tags, IPv4 or IPv6, TCP or UDP."""

import sys

from tap2tap.vnet import VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4
from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.linux import (
    ETH_HLEN,
    ETH_P_8021AD,
    ETH_P_8021Q,
    ETH_P_IP,
    ETH_P_IPV6,
    IPPROTO_DSTOPTS,
    IPPROTO_HOPOPTS,
    IPPROTO_ROUTING,
    IPPROTO_TCP,
    IPPROTO_UDP,
    TCP_CHECK,
    UDP_CHECK,
    VLAN_HLEN,
    VLAN_MAX_DEPTH,
)

LITTLE = sys.byteorder == "little"
MAX_HEADERS = 1024  # bytes of all headers: far more than is ever seen, and bounds what a hostile super-frame can cost
MAX_OPTIONS = 8  # IPv6 extension headers


def host(number: int) -> int:
    """A 16-bit number of a virtio_net_hdr, which is in the byte order of the host, as the arena loads or stores it."""
    return (number & 0xFF) << 8 | number >> 8 if LITTLE else number


class Headers:
    """Offsets in bytes from the beginning of a frame, and what is there.

    The network header is at `l3`, the length in it at `length`; the transport header at `l4`, its checksum at `check`;
    the payload at `hl`. `v4` says that it is IPv4 and not IPv6, `tcp` that it is TCP and not UDP, `kind` is the
    gso_type of super-frames of that kind.
    """

    def __init__(self) -> None:
        self.l3 = self.l4 = self.hl = self.length = self.check = self.kind = 0
        self.v4 = self.tcp = False

    def locate(self, arena: Arena, at: int, size: int) -> bool:
        """Find them in the frame of `size` bytes at `at`, whatever tags, options and extension headers it has.

        False if it is another kind of frame, or too short for what its headers say.
        """
        if size < ETH_HLEN + 28:
            return False
        l3 = ETH_HLEN
        proto = arena.load16(at + l3 - 2)
        while proto in (ETH_P_8021Q, ETH_P_8021AD):
            l3 += VLAN_HLEN
            if l3 > ETH_HLEN + VLAN_HLEN * VLAN_MAX_DEPTH or l3 + 28 > size:
                return False
            proto = arena.load16(at + l3 - 2)
        first = arena.load8(at + l3)
        self.v4 = proto == ETH_P_IP and first >> 4 == 4
        if self.v4:
            l4 = l3 + 4 * (first & 15)
            protocol = arena.load8(at + l3 + 9)
            if l4 < l3 + 20:
                return False
        elif proto == ETH_P_IPV6 and first >> 4 == 6:
            l4 = l3 + 40
            protocol = arena.load8(at + l3 + 6)
            for _ in range(MAX_OPTIONS):  # those that may precede TCP or UDP in a super-frame
                if protocol not in (IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS):
                    break
                if l4 + 8 > size:
                    return False
                protocol = arena.load8(at + l4)
                l4 += 8 + 8 * arena.load8(at + l4 + 1)
        else:
            return False
        self.tcp = protocol == IPPROTO_TCP
        if self.tcp:
            if l4 + 20 > size:
                return False
            hl = l4 + 4 * (arena.load8(at + l4 + 12) >> 4)
            if hl < l4 + 20:
                return False
            self.kind = VIRTIO_NET_HDR_GSO_TCPV4 if self.v4 else VIRTIO_NET_HDR_GSO_TCPV6
            self.check = l4 + TCP_CHECK
        elif protocol == IPPROTO_UDP:
            hl = l4 + 8
            self.kind = VIRTIO_NET_HDR_GSO_UDP_L4
            self.check = l4 + UDP_CHECK
        else:
            return False
        self.l3, self.l4, self.hl = l3, l4, hl
        self.length = l3 + (2 if self.v4 else 4)
        return hl <= size and hl <= MAX_HEADERS

    def pseudo(self, arena: Arena, at: int) -> int:
        """The sum of the pseudo-header of the frame at `at`, but for the length in it."""
        addresses = arena.sum(at + self.l3 + 12, 8) if self.v4 else arena.sum(at + self.l3 + 8, 32)
        return addresses + (IPPROTO_TCP if self.tcp else IPPROTO_UDP)

    def set_lengths(self, arena: Arena, at: int, size: int) -> None:
        """Write the lengths into the headers at `at` of a frame of `size` bytes."""
        arena.store16(at + self.length, size - self.l3 - (0 if self.v4 else 40))
        if not self.tcp:
            arena.store16(at + self.l4 + 4, size - self.l4)
