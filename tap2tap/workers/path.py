"""What one datagram to the peer may hold."""

from tap2tap.counters import Slot

PATH = Slot.PATH
UNKNOWN = 1 << 30  # bytes: longer than any frame


class Path:
    """The path to the peer, as the link process or the supervisor has found it. `overhead` is that of the protocol."""

    def __init__(self, slots: memoryview, overhead: int) -> None:
        self._slots = slots
        self._overhead = overhead

    def room(self) -> int:
        """Bytes of the longest frame that fits one datagram; UNKNOWN where nobody knows."""
        payload = self._slots[PATH]
        return payload - self._overhead if payload > self._overhead else UNKNOWN
