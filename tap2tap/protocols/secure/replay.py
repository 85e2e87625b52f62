"""Which counters of a session have been seen: a sliding window, asked and told about a run of counters at once.

Two steps, because a datagram may mark its counter only after it has been authenticated: `fresh` before decryption
(the cheap refusal), `accept` after it. Nearly every train, or batch of trains, is a run of consecutive counters.

The idea of a window that slides with the newest counter is that of RFC 4303, section 3.4.3, and RFC 6479.
"""

from tap2tap.protocols.secure.limits import REJECT_AFTER_MESSAGES, WINDOW

_SEEN = b"\1"


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
        self._seen = bytearray(_SEEN * size)
        self.next = start

    def fresh(self, first: int, count: int = 1) -> bool:
        """Tell whether all of first, first + 1, ..., first + count - 1 may be accepted."""
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
            return self._seen.find(_SEEN, at, stop) < 0
        return self._seen.find(_SEEN, at) < 0 and self._seen.find(_SEEN, 0, stop) < 0

    def accept(self, first: int, count: int = 1) -> None:
        """Mark a run that was fresh and has been authenticated in every datagram."""
        end = first + count
        if first > self.next:  # what is between comes into the window, and has not been seen
            self._put(max(self.next, end - self._size), first, b"\0")
        self.next = max(self.next, end)
        self._put(max(first, self.next - self._size), end, _SEEN)

    def _put(self, first: int, end: int, mark: bytes) -> None:
        """Set the marks of first <= c < end, at most `size` of them."""
        if first >= end:
            return
        at, stop = first & self._mask, (end - 1 & self._mask) + 1
        if at < stop:
            self._seen[at:stop] = mark * (stop - at)
        else:
            self._seen[at:] = mark * (self._size - at)
            self._seen[:stop] = mark * stop
