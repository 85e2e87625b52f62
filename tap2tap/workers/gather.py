"""Gathering small frames: each is read to a place of its own behind its virtio_net_hdr, then they are put in a row.

The header and the frame are read into one piece of memory, which takes a third less time than reading them into two,
and that is more than it takes to copy the frames of a whole train.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from tap2tap.vnet import VNET_LENGTH
from tap2tap.workers.train import ROOM, Batch

Things = npt.NDArray[Any]  # each is copied as a whole


class Places:
    """Places for `count` frames of `size` bytes in one batch, and the rows of them in another.

    `spacing` is the number of bytes from one frame to the next. Any frame has room in any place.
    """

    def __init__(self, source: Batch, rows: Batch, size: int, most: int) -> None:
        """There is one place for each of `most` frames, or fewer if the memory ends before."""
        self.spacing = -(-(size + VNET_LENGTH) // 16) * 16
        self.count = min(most, (len(source.buffer) - ROOM) // self.spacing + 1)
        self._source = source
        self._behind: list[memoryview] = []  # the first frame; as many as have been needed
        self._headers: Things = source.headers(self.spacing, self.count)
        self._frames: Things = np.ndarray((self.count,), f"V{size}", source.array, 0, (self.spacing,))
        self._rows: Things = np.ndarray((self.count,), f"V{size}", rows.array, 0, (size,))

    def behind_the_first(self) -> Iterator[memoryview]:
        """Where the frames behind the first one are read to, each with its header."""
        return chain(self._behind, self._more())  # no generator's step for each

    def _more(self) -> Iterator[memoryview]:
        for number in range(len(self._behind) + 1, self.count):
            self._behind.append(self._source.with_header(number * self.spacing, ROOM))
            yield self._behind[-1]

    def alike(self, count: int) -> int:
        """How many of the first `count` frames have the header of the first."""
        headers = self._headers[:count].tobytes()
        first = headers[:VNET_LENGTH]
        if headers == first * count:
            return count
        return next(n for n in range(count) if headers[n * VNET_LENGTH : (n + 1) * VNET_LENGTH] != first)

    def line_up(self, count: int) -> None:
        """Put the first `count` frames in a row."""
        self._rows[:count] = self._frames[:count]
