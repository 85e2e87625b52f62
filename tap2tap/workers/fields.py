"""The headers of many frames of one layout as columns: one NumPy operation reads or writes a field of all of them."""

import numpy as np
import numpy.typing as npt

from tap2tap.workers.headers import Layout
from tap2tap.workers.train import Bytes

Fields16 = npt.NDArray[np.uint16]
Fields32 = npt.NDArray[np.uint32]

_NONE: Fields16 = np.zeros(0, np.uint16)


class Fields:
    """Views of the headers in `memory`, `count` of them, `layout.hl` bytes each, one every `step` bytes.

    All are (count,) in network byte order, but for `rows`, (count, hl), `ip_words` and `addresses`, (count, words).
    What this kind of frame does not have is empty.
    """

    def __init__(self, memory: Bytes, layout: Layout, count: int, step: int = 0) -> None:
        l3, l4, hl, _, v4 = layout
        step = step or hl

        def words(at: int, width: int) -> Fields16:
            return np.ndarray((count, width), ">u2", memory, at, (step, 2))

        self.rows: Bytes = np.ndarray((count, hl), np.uint8, memory, 0, (step, 1))
        self.bytes = memory.data
        self.lengths = words(l3 + (2 if v4 else 4), 1)[:, 0]
        self.ids = words(l3 + 4, 1)[:, 0] if v4 else _NONE
        self.ip_checks = words(l3 + 10, 1)[:, 0] if v4 else _NONE
        self.ip_words = words(l3, (l4 - l3) // 2) if v4 else words(l3, 0)
        self.addresses = words(l3 + 12, 4) if v4 else words(l3 + 8, 16)
        self.checks = words(layout.check, 1)[:, 0]
        self.udp_lengths = _NONE if layout.tcp else words(l4 + 4, 1)[:, 0]
        self.seqs: Fields32 = np.ndarray((count if layout.tcp else 0,), ">u4", memory, l4 + 4, (step,))
        self.flags: Bytes = np.ndarray((count if layout.tcp else 0,), np.uint8, memory, l4 + 13, (step,))
