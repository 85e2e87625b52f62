"""Where the AEAD reads and writes: views of the rows of a train of datagrams and of a train of frames."""

from collections import deque

from tap2tap.protocols.secure.wire import HEADER_LENGTH, OVERHEAD

exhaust = deque[object](maxlen=0).extend  # runs an iterator to its end without a Python loop

Row = tuple[memoryview, memoryview, memoryview]  # header, sealed (with the tag), frame
Rows = tuple[list[memoryview], list[memoryview], list[memoryview]]  # the same of many


class Geometry:
    """Views of the rows of two trains, one of datagrams and one of frames, for the AEAD: made once for each size."""

    def __init__(self, datagrams: memoryview, frames: memoryview) -> None:
        self._datagrams = datagrams
        self._frames = frames
        self._known: dict[int, Rows] = {}
        self._only: dict[int, Row] = {}

    def rows(self, size: int, count: int) -> Rows:
        """Views of at least `count` rows; `size` is that of the frames, in bytes."""
        known = self._known.get(size)
        if known is None or len(known[0]) < count:
            if len(self._known) >= 256:  # hostile traffic may come in every size
                self._known.clear()
            step = size + OVERHEAD
            starts = range(0, count * step, step)
            known = self._known[size] = (
                [self._datagrams[at : at + HEADER_LENGTH] for at in starts],
                [self._datagrams[at + HEADER_LENGTH : at + step] for at in starts],
                [self._frames[number * size : (number + 1) * size] for number in range(count)],
            )
        return known

    def only(self, size: int) -> Row:
        """Views of the one row of a train of one."""
        row = self._only.get(size)
        if row is None:
            if len(self._only) >= 256:
                self._only.clear()
            row = self._only[size] = self.row(0, size, size)
        return row

    def row(self, number: int, size: int, length: int) -> Row:
        """Views of one row whose frame has `length` bytes, among frames of `size`."""
        at, frame = number * (size + OVERHEAD), number * size
        end = at + length + OVERHEAD
        return (
            self._datagrams[at : at + HEADER_LENGTH],
            self._datagrams[at + HEADER_LENGTH : end],
            self._frames[frame : frame + length],
        )
