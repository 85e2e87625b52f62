"""Which counters of a session have been seen: a sliding window.

Two steps, because a datagram may mark its counter only after it has been authenticated: `fresh` before decryption
(the cheap refusal), `accept` after it. The idea of a window that slides with the newest counter is that of RFC 4303,
section 3.4.3, and RFC 6479.
"""

from tap2tap.protocols.secure.limits import REJECT_AFTER_MESSAGES, WINDOW


class ReplayWindow:
    """The last `size` counters. Those below `start` all count as seen: a successor begins where its predecessor was.

    `next` is one more than the newest accepted counter. An inbound worker publishes it before it delivers a frame, so
    that `ReplayWindow(start=published)` in its successor accepts nothing a second time; what was still in flight
    below it is lost, as on any cable that is pulled.
    """

    def __init__(self, size: int = WINDOW, start: int = 0) -> None:
        if size < 1 or size & size - 1:
            raise ValueError("the size of a replay window is a power of two")
        self._size = size
        # The mark of counter c lies at c % size; valid for next - size <= c < next.
        self._seen = bytearray(b"\1" * size)
        self.next = start

    def fresh(self, counter: int) -> bool:
        """Tell whether it may be accepted."""
        if counter >= self.next:
            return counter < REJECT_AFTER_MESSAGES
        return counter >= self.next - self._size and not self._seen[counter & self._size - 1]

    def accept(self, counter: int) -> None:
        """Mark a counter that was fresh and whose datagram has been authenticated."""
        mask = self._size - 1
        if counter >= self.next:
            between = max(self.next, counter + 1 - self._size)  # what comes into the window, and has not been seen
            while between < counter:
                self._seen[between & mask] = 0
                between += 1
            self.next = counter + 1
        self._seen[counter & mask] = 1
