"""The kernel is the oracle: what it makes of a super-frame in software is what the splitter must make of it.

A bridge joins three taps. A super-frame written into the first comes out of the second as it is, with the header that
the kernel gives it, and out of the third, which offers no offload, in segments:

    enter --- bridge --+-- super  (TUNSETOFFLOAD: everything)
                       +-- plain  (nothing: the kernel segments and completes checksums)
"""

import fcntl
import os
import select
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2 import IPRoute

from tap2tap.demo.host import Host
from tests.conftest import lacking
from tests.support import frames
from tests.support.frames import ACK, CWR, ECE, FIN, MF, PSH, TIMESTAMPS, URG, Flow
from tests.support.joining import join
from tests.workers.offload.test_split import Split

TUNSETIFF = 0x400454CA  # linux/if_tun.h
TUNSETOFFLOAD = 0x400454D0
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x2, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN, TUN_F_USO4, TUN_F_USO6 = 1, 2, 4, 8, 0x20, 0x40
EVERYTHING = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6
PATIENCE = 10.0  # seconds
MACS = bytes.fromhex("020000000002020000000001")
END = MACS + b"\x88\xb5" + b"the end" + bytes(40)  # ETH_P_802_EX1: a frame that nobody touches


class Oracle:
    """The bridge and its taps. `close` is called by the fixture, which also removes the namespace."""

    def __init__(self) -> None:
        names = ("enter", "super", "plain")
        self.enter, self.super, self.plain = (self._tap(name) for name in names)
        fcntl.ioctl(self.super, TUNSETOFFLOAD, EVERYTHING)
        for protocol in ("ip", "ip6"):  # a bridge that looks into frames drops the broken ones
            called = Path(f"/proc/sys/net/bridge/bridge-nf-call-{protocol}tables")
            if called.exists():
                called.write_text("0")
        with IPRoute() as ip:
            ip.link("add", ifname="bridge", kind="bridge", br_mcast_snooping=0)
            bridge = ip.link_lookup(ifname="bridge")[0]
            for name in names:
                index = ip.link_lookup(ifname=name)[0]
                ip.link("set", index=index, master=bridge, mtu=60000, state="up")
            ip.link("set", index=bridge, state="up")

    @staticmethod
    def _tap(name: str) -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        return fd

    def close(self) -> None:
        """Close the taps, which removes them."""
        for fd in (self.enter, self.super, self.plain):
            os.close(fd)

    def carry(self, *written: bytes) -> None:
        """Write frames with their headers into the bridge, and a mark behind them."""
        for write in (*written, bytes(10) + END):
            assert os.write(self.enter, write) == len(write)

    def read(self, fd: int) -> list[bytes]:
        """What came out of a tap up to the mark: virtio_net_hdr and frame; not what the kernel sends of its own."""
        came: list[bytes] = []
        deadline = time.monotonic() + PATIENCE
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        while True:
            try:
                data = os.read(fd, 70000)
            except BlockingIOError:
                assert waiting.poll(max(0, deadline - time.monotonic()) * 1000), f"the mark never came, but {came}"
                continue
            if data[10:] == END:
                return came
            if data[10:22] == MACS:
                came.append(data)

    def segmented(self, *written: bytes) -> tuple[list[bytes], list[bytes]]:
        """What the kernel hands to a tap that takes super-frames, headers included, and what to one that does not."""
        self.carry(*written)
        return self.read(self.super), [self._finished(data) for data in self.read(self.plain)]

    @staticmethod
    def _finished(data: bytes) -> bytes:
        flags, kind = data[:2]
        assert not flags & frames.NEEDS_CSUM
        assert kind == frames.NONE
        return data[10:]


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    try:
        host = Host("oracle")
    except PermissionError as error:
        lacking(str(error))
    try:
        with host.inside():
            try:
                bridge = Oracle()
            except (FileNotFoundError, PermissionError) as error:
                lacking(f"no tap here: {error}")
        yield bridge
        bridge.close()
    finally:
        host.close()


def finish(data: bytes) -> list[bytes]:
    """What the outbound worker does with what it read; the largest super-frames reach it as segments."""
    return Split(data[:10], data[10:]).frames


