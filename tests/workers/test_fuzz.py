"""Hostile input: whatever comes in from tap or peer, a worker stays alive and carries the next good frame."""

import random
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tap2tap.demo.lab import Lab, wait_for
from tests.support import frames
from tests.support.lone import Lone, roomy
from tests.support.traffic import Wire, segment_size
from tests.support.tunnel import Tunnel

GOOD = bytes.fromhex("020000000002 020000000001 88b5") + b"a good frame".ljust(46)
BOUNDED = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SIZES = (
    st.integers(14, 200)
    | st.integers(200, 2000)
    | st.sampled_from((14, 15, 41, 42, 43, 53, 54, 61, 62, 20_000, 65_200))
)
LARGEST = 65_550  # what a tap gives at most: 64 KiB and its Ethernet header
PATTERN = frames.payload(LARGEST)
WORDS = st.sampled_from((0, 1, 2, 6, 14, 16, 20, 34, 54, 1000, 1448, 32767, 32768, 65535)) | st.integers(0, 65535)


@st.composite
def hostile_frames(draw: st.DrawFn) -> bytes:
    """A frame that is right, or right but for a few bytes or its end, or noise."""
    if draw(st.integers(0, 9)) == 0:
        return random.Random(draw(st.integers(0, 1 << 32))).randbytes(draw(SIZES | st.just(LARGEST)))
    data = bytearray(frames.build(draw(frames.flows()), PATTERN[: draw(SIZES)], partial=draw(st.booleans())))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, min(len(data), 100) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.just(LARGEST) | st.integers(14, len(data)))])


@st.composite
def hostile_reads(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A virtio_net_hdr and a frame, which may contradict each other."""
    if draw(st.booleans()):
        header, frame = frames.super_frame(draw(frames.flows()), PATTERN[: draw(SIZES)], draw(st.integers(1, 2000)))
        fields = list(struct.unpack("=BBHHHH", header))
    else:
        frame = draw(hostile_frames())
        kinds = st.sampled_from((0, 1, 3, 4, 5, 0x80, 0x81, 0x84, 0x85)) | st.integers(0, 255)
        fields = [draw(st.integers(0, 3)), draw(kinds), *(draw(WORDS) for _ in range(4))]
    if draw(st.booleans()):
        fields[draw(st.integers(2, 5))] = draw(WORDS)
    return struct.pack("=BBHHHH", *fields), frame


@pytest.fixture(scope="module")
def outward() -> Iterator[Lone]:
    with Lone("outbound", offload=True).start() as lone:
        yield lone


@pytest.fixture(scope="module")
def inward() -> Iterator[Lone]:
    with Lone("inbound", offload=True).start() as lone:
        yield lone


def carries_on(lone: Lone) -> bool:
    """Whether a good frame goes through; sent again if the rubbish before it has filled a buffer."""
    for _ in range(20):
        assert lone.alive()
        end = lone.peer if lone.direction == "outbound" else lone.tap
        try:
            if lone.direction == "outbound":
                lone.feed(GOOD)
            else:
                lone.call(GOOD)
            end.settimeout(1)
            while not end.recv(1 << 17).endswith(GOOD):
                pass
            return True
        except TimeoutError:
            continue
    return False


@BOUNDED
@given(reads=st.lists(hostile_reads(), max_size=20))
def test_the_outbound_worker_outlives_any_frame(outward: Lone, reads: list[tuple[bytes, bytes]]) -> None:
    for header, frame in reads:
        outward.feed(frame, header=header)
    assert carries_on(outward)


@BOUNDED
@given(datagrams=st.lists(hostile_frames(), max_size=20), cut=st.integers(1, 2000))
def test_the_inbound_worker_outlives_any_datagram(inward: Lone, datagrams: list[bytes], cut: int) -> None:
    for data in datagrams:
        inward.call(data[:65507])
    together = b"".join(datagrams)[: min(65507, 64 * cut)]
    if together:
        inward.call_train(together, cut)
    assert carries_on(inward)


@BOUNDED
@given(
    flow=frames.flows(),
    size=SIZES,
    mss=st.integers(1, 1400),
    damage=st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4),
)
def test_the_inbound_worker_outlives_damaged_segments_of_one_flow(
    inward: Lone, flow: frames.Flow, size: int, mss: int, damage: list[tuple[int, int]]
) -> None:
    segments = frames.segments(flow, PATTERN[:size], mss)[:64]
    fits = max(1, 65507 // len(segments[0]))
    data = bytearray(b"".join(segments[:fits]))
    for at, value in damage:
        data[at % len(data)] = value
    inward.call_train(bytes(data), len(segments[0]))
    assert carries_on(inward)


def test_a_real_tap_gets_what_is_hostile_and_the_tunnel_lives(lab: Lab) -> None:
    dice = random.Random(7)
    target = (lab.right.ipv4, 1234)
    udp = roomy(lab.left.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with Tunnel(lab.right) as tunnel, Wire(lab.right) as wire, udp as peer:
        for number in range(400):
            flow = frames.Flow(version=dice.choice((4, 6)), tcp=dice.choice((True, False)))
            segments = frames.segments(flow, PATTERN[: dice.randrange(1, 20_000)], 1380)
            data = bytearray(b"".join(segments))
            for _ in range(number % 4):
                data[dice.randrange(min(len(data), dice.choice((80, 20_000))))] = dice.randrange(256)
            peer.sendmsg([data], segment_size(len(segments[0])), 0, target)
            peer.sendto(dice.randbytes(dice.randrange(1600)), target)

        def carried() -> bool:
            peer.sendto(GOOD, target)
            while seen := wire.seen():
                if seen.frame == GOOD:
                    return True
            return False

        wait_for(carried, 30, "good frame")
        facts = tunnel.stats()["workers"]
        assert facts["inbound"]["super_frames"]
        assert not facts["inbound"]["restarts"] + facts["outbound"]["restarts"]
