"""The splitter cuts super-frames as the reference does, within its limits, and refuses what contradicts itself."""

import struct
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap2tap.counters import Count, Drop
from tap2tap.vnet import VNET_LENGTH
from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.split import OUT_AREA, Splitter
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, ROOM, Train
from tests.support import frames
from tests.support.frames import ACK, CWR, FIN, NEEDS_CSUM, PSH, TIMESTAMPS, Flow

AT = 64  # where it is read
TCP_MIN_MSS = 88  # include/net/tcp.h
OUT = AT + ROOM + 64
NO_LIMIT = 1 << 30  # bytes of a segment
ARENA = Arena(OUT + OUT_AREA + 64)


class Split:
    """What a splitter makes of one read: the frames of each train, and what it counts."""

    def __init__(
        self, header: bytes, *read: bytes, front: int = 0, overhead: int = 0, room: int = 0, most: int = NO_LIMIT
    ) -> None:
        self.counts = memoryview(bytearray(8 * 64)).cast("Q")
        splitter = Splitter(ARENA, self.counts, OUT, front, overhead)
        whole = frames.load(ARENA, AT, read, room=room)
        ARENA.put(OUT - 64, b"\x5a" * (64 + OUT_AREA + 64))
        ARENA.put(AT - VNET_LENGTH, header)
        splitter.begin(whole, most)
        self.trains: list[list[bytes]] = []
        self.vouched: list[bool] = []
        train = Train()
        while splitter.next(train):
            assert 0 < train.last <= train.size
            if header[1]:
                assert train.vouched
                assert train.at == OUT + front
                assert train.step == train.size + overhead
            self.vouched.append(train.vouched)
            self.trains.append(frames.contents(ARENA, train))
        assert not splitter.next(train)
        for beside in (OUT - 64, OUT + OUT_AREA):
            assert ARENA.take(beside, 64) == b"\x5a" * 64
        self.frames = [frame for cut in self.trains for frame in cut]
        self.malformed = self.counts[Count.DROPPED + Drop.MALFORMED]
        if header[1]:
            assert self.counts[Count.SUPER_FRAMES] == 1 - self.malformed
            assert self.counts[Count.SUPER_FRAME_FRAMES] == len(self.frames)
            assert bool(self.frames) is not bool(self.malformed)


@given(frames.flows(), frames.bytes_of_payload, st.integers(1, 1500))
@example(Flow(options=TIMESTAMPS, flags=ACK | PSH | CWR), frames.payload(65160), 1448)
@example(Flow(version=6, tcp=False), frames.payload(1001), 1000)
@example(Flow(ident=65535), frames.payload(1449), 1448)
def test_segments_are_those_of_the_reference(flow: Flow, payload: bytes, mss: int) -> None:
    assert Split(*frames.super_frame(flow, payload, mss)).frames == frames.segments(flow, payload, mss)


@given(frames.flows(), frames.bytes_of_payload, st.integers(1, 1500), st.integers(100, 1600))
@example(Flow(options=TIMESTAMPS, flags=ACK | FIN | PSH | CWR), frames.payload(65160), 1448, 1448)
@example(Flow(tcp=False), frames.payload(3000), 1472, 1448)  # datagrams stay whole
@example(Flow(ident=65535, fragment=0), frames.payload(3000), 1448, 1000)
@example(Flow(), frames.payload(1500), 1448, 14 + 40 + 1448)
def test_segments_of_tcp_that_do_not_fit_are_cut_smaller(flow: Flow, payload: bytes, mss: int, room: int) -> None:
    fits = max(TCP_MIN_MSS, room - flow.hl) if flow.tcp else mss
    split = Split(*frames.super_frame(flow, payload, mss), most=room)
    assert split.frames == frames.segments(flow, payload, min(mss, fits))


