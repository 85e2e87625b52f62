"""Frames one by one: the pieces in which a train is written to the tap where nothing is joined."""

from functools import lru_cache
from typing import NamedTuple, final

from tap2tap.vnet import VNET_LENGTH
from tap2tap.workers.train import Batch, Train


@final
class Single(NamedTuple):
    """One frame behind its virtio_net_hdr, which is not there yet.

    Until the frame before is written, its end is in that place. One piece of memory is written sooner than two.
    """

    header: memoryview
    whole: memoryview


def single(batch: Batch, at: int, size: int) -> Single:
    """Return the frame of `size` bytes at `at`."""
    whole = batch.with_header(at, size)
    return Single(whole[:VNET_LENGTH], whole)


@lru_cache(64)  # hostile traffic may come in every size
def _rows(batch: Batch, at: int, size: int, count: int) -> tuple[Single, ...]:
    """Return `count` frames of one size."""
    return tuple([single(batch, at + number * size, size) for number in range(count)])


def cut(batch: Batch, train: Train) -> tuple[Single, ...]:
    """Return the frames of `train` in order: views of the batch."""
    at, size, count, last = train
    if last == size:
        return _rows(batch, at, size, count)
    return (*_rows(batch, at, size, count - 1), single(batch, at + train.length - last, last))


def singly(batch: Batch) -> tuple[Single, ...]:
    """Return the frames of all trains in order: what takes the place of Joiner.join where nothing is joined."""
    if len(batch.trains) == 1:
        return cut(batch, batch.trains[0])
    return tuple([piece for train in batch.trains for piece in cut(batch, train)])
