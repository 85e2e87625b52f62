"""The bounds of a batch: what the kernel delivered, in whatever shape, as batches of no more than the data plane takes.

Senders on the same machine, containers and guests, make trains that nobody cuts up on their way: of up to 128 datagrams
since Linux 6.9, and of any number where a guest may say how its datagrams are to be cut.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from operator import itemgetter

from tap2tap.workers.train import MAX_SEGMENTS, ROWS, STRIDE, Train, Trains


@lru_cache(128)  # hostile traffic may come in every shape
def one(length: int, segment: int) -> tuple[Trains, bool]:
    """The same of a message that came alone."""
    return several((length,), (segment,))


@lru_cache(128)
def several(lengths: tuple[int, ...], segments: tuple[int, ...]) -> tuple[Trains, bool]:
    """The trains in the slots of a receiver, one a slot, and whether they are within the bounds of a batch.

    Given are the bytes of each, and of each of its datagrams but the last; 0: there is but one.
    """
    trains = []
    for slot, (length, segment) in enumerate(zip(lengths, segments, strict=True)):
        size = min(segment, length) or length
        count = -(-length // size) if size else 1
        trains.append(Train(slot * STRIDE, size, count, length - size * (count - 1)))
    found = Trains(trains)
    return found, found.frames <= ROWS and all([train.count <= MAX_SEGMENTS for train in found])


def bounded(came: Iterable[tuple[bytes, Train]]) -> Iterator[tuple[bytes, Trains]]:
    """Divide trains, each with its source, into batches, one after the other: there may be a great many."""
    for source, group in groupby(came, itemgetter(0)):
        some: list[Train] = []
        rows = 0
        for _, (at, size, count, last) in group:
            for first in range(0, count, MAX_SEGMENTS):
                part = min(MAX_SEGMENTS, count - first)
                if rows + part > ROWS:
                    yield source, Trains(some)
                    some, rows = [], 0
                some.append(Train(at + first * size, size, part, last if first + part == count else size))
                rows += part
        yield source, Trains(some)
