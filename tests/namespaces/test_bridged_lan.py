"""Two LANs of MTU 1500 become one, with the defaults, over paths whose MTU nobody is told.

What the hosts send arrives byte for byte. With a key no IP fragment is on the path, and of TCP no frame goes in parts.
"""

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from tap2tap import counter_block
from tap2tap.counter_block import Reading
from tap2tap.counters import Count, Drop, Slot
from tap2tap.demo.host import IPV6
from tap2tap.demo.lab import Host, wait_for
from tap2tap.protocols.secure.wire import OVERHEAD
from tests.conftest import lacking
from tests.support import frames
from tests.support.bridged import Bridged, tso
from tests.support.frames import ACK, SYN, Flow
from tests.support.secured import make_keys, wait_up
from tests.support.traffic import Stream, Wire, family, numbered
from tests.support.tunnel import Tunnel, wait_ping

IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2  # linux/in.h, linux/in6.h
BROADCAST, TO, FROM = (bytes.fromhex(mac) for mac in ("ffffffffffff", "020000000002", "020000000001"))
DATAGRAMS = 8
VERSIONS = (4, 6) if IPV6.exists() else (4,)
TAGS = ((), ((0x8100, 7),), ((0x88A8, 8), (0x8100, 9)))


@pytest.fixture(scope="module")
def lans() -> Iterator[Bridged]:
    """One laboratory for all."""
    try:
        made = Bridged()
    except PermissionError as error:
        lacking(str(error))
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        lacking(f"nft: {error}")
    with made:
        tso(made.right, "eth0", on=False)  # and the left one's stays on
        yield made


class Ends(NamedTuple):
    """The tunnel."""

    west: Tunnel
    east: Tunnel

    def counted(self, which: int) -> list[int]:
        """That count of both outbound workers."""
        return [_reading(end).outbound[which] for end in self]


def _reading(tunnel: Tunnel) -> Reading:
    for each in counter_block.live(netns=Path(tunnel.host.namespace).stat().st_ino):
        if each.slots[Slot.PID] == tunnel.pid:
            return each
    raise AssertionError(f"no counter block: {tunnel.log}")


@contextmanager
def tunnel(lans: Bridged, mtu: int, *options: str, keys: Sequence[str] = (), version: int = 4) -> Iterator[Ends]:
    """A tunnel between the sites over a path of that MTU, with its taps in the bridges, and a LAN that is one."""
    lans.path(mtu)
    client, server = (("--key", key) for key in keys) if keys else ((), ())
    remote = lans.east.ipv4 if version == 4 else lans.east.ipv6
    with (
        Tunnel(lans.east, *server, *options, wait=False) as east,
        Tunnel(lans.west, "--remote", remote, *client, *options) as west,
    ):
        east.wait_said("tunnel is up")
        lans.plug()
        if keys:
            wait_up(west, east)
        for inner in VERSIONS:
            wait_ping(lans.left, address(lans.right, inner))
        yield Ends(west, east)


def carry_streams(lans: Bridged) -> None:
    """TCP both ways at once, of two sizes, over IPv4 and IPv6."""
    streams = [
        Stream(sender, receiver, address(receiver, version), size)
        for version in VERSIONS
        for sender, receiver in ways(lans)
        for size in (400_000 + version, 100_000)
    ]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.check()


def carry_datagrams(lans: Bridged) -> None:
    """Datagrams that fill a packet of 1500 bytes and may not be fragmented, both ways."""
    for version in VERSIONS:
        for sender, receiver in ways(lans):
            _carry_datagrams(sender, receiver, address(receiver, version))


def _carry_datagrams(sender: Host, receiver: Host, to: str) -> None:
    with receiver.socket(family(to), socket.SOCK_DGRAM) as into, sender.socket(family(to), socket.SOCK_DGRAM) as out:
        into.bind((to, 0))
        into.settimeout(10)
        if ":" in to:
            out.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO)
        else:
            out.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
        out.connect(into.getsockname())
        for payload in numbered(DATAGRAMS, 1452 if ":" in to else 1472):
            out.send(payload)  # one after the other: nothing is dropped for want of room
            assert into.recv(1 << 16) == payload


def carry_frames(lans: Bridged) -> None:
    """A DHCP message that fills a packet, with a VLAN tag too; with two tags, as much as the hosts' devices let by."""
    everybody = Flow(tcp=False, source=bytes(4), target=b"\xff" * 4, fragment=0, ports=(68, 67))
    wanted = [
        frames.build(replace(everybody, macs=BROADCAST + FROM, tags=tags), frames.payload(size, size + len(tags)))
        for tags, size in zip(TAGS, (1472, 1472, 1464), strict=True)
    ]
    for sender, receiver in ways(lans):
        assert carried(sender, receiver, wanted) == wanted