TCP4 = Flow(macs=MACS)
TCP6 = replace(TCP4, version=6)
UDP4 = replace(TCP4, tcp=False)
UDP6 = replace(TCP6, tcp=False)
CASES = {
    "tcp4": (TCP4, 10 * 1460, 1460),
    "tcp6": (TCP6, 10 * 1440, 1440),
    "udp4": (UDP4, 10 * 1472, 1472),
    "udp6": (UDP6, 10 * 1452, 1452),
    "tcp4 full": (replace(TCP4, options=TIMESTAMPS), 65535 - 52, 1448),
    "tcp6 full": (replace(TCP6, options=TIMESTAMPS), 65535 - 32, 1428),
    "udp4 full": (UDP4, 65507, 1400),
    "udp6 full": (UDP6, 65527, 1400),
    "short last": (TCP4, 5001, 1000),
    "short last udp": (UDP6, 5001, 1000),
    "odd size": (TCP4, 5 * 1001, 1001),
    "odd size, short last": (UDP4, 4322, 777),
    "tiny segments": (TCP4, 3001, 30),
    "jumbo": (TCP6, 60000, 8948),
    "fin psh": (replace(TCP4, flags=ACK | FIN | PSH), 5001, 1000),
    "urg": (replace(TCP4, flags=ACK | URG, urgent=7), 5001, 1000),
    "ece": (replace(TCP4, flags=ACK | ECE, tos=2), 5001, 1000),
    "cwr": (replace(TCP4, flags=ACK | CWR | PSH, tos=2), 5001, 1000),
    "cwr ece": (replace(TCP6, flags=ACK | CWR | ECE, tos=2), 5001, 1000),
    "accurate ecn": (replace(TCP4, reserved=1), 5001, 1000),
    "ip options": (replace(TCP4, ip_options=b"\x01" * 40), 5001, 1000),
    "ip options udp": (replace(UDP4, ip_options=b"\x01" * 4), 5001, 1000),
    "tcp options": (replace(TCP6, options=b"\x01" * 40), 5001, 1000),
    "hop-by-hop": (replace(TCP6, extensions=((0, b"\x01\x04" + bytes(4)),)), 5001, 1000),
    "destination options": (replace(UDP6, extensions=((60, b"\x01\x0c" + bytes(12)),)), 5001, 1000),
    "two extensions": (
        replace(TCP6, extensions=((0, b"\x01\x04" + bytes(4)), (60, b"\x01\x04" + bytes(4)))),
        5001,
        1000,
    ),
    "vlan": (replace(TCP4, tags=((0x8100, 0x2007),)), 5001, 1000),
    "vlan udp": (replace(UDP6, tags=((0x8100, 0x2007),)), 5001, 1000),
    "provider vlan": (replace(TCP6, tags=((0x88A8, 5),)), 5001, 1000),
    "two tags": (replace(TCP4, tags=((0x88A8, 5), (0x8100, 7))), 5001, 1000),
    "three tags": (replace(UDP4, tags=((0x88A8, 5), (0x8100, 7), (0x8100, 8))), 5001, 1000),
    "id wraps": (replace(TCP4, ident=65533), 9001, 1000),
    "id wraps at the last": (replace(UDP4, ident=65535), 1001, 1000),
    "no df": (replace(TCP4, fragment=0), 5001, 1000),
    "seq wraps": (replace(TCP4, seq=2**32 - 1500), 9001, 1000),
    "flow label": (replace(TCP6, label=0xABCDE, tos=0xB9), 5001, 1000),
}


