"""The train: a run of datagrams of one size, back to back in one buffer, the last of which may be shorter.

UDP_SEGMENT sends exactly this shape, UDP_GRO receives it, a super-frame of the tap is cut into it and joined from it.
So everything between the tap and the socket speaks it too.
"""

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS in linux/udp.h, before Linux 6.9 raised it to 128
# Bytes of a train: with its UDP, IPv6 and Ethernet headers and a VLAN tag it must stay below GSO_LEGACY_MAX_SIZE
# (65536, linux/netdevice.h), or devices have the kernel cut it up before it leaves, and it is received in pieces.
MAX_PAYLOAD = 65535 - 8 - 40 - 14 - 4
ROOM = 65536 + 512  # bytes that one read may need: a super-frame of 64 KiB with its VLAN tags, and slack


class Train:
    """One buffer and the geometry of the run of datagrams in it.

    `buffer` and `array` are the same memory, allocated once. A train holds `count` datagrams at offsets 0, `size`,
    2 * `size`, ...; all are `size` bytes long but the last, which has `last` bytes, 0 < last <= size.
    An empty train has count 0.

    `vouched` says that the transport checksum of every frame is known to be right (this host computed it, or a peer
    that has been authenticated says so).
    """

    __slots__ = ("_rows", "array", "buffer", "count", "last", "size", "vouched")

    def __init__(self, capacity: int = MAX_PAYLOAD + ROOM) -> None:
        self.array: Bytes = np.zeros(capacity, np.uint8)
        self.buffer = self.array.data
        self.size = 0
        self.count = 0
        self.last = 0
        self.vouched = False
        self._rows: dict[tuple[int, int], Bytes] = {}

    def shape(self, size: int, count: int, last: int) -> None:
        """Declare what the buffer holds now."""
        self.size = size
        self.count = count
        self.last = last

    @property
    def length(self) -> int:
        """Bytes of all datagrams together."""
        return self.size * (self.count - 1) + self.last if self.count else 0

    @property
    def rows(self) -> Bytes:
        """The train as a writable (count, size) uint8 view; past the end of a short last datagram it holds rubbish."""
        shape = (self.count, self.size)
        rows = self._rows.get(shape)
        if rows is None:
            if len(self._rows) >= 256:  # hostile traffic may come in every shape
                self._rows.clear()
            rows = self._rows[shape] = self.array[: self.count * self.size].reshape(shape)
        return rows

    def datagrams(self) -> list[memoryview]:
        """Views of the datagrams, one each. For tests and slow paths: it allocates."""
        starts = range(0, self.size * self.count, self.size) if self.size else []
        return [self.buffer[start : min(start + self.size, self.length)] for start in starts]
