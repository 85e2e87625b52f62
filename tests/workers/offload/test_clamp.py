"""The MSS of TCP is lowered to what fits, with a checksum as if the segment had been made so; all else stays."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tap2tap.counters import SLOTS, Count, Slot
from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.clamp import Clamp
from tap2tap.workers.path import Path
from tests.support import frames
from tests.support.frames import ACK, DF, MF, SYN, Flow

AT = 64
ARENA = Arena(AT + (1 << 17))
MIN_MSS = 88  # TCP_MIN_MSS in include/net/tcp.h
OVERHEAD = 24

MSS = b"\x02\x04\x05\xb4"
AROUND = st.lists(  # options that are none of ours: NOP, window scale, SACK permitted, time stamps, an unknown one
    st.sampled_from((b"\x01", b"\x03\x03\x07", b"\x04\x02", b"\x08\x0a" + bytes(8), b"\xfd\x06abcd")), max_size=3
).map(b"".join)
ROOMS = st.integers(1, 1600) | st.integers(1200, 1500)


def clamped(cut: Sequence[bytes], room: int, *, between: int = 0, mtu: int = 65535) -> tuple[list[bytes], int]:
    """What becomes of a train of these frames where the path has that room, and how many are said to have changed."""
    counts, slots = (memoryview(bytearray(8 * SLOTS)).cast("Q") for _ in range(2))
    slots[Slot.PATH] = room + OVERHEAD
    train = frames.load(ARENA, AT, cut, room=between)
    before = bytes(ARENA.view[:AT])
    Clamp(ARENA, counts, Path(slots, OVERHEAD), mtu).lower(train)
    assert bytes(ARENA.view[:AT]) == before
    number = counts[Count.CLAMPED]
    assert sum(counts) == number
    return frames.contents(ARENA, train), number


def padded(options: bytes) -> bytes:
    """Options with the end-of-options padding that they need."""
    return options + bytes(-len(options) % 4)


def option(mss: int) -> bytes:
    """The MSS option."""
    return b"\x02\x04" + mss.to_bytes(2, "big")


def fits(flow: Flow, room: int, mtu: int = 65535) -> int:
    """The MSS of segments that fit, as long as there is any sense in them."""
    return max(MIN_MSS, min(room - flow.l4, mtu - (flow.l4 - flow.l3)) - 20)


@given(
    frames.flows(),
    AROUND,
    AROUND,
    st.integers(0, 65535) | st.integers(1200, 1460),
    st.tuples(ROOMS, st.integers(68, 1600)),
    st.binary(max_size=90),
)
@example(Flow(), b"", b"", 1460, (1448, 1500), b"")
@example(Flow(tags=((0x8100, 6),)), b"", b"", 1460, (1472, 1438), b"")  # as a plain server: the tap is the narrower one
@example(Flow(version=6, tags=((0x88A8, 5), (0x8100, 6))), b"", b"", 1440, (1448, 1500), b"")
@example(Flow(ip_options=b"\x01" * 40), b"\x01", b"", 1460, (1448, 1500), b"x")  # at an odd byte
@example(Flow(version=6, extensions=((0, bytes(6)), (60, bytes(14)))), b"\x01", b"\x01" * 3, 1440, (1228, 1500), b"")
def test_the_mss_is_lowered_as_if_the_segment_had_been_made_so(
    flow: Flow, front: bytes, behind: bytes, mss: int, limits: tuple[int, int], data: bytes
) -> None:
    room, mtu = limits
    options = [padded(front + option(value) + behind) for value in (mss, min(mss, fits(flow, room, mtu)))]
    assume(len(options[0]) <= 40)
    came, wanted = (
        frames.build(replace(flow, tcp=True, flags=flow.flags | SYN, options=each), data) for each in options
    )
    assert clamped([came], room, mtu=mtu) == ([wanted], came != wanted)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("front", [b"", b"\x01"])
def test_a_checksum_of_zero_stays_one(version: int, front: bytes) -> None:
    """Of all values of a field next to it, one makes the checksum 0; and one did so before."""
    flow = Flow(version=version, flags=SYN, options=padded(front + option(1460)))
    less = replace(flow, options=padded(front + option(fits(flow, 1228))))
    for made in (flow, less):
        urgent = int.from_bytes(frames.build(made, b"")[flow.l4 + 16 :][:2], "big")
        came, wanted = (frames.build(replace(each, urgent=urgent), b"") for each in (flow, less))
        assert (came if made is flow else wanted)[flow.l4 + 16 :][:2] == bytes(2)
        assert clamped([came], 1228) == ([wanted], 1)


def test_a_wrong_checksum_is_not_mended() -> None:
    flow = Flow(flags=SYN, options=MSS)
    at = flow.l4 + 16
    broken = bytearray(frames.build(flow, b""))
    broken[at] ^= 0x40
    ((changed,), count) = clamped([bytes(broken)], 1228)
    right = frames.build(replace(flow, options=option(fits(flow, 1228))), b"")
    assert count == 1
    assert changed[:at] + changed[at + 2 :] == right[:at] + right[at + 2 :]
    assert changed[at : at + 2] != right[at : at + 2]


@given(st.lists(st.sampled_from((0, 1, 2, 3, 4, 5, 8, 255)), max_size=40).map(bytes), ROOMS)
@example(b"\x02\x04\xff\xff\x02\x04\xff\xff", 1000)  # the last one counts
@example(b"\x02\x03\xff\x02\x04\xff\xff\x00", 1000)
@example(b"\x02\x00\xff\xff", 1000)
@example(b"\x05\x01\x02\x04\xff\xff\x00\x00", 1000)
@example(b"\x00\x02\x04\xff\xff\x00\x00\x00", 1000)
@example(b"\x01\x02\x04\xff", 1000)  # reaches beyond the header
@example(b"\x05\x09\x01\x01\x02\x04\xff\xff", 1000)
def test_hostile_options_are_read_as_the_kernel_does(options: bytes, room: int) -> None:
    flow = Flow(flags=SYN | ACK, options=padded(options))
    came = frames.build(flow, b"\x02\x04\xff\xff")
    lowered = bytearray(flow.options)
    at = 0
    while at < len(lowered) and lowered[at]:  # tcp_parse_options in net/ipv4/tcp_input.c
        if lowered[at] == 1:
            at += 1
            continue
        length = lowered[at + 1] if at + 1 < len(lowered) else 0
        if length < 2 or at + length > len(lowered):
            break
        if lowered[at] == 2 and length == 4:
            value = int.from_bytes(lowered[at + 2 : at + 4], "big")
            lowered[at + 2 : at + 4] = min(value, fits(flow, room)).to_bytes(2, "big")
        at += length
    wanted = frames.build(replace(flow, options=bytes(lowered)), b"\x02\x04\xff\xff")
    assert clamped([came], room) == ([wanted], came != wanted)


def fragment_of_six() -> bytes:
    """The first fragment of a SYN over IPv6."""
    return frames.build(Flow(version=6, extensions=((44, b"\0\0\0\1abcd"),), flags=SYN, options=MSS), b"")


@pytest.mark.parametrize(
    "frame",
    [
        frames.build(Flow(flags=ACK, options=MSS), b""),
        frames.build(Flow(flags=SYN, options=MSS, fragment=MF), b""),
        frames.build(Flow(flags=SYN, options=MSS, fragment=1), b""),
        frames.build(Flow(flags=SYN, options=MSS, fragment=DF | MF), b""),
        fragment_of_six(),
        frames.build(Flow(flags=SYN), MSS),  # only in the data
        frames.build(Flow(tcp=False), b"\x80\x02" * 6 + MSS * 4),
        frames.build(Flow(flags=SYN, options=MSS, tags=((0x8100, 1),) * 9), b""),
        frames.build(Flow(flags=SYN, options=MSS), b"")[:57],
    ],
)
def test_what_is_no_whole_syn_stays(frame: bytes) -> None:
    assert clamped([frame], 700) == ([frame], 0)


def test_nothing_is_lowered_where_the_path_is_unknown() -> None:
    frame = frames.build(Flow(flags=SYN, options=option(65535)), b"")
    assert clamped([frame], -OVERHEAD, mtu=1 << 20) == ([frame], 0)
    assert clamped([frame], 700)[1] == 1


@given(frames.flows(), st.binary(max_size=60), ROOMS, st.data())
def test_a_damaged_segment_is_changed_in_its_options_and_its_checksum_alone(
    flow: Flow, data: bytes, room: int, draw: st.DataObject
) -> None:
    flow = replace(flow, tcp=True, flags=flow.flags | SYN, options=padded(MSS + b"\x04\x02"))
    damaged = bytearray(frames.build(flow, data))
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(12, min(len(damaged) - 1, flow.hl + 10)))] = draw.draw(st.integers(0, 255))
    damaged = damaged[: draw.draw(st.integers(14, len(damaged)))]
    ((changed,), _) = clamped([bytes(damaged)], room)
    assert len(changed) == len(damaged)
    assert sum(one != other for one, other in zip(changed, damaged, strict=True)) <= 2 + 2 * 10


def test_every_syn_of_a_train_is_found_among_other_frames() -> None:
    """In a train of short frames anywhere; in one of long frames in front, with data, and last, where it is short."""
    other = frames.build(Flow(flags=ACK, options=bytes(4)), b"")
    syns = [Flow(flags=SYN, ident=number, options=MSS) for number in range(20)]
    cut = [frames.build(flow, b"") for flow in syns]
    wanted = [frames.build(replace(flow, options=option(1000 - flow.l4 - 20)), b"") for flow in syns]
    order = [*range(20), *[20] * 30]
    random.Random(7).shuffle(order)
    for between in (0, 24):
        came, count = clamped([[*cut, other][number] for number in order], 1000, between=between)
        assert came == [[*wanted, other][number] for number in order]
        assert count == 20
        bulk = frames.build(Flow(), bytes(1400))
        opening = Flow(flags=SYN, options=MSS)
        first = frames.build(opening, bytes(len(bulk) - len(cut[0])))
        came, count = clamped([first, bulk, bulk, cut[0]], 1000, between=between)
        lowered = replace(opening, options=option(1000 - opening.l4 - 20))
        assert came == [frames.build(lowered, bytes(len(bulk) - len(cut[0]))), bulk, bulk, wanted[0]]
        assert count == 2
