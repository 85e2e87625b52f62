"""Checksums of whole trains against a sum by the book."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tap2tap.workers.checksum import MalformedError, RowSums, complete, native, remainder
from tap2tap.workers.train import Batch
from tests.support import frames

BATCH = Batch()


def completed(frame: bytes, start: int, offset: int) -> bytes:
    """What skb_checksum_help makes of a frame."""
    check = ~frames.fold(frame[start:]) & 0xFFFF or 0xFFFF
    at = start + offset
    return frame[:at] + check.to_bytes(2, "big") + frame[at + 2 :]


@given(st.lists(st.binary(min_size=30, max_size=30), min_size=1, max_size=64), st.integers(4, 30), st.data())
def test_every_checksum_of_a_train_is_completed(cut: list[bytes], last: int, data: st.DataObject) -> None:
    size = data.draw(st.integers(last, 30))
    cut = [frame[:size] for frame in cut[:-1]] + [cut[-1][:last]]
    if len(cut) == 1:
        size = last
    start = data.draw(st.integers(0, last - 2))
    offset = data.draw(st.integers(0, last - 2 - start))
    frames.load(BATCH, cut)
    complete(BATCH, start, offset)
    assert frames.contents(BATCH) == [completed(frame, start, offset) for frame in cut]
    length = BATCH.trains.length
    assert BATCH.buffer[length : length + 2000] == b"\xa5" * 2000


@given(st.integers(1, 1500), st.integers(1, 64))
@example(1500, 44)
@example(65000, 1)
@example(65001, 1)
def test_long_and_odd_frames(size: int, count: int) -> None:
    cut = [frames.payload(max(4, size), seed) for seed in range(min(count, 60000 // size + 1))]
    frames.load(BATCH, cut)
    complete(BATCH, 0, 2)
    assert frames.contents(BATCH) == [completed(frame, 0, 2) for frame in cut]


@pytest.mark.parametrize(
    ("start", "offset"), [(0, 19), (19, 0), (20, 0), (10, 65535), (65535, 65535), (-1, 3), (3, -1)]
)
@pytest.mark.parametrize("count", [1, 5])
def test_a_field_outside_of_the_frame_is_malformed(start: int, offset: int, count: int) -> None:
    cut = [b"\x01" * 40] * (count - 1) + [b"\x01" * 20]
    frames.load(BATCH, cut)
    with pytest.raises(MalformedError):
        complete(BATCH, start, offset)
    assert frames.contents(BATCH) == cut


def test_an_empty_batch_has_nothing_to_complete() -> None:
    complete(Batch(), 34, 16)


def test_many_shapes_and_trains_do_not_pile_up() -> None:
    for size in range(20, 220):
        batch = frames.load(Batch(6000), [bytes(size)] * 3, [bytes(size)] * 2, step=3000)
        complete(batch, 0, 4)
        assert frames.contents(batch) == [completed(bytes(size), 0, 4)] * 5


@given(st.binary(min_size=1, max_size=200))
def test_the_remainder_is_the_sum_by_the_book(data: bytes) -> None:
    assert remainder(data) == frames.fold(data) % 65535
    array = np.frombuffer(bytearray(data), np.uint8)
    sums = np.zeros(1, np.uint32)
    RowSums(array, 0, len(data), len(data), 1).add(sums)
    assert int(sums[0]) % 65535 == native(remainder(data))
