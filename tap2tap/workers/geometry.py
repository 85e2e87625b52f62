"""Where the AEAD reads and writes: views of the rows of trains of datagrams and of the trains of frames in them."""

from collections import deque
from collections.abc import Callable
from functools import lru_cache

from tap2tap.protocols.secure.wire import HEADER_LENGTH, OVERHEAD
from tap2tap.workers.train import Batch

exhaust = deque[object](maxlen=0).extend  # runs an iterator to its end without a Python loop

Row = tuple[memoryview, memoryview, memoryview]  # header, sealed (with the tag), frame
Rows = tuple[list[memoryview], list[memoryview], list[memoryview]]  # the same of many

_KNOWN = 16  # places and sizes of trains whose views are remembered: hostile traffic may come in every size


class Geometry:
    """Views of the rows of a batch of datagrams and of one of frames, made once for each place and size of a train."""

    def __init__(self, datagrams: Batch, frames: Batch) -> None:
        self._datagrams = datagrams.buffer
        self._frames = frames.buffer
        self._known: Callable[[int, int, int], Rows] = lru_cache(_KNOWN)(lambda _at, _frame_at, _size: ([], [], []))

    def rows(self, at: int, frame_at: int, size: int, count: int) -> Rows:
        """Views of at least `count` rows of trains at these places; `size` is that of the frames, in bytes."""
        known = self._known(at, frame_at, size)
        for number in range(len(known[0]), count):
            row = self.row(at + number * (size + OVERHEAD), frame_at + number * size, size)
            for views, view in zip(known, row, strict=True):
                views.append(view)
        return known

    def row(self, at: int, frame_at: int, length: int) -> Row:
        """Views of one row whose frame has `length` bytes."""
        end = at + length + OVERHEAD
        return (
            self._datagrams[at : at + HEADER_LENGTH],
            self._datagrams[at + HEADER_LENGTH : end],
            self._frames[frame_at : frame_at + length],
        )
