"""The internet checksum (RFC 1071) over whole trains: one NumPy call sums every row, whatever the number of rows.

Ones-complement sums are what is left modulo 65535, so the order of the additions, the place of the carries and the
byte order of the 16-bit words are all free to choose: rows are summed as words of the host's own byte order, and a
number is brought from network order to that of the host by a multiplication (`native`).
"""

import sys

import numpy as np
import numpy.typing as npt

from tap2tap.workers.train import Bytes, Train

Words = npt.NDArray[np.uint16]
Sums = npt.NDArray[np.uint32]

ONES = 65535  # the modulus of ones-complement arithmetic; both 0 and 65535 are zero
MAX_ROWS = 1024  # rows that `number` can fill at once
_SWAP = 256 if sys.byteorder == "little" else 1  # swapping the bytes of all words multiplies their sum by 256
_ODD = 1 if sys.byteorder == "little" else 256  # the weight of a last byte without a partner
_PLANS = 64  # shapes of trains that `complete` remembers

# Consecutive IPv4 ids and the header checksums that belong to them, in network order, ready to be copied from.
_IDS: Words = np.arange(65536 + MAX_ROWS, dtype=np.uint32).astype(">u2").view(np.uint16)
_CHECKS: Words = (-np.arange(65535 + MAX_ROWS, dtype=np.int64) % ONES).astype(">u2").view(np.uint16)


class MalformedError(ValueError):
    """A virtio_net_hdr contradicts the frame that follows it."""


def native(number: int) -> int:
    """A sum of words in network order as the sum of the same words in the byte order of the host, modulo 65535."""
    return number * _SWAP % ONES


def column(array: Bytes, offset: int, stride: int, count: int) -> Words:
    """A writable (count,) view of the 16-bit words, in the host's byte order, at `offset` in each row of `stride`."""
    return np.ndarray((count,), np.uint16, array, offset, (stride,))


def number(ids: Words, checks: Words, first: int, base: int) -> None:
    """Fill in consecutive IPv4 ids and the header checksums that follow from them (RFC 791), at most MAX_ROWS.

    `ids` and `checks` are columns of the same rows, `first` is the id of the first row and `base` the sum of the
    header's words with id and checksum zero.
    """
    count = len(ids)
    ids[:] = _IDS[first : first + count]
    start = (base + first) % ONES
    checks[:] = _CHECKS[start : start + count]
    wrapped = first + count - 65536  # rows whose id is past 65535, so begins again at 0
    if wrapped > 0:
        start = base % ONES
        checks[count - wrapped :] = _CHECKS[start : start + wrapped]


class RowSums:
    """Sums rows of bytes as 16-bit words of the host's byte order.

    The rows are `width` bytes each, the first at `offset` in `array`, one every `stride` bytes, `count` of them; an odd
    last byte counts as if a zero byte followed it. Views and result are allocated once. At most 128 KiB a row.
    A slice of it sums those rows only, to the same place.
    """

    __slots__ = ("_odd", "_words", "sums")

    def __init__(self, array: Bytes, offset: int, stride: int, width: int, count: int) -> None:
        self._words: Words = np.ndarray((count, width // 2), np.uint16, array, offset, (stride, 2))
        self._odd: Bytes | None = None
        if width % 2:
            self._odd = np.ndarray((count,), np.uint8, array, offset + width - 1, (stride,))
        self.sums: Sums = np.zeros(count, np.uint32)

    def __getitem__(self, rows: slice) -> "RowSums":
        part = RowSums.__new__(RowSums)
        part._words = self._words[rows]
        part._odd = None if self._odd is None else self._odd[rows]
        part.sums = self.sums[rows]
        return part

    def add(self) -> Sums:
        """The sums, (count,) uint32, not folded. The array is reused by the next call."""
        np.add.reduce(self._words, axis=1, dtype=np.uint32, out=self.sums)
        if self._odd is not None:
            if _ODD == 1:
                np.add(self.sums, self._odd, out=self.sums)
            else:
                np.add(self.sums, self._odd.astype(np.uint32) * _ODD, out=self.sums)
        return self.sums


def remainder(data: bytes | memoryview) -> int:
    """The sum of the bytes' words, in network order, modulo 65535; an odd last byte is padded with zero."""
    return (int.from_bytes(data, "big") << 8 * (len(data) & 1)) % ONES


class _Plan:
    """The views that `complete` needs for the full-sized frames of a train of one shape."""

    __slots__ = ("array", "field", "folded", "sums")

    def __init__(self, array: Bytes, size: int, count: int, start: int, field: int) -> None:
        self.array = array  # kept, so that its id() stays taken as long as the plan is cached
        self.sums = RowSums(array, start, size, size - start, count)
        self.field = column(array, field, size, count)
        self.folded: Words = np.zeros(count, np.uint16)

    def fill(self) -> None:
        np.remainder(self.sums.add(), ONES, out=self.folded, casting="unsafe")
        np.invert(self.folded, out=self.field)  # 65535 - remainder: never 0, see `complete`


_plans: dict[tuple[int, int, int, int, int], _Plan] = {}


def complete(train: Train, csum_start: int, csum_offset: int) -> None:
    """Fill in the transport checksum of every frame of a train, as VIRTIO_NET_HDR_F_NEEDS_CSUM asks for.

    In each frame the field at `csum_start + csum_offset` holds the partial sum of its pseudo-header; the checksum is
    that of the bytes from `csum_start` to the end of the frame, and 0 is written as 65535, for TCP too
    (skb_checksum_help in net/core/dev.c). Writes only to the fields.

    Raises MalformedError, with the train unchanged, if a frame ends before the field.
    """
    count, size, last = train.count, train.size, train.last
    field = csum_start + csum_offset
    if not count:
        return
    if csum_start < 0 or csum_offset < 0 or field + 2 > last:
        raise MalformedError("checksum outside of the frame")
    full = count if last == size and count > 1 else count - 1
    if full:
        key = (id(train.array), size, full, csum_start, field)
        plan = _plans.get(key)
        if plan is None:
            if len(_plans) >= _PLANS:  # hostile traffic may come in every shape
                _plans.clear()
            plan = _plans[key] = _Plan(train.array, size, full, csum_start, field)
        plan.fill()
    if full < count:  # one frame of its own length: the integers of Python beat the set-up of NumPy
        base = full * size
        check = ONES - remainder(train.buffer[base + csum_start : base + last])
        train.buffer[base + field] = check >> 8
        train.buffer[base + field + 1] = check & 0xFF