def test_hostile_headers_do_not_make_segments_tiny() -> None:
    for room in (0, 1, 54, 55, 100):
        split = Split(*frames.super_frame(Flow(), bytes(5000), 1448), most=room)
        assert len(split.frames) == -(-5000 // max(TCP_MIN_MSS, room - 54))


@given(
    frames.flows(),
    st.builds(frames.payload, st.integers(1, 62000) | st.integers(59000, 62000)),
    st.integers(500, 1500) | st.integers(500, 30000),
    st.sampled_from(((0, 0), (8, 24), (0, 40), (100, 128))),
)
@example(Flow(options=TIMESTAMPS), frames.payload(42 * 1448 + 1), 1448, (8, 24))
@example(Flow(), frames.payload(62000), 62000, (8, 24))
@example(Flow(), frames.payload(64 * 400 + 1), 400, (0, 0))
@example(Flow(tcp=False), frames.payload(60001), 30000, (100, 128))
@example(Flow(tcp=False), frames.payload(65480), 65480, (8, 24))  # alone beyond the limit
def test_trains_stay_within_the_limits(flow: Flow, payload: bytes, mss: int, around: tuple[int, int]) -> None:
    front, overhead = around
    split = Split(*frames.super_frame(flow, payload, mss), front=front, overhead=overhead)
    assert split.frames == frames.segments(flow, payload, mss)
    for train in split.trains:
        assert len(train) <= MAX_SEGMENTS
        assert len(train) == 1 or sum(len(frame) + overhead for frame in train) <= MAX_PAYLOAD
    if len(split.trains) > 1:
        whole = sum(len(frame) + overhead for frame in split.frames)
        assert whole > MAX_PAYLOAD or len(split.frames) > MAX_SEGMENTS


def test_a_full_super_frame_is_one_train() -> None:
    flow = Flow(options=TIMESTAMPS)
    assert len(Split(*frames.super_frame(flow, frames.payload(42 * 1448 + 700), 1448)).trains) == 1


@pytest.mark.parametrize("tcp", [True, False])
def test_a_checksum_of_zero(tcp: bool) -> None:
    flow = Flow(tcp=tcp, ident=0)
    cut = [flow, replace(flow, seq=flow.seq + 10, ident=1)]
    payload = bytearray(15)
    for piece, start, length in ((cut[0], 0, 10), (cut[1], 10, 5)):
        at = frames.build(piece, bytes(length))[flow.l4 :][16 if tcp else 6 :][:2]
        payload[start : start + 2] = at  # adding what the checksum was makes it zero
    expected = b"\0\0" if tcp else b"\xff\xff"
    (train,) = Split(*frames.super_frame(flow, bytes(payload), 10)).trains
    for frame in train:
        assert frame[flow.l4 :][16 if tcp else 6 :][:2] == expected
    assert train == frames.segments(flow, bytes(payload), 10)


def test_fin_and_psh_end_and_cwr_begins_it_across_trains() -> None:
    flow = Flow(flags=ACK | FIN | PSH | CWR)
    split = Split(*frames.super_frame(flow, bytes(1930), 10))
    assert [len(train) for train in split.trains] == [64, 64, 64, 1]
    flags = [frame[flow.l4 + 13] for frame in split.frames]
    assert flags == [ACK | CWR] + [ACK] * 191 + [ACK | FIN | PSH]


@given(frames.flows(), frames.bytes_of_payload)
def test_a_header_without_needs_csum_is_completed_too(flow: Flow, payload: bytes) -> None:
    _, frame = frames.super_frame(flow, payload, 600)
    header = struct.pack("=BBHHHH", 2, flow.gso_type, 0, 600, 0, 0)
    assert Split(header, frame).frames == frames.segments(flow, payload, 600)


def header_with(flow: Flow = Flow(), **other: int) -> bytes:  # noqa: B008
    fields = {"flags": 1, "kind": flow.gso_type, "hdr_len": 0, "mss": 100, "start": flow.l4, "offset": 16} | other
    return struct.pack("=BBHHHH", *fields.values())


@pytest.mark.parametrize(
    "header",
    [
        header_with(mss=0),
        header_with(kind=frames.TCPV6),
        header_with(kind=frames.UDP_L4),
        header_with(kind=frames.ECN),
        header_with(kind=3),
        header_with(kind=255),
        header_with(start=30),
        header_with(start=30, offset=20),
        header_with(start=65535),
        header_with(offset=6),
        header_with(offset=65535),
    ],
)
def test_a_header_that_contradicts_the_frame_is_malformed(header: bytes) -> None:
    assert Split(header, frames.build(Flow(), bytes(1000), partial=True)).malformed == 1


@given(frames.flows(), st.integers(1, 200))
def test_a_frame_cut_off_is_malformed_or_short(flow: Flow, length: int) -> None:
    header, frame = frames.super_frame(flow, bytes(100), 10)
    split = Split(header, frame[:length])
    if length < flow.hl:
        assert split.malformed == 1
    else:
        assert len(split.frames) == max(1, -(-(min(length, len(frame)) - flow.hl) // 10))


@pytest.mark.parametrize("tags", [((0x8100, 1),) * 9, ((0x88A8, 1),) * 2000])
def test_too_many_tags_are_malformed(tags: tuple[tuple[int, int], ...]) -> None:
    assert Split(*frames.super_frame(Flow(tags=tags), bytes(1000), 100)).malformed == 1


def test_endless_extension_headers_are_malformed() -> None:
    for body, count in ((bytes(6), 9), (bytes(6), 4000), (bytes(2046), 1)):
        flow = Flow(version=6, extensions=((60, body),) * count)
        assert Split(*frames.super_frame(flow, bytes(1000), 100)).malformed == 1


@pytest.mark.parametrize("length", [ROOM - 1, ROOM, ROOM + 1])
@pytest.mark.parametrize("mss", [2, 65535])
def test_the_longest_read_stays_in_its_area(length: int, mss: int) -> None:
    flow = Flow(tags=((0x8100, 1),) * 8, version=6, extensions=((60, bytes(870)),))
    header, frame = frames.super_frame(flow, bytes(60000), mss)
    split = Split(header, frame + bytes(length - len(frame)), front=100, overhead=128)
    if mss == 2 and length <= ROOM:
        assert len(split.frames) == -(-(length - flow.hl) // mss)
    else:
        assert split.malformed == 1


@given(st.binary(min_size=10, max_size=10), st.binary(max_size=300))
def test_noise_passes_or_is_malformed(header: bytes, frame: bytes) -> None:
    split = Split(header, frame or b"\0")
    assert split.frames or split.malformed == 1


@given(frames.flows(), st.binary(max_size=300), st.data())
def test_a_damaged_super_frame_is_cut_or_malformed(flow: Flow, payload: bytes, data: st.DataObject) -> None:
    header, frame = frames.super_frame(flow, payload, 37)
    written = bytearray(header + frame)
    for _ in range(data.draw(st.integers(1, 4))):
        written[data.draw(st.integers(0, min(len(written) - 1, flow.hl + 10)))] = data.draw(st.integers(0, 255))
    split = Split(bytes(written[:10]), bytes(written[10:]))
    if not split.malformed:
        assert split.frames[0][:12] == written[10:22]


@given(st.lists(st.binary(min_size=60, max_size=60), min_size=1, max_size=64), st.integers(1, 60), st.booleans())
def test_ordinary_frames_stay_as_they_are(cut: list[bytes], last: int, trusted: bool) -> None:
    cut[-1] = cut[-1][:last]
    header = bytes((2 if trusted else 0, 0)) + b"\xff" * 8  # VIRTIO_NET_HDR_F_DATA_VALID says nothing about us
    split = Split(header, *cut, room=24, overhead=24)
    assert split.trains == [cut]
    assert split.vouched == [False]
    assert not any(split.counts)


@pytest.mark.parametrize("tcp", [True, False])
def test_checksums_of_ordinary_frames_are_completed(tcp: bool) -> None:
    flow = Flow(tcp=tcp)
    pieces = [frames.payload(100, seed) for seed in range(9)] + [b"the last"]
    cut = [frames.build(flow, piece, partial=True) for piece in pieces]
    header = bytes((NEEDS_CSUM, 0)) + frames.vnet(flow, 0)[2:]
    split = Split(header, *cut, room=24, overhead=24)
    assert split.trains == [[frames.build(flow, piece) for piece in pieces]]
    assert split.vouched == [True]
    assert not any(split.counts)


def test_a_frame_without_the_field_of_its_checksum_is_malformed() -> None:
    flow = Flow()
    cut = [frames.build(flow, frames.payload(100), partial=True)] * 4
    header = bytes((NEEDS_CSUM, 0)) + frames.vnet(flow, 0)[2:]
    split = Split(header, *cut, cut[0][: flow.l4 + 17])
    assert split.trains == [[frames.build(flow, frames.payload(100))] * 4]
    assert split.malformed == 1
    for far in (struct.pack("=HH", 65535, 65535), struct.pack("=HH", 0, len(cut[0]) - 1)):
        split = Split(header[:6] + far, *cut)
        assert not split.trains
        assert split.malformed == 4
