"""Cutting super-frames of one shape: what is the same each time is prepared once, then every field is one operation.

NumPy takes half a microsecond for an operation, whatever it does to so few numbers, and as long again to make a view:
so the views of a shape are made once, and all super-frames of it are cut together.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tap2tap.workers.checksum import ONES, RowSums, Sums, native
from tap2tap.workers.headers import CWR, FIN, IPPROTO_TCP, IPPROTO_UDP, PSH, U16, Layout
from tap2tap.workers.train import STRIDE, Batch, Bytes

Fields = npt.NDArray[Any]  # of integers

_ONES = np.array(ONES, np.uint32)  # an array, as NumPy takes twice as long to convert an int


class Shape(NamedTuple):
    """How super-frames, `number` of them in slots from `slot` on, become `rows` rows of `size` bytes each.

    The rows are its segments from number `begin` on. `final`: the last of them is its last. `short`: that is shorter.
    """

    layout: Layout
    size: int
    slot: int
    number: int
    begin: int
    rows: int
    final: bool
    short: bool


class Cut:
    """Cuts super-frames of one shape. Arrays are (number, rows) but for those of whole super-frames, (number, 1)."""

    def __init__(self, shape: Shape, source: Batch, out: Batch) -> None:
        layout, size, slot, number, begin, rows, final, short = shape
        l3, l4, hl, _, v4 = layout
        mss, step, start = size - hl, rows * size, slot * STRIDE
        self._shape = shape
        self._source, self._out = source.array, out.array

        def read(at: int, dtype: str) -> Fields:
            return np.ndarray((number, 1), dtype, source.array, start + at, (STRIDE, 1))

        def field(at: int, dtype: str = ">u2") -> Fields:
            return np.ndarray((number, rows), dtype, out.array, at, (step, size))

        def payload(array: Bytes, at: int, outer: int, inner: int) -> Bytes:
            return np.ndarray((number, rows - short, mss), np.uint8, array, at + hl, (outer, inner, 1))

        # The headers of a full-sized segment, but for what differs from one to the next.
        self._heads: Bytes = np.ndarray((number, hl), np.uint8, source.array, start, (STRIDE, 1))
        keep, add = bytearray(b"\xff" * hl), bytearray(hl)
        fields = {layout.check: 0, layout.length: size - l3 - (0 if v4 else 40)}
        fields |= {l3 + 4: 0, l3 + 10: 0} if v4 else {}
        fields |= {} if layout.tcp else {l4 + 4: size - l4}
        for at, value in fields.items():
            keep[at : at + 2] = bytes(2)
            U16.pack_into(add, at, value)
        self._keep: Bytes = np.frombuffer(keep, np.uint8)
        self._add: Bytes = np.frombuffer(add, np.uint8)
        self._template: Bytes = np.zeros((number, hl), np.uint8)
        self._templates = self._template.reshape(number, 1, hl)
        self._headers: Bytes = np.ndarray((number, rows, hl), np.uint8, out.array, 0, (step, size, 1))
        self._from = payload(source.array, start + begin * mss, STRIDE, mss)
        self._to = payload(out.array, 0, step, size)

        self._sums = RowSums(out.array, l4, size - l4, (number, rows), (step, size))
        self._addresses = np.ndarray(
            (number, 4 if v4 else 16), np.uint16, source.array, start + l3 + (12 if v4 else 8), (STRIDE, 2)
        )
        self._totals: Sums = np.zeros((number, rows), np.uint32)
        self._partials, self._partial = read(layout.check, "=u2"), np.zeros((number, 1), np.uint32)
        self._checks = field(layout.check, "=u2")
        numbers = np.arange(begin, begin + rows)
        if v4:
            self._ip_words = np.ndarray((number, (l4 - l3) // 2), ">u2", self._template, l3, (hl, 2))
            self._base: Sums = np.zeros(number, np.uint32)
            self._bases = self._base.reshape(number, 1)
            self._ident, self._first_ident = read(l3 + 4, ">u2"), np.zeros((number, 1), np.uint16)
            self._counted, self._idents = numbers.astype(np.uint16), np.zeros((number, rows), np.uint16)
            self._id_fields, self._ip_checks = field(l3 + 4), field(l3 + 10)
        if layout.tcp:
            self._seq, self._first_seq = read(l4 + 4, ">u4"), np.zeros((number, 1), np.uint32)
            self._steps, self._seqs = (numbers * mss).astype(np.uint32), np.zeros((number, rows), np.uint32)
            self._seq_fields = field(l4 + 4, ">u4")
            self._flags, self._flag_fields = read(l4 + 13, "u1"), field(l4 + 13, "u1")
            self._masks: Bytes = np.full(rows, 0xFF & ~(FIN | PSH | CWR), np.uint8)
            if not begin:
                self._masks[0] |= CWR
            if final:
                self._masks[-1] |= FIN | PSH

    def make(self, length: int, *, needs_csum: bool) -> int:
        """Make the rows of super-frames of `length` bytes, and return the length of the last row of each.

        `needs_csum`: their checksum fields hold the sum of the pseudo-header.
        """
        layout, size, _, _, begin, rows, _, short = self._shape
        l3, l4, hl, _, v4 = layout
        last = length - (begin + rows - 1) * (size - hl) if short else size
        np.bitwise_and(self._heads, self._keep, out=self._template)
        np.bitwise_or(self._template, self._add, out=self._template)
        np.copyto(self._headers, self._templates)
        np.copyto(self._to, self._from)
        if v4:
            np.add.reduce(self._ip_words, axis=1, dtype=np.uint32, out=self._base)
            np.copyto(self._first_ident, self._ident)
            np.add(self._first_ident, self._counted, out=self._idents)
            np.copyto(self._id_fields, self._idents)
            np.add(self._bases, self._idents, out=self._totals)
            if short:
                self._totals[:, -1] += np.uint32(ONES + last - size)
            np.invert(self._totals, out=self._totals)  # 2**32 - 1 is a multiple of 65535, so this is the negative
            np.remainder(self._totals, _ONES, out=self._totals)
            np.copyto(self._ip_checks, self._totals, casting="unsafe")
        if layout.tcp:
            np.copyto(self._first_seq, self._seq)
            np.add(self._first_seq, self._steps, out=self._seqs)
            np.copyto(self._seq_fields, self._seqs)
            np.bitwise_and(self._flags, self._masks, out=self._flag_fields)
        totals = self._totals
        if short:
            self._shorten(last, hl + (begin + rows - 1) * (size - hl))
        if needs_csum:  # of the whole super-frame
            np.copyto(self._partial, self._partials)
            self._partial += np.uint32(native(size - length))
        else:
            protocol = IPPROTO_TCP if layout.tcp else IPPROTO_UDP
            np.add.reduce(self._addresses, axis=1, dtype=np.uint32, keepdims=True, out=self._partial)
            self._partial += np.uint32(native(protocol + size - l4))
        self._sums.add(totals)
        np.add(totals, self._partial, out=totals)
        if short:
            totals[:, -1] += np.uint32(native(last - size))
        if layout.tcp:  # 0 stays 0, as in the kernel
            np.invert(totals, out=totals)
            np.remainder(totals, _ONES, out=totals)
        else:  # 0 becomes 65535
            np.remainder(totals, _ONES, out=totals)
            np.subtract(_ONES, totals, out=totals)
        np.copyto(self._checks, totals, casting="unsafe")
        return last

    def _shorten(self, last: int, begin: int) -> None:
        """Make the last row of each super-frame one of `last` bytes, with the payload from byte `begin` on."""
        layout, size, slot, number, _, rows, _, _ = self._shape
        l3, l4, hl, _, v4 = layout
        final = (rows - 1) * size
        self._headers[:, -1, layout.length : layout.length + 2] = divmod(last - l3 - (0 if v4 else 40), 256)
        if not layout.tcp:
            self._headers[:, -1, l4 + 4 : l4 + 6] = divmod(last - l4, 256)
        source = np.ndarray((number, last - hl), np.uint8, self._source, slot * STRIDE + begin, (STRIDE, 1))
        np.ndarray((number, last - hl), np.uint8, self._out, final + hl, (rows * size, 1))[:] = source
        np.ndarray((number, size - last), np.uint8, self._out, final + last, (rows * size, 1))[:] = 0  # for the sum