def carried(sender: Host, receiver: Host, some: Sequence[bytes]) -> list[bytes]:
    """What comes of frames that are sent one after the other."""
    with Wire(receiver, "eth0") as into, Wire(sender, "eth0") as out:
        out.send(*some)
        came = into.collect(lambda frame: frame[6:12] == FROM, len(some))
        return [each.frame for each in came]


def check_syns(lans: Bridged, ends: Ends, overhead: int) -> None:
    """The MSS of connections fits both taps, and one datagram with a VLAN tag or two as well."""
    room, mtu = min(path_of(end) for end in ends) - overhead, min(_reading(end).slots[Slot.MTU] for end in ends)
    flows = [
        Flow(version=version, macs=TO + FROM, tags=tags, flags=SYN | flag, options=b"\x02\x04\x05\xb4")
        for version in (4, 6)
        for tags in TAGS
        for flag in (0, ACK)
    ]
    fits = [min(room - flow.l4, mtu + flow.l3 - flow.l4) - 20 for flow in flows]
    wanted = [
        replace(flow, options=b"\x02\x04" + mss.to_bytes(2, "big")) for flow, mss in zip(flows, fits, strict=True)
    ]
    for sender, receiver in ways(lans):
        came = carried(sender, receiver, [frames.build(flow, b"") for flow in flows])
        assert came == [frames.build(flow, b"") for flow in wanted]


def ways(lans: Bridged) -> Sequence[tuple[Host, Host]]:
    """Sender and receiver, both ways."""
    return (lans.left, lans.right), (lans.right, lans.left)


def address(host: Host, version: int) -> str:
    """Where a host is."""
    return host.ipv4 if version == 4 else host.ipv6


def path_of(end: Tunnel) -> int:
    """Bytes of UDP payload that fit the path, as this end has found out."""
    return _reading(end).slots[Slot.PATH]


@pytest.fixture
def keys(tmp_path: Path) -> Sequence[str]:
    """The keys of both ends."""
    return make_keys(tmp_path)


@pytest.mark.parametrize(("mtu", "version"), [(1280, 6), (1400, 4), (1500, 4)])
def test_with_a_key_all_arrives_without_a_fragment_and_tcp_without_parts(
    lans: Bridged, keys: Sequence[str], mtu: int, version: int
) -> None:
    if version not in VERSIONS:
        lacking("no IPv6")
    before = lans.fragments()
    with tunnel(lans, mtu, keys=keys, version=version) as ends:
        payload = mtu - (28 if version == 4 else 48)
        wait_for(lambda: [path_of(end) for end in ends] == [payload] * 2, 30, f"path MTU: {ends.west.log}")
        parts, clamped = ends.counted(Count.PARTS), ends.counted(Count.CLAMPED)
        carry_streams(lans)
        assert [now > then for now, then in zip(ends.counted(Count.CLAMPED), clamped, strict=True)] == [True, True]
        check_syns(lans, ends, OVERHEAD)
        assert ends.counted(Count.PARTS) == parts
        carry_datagrams(lans)
        carry_frames(lans)
        assert [now > then for now, then in zip(ends.counted(Count.PARTS), parts, strict=True)] == [True, True]
        assert ends.counted(Count.DROPPED + Drop.TOO_LONG) == [0, 0]
    assert lans.fragments() == before


def test_left_alone_tcp_arrives_in_parts(lans: Bridged, keys: Sequence[str]) -> None:
    before = lans.fragments()
    with tunnel(lans, 1500, "--no-clamp", keys=keys) as ends:
        carry_streams(lans)
        assert ends.counted(Count.CLAMPED) == [0, 0]
        assert min(ends.counted(Count.PARTS)) > 0
    assert lans.fragments() == before


def test_in_the_clear_tcp_fits_a_path_of_1500(lans: Bridged) -> None:
    before = lans.fragments()
    with tunnel(lans, 1500) as ends:
        wait_for(lambda: [path_of(end) for end in ends] == [1472] * 2, 30, "measured route")
        carry_streams(lans)
        check_syns(lans, ends, 0)
        assert min(ends.counted(Count.CLAMPED)) > 0
    assert lans.fragments() == before


def test_in_the_clear_tcp_gets_over_a_shorter_path(lans: Bridged) -> None:
    """Its routers make fragments. A server that takes IPv6 as well has a tap of 1438, the client one of 1458."""
    with tunnel(lans, 1280):
        carry_streams(lans)
