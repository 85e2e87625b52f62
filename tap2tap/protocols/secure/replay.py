"""Which counters of a session have been seen: a sliding window, asked and told about a whole train at once.

Two steps, because a datagram may mark its counter only after it has been authenticated: `fresh` before decryption
(the cheap refusal), `accept` after it. Nearly every train is a run of consecutive counters, for which there is a fast
path, `fresh_run` and `accept_run`; it touches a slice or two and no index arrays.

The idea of a window that slides with the newest counter is that of RFC 4303, section 3.4.3, and RFC 6479.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from tap2tap.protocols.secure.wire import REJECT_AFTER_MESSAGES

WINDOW: Final = 8192  # counters; a 64-segment train of late datagrams is far from its edge

Counters = npt.NDArray[np.int64] | npt.NDArray[np.uint32] | npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]


class ReplayWindow:
    """Counters below `start` all count as seen: a successor begins where its predecessor may have been.

    `next` is one more than the newest accepted counter. An inbound worker publishes it before it delivers a train, so
    that `ReplayWindow(start=published)` in its successor accepts nothing a second time; what was still in flight
    below it is lost, as on any cable that is pulled.
    """

    __slots__ = ("_mask", "_seen", "_size", "next")

    def __init__(self, size: int = WINDOW, start: int = 0) -> None:
        if size < 1 or size & size - 1:
            raise ValueError("the size of a replay window is a power of two")
        self._size = size
        self._mask = size - 1
        # The mark of counter c lies at c % size; valid for next - size <= c < next.
        self._seen = np.ones(size, np.bool_)
        self.next = start

    def fresh(self, counters: Counters) -> Mask:
        """Tell which of these may be accepted, shape (n,); of two equal counters in one train only the first."""
        wide = counters.astype(np.int64)
        mask: Mask = (wide >= self.next) | ((wide >= self.next - self._size) & ~self._seen[wide & self._mask])
        mask &= wide < REJECT_AFTER_MESSAGES
        if len(wide) > 1:
            _, firsts = np.unique(wide, return_index=True)
            if len(firsts) != len(wide):
                first = np.zeros(len(wide), np.bool_)
                first[firsts] = True
                mask &= first
        return mask

    def accept(self, counters: Counters) -> None:
        """Mark counters that were fresh and have been authenticated."""
        if not len(counters):
            return
        wide = counters.astype(np.int64)
        self._advance(int(wide.max()) + 1)
        wide = wide[wide >= self.next - self._size]  # one train may reach further than the window is wide
        self._seen[wide & self._mask] = True

    def fresh_run(self, first: int, count: int) -> bool:
        """Tell whether all of first, first + 1, ..., first + count - 1 may be accepted; if not, ask `fresh`."""
        end = first + count
        if end > REJECT_AFTER_MESSAGES:
            return False
        if first >= self.next:
            return True
        if first < self.next - self._size:
            return False
        known = min(end, self.next)  # from here on nothing has been seen
        at, stop = first & self._mask, (known - 1 & self._mask) + 1
        if at < stop:
            return not self._seen[at:stop].any()
        return not (self._seen[at:].any() or self._seen[:stop].any())

    def accept_run(self, first: int, count: int) -> None:
        """Mark a run that was fresh and has been authenticated in every datagram."""
        end = first + count
        if first == self.next:
            self.next = end  # in order: the marks below overwrite all that the window slides over
        elif end > self.next:
            self._advance(end)
        first = max(first, self.next - self._size)
        if first < end:
            self._put(first, end, True)

    def _advance(self, end: int) -> None:
        """Slide until `next` is `end`; the counters that come into the window have not been seen."""
        if end > self.next:
            self._put(max(self.next, end - self._size), end, False)
            self.next = end

    def _put(self, first: int, end: int, value: bool) -> None:
        """Set the marks of first <= c < end, at most `size` of them."""
        at, stop = first & self._mask, (end - 1 & self._mask) + 1
        if at < stop:
            self._seen[at:stop] = value
        else:
            self._seen[at:] = value
            self._seen[:stop] = value
