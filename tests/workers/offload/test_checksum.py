"""Checksums of ordinary frames against a sum by the book."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.checksum import complete
from tap2tap.workers.train import ROOM, Train
from tests.support import frames

AT = 64
ARENA = Arena(AT + 2 * ROOM)


def completed(frame: bytes, start: int, offset: int) -> bytes:
    """What skb_checksum_help makes of a frame."""
    check = ~frames.fold(frame[start:]) & 0xFFFF or 0xFFFF
    at = start + offset
    return frame[:at] + check.to_bytes(2, "big") + frame[at + 2 :]


@given(
    st.lists(st.binary(min_size=30, max_size=30), min_size=1, max_size=64),
    st.integers(4, 30),
    st.sampled_from((0, 24)),
    st.data(),
)
def test_every_checksum_of_a_train_is_completed(cut: list[bytes], last: int, room: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(last, 30))
    cut = [frame[:size] for frame in cut[:-1]] + [cut[-1][:last]]
    if len(cut) == 1:
        size = last
    start = data.draw(st.integers(0, last - 2))
    offset = data.draw(st.integers(0, last - 2 - start))
    train = frames.load(ARENA, AT, cut, room=room)
    around = ARENA.take(0, ARENA.size)
    assert complete(ARENA, train, start, offset) == len(cut)
    assert frames.contents(ARENA, train) == [completed(frame, start, offset) for frame in cut]
    for number, frame in enumerate(cut):
        ARENA.put(AT + number * (size + room), frame)
    assert ARENA.take(0, ARENA.size) == around


@given(st.integers(1, 1500), st.integers(1, 64))
@example(1500, 44)
@example(65000, 1)
@example(65001, 1)
def test_long_and_odd_frames(size: int, count: int) -> None:
    cut = [frames.payload(max(4, size), seed) for seed in range(min(count, 60000 // size + 1))]
    train = frames.load(ARENA, AT, cut)
    assert complete(ARENA, train, 0, 2) == len(cut)
    assert frames.contents(ARENA, train) == [completed(frame, 0, 2) for frame in cut]


@pytest.mark.parametrize(("start", "offset"), [(0, 19), (19, 0), (20, 0), (10, 65535), (65535, 65535)])
@pytest.mark.parametrize("count", [1, 5])
def test_a_frame_that_ends_before_the_field_is_left_as_it_is(start: int, offset: int, count: int) -> None:
    cut = [b"\x01" * 40] * (count - 1) + [b"\x01" * 20]
    train = frames.load(ARENA, AT, cut)
    done = count - 1 if start + offset < 39 else 0
    assert complete(ARENA, train, start, offset) == done
    assert frames.contents(ARENA, train) == [completed(frame, start, offset) for frame in cut[:done]] + cut[done:]


def test_an_empty_train_has_nothing_to_complete() -> None:
    assert complete(ARENA, Train(), 34, 16) == 0
