"""The joiner on whole trains: of several flows, of noise, longer than a super-frame may be."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import frames
from tests.support.frames import Flow
from tests.support.joining import BULK, check, counts, join, make


def test_a_super_frame_fits_into_an_ip_packet() -> None:
    for version, room in ((4, 65535 - 32 - 20), (6, 65535 - 32)):
        mss = 9000
        cut = frames.segments(replace(BULK, version=version), bytes(13 * mss), mss)
        written = join(cut)
        check(cut, written)
        assert counts(written)[0] == (room - 20) // mss


def test_interleaved_flows_are_joined_by_runs() -> None:
    cut: list[bytes] = []
    for port, version, tcp in ((1, 4, True), (2, 4, True), (3, 4, False), (4, 6, True)):
        flow = Flow(version=version, tcp=tcp, ports=(port, port), options=b"\1" * 12)
        cut += make(flow, 8, 200 - flow.hl)
    written = join(cut)
    check(cut, written)
    assert counts(written) == [8, 8, 8, 8]


def test_a_train_that_begins_with_something_else_is_joined_too() -> None:
    cut = make(BULK)
    arp = cut[0][:12] + b"\x08\x06" + bytes(len(cut[0]) - 14)
    for place, expected in ((0, [1, 10]), (5, [5, 1, 5]), (10, [10, 1])):
        group = [*cut[:place], arp, *cut[place:]]
        assert counts(join(group)) == expected


@pytest.mark.parametrize("size", [1, 13, 14, 42, 60, 1514])
def test_what_is_not_ip_is_yielded_one_by_one(size: int) -> None:
    for count, last in ((1, size), (7, size), (7, max(1, size // 2))):
        cut = [bytes((index,)) * size for index in range(count - 1)] + [b"\x77" * last]
        written = join(cut)
        check(cut, written)
        assert counts(written) == [1] * count


def test_a_train_longer_than_a_super_frame_may_be() -> None:
    for flow in (BULK, Flow(version=6, tcp=False)):
        cut = make(flow, 150)
        written = join(cut)
        check(cut, written)
        assert counts(written) == [64, 64, 22]


def test_many_runs_are_found_in_one_train() -> None:
    cut: list[bytes] = []
    for port in range(32):
        cut += make(replace(BULK, ports=(port, port)), 2)
    written = join(cut)
    check(cut, written)
    assert counts(written) == [2] * 32


@given(st.integers(1, 120), st.integers(1, 64), st.data())
def test_noise_passes_unchanged(size: int, count: int, data: st.DataObject) -> None:
    noise = data.draw(st.binary(min_size=size, max_size=size))
    last = data.draw(st.integers(1, size))
    cut = [noise] * (count - 1) + [noise[:last]]
    written = join(cut, vouched=data.draw(st.booleans()), room=data.draw(st.sampled_from((0, 24))), whole=True)
    assert b"".join(write[10:] for write, _ in written) == b"".join(cut)


@given(frames.flows(), st.binary(max_size=60), st.integers(2, 64), st.data())
def test_damaged_frames_pass_unchanged(flow: Flow, payload: bytes, count: int, data: st.DataObject) -> None:
    frame = bytearray(frames.build(flow, payload))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, min(len(frame), flow.hl + 2) - 1))] = data.draw(st.integers(0, 255))
    cut = [bytes(frame)] * count
    written = join(cut, room=24, whole=True)
    check(cut, written)
