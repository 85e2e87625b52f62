"""Runs: neighbours in trains that belong together, as the second is what split would make of the frame behind the first.

All frames are compared with the ones before them. A run goes on for as long as that holds, and is right in every frame
if it is in the first: checksums that go on as they must are right, or wrong, together.
"""

from collections.abc import Callable
from functools import lru_cache

from tap2tap.vnet import VNET_LENGTH
from tap2tap.workers.compare import Memory
from tap2tap.workers.headers import Layout
from tap2tap.workers.lineup import Lineup
from tap2tap.workers.supers import Maker, Run
from tap2tap.workers.train import MAX_SEGMENTS, Batch, Train


class Runs:
    """Finds the runs of one layout, and makes super-frames of them."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._memory = Memory(layout)
        self._maker = Maker(layout)
        self.signature = self._maker.signature
        # Hostile traffic may come in every shape: what is remembered is bounded.
        self._lineup: Callable[[Batch, tuple[Train, ...]], tuple[Lineup, list[Run]]] = lru_cache(24)(self._plan)
        self._payloads: Callable[[Batch, int, int, int], list[memoryview]] = lru_cache(32)(self._payload_views)

    def find(self, batch: Batch, trains: tuple[Train, ...], signature: int) -> list[Run]:
        """Find the runs in `trains`, all of one size, at most ROWS frames; in order.

        `signature` is that of a frame that could begin such a run. The vectors are valid until the same trains are
        looked through again.
        """
        lineup, runs = self._lineup(batch, trains)
        together = lineup.compare()
        if together != lineup.whole or not runs:
            runs = self._runs(lineup, together)
        make = self._maker.make
        if batch.vouched:
            return [run for run in runs if make(batch, run, signature, None)]
        totals = self._memory.totals.data
        return [run for run in runs if make(batch, run, signature, totals[run.row])]

    def _plan(self, batch: Batch, trains: tuple[Train, ...]) -> tuple[Lineup, list[Run]]:
        """Line up trains, and prepare for the case that each of them is one run."""
        lineup = Lineup(self._memory, self._layout, batch, trains)
        return lineup, self._runs(lineup, lineup.whole)

    def _runs(self, lineup: Lineup, together: bytes | bytearray) -> list[Run]:
        """The runs of frames that are together."""
        size = lineup.trains[0].size
        room = 65535 - (size - self._layout.l3 - (0 if self._layout.v4 else 40))  # the IP header's length has 16 bits
        most = min(MAX_SEGMENTS, 1 + room // (size - self._layout.hl))
        runs: list[Run] = []
        for train, begin in zip(lineup.trains, lineup.begins, strict=True):
            end = begin + train.count - 1  # the last row, which is not together with one of the next train
            row = together.find(1, begin, end)
            while row >= 0:
                final = together.find(0, row, end)
                final = final if final >= 0 else end
                for first in range(row, final, most):
                    runs.append(self._run(lineup.batch, train, first - begin, first, min(most, final + 1 - first)))
                row = together.find(1, final, end)
        return runs

    def _run(self, batch: Batch, train: Train, first: int, row: int, frames: int) -> Run:
        at, size, count, last = train
        hl, end = self._layout.hl, first + frames
        header = memoryview(bytearray(VNET_LENGTH + hl))
        vector = [header, *self._payloads(batch, at, size, count)[first:end]]
        if end < count:
            last = size
        elif last < size:
            vector[-1] = vector[-1][: last - hl]
        return Run(train, first, frames, row, (frames - 1) * (size - hl) + last, vector)

    def _payload_views(self, batch: Batch, at: int, size: int, count: int) -> list[memoryview]:
        hl = self._layout.hl
        return [batch.buffer[row + hl : row + size] for row in range(at, at + count * size, size)]
