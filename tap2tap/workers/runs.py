"""Runs: neighbours in trains that belong together: the second is what split would make of the frame behind the first.

All frames are compared with the ones before them. A run goes on for as long as that holds, and is right in every frame
if it is in the first: checksums that go on as they must are right, or wrong, together.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from tap2tap.workers.checksum import RowSums, native, remainder
from tap2tap.workers.compare import Comparison, Memory, Quads
from tap2tap.workers.headers import U16, Layout, add
from tap2tap.workers.supers import Maker
from tap2tap.workers.train import MAX_SEGMENTS, Batch, Train


class Run(NamedTuple):
    """`frames` frames of the train at `at`, from number `first` on; `vector` writes them as one super-frame."""

    at: int
    first: int
    frames: int
    vector: list[bytes | memoryview]


class _Place:
    """Where a train is: its headers, the sums of what is behind the IP headers."""

    def __init__(self, batch: Batch, train: Train, layout: Layout, quads: int) -> None:
        at, size, count, _ = train
        self.heads: Quads = np.ndarray((quads, count), np.uint64, batch.array, at, (8, size))
        self.sums = RowSums(batch.array, at + layout.l4, size, size - layout.l4, count)


class Runs:
    """Finds the runs of one layout, and makes super-frames of them."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._memory = memory = Memory(layout)
        self._maker = Maker(layout)
        self.signature = self._maker.signature
        # Hostile traffic may come in every shape: what is remembered is bounded, and holds nothing that holds it.
        self._comparison: Callable[[int], Comparison] = lru_cache(64)(partial(Comparison, memory, layout))
        quads = len(memory.heads)
        self._place = lru_cache(128)(lambda batch, train: _Place(batch, train, layout, quads))
        self._payloads: Callable[[Batch, int, int], list[memoryview]] = lru_cache(32)(lambda _batch, _at, _size: [])

    def find(self, batch: Batch, trains: tuple[Train, ...], signature: int) -> list[Run]:
        """Find the runs in `trains`, all of one size, at most ROWS frames; in order.

        `signature` is that of a frame that could begin such a run. The vectors view the batch.
        """
        size, memory, verify = trains[0].size, self._memory, not batch.vouched
        heads, totals = memory.heads, memory.totals
        alone: list[int] = []
        rows = 0
        for train in trains:
            place = self._place(batch, train)
            begin, rows = rows, rows + train.count
            heads[:, begin:rows] = place.heads
            if verify:
                place.sums.add(totals[begin:rows])
            if train.last < size and not self._lengthen(batch, train, rows - 1):
                alone.append(rows - 1)
        together = self._comparison(rows).neighbours(size - self._layout.hl, verify=verify)
        for row in alone:
            together[row - 1] = 0

        room = 65535 - (size - self._layout.l3 - (0 if self._layout.v4 else 40))  # the IP header's length has 16 bits
        most = min(MAX_SEGMENTS, 1 + room // (size - self._layout.hl))
        if most < 2:
            return []
        make = self._maker.make
        runs: list[Run] = []
        begin = 0
        for train in trains:
            end = begin + train.count - 1  # the last row, which is not together with one of the next train
            row = together.find(1, begin, end)
            while row >= 0:
                final = together.find(0, row, end)
                final = final if final >= 0 else end
                for at in range(row, final, most):
                    first, frames = at - begin, min(most, final + 1 - at)
                    header = make(batch.buffer, train, first, frames, signature, int(totals[at]) if verify else -1)
                    if header is not None:
                        payloads = self._payloads_of(batch, train, first, first + frames)
                        runs.append(Run(train.at, first, frames, [header, *payloads]))
                row = together.find(1, final, end)
            begin = end + 1
        return runs

    def _payloads_of(self, batch: Batch, train: Train, first: int, end: int) -> list[memoryview]:
        at, size, count, last = train
        hl = self._layout.hl
        known = self._payloads(batch, at, size)
        for row in range(len(known), end):
            known.append(batch.buffer[at + row * size + hl : at + (row + 1) * size])
        payloads = known[first:end]
        if end == count and last < size:
            payloads[-1] = payloads[-1][: last - hl]
        return payloads

    def _lengthen(self, batch: Batch, train: Train, row: int) -> bool:
        """Make the last frame of a train, shorter than the others, as long in the memory, for comparison.

        False if it has no payload, or wrong lengths, so that it belongs to nobody.
        """
        l3, l4, hl, _, v4 = self._layout
        end = train.at + train.length
        frame = batch.buffer[end - train.last : end]
        less = train.last - train.size
        if train.last <= hl or not self._lengths_right(frame):
            return False
        self._add(row, self._layout.length, -less)
        if v4:
            if frame[l3 + 10] & frame[l3 + 11] == 0xFF:  # a spelling of zero that is lost by what follows
                return False
            self._add(row, l3 + 10, less)
        if not self._layout.tcp:
            self._add(row, l4 + 4, -less)
        if not batch.vouched:
            self._memory.totals[row] = native(remainder(frame[l4:]) + less)
        return True

    def _add(self, row: int, at: int, number: int) -> None:
        add(self._memory.head_bytes, Memory.place(at) + 8 * row, number)

    def _lengths_right(self, frame: memoryview) -> bool:
        l3, l4, _, _, v4 = self._layout
        length = len(frame)
        if U16.unpack_from(frame, self._layout.length)[0] != length - l3 - (0 if v4 else 40):
            return False
        return self._layout.tcp or U16.unpack_from(frame, l4 + 4)[0] == length - l4