@pytest.mark.parametrize("case", CASES)
def test_the_splitter_cuts_as_the_kernel_does(oracle: Oracle, case: str) -> None:
    flow, length, mss = CASES[case]
    header, frame = frames.super_frame(flow, frames.payload(length), mss)
    handed, expected = oracle.segmented(header + frame)
    assert len(expected) == -(-length // mss)
    assert Split(header, frame).frames == expected
    assert frames.segments(flow, frames.payload(length), mss) == expected
    assert [out for data in handed for out in finish(data)] == expected


@pytest.mark.parametrize("case", CASES)
def test_what_the_joiner_writes_is_cut_into_the_same_frames(oracle: Oracle, case: str) -> None:
    flow, length, mss = CASES[case]
    cut = frames.segments(flow, frames.payload(length), mss)
    written = [piece for group in frames.trains_of(cut) for piece in join(group)]
    _, came = oracle.segmented(*(write for write, _ in written))
    assert came == cut
    if not flow.ip_options and not flow.extensions and not flow.flags & URG and length < 60000:
        assert max(count for _, count in written) == min(len(cut), 64)


flows = frames.flows().map(
    lambda flow: replace(flow, macs=MACS, tags=flow.tags[:2], fragment=flow.fragment & ~MF, extensions=())
)


@given(flows, frames.bytes_of_payload, st.integers(1, 1500))
def test_any_super_frame_is_cut_as_the_kernel_does(oracle: Oracle, flow: Flow, payload: bytes, mss: int) -> None:
    mss = max(
        mss, -(-len(payload) // 100)
    )  # not more segments than UDP_MAX_SEGMENTS, and than the queue of the tap takes
    header, frame = frames.super_frame(flow, payload, mss)
    if len(payload) <= mss:  # no super-frame for the kernel
        return
    _, expected = oracle.segmented(header + frame)
    assert Split(header, frame).frames == expected


@given(frames.flows(joinable=True), frames.bytes_of_payload, st.integers(20, 1500), st.data())
def test_a_run_with_a_corrupted_frame_arrives_as_it_was(
    oracle: Oracle, flow: Flow, payload: bytes, mss: int, data: st.DataObject
) -> None:
    cut = frames.segments(replace(flow, macs=MACS, tags=flow.tags[:1]), payload, mss)
    index = data.draw(st.integers(0, len(cut) - 1))
    at = data.draw(st.integers(20, len(cut[index]) - 1))
    broken = bytearray(cut[index])
    broken[at] ^= data.draw(st.integers(0, 255))
    cut[index] = bytes(broken)
    written = [write for group in frames.trains_of(cut) for write, _ in join(group)]
    _, came = oracle.segmented(*written)
    assert came == cut


@pytest.mark.parametrize("flow", [TCP4, TCP6, UDP4, UDP6, replace(TCP4, tags=((0x8100, 7),))])
def test_checksums_are_completed_as_the_kernel_does(oracle: Oracle, flow: Flow) -> None:
    for length in (0, 1, 2, 3, 33, 100, 1400):
        pieces = [frames.payload(length, seed) for seed in range(8)] + [frames.payload(length // 2)]
        cut = [frames.build(replace(flow, seq=index), piece, partial=True) for index, piece in enumerate(pieces)]
        header = struct.pack("=BBHHHH", frames.NEEDS_CSUM, 0, flow.hl, 0, flow.l4, 16 if flow.tcp else 6)
        _, expected = oracle.segmented(*(header + frame for frame in cut))
        assert Split(header, *cut).frames == expected


@pytest.mark.parametrize("flow", [TCP4, TCP6, UDP4, UDP6])
def test_a_zero_checksum_is_spelt_as_the_kernel_does(oracle: Oracle, flow: Flow) -> None:
    at = flow.l4 + (16 if flow.tcp else 6)
    bare = frames.build(flow, bytes(600))
    payload = bare[at : at + 2] + bytes(598)
    if not flow.tcp and payload[:2] == b"\xff\xff":
        pytest.skip("already zero")
    frame = frames.build(flow, payload, partial=True)
    header = struct.pack("=BBHHHH", frames.NEEDS_CSUM, 0, flow.hl, 0, flow.l4, at - flow.l4)
    _, expected = oracle.segmented(header + frame)
    assert expected[0][at : at + 2] == b"\xff\xff"
    assert Split(header, frame).frames == expected

    first = frames.build(flow, bytes(300))  # the same within a super-frame, where TCP's zero is a zero
    payload = first[at : at + 2] + bytes(598)
    header, frame = frames.super_frame(flow, payload, 300)
    _, expected = oracle.segmented(header + frame)
    assert expected[0][at : at + 2] == (b"\0\0" if flow.tcp else b"\xff\xff")
    assert Split(header, frame).frames == expected
