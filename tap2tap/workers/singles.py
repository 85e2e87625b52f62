"""Frames one by one: the pieces in which a train is written to the tap where nothing is joined."""

from functools import lru_cache

from tap2tap.vnet import NO_OFFLOAD
from tap2tap.workers.train import Batch, Train

Piece = tuple[list[memoryview], int]  # what os.writev gets, a virtio_net_hdr first, and how many frames that is

_HEADER = memoryview(NO_OFFLOAD)


@lru_cache(64)  # hostile traffic may come in every size
def _rows(batch: Batch, at: int, size: int, count: int) -> list[Piece]:
    """The vectors of `count` frames of one size. Nobody changes them."""
    return [([_HEADER, batch.buffer[row : row + size]], 1) for row in range(at, at + count * size, size)]


def cut(batch: Batch, train: Train) -> list[Piece]:
    """Return the frames of `train` in order; valid until the batch changes, and not to be changed."""
    at, size, count, last = train
    if last == size:
        return _rows(batch, at, size, count)
    end = at + train.length
    return [*_rows(batch, at, size, count - 1), ([_HEADER, batch.buffer[end - last : end]], 1)]


def singly(batch: Batch) -> list[Piece]:
    """Return the frames of all trains in order: what takes the place of Joiner.join where nothing is joined."""
    if len(batch.trains) == 1:
        return cut(batch, batch.trains[0])
    return [piece for train in batch.trains for piece in cut(batch, train)]
