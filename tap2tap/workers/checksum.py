"""The internet checksum (RFC 1071) over whole trains: one NumPy call sums every row, whatever the number of rows.

Ones-complement sums are what is left modulo 65535, so the order of the additions, the place of the carries and the
byte order of the 16-bit words are all free to choose: rows are summed as words of the host's own byte order, and a
number is brought from network order to that of the host by a multiplication (`native`).
"""

import sys
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tap2tap.workers.train import Batch, Bytes

Words = npt.NDArray[np.uint16]
Sums = npt.NDArray[np.uint32]

ONES = 65535  # the modulus of ones-complement arithmetic; both 0 and 65535 are zero
_SWAP = 256 if sys.byteorder == "little" else 1  # swapping the bytes of all words multiplies their sum by 256
_ODD = 1 if sys.byteorder == "little" else 256  # the weight of a last byte without a partner


class MalformedError(ValueError):
    """A virtio_net_hdr contradicts the frame that follows it."""


Number = TypeVar("Number", int, npt.NDArray[np.int64])


def native(number: Number) -> Number:
    """A sum of words in network order as the sum of the same words in the byte order of the host, modulo 65535."""
    return number * _SWAP % ONES


class RowSums:
    """Sums rows of bytes as 16-bit words of the host's byte order.

    The rows are `count` times `width` bytes, at most 128 KiB each, the first at `offset` in `array`, one every `stride`
    bytes. An odd last byte counts as if a zero byte followed it. The views are made once.
    """

    __slots__ = ("_odd", "_words")

    def __init__(self, array: Bytes, offset: int, stride: int, width: int, count: int) -> None:
        self._words: Words = np.ndarray((count, width // 2), np.uint16, array, offset, (stride, 2))
        self._odd: Bytes | None = None
        if width % 2:
            self._odd = np.ndarray((count,), np.uint8, array, offset + width - 1, (stride,))

    def add(self, sums: Sums) -> None:
        """Write the sums of the first rows, not folded, to `sums`, as many as it has room for."""
        count = len(sums)
        np.add.reduce(self._words[:count], axis=-1, dtype=np.uint32, out=sums)
        if self._odd is not None:
            odd = self._odd[:count]
            np.add(sums, odd if _ODD == 1 else odd.astype(np.uint32) * _ODD, out=sums)


def remainder(data: bytes | memoryview) -> int:
    """The sum of the bytes' words, in network order, modulo 65535; an odd last byte is padded with zero."""
    return (int.from_bytes(data, "big") << 8 * (len(data) & 1)) % ONES


class _Plan:
    """The views that `complete` needs for frames of one size in one place."""

    __slots__ = ("field", "folded", "sums", "totals")

    def __init__(self, batch: Batch, at: int, size: int, count: int, start: int, field: int) -> None:
        self.sums = RowSums(batch.array, at + start, size, size - start, count)
        self.field: Words = np.ndarray((count,), np.uint16, batch.array, at + field, (size,))
        self.totals: Sums = np.zeros(count, np.uint32)
        self.folded: Words = np.zeros(count, np.uint16)

    def fill(self) -> None:
        self.sums.add(self.totals)
        np.remainder(self.totals, ONES, out=self.folded, casting="unsafe")
        np.invert(self.folded, out=self.field)  # 65535 - remainder: never 0, see `complete`


_plan = lru_cache(64)(_Plan)  # hostile traffic may come in every shape


def complete(batch: Batch, csum_start: int, csum_offset: int) -> None:
    """Fill in the transport checksum of every frame of a batch, as VIRTIO_NET_HDR_F_NEEDS_CSUM asks for.

    In each frame the field at `csum_start + csum_offset` holds the partial sum of its pseudo-header; the checksum is
    that of the bytes from `csum_start` to the end of the frame, and 0 is written as 65535, for TCP too
    (skb_checksum_help in net/core/dev.c). Writes only to the fields.

    Raises MalformedError, with the batch unchanged, if a frame ends before the field.
    """
    field = csum_start + csum_offset
    if csum_start < 0 or csum_offset < 0 or any([field + 2 > train.last for train in batch.trains]):
        raise MalformedError("checksum outside of the frame")
    for at, size, count, last in batch.trains:
        full = count if last == size and count > 1 else count - 1
        if full:
            _plan(batch, at, size, full, csum_start, field).fill()
        if full < count:  # one frame of its own length: the integers of Python beat the set-up of NumPy
            base = at + full * size
            check = ONES - remainder(batch.buffer[base + csum_start : base + last])
            batch.buffer[base + field] = check >> 8
            batch.buffer[base + field + 1] = check & 0xFF
