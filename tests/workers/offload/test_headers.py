"""The headers of frames are found where they are, and nothing is read beyond the frame."""

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.headers import Headers, host
from tests.support import frames
from tests.support.frames import Flow


def located(frame: bytes) -> tuple[Headers, Arena] | None:
    """The headers of a frame that ends where its arena does, and that arena."""
    arena, headers = Arena(7 + len(frame)), Headers()
    arena.put(7, frame)
    return (headers, arena) if headers.locate(arena, 7, len(frame)) else None


@given(frames.flows(), st.binary(max_size=100))
def test_they_are_where_the_flow_has_them(flow: Flow, payload: bytes) -> None:
    found = located(frames.build(flow, payload))
    assert found
    headers, arena = found
    assert (headers.l3, headers.l4, headers.hl, headers.kind) == (flow.l3, flow.l4, flow.hl, flow.gso_type)
    assert (headers.v4, headers.tcp) == (flow.version == 4, flow.tcp)
    assert headers.length == flow.l3 + (2 if flow.version == 4 else 4)
    assert headers.check == flow.l4 + (16 if flow.tcp else 6)
    width = 4 if flow.version == 4 else 16
    above = frames.pseudo(flow.source[:width], flow.target[:width], 6 if flow.tcp else 17, 0)
    assert headers.pseudo(arena, 7) % 65535 == frames.fold(above) % 65535


@given(frames.flows(), st.binary(max_size=100), st.binary(max_size=100))
def test_lengths_are_those_of_another_payload(flow: Flow, payload: bytes, other: bytes) -> None:
    found = located(frames.build(flow, payload))
    assert found
    headers, arena = found
    headers.set_lengths(arena, 7, flow.hl + len(other))
    expected = frames.build(flow, other)
    for at in (headers.length, flow.l4 + 4) if not flow.tcp else (headers.length,):
        assert arena.load16(7 + at) == int.from_bytes(expected[at : at + 2])


@given(frames.flows(), st.data())
def test_a_frame_that_ends_within_them_is_of_another_kind(flow: Flow, data: st.DataObject) -> None:
    frame = frames.build(flow, b"")
    assert located(frame)
    assert not located(frame[: data.draw(st.integers(0, flow.hl - 1))])


@given(frames.flows(), st.binary(max_size=40), st.data())
def test_whatever_is_in_them_stays_within_the_frame(flow: Flow, payload: bytes, data: st.DataObject) -> None:
    frame = bytearray(frames.build(flow, payload))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(12, flow.hl - 1))] = data.draw(st.integers(0, 255))
    del frame[data.draw(st.integers(0, len(frame))) :]
    found = located(bytes(frame))
    if found:
        headers, _ = found
        assert 14 <= headers.l3 <= headers.l4 - 20
        assert headers.l4 + 8 <= headers.hl <= len(frame)
        assert headers.check + 2 <= headers.hl


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (12, b"\x08\x06"),  # ARP
        (12, b"\x86\xdd"),  # IPv6, says Ethernet
        (14, b"\x65"),  # IPv6, says IP
        (14, b"\x44"),  # an IPv4 header of 16 bytes
        (23, b"\1"),  # ICMP
        (46, b"\x40"),  # a TCP header of 16 bytes
        (46, b"\xf0"),  # one of 60, longer than the frame
    ],
)
def test_another_kind_of_frame(at: int, value: bytes) -> None:
    frame = frames.build(Flow(), b"1234")
    assert located(frame)
    assert not located(frame[:at] + value + frame[at + len(value) :])


def test_there_is_a_limit_of_tags_and_extension_headers() -> None:
    tags, extensions = ((0x8100, 1),), ((60, bytes(6)),)
    flow = Flow(version=6)
    for number in range(12):
        assert bool(located(frames.build(replace(flow, tags=tags * number), b""))) is (number <= 8)
        assert bool(located(frames.build(replace(flow, extensions=extensions * number), b""))) is (number <= 8)
    for length, few in ((958, True), (966, False)):  # in all 1022 and 1030 bytes
        assert bool(located(frames.build(replace(flow, tcp=False, extensions=((60, bytes(length)),)), b""))) is few


def test_numbers_of_a_virtio_net_hdr_are_in_the_byte_order_of_the_host() -> None:
    arena = Arena(2)
    arena.put(0, struct.pack("=H", 0x1234))
    assert host(arena.load16(0)) == 0x1234
    arena.store16(0, host(0xABCD))
    assert arena.take(0, 2) == struct.pack("=H", 0xABCD)
