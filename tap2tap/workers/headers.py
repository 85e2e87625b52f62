"""What split and join know of Ethernet, IP, TCP and UDP headers; nothing else in the data plane knows any.

Constants carry the kernel's names: linux/if_ether.h, linux/in.h, linux/tcp.h, linux/udp.h.
"""

import struct
from typing import NamedTuple

from tap2tap.vnet import VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4
from tap2tap.workers.checksum import ONES, MalformedError

ETH_HLEN = 14
ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
ETH_P_8021Q = 0x8100
ETH_P_8021AD = 0x88A8
IPPROTO_TCP = 6
IPPROTO_UDP = 17
IPV6_OPTIONS = frozenset((0, 43, 60))  # hop-by-hop, routing, destination: what may precede TCP or UDP in a super-frame
TCP_CHECK = 16  # offsetof(struct tcphdr, check)
UDP_CHECK = 6  # offsetof(struct udphdr, check)
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))  # the flags in byte 13 of a TCP header

U16 = struct.Struct(">H")
U32 = struct.Struct(">I")

MAX_HEADERS = 1024  # bytes of all headers: far more than is ever seen, and bounds what a hostile super-frame can cost
MAX_TAGS = 8  # VLAN_MAX_DEPTH in linux/if_vlan.h
_MAX_OPTIONS = 8  # IPv6 extension headers


class Layout(NamedTuple):
    """Where the network header, the transport header and the payload of a frame begin, and the gso_type of its kind."""

    l3: int
    l4: int
    hl: int
    kind: int
    v4: bool

    @property
    def tcp(self) -> bool:
        """Whether the transport is TCP and not UDP."""
        return self.kind != VIRTIO_NET_HDR_GSO_UDP_L4

    @property
    def check(self) -> int:
        """Where the transport checksum is."""
        return self.l4 + (TCP_CHECK if self.tcp else UDP_CHECK)

    @property
    def length(self) -> int:
        """Where the length in the IP header is."""
        return self.l3 + (2 if self.v4 else 4)

    def mask(self) -> bytearray:
        """The bits of the headers, `hl` bytes, that say that this is the layout: frames that share them share it."""
        bits = bytearray(self.hl)
        for at in range(12, self.l3, 4):  # the EtherTypes, not what is in the tags between them
            bits[at : at + 2] = b"\xff\xff"
        bits[self.l3] = 0xFF if self.v4 else 0xF0
        bits[self.l3 + (9 if self.v4 else 6)] = 0xFF
        if not self.v4:
            bits[self.l3 + 40 : self.l4] = b"\xff" * (self.l4 - self.l3 - 40)
        if self.tcp:
            bits[self.l4 + 12] = 0xF0
        return bits


def locate(frame: memoryview) -> Layout:
    """Find the headers of a TCP or UDP frame, whatever tags, options and extension headers precede the transport.

    Raises MalformedError if it is another kind of frame, or too short for what its headers say.
    """
    length = len(frame)
    if length < ETH_HLEN + 28:
        raise MalformedError("short frame")
    l3 = ETH_HLEN
    while (proto := frame[l3 - 2] << 8 | frame[l3 - 1]) in (ETH_P_8021Q, ETH_P_8021AD):
        l3 += 4
        if l3 > ETH_HLEN + 4 * MAX_TAGS or l3 + 28 > length:
            raise MalformedError("VLAN tags")
    version = frame[l3] >> 4
    if proto == ETH_P_IP and version == 4:
        l4 = l3 + 4 * (frame[l3] & 15)
        protocol = frame[l3 + 9]
        if l4 < l3 + 20:
            raise MalformedError("IPv4 header length")
    elif proto == ETH_P_IPV6 and version == 6:
        l4 = l3 + 40
        protocol = frame[l3 + 6]
        for _ in range(_MAX_OPTIONS):
            if protocol not in IPV6_OPTIONS or l4 + 8 > length:
                break
            protocol = frame[l4]
            l4 += 8 + 8 * frame[l4 + 1]
    else:
        raise MalformedError("not IP")
    if protocol == IPPROTO_UDP:
        kind = VIRTIO_NET_HDR_GSO_UDP_L4
        hl = l4 + 8
    elif protocol == IPPROTO_TCP:
        kind = VIRTIO_NET_HDR_GSO_TCPV4 if version == 4 else VIRTIO_NET_HDR_GSO_TCPV6
        if l4 + 20 > length:
            raise MalformedError("short TCP header")
        hl = l4 + 4 * (frame[l4 + 12] >> 4)
        if hl < l4 + 20:
            raise MalformedError("TCP header length")
    else:
        raise MalformedError("neither TCP nor UDP")
    if hl > min(length, MAX_HEADERS):
        raise MalformedError("headers longer than the frame")
    return Layout(l3, l4, hl, kind, version == 4)


def set_lengths(buffer: memoryview | bytearray, at: int, l3: int, l4: int, size: int, v4: bool, tcp: bool) -> None:
    """Write the lengths into the headers, at `at` in the buffer, of a segment of `size` bytes."""
    if v4:
        U16.pack_into(buffer, at + l3 + 2, size - l3)
    else:
        U16.pack_into(buffer, at + l3 + 4, size - l3 - 40)
    if not tcp:
        U16.pack_into(buffer, at + l4 + 4, size - l4)


def add(buffer: memoryview | bytearray, at: int, number: int) -> None:
    """Add to a 16-bit field, modulo 65535: for checksums, and for what is far from a limit."""
    U16.pack_into(buffer, at, (U16.unpack_from(buffer, at)[0] + number) % ONES)
