"""The sockets of the two protocols on the wire: the secure one's never fragments, whatever the kernel has learnt."""

import ipaddress
import socket
import struct
from typing import NamedTuple

import pytest

from tap2tap.demo.lab import Lab
from tap2tap.endpoint import Endpoint
from tap2tap.memory import GROUP
from tap2tap.udp_socket import open_socket
from tap2tap.workers.arena import Arena
from tap2tap.workers.send import Sender
from tap2tap.workers.train import ROOM
from tests.support.sending import lay
from tests.support.traffic import Wire

DF, MORE_OR_OFFSET = 0x4000, 0x3FFF  # linux/ip.h, net/ip.h
FRAGMENT_HEADER = 44  # of IPv6
LONGEST = {4: 1472, 6: 1452}  # bytes of UDP payload on an Ethernet of 1500
END = b"end"  # a datagram, the last one


class Packet(NamedTuple):
    """One IP packet: its bytes in all, and whether it may be, and is, a fragment."""

    length: int
    may_be: bool
    is_one: bool


def parse(packet: bytes) -> Packet:
    """Read an IP header; in IPv6 nobody but the sender fragments."""
    if packet[0] >> 4 == 4:
        length, flags = (struct.unpack_from("!H", packet, at)[0] for at in (2, 6))
        return Packet(length, not flags & DF, bool(flags & MORE_OR_OFFSET))
    fragment = packet[6] == FRAGMENT_HEADER
    return Packet(40 + int.from_bytes(packet[4:6]), fragment, fragment)


def sent(lab: Lab, sock: socket.socket, version: int, *trains: list[int]) -> tuple[list[Packet], list[int]]:
    """What arrives on the wire of trains of datagrams of these sizes; and what the sender was told is too long."""
    address = ipaddress.ip_address(lab.right.ipv4 if version == 4 else lab.right.ipv6)
    target = Endpoint(address, 1234).raw(sock.family)
    arena, too_long = Arena(ROOM), list[int]()
    sender = Sender(sock, arena, memoryview(bytearray(GROUP * 8)).cast("Q"), True, too_long.append)
    with Wire(lab.right, "eth0") as wire:
        for train in [*trains, [len(END)]]:
            sender.send(lay(arena, [END.ljust(size, b"x") for size in train]), target)
        udp = (socket.IPPROTO_UDP, FRAGMENT_HEADER)
        packets: list[Packet] = []
        while True:
            (seen,) = wire.collect(lambda frame: frame[23 if frame[12:14] == b"\x08\0" else 20] in udp, 1)
            if seen.frame[14:].rstrip(b"\0").endswith(END):
                return packets, too_long
            packets.append(parse(seen.frame[14:]))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("bind", [True, False], ids=["bound", "any"])
def test_the_secure_protocols_socket_never_sends_a_fragment(lab: Lab, version: int, bind: bool) -> None:
    longest = LONGEST[version]
    host = lab.left.ipv4 if version == 4 else lab.left.ipv6
    there = lab.right.ipv4 if version == 4 else lab.right.ipv6
    # What an ICMP message may have told, true or not, is a route of a smaller MTU to the kernel.
    lab.left.run(["ip", "route", "add", there, "dev", "eth0", "mtu", "1300"])
    with lab.left.inside():
        sock = open_socket(host if bind else None, 0, fragment=False)
    with sock:
        packets, too_long = sent(lab, sock, version, [longest], [longest + 1], [longest + 1] * 5, [longest] * 3, [100])
    # A virtual wire carries a train whole; the first device with a real one cuts it up.
    assert packets == [Packet(size + 1500 - longest, False, False) for size in (longest, 3 * longest, 100)]
    assert too_long == [longest + 1] * 2


@pytest.mark.parametrize("version", [4, 6])
def test_the_plain_protocols_socket_sends_fragments(lab: Lab, version: int) -> None:
    longest = LONGEST[version]
    with lab.left.inside():
        sock = open_socket(None, 0)
    with sock:
        packets, too_long = sent(lab, sock, version, [longest], [longest + 100])
    assert packets[0].length == 1500
    assert [packet.is_one for packet in packets] == [False, True, True]
    assert all(packet.may_be for packet in packets if version == 4)
    assert not too_long
