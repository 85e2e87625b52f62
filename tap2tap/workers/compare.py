"""Comparing the headers of many frames of one layout with those of the frames before them, field by field, all at once.

Each NumPy operation costs half a microsecond whatever it does, so there are few of them, on arrays that are made once:
a field of all frames is one contiguous row. Headers are compared 64 bits at a time.
"""

import numpy as np
import numpy.typing as npt

from tap2tap.workers.checksum import ONES, Sums
from tap2tap.workers.headers import CWR, FIN, PSH, Layout
from tap2tap.workers.train import ROWS

Quads = npt.NDArray[np.uint64]
Words = npt.NDArray[np.uint16]

# Arrays, as NumPy takes twice as long to convert an int.
_NONE = np.array(0, np.uint64)
_ONE = np.array(1, np.uint16)
_ZERO = np.array(0, np.uint16)
_ONES = np.array(ONES, np.uint32)
_ONES16 = np.array(ONES, np.uint16)
_SHIFT = np.array(16, np.uint32)
_LIMITS = np.array(FIN | PSH | CWR, np.uint8)  # flags that end or begin a run


class Memory:
    """Memory for the headers of up to ROWS frames of one layout, a frame a column, and for comparing them."""

    def __init__(self, layout: Layout) -> None:
        l3, l4, hl, _, v4 = layout
        quads = -(-hl // 8)
        self.heads: Quads = np.zeros((quads, ROWS), np.uint64)
        self.head_bytes = self.heads.reshape(-1).view(np.uint8).data
        self.differences: Quads = np.zeros((quads, ROWS), np.uint64)
        self.different: Quads = np.zeros(ROWS, np.uint64)
        self.totals: Sums = np.zeros(ROWS, np.uint32)
        self.values: Sums = np.zeros((2, ROWS), np.uint32)
        self.words: Words = np.zeros((2, ROWS), np.uint16)
        self.masks: npt.NDArray[np.bool_] = np.zeros((2, ROWS), np.bool_)
        self.flags: npt.NDArray[np.uint8] = np.zeros(ROWS, np.uint8)
        same = np.zeros(8 * quads, np.uint8)
        same[:hl] = 0xFF
        same[layout.check : layout.check + 2] = 0
        if v4:
            same[l3 + 4 : l3 + 6] = same[l3 + 10 : l3 + 12] = 0  # id and checksum
        if layout.tcp:
            same[l4 + 4 : l4 + 8] = 0  # sequence number
            same[l4 + 13] = 0xFF & ~(FIN | PSH | CWR)
        self.same: Quads = same.view(np.uint64).reshape(quads, 1)

    def field(self, at: int, rows: int) -> Words:
        """Two bytes of each header, in network byte order; they begin at an even number, so they lie in one quad."""
        return np.ndarray((rows,), ">u2", self.heads, self.place(at), (8,))

    def bytes(self, at: int, rows: int) -> npt.NDArray[np.uint8]:
        """One byte of each header."""
        return np.ndarray((rows,), np.uint8, self.heads, self.place(at), (8,))

    @staticmethod
    def place(at: int) -> int:
        """Where byte `at` of the first header is, in bytes from the beginning; the next one's is 8 bytes behind."""
        return at // 8 * ROWS * 8 + at % 8


class Comparison:
    """The comparison of the first `rows` frames in the memory: views of it, made once."""

    def __init__(self, memory: Memory, layout: Layout, rows: int) -> None:
        l3, l4, _, _, self._v4 = layout
        self._tcp = layout.tcp
        pairs = rows - 1
        self._later, self._earlier = memory.heads[:, 1:rows], memory.heads[:, :pairs]
        self._differences, self._different = memory.differences[:, :pairs], memory.different[:pairs]
        self._same = memory.same
        self._together, self._also = memory.masks[:, :pairs]
        self._spelled = memory.masks[1, :rows]
        self._totals = memory.totals[:rows]
        self._later_totals, self._earlier_totals = self._totals[1:], self._totals[:-1]
        self._checks = memory.field(layout.check, rows)
        self._other_zero = _ONES16 if self._tcp else _ZERO  # a spelling of zero that split does not use
        if self._v4:
            self._id_fields, self._ip_checks = memory.field(l3 + 4, rows), memory.field(l3 + 10, rows)
            self._ids, self._steps = memory.words[0, :rows], memory.words[1, :pairs]
            self._later_ids, self._earlier_ids = self._ids[1:], self._ids[:-1]
            self._df = memory.bytes(l3 + 6, pairs)
            self._sums = memory.values[0, :rows]
            self._later_sums, self._earlier_sums = self._sums[1:], self._sums[:-1]
        if self._tcp:
            self._high, self._low = memory.field(l4 + 4, rows), memory.field(l4 + 6, rows)
            self._seqs, self._seq_steps = memory.values[0, :rows], memory.values[1, :pairs]
            self._later_seqs, self._earlier_seqs = self._seqs[1:], self._seqs[:-1]
            self._flag_fields, self._flags = memory.bytes(l4 + 13, rows), memory.flags[:rows]
            self._mss = np.zeros((), np.uint32)

    def neighbours(self, mss: int, *, verify: bool) -> bytearray:
        """Which frames are continued by the next one: 1 or 0 for each but the last.

        `mss` is the payload of a frame in bytes. With `verify`, `totals` must hold the sums of their transport headers
        and payloads, which are to be equal like the sums of their IPv4 headers.
        """
        together, also = self._together, self._also
        np.bitwise_xor(self._later, self._earlier, out=self._differences)
        np.bitwise_and(self._differences, self._same, out=self._differences)
        np.bitwise_or.reduce(self._differences, axis=0, out=self._different)
        np.equal(self._different, _NONE, out=together)
        if self._v4:
            self._count_ids()
        if self._tcp:
            seqs, steps = self._seqs, self._seq_steps
            np.copyto(seqs, self._high)
            np.left_shift(seqs, _SHIFT, out=seqs)
            np.add(seqs, self._low, out=seqs)
            np.subtract(self._later_seqs, self._earlier_seqs, out=steps)
            self._mss[()] = mss
            np.equal(steps, self._mss, out=also)
            np.logical_and(together, also, out=together)
        if verify:
            np.remainder(self._totals, _ONES, out=self._totals)
            np.equal(self._later_totals, self._earlier_totals, out=also)
            np.logical_and(together, also, out=together)
        result = bytearray(together)
        self._limit(result)
        return result

    def _count_ids(self) -> None:
        """IPv4: the id counts up by one, or stands still with DF, but not now this, now that; the checksum follows."""
        ids, steps, sums, together, also = self._ids, self._steps, self._sums, self._together, self._also
        np.copyto(ids, self._id_fields)
        np.subtract(self._later_ids, self._earlier_ids, out=steps)
        np.equal(steps, _ONE, out=also)
        if 0 in also.tobytes():
            also |= (steps == _ZERO) & (self._df & 0x40 != 0)
            also[1:] &= (steps[1:] == steps[:-1]) | ~also[:-1]
        np.logical_and(together, also, out=together)
        np.add(ids, self._ip_checks, out=sums, dtype=np.uint32)
        np.remainder(sums, _ONES, out=sums)
        np.equal(self._later_sums, self._earlier_sums, out=also)
        np.logical_and(together, also, out=together)

    def _limit(self, together: bytearray) -> None:
        """End runs where flags say so, and at checksums that split would spell otherwise; both are rare."""
        np.equal(self._checks, self._other_zero, out=self._spelled)
        alone = _places(self._spelled)
        if self._v4:
            np.equal(self._ip_checks, _ONES16, out=self._spelled)
            alone += _places(self._spelled)
        for row in alone:
            together[max(row - 1, 0) : row + 1] = bytes(len(together[max(row - 1, 0) : row + 1]))
        if self._tcp:
            np.bitwise_and(self._flag_fields, _LIMITS, out=self._flags)
            for row in _places(self._flags):
                flags = self._flags[row]
                if row and flags & CWR:
                    together[row - 1] = 0
                if row < len(together) and flags & (FIN | PSH):
                    together[row] = 0


def _places(marks: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> list[int]:
    """Where anything is marked; that nothing is, is found soon."""
    if marks.tobytes() == bytes(marks.nbytes):
        return []
    places: list[int] = np.flatnonzero(marks).tolist()
    return places
