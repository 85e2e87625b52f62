"""Cutting super-frames: the headers of all segments are made at once, field by field.

NumPy takes half a microsecond for an operation, whatever it does to so few numbers, and as long to make a view: so
there are few operations, what is the same each time is made once, and many super-frames are cut together.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tap2tap.workers.checksum import ONES, RowSums, Sums, native
from tap2tap.workers.headers import CWR, FIN, IPPROTO_TCP, IPPROTO_UDP, PSH, U16, Layout, add, set_lengths
from tap2tap.workers.train import ROWS, STRIDE, TRAINS, Batch, Bytes

Fields = npt.NDArray[Any]  # of integers

_ONES = np.array(ONES, np.uint32)  # an array, as NumPy takes twice as long to convert an int
_IDENT, _IP_SUM, _SEQ, _PARTIAL = range(4)  # what counts up from segment to segment, and the sum of what is not payload


class Cut:
    """Cuts super-frames of one layout into rows of `size` bytes. They are read from slots, STRIDE bytes apart."""

    def __init__(self, layout: Layout, size: int, source: Batch, out: Batch) -> None:
        l3, l4, hl, _, v4 = layout
        self._layout, self._size = layout, size
        self._source, self._out = source, out
        rows = min(ROWS, len(out.buffer) // size)

        def read(at: int, dtype: str) -> Fields:
            return np.ndarray((TRAINS,), dtype, source.array, at, (STRIDE,))

        def field(at: int, dtype: str) -> Fields:
            return np.ndarray((rows,), dtype, out.array, at, (size,))

        # The headers of a full-sized segment that is neither the first nor the last, without what counts up.
        keep, more = bytearray(b"\xff" * hl), bytearray(hl)
        fields = {layout.check: 0, layout.length: size - l3 - (0 if v4 else 40)}
        fields |= {l3 + 4: 0, l3 + 10: 0} if v4 else {}
        fields |= {} if layout.tcp else {l4 + 4: size - l4}
        for at, value in fields.items():
            keep[at : at + 2] = bytes(2)
            U16.pack_into(more, at, value)
        if layout.tcp:
            keep[l4 + 13] = 0xFF & ~(FIN | PSH | CWR)
        self._keep: Bytes = np.frombuffer(keep, np.uint8)
        self._more: Bytes = np.frombuffer(more, np.uint8)
        self._heads: Bytes = np.ndarray((TRAINS, hl), np.uint8, source.array, 0, (STRIDE, 1))
        self._templates: Bytes = np.zeros((TRAINS, hl), np.uint8)
        whole = f"V{hl}"  # all headers of a frame as one thing: so they are copied sooner
        self._wholes: Fields = self._templates.view(whole)[:, 0]
        self._copies: Fields = np.zeros(rows, whole)
        self._headers: Fields = np.ndarray((rows,), whole, out.array, 0, (size,))

        self._mss = size - hl
        shape = ((STRIDE - hl) // (self._mss or 1), self._mss)
        starts = range(hl, TRAINS * STRIDE, STRIDE)
        self._from: list[Bytes] = [np.ndarray(shape, np.uint8, source.array, start) for start in starts]
        self._to: Bytes = np.ndarray((rows, self._mss), np.uint8, out.array, hl, (size, 1))

        self._firsts: Sums = np.zeros((TRAINS, 4), np.uint32)  # of each super-frame
        self._values: Sums = np.zeros((rows, 4), np.uint32)  # of each row
        self._pattern = lru_cache(32)(partial(_count_up, self._mss))  # hostile traffic may come in every shape
        if v4:
            self._ident, self._ids, self._ip_checks = read(l3 + 4, ">u2"), field(l3 + 4, ">u2"), field(l3 + 10, ">u2")
            self._ip_words: Fields = np.ndarray((TRAINS, (l4 - l3) // 2), ">u2", self._templates, l3, (hl, 2))
        if layout.tcp:
            self._seq, self._seqs = read(l4 + 4, ">u4"), field(l4 + 4, ">u4")
        self._sums = RowSums(out.array, l4, size, size - l4, rows)
        self._totals: Sums = np.zeros(rows, np.uint32)
        self._partial, self._checks = read(layout.check, "=u2"), field(layout.check, "=u2")
        self._addresses: Fields = np.ndarray(
            (TRAINS, 4 if v4 else 16), np.uint16, source.array, l3 + (12 if v4 else 8), (STRIDE, 2)
        )

    def make(
        self, lengths: Sequence[int], counts: tuple[int, ...], begin: int, *, needs_csum: bool
    ) -> list[tuple[int, int]]:
        """Make rows of the super-frames of `lengths` bytes in the first slots: `counts` segments of each.

        They are its segments from number `begin` on. `needs_csum`: the checksum fields hold the sum of the
        pseudo-header. Returns the rows that are shorter than the others, and how long they are.
        """
        layout, size = self._layout, self._size
        owners, steps = self._pattern(counts, begin)
        number, rows = len(counts), len(owners)
        templates, firsts, values = self._templates[:number], self._firsts[:number], self._values[:rows]
        np.bitwise_and(self._heads[:number], self._keep, out=templates)
        np.bitwise_or(templates, self._more, out=templates)
        copies = self._copies[:rows]
        self._wholes[:number].take(owners, out=copies, mode="clip")
        self._headers[:rows] = copies

        if layout.v4:
            firsts[:, _IDENT] = self._ident[:number]
            np.add.reduce(self._ip_words[:number], axis=1, dtype=np.uint32, out=firsts[:, _IP_SUM])
            firsts[:, _IP_SUM] += firsts[:, _IDENT]
        if layout.tcp:
            firsts[:, _SEQ] = self._seq[:number]
        if needs_csum:  # for the whole super-frame
            firsts[:, _PARTIAL] = native(size - np.array(lengths))
            firsts[:, _PARTIAL] += self._partial[:number]
        else:
            protocol = IPPROTO_TCP if layout.tcp else IPPROTO_UDP
            np.add.reduce(self._addresses[:number], axis=1, dtype=np.uint32, out=firsts[:, _PARTIAL])
            firsts[:, _PARTIAL] += np.uint32(native(protocol + size - layout.l4))
        firsts.take(owners, axis=0, out=values, mode="clip")
        values += steps
        if layout.v4:
            self._ids[:rows] = values[:, _IDENT]
            sums = values[:, _IP_SUM]
            if max(self._ident[:number].tolist()) + begin + max(counts) > 65536:
                sums -= values[:, _IDENT] >> np.uint32(16)  # where the id begins again at 0, 65536 are but 1 here
            np.invert(sums, out=sums)  # 2**32 - 1 is a multiple of 65535, so this is the negative
            np.remainder(sums, _ONES, out=sums)
            self._ip_checks[:rows] = sums
        if layout.tcp:
            self._seqs[:rows] = values[:, _SEQ]

        short = self._fill(lengths, counts, begin)
        totals = self._totals[:rows]
        self._sums.add(totals)
        totals += values[:, _PARTIAL]
        for row, length in short:
            totals[row] += native(length - size)
        if layout.tcp:  # 0 stays 0, as in the kernel
            np.invert(totals, out=totals)
            np.remainder(totals, _ONES, out=totals)
        else:  # 0 becomes 65535
            np.remainder(totals, _ONES, out=totals)
            np.subtract(_ONES, totals, out=totals)
        self._checks[:rows] = totals
        return short

    def _fill(self, lengths: Sequence[int], counts: tuple[int, ...], begin: int) -> list[tuple[int, int]]:
        """Copy the payload, and see to what is different in a first and in a last segment; return the short rows."""
        l3, l4, hl, _, v4 = self._layout
        size, mss, tcp = self._size, self._mss, self._layout.tcp
        source, out = self._source.buffer, self._out.buffer
        short: list[tuple[int, int]] = []
        row = 0
        for slot, (length, count) in enumerate(zip(lengths, counts, strict=True)):
            left = length - hl - begin * mss  # bytes of payload from there on
            full = count if left >= count * mss else count - 1
            np.copyto(self._to[row : row + full], self._from[slot][begin : begin + full])
            final = (row + count - 1) * size
            if tcp and (flags := source[slot * STRIDE + l4 + 13] & (CWR | FIN | PSH)):
                if not begin:
                    out[row * size + l4 + 13] |= flags & CWR
                if left <= count * mss:
                    out[final + l4 + 13] |= flags & (FIN | PSH)
            if full < count:
                last = left - full * mss
                at = slot * STRIDE + hl + (begin + full) * mss
                out[final + hl : final + hl + last] = source[at : at + last]
                out[final + hl + last : final + size] = bytes(mss - last)  # neutral for the sum
                set_lengths(out, final, l3, l4, hl + last, v4, tcp)
                if v4:
                    add(out, final + l3 + 10, mss - last)
                short.append((row + full, hl + last))
            row += count
        return short


def _count_up(mss: int, counts: tuple[int, ...], begin: int) -> tuple[npt.NDArray[np.intp], Sums]:
    """To which super-frame each row belongs, and by how much its values are more than those of the first."""
    owners = np.repeat(np.arange(len(counts)), counts)
    steps: Sums = np.zeros((len(owners), 4), np.uint32)
    steps[:, _IDENT] = np.concatenate([np.arange(begin, begin + count) for count in counts])
    steps[:, _IP_SUM] = steps[:, _IDENT]
    steps[:, _SEQ] = steps[:, _IDENT] * np.uint32(mss)
    return owners, steps
