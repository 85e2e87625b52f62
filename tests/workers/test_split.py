"""The splitter cuts super-frames as the reference does, within its limits, and refuses what contradicts itself."""

import struct
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap2tap.workers.checksum import MalformedError
from tap2tap.workers.split import Splitter
from tap2tap.workers.train import STRIDE, Batch
from tests.support import frames
from tests.support.frames import ACK, CWR, FIN, PSH, TIMESTAMPS, Flow

SOURCE = Batch()
SPLITTER = Splitter(SOURCE)


def split(header: bytes, *supers: bytes, splitter: Splitter = SPLITTER) -> list[list[bytes]]:
    """The frames of each train."""
    for number, frame in enumerate(supers):
        SOURCE.buffer[number * STRIDE : number * STRIDE + len(frame)] = frame
    trains: list[list[bytes]] = []
    for batch in splitter.split(header, [len(frame) for frame in supers]):
        assert batch.vouched
        assert all(0 < train.last <= train.size for train in batch.trains)
        datagrams = iter(frames.contents(batch))
        trains += [[next(datagrams) for _ in range(train.count)] for train in batch.trains]
    if splitter.malformed:
        raise MalformedError
    return trains


def flat(trains: list[list[bytes]]) -> list[bytes]:
    """All frames of all trains."""
    return [frame for train in trains for frame in train]


@given(frames.flows(), frames.bytes_of_payload, st.integers(1, 1500))
@example(Flow(options=TIMESTAMPS, flags=ACK | PSH | CWR), frames.payload(65160), 1448)
@example(Flow(version=6, tcp=False), frames.payload(1001), 1000)
@example(Flow(ident=65535), frames.payload(1449), 1448)
def test_segments_are_those_of_the_reference(flow: Flow, payload: bytes, mss: int) -> None:
    trains = split(*frames.super_frame(flow, payload, mss))
    assert flat(trains) == frames.segments(flow, payload, mss)


@given(frames.flows(), frames.bytes_of_payload, st.integers(1, 1500), st.data())
def test_trains_stay_within_the_limits(flow: Flow, payload: bytes, mss: int, data: st.DataObject) -> None:
    max_bytes = data.draw(st.integers(1, 6000))
    max_segments = data.draw(st.integers(1, 64))
    overhead = data.draw(st.integers(0, 40))
    splitter = Splitter(SOURCE, max_bytes, max_segments, overhead)
    trains = split(*frames.super_frame(flow, payload, mss), splitter=splitter)
    assert flat(trains) == frames.segments(flow, payload, mss)
    for train in trains:
        assert len(train) <= max_segments
        assert len(train) == 1 or sum(len(frame) + overhead for frame in train) <= max_bytes
    if len(trains) > 1:
        whole = sum(len(frame) + overhead for train in trains for frame in train)
        assert whole > max_bytes or len(flat(trains)) > max_segments


def test_a_full_super_frame_is_one_train() -> None:
    flow = Flow(options=TIMESTAMPS)
    assert len(split(*frames.super_frame(flow, frames.payload(42 * 1448 + 700), 1448))) == 1


def test_many_shapes_do_not_pile_up() -> None:
    splitter = Splitter(SOURCE)
    for mss in range(100, 500):
        header, frame = frames.super_frame(Flow(), bytes(1000), mss)
        assert flat(split(header, frame, splitter=splitter)) == frames.segments(Flow(), bytes(1000), mss)


@pytest.mark.parametrize("tcp", [True, False])
def test_a_checksum_of_zero(tcp: bool) -> None:
    flow = Flow(tcp=tcp, ident=0)
    cut = [flow, replace(flow, seq=flow.seq + 10, ident=1)]
    payload = bytearray(15)
    for piece, start, length in ((cut[0], 0, 10), (cut[1], 10, 5)):
        at = frames.build(piece, bytes(length))[flow.l4 :][16 if tcp else 6 :][:2]
        payload[start : start + 2] = at  # adding what the checksum was makes it zero
    expected = b"\0\0" if tcp else b"\xff\xff"
    (train,) = split(*frames.super_frame(flow, bytes(payload), 10))
    for frame in train:
        assert frame[flow.l4 :][16 if tcp else 6 :][:2] == expected
    assert train == frames.segments(flow, bytes(payload), 10)


