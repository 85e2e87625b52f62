"""The frames of some trains of one size, lined up in the memory for comparison: their headers, and their sums."""

from itertools import accumulate, pairwise

import numpy as np

from tap2tap.workers.checksum import RowSums, Sums, native, remainder
from tap2tap.workers.compare import Memory, Quads
from tap2tap.workers.headers import U16, Layout, add
from tap2tap.workers.train import ROWS, Batch, Train


class Lineup:
    """What is the same whenever trains of these shapes come to these places; in a stream they do again and again.

    `begins` are the rows where the trains begin.
    """

    def __init__(self, memory: Memory, layout: Layout, batch: Batch, trains: tuple[Train, ...]) -> None:
        self.batch = batch
        self.trains = trains
        *self.begins, rows = accumulate([train.count for train in trains], initial=0)
        self.whole = b"\0".join([b"\1" * (train.count - 1) for train in trains])  # if each train is one run
        self._layout = layout
        self._memory = memory
        self._comparison = memory.comparison(rows)
        self._short = [
            (train, begin + train.count - 1)
            for train, begin in zip(trains, self.begins, strict=True)
            if train.last < train.size
        ]
        self._copies: list[tuple[Quads, Quads]] = []
        self._sums: list[tuple[RowSums, Sums]] = []
        steps = {later.at - earlier.at for earlier, later in pairwise(trains)}
        if len(steps) == 1 and len({train.count for train in trains}) == 1:  # regular: all of them at once
            self._place(trains[0], 0, len(trains), steps.pop())
        else:
            for train, begin in zip(trains, self.begins, strict=True):
                self._place(train, begin, 1, 0)

    def _place(self, train: Train, begin: int, number: int, step: int) -> None:
        """Prepare to line up `number` trains like this one, which are `step` bytes apart, from row `begin` on."""
        at, size, count, _ = train
        quads, heads, l4 = len(self._memory.heads), self._memory.heads, self._layout.l4
        shape = (quads, number, count)
        came: Quads = np.ndarray(shape, np.uint64, self.batch.array, at, (8, step, size))
        self._copies.append((np.ndarray(shape, np.uint64, heads, begin * 8, (ROWS * 8, count * 8, 8)), came))
        sums = RowSums(self.batch.array, at + l4, size - l4, (number, count), (step, size))
        totals = self._memory.totals[begin : begin + number * count]
        self._sums.append((sums, totals.reshape(number, count)))

    def compare(self) -> bytearray:
        """Tell which frames are continued by the next one: 1 or 0 for each but the last."""
        vouched = self.batch.vouched
        for there, came in self._copies:
            np.copyto(there, came)
        if not vouched:
            for sums, totals in self._sums:
                sums.add(totals)
        alone = [row for train, row in self._short if not self._lengthen(train, row)]
        together = self._comparison.neighbours(self.trains[0].size - self._layout.hl, verify=not vouched)
        for begin in self.begins[1:]:
            together[begin - 1] = 0
        for row in alone:
            together[row - 1] = 0
        return together

    def _lengthen(self, train: Train, row: int) -> bool:
        """Make the last frame of a train, shorter than the others, as long in the memory, for comparison.

        False if it has no payload, or wrong lengths, so that it belongs to nobody.
        """
        l3, l4, hl, _, v4 = self._layout
        end = train.at + train.length
        frame = self.batch.buffer[end - train.last : end]
        less = train.last - train.size
        if train.last <= hl or not lengths_right(frame, self._layout):
            return False
        self._add(row, self._layout.length, -less)
        if v4:
            if frame[l3 + 10] & frame[l3 + 11] == 0xFF:  # a spelling of zero that is lost by what follows
                return False
            self._add(row, l3 + 10, less)
        if not self._layout.tcp:
            self._add(row, l4 + 4, -less)
        if not self.batch.vouched:
            self._memory.totals[row] = native(remainder(frame[l4:]) + less)
        return True

    def _add(self, row: int, at: int, number: int) -> None:
        add(self._memory.head_bytes, Memory.place(at) + 8 * row, number)


def lengths_right(frame: memoryview, layout: Layout) -> bool:
    """Whether the lengths in the headers are that of the frame."""
    l3, l4, _, _, v4 = layout
    length = len(frame)
    if U16.unpack_from(frame, layout.length)[0] != length - l3 - (0 if v4 else 40):
        return False
    return layout.tcp or U16.unpack_from(frame, l4 + 4)[0] == length - l4