def test_fin_and_psh_end_and_cwr_begins_it_across_trains() -> None:
    flow = Flow(flags=ACK | FIN | PSH | CWR)
    splitter = Splitter(SOURCE, max_segments=3)
    trains = split(*frames.super_frame(flow, bytes(1000), 100), splitter=splitter)
    assert [len(train) for train in trains] == [3, 3, 3, 1]
    flags = [frame[flow.l4 + 13] for frame in flat(trains)]
    assert flags == [ACK | CWR] + [ACK] * 8 + [ACK | FIN | PSH]


@given(frames.flows(), frames.bytes_of_payload)
def test_a_header_without_needs_csum_is_completed_too(flow: Flow, payload: bytes) -> None:
    _, frame = frames.super_frame(flow, payload, 600)
    header = struct.pack("=BBHHHH", 2, flow.gso_type, 0, 600, 0, 0)
    assert flat(split(header, frame)) == frames.segments(flow, payload, 600)


def header_with(flow: Flow = Flow(), **other: int) -> bytes:  # noqa: B008
    fields = {"flags": 1, "kind": flow.gso_type, "hdr_len": 0, "mss": 100, "start": flow.l4, "offset": 16} | other
    return struct.pack("=BBHHHH", *fields.values())


@pytest.mark.parametrize(
    "header",
    [
        header_with(mss=0),
        header_with(kind=frames.TCPV6),
        header_with(kind=frames.UDP_L4),
        header_with(kind=0),
        header_with(kind=3),
        header_with(kind=255),
        header_with(start=30),
        header_with(start=65535),
        header_with(offset=6),
        header_with(offset=65535),
        b"\1\1",
        b"",
    ],
)
def test_a_header_that_contradicts_the_frame_is_malformed(header: bytes) -> None:
    with pytest.raises(MalformedError):
        split(header, frames.build(Flow(), bytes(1000), partial=True))


@given(frames.flows(), st.integers(0, 200))
def test_a_frame_cut_off_is_malformed_or_short(flow: Flow, length: int) -> None:
    header, frame = frames.super_frame(flow, bytes(100), 10)
    if length < flow.hl:
        with pytest.raises(MalformedError):
            split(header, frame[:length])
    else:
        assert len(flat(split(header, frame[:length]))) == max(1, -(-(min(length, len(frame)) - flow.hl) // 10))


@pytest.mark.parametrize("tags", [((0x8100, 1),) * 9, ((0x88A8, 1),) * 2000])
def test_too_many_tags_are_malformed(tags: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(MalformedError):
        split(*frames.super_frame(Flow(tags=tags), bytes(1000), 100))


def test_endless_extension_headers_are_malformed() -> None:
    for body, count in ((bytes(6), 9), (bytes(6), 4000), (bytes(2046), 1)):
        with pytest.raises(MalformedError):
            split(*frames.super_frame(Flow(version=6, extensions=((60, body),) * count), bytes(1000), 100))


def test_limits_that_allow_nothing_are_refused() -> None:
    for limits in ((0, 64, 0), (65507, 0, 0), (65507, 64, -1), (65507, 2000, 0)):
        with pytest.raises(ValueError):
            Splitter(SOURCE, *limits)


@given(st.binary(max_size=10), st.binary(max_size=300))
def test_noise_is_malformed(header: bytes, frame: bytes) -> None:
    try:
        split(header, frame)
    except MalformedError:
        return


@given(frames.flows(), st.binary(max_size=300), st.data())
def test_a_damaged_super_frame_is_cut_or_malformed(flow: Flow, payload: bytes, data: st.DataObject) -> None:
    header, frame = frames.super_frame(flow, payload, 37)
    written = bytearray(header + frame)
    for _ in range(data.draw(st.integers(1, 4))):
        written[data.draw(st.integers(0, min(len(written) - 1, flow.hl + 10)))] = data.draw(st.integers(0, 255))
    try:
        cut = flat(split(bytes(written[:10]), bytes(written[10:])))
    except MalformedError:
        return
    assert cut[0][:12] == written[10:22]
