"""The train: a run of datagrams of one size, back to back, the last of which may be shorter; and batches of trains.

UDP_SEGMENT sends exactly this shape, UDP_GRO receives it, a super-frame of the tap is cut into it and joined from it.
So everything between the tap and the socket speaks it too. What Python and NumPy do for a train costs more than the
kernel takes to carry it, and costs hardly more for several: so all that waits is read before any of it is worked on,
and every stage gets a batch of trains.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS in linux/udp.h, before Linux 6.9 raised it to 128
# Bytes of a train: with its UDP, IPv6 and Ethernet headers and a VLAN tag it must stay below GSO_LEGACY_MAX_SIZE
# (65536, linux/netdevice.h), or devices have the kernel cut it up before it leaves, and it is received in pieces.
MAX_PAYLOAD = 65535 - 8 - 40 - 14 - 4
ROOM = 65536 + 512  # bytes that one read may need: a super-frame of 64 KiB with its VLAN tags, and slack

TRAINS = 8  # in a batch: more gain little, and fall out of the processor's cache
STRIDE = (
    ROOM + 64
)  # bytes from one read to the next in a batch's buffer; at a power of two they would share cache lines
ROWS = TRAINS * MAX_SEGMENTS  # frames in a batch


class Train(NamedTuple):
    """`count` > 0 datagrams in a batch's buffer, from byte `at` on, one every `size` bytes.

    All are `size` bytes long but the last, which has `last` bytes, 0 < last <= size. An empty datagram is a train of
    its own, the only one of size 0.
    """

    at: int
    size: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody misses here
    last: int

    @property
    def length(self) -> int:
        """Bytes of all datagrams together."""
        return self.size * (self.count - 1) + self.last


class Trains(tuple[Train, ...]):
    """Trains in their order.

    In all they are `frames` datagrams, of `length` bytes, the longest of `longest` and the shortest of `shortest`.
    """

    frames: int
    length: int
    longest: int
    shortest: int

    def __new__(cls, trains: Iterable[Train] = ()) -> "Trains":
        """Make them of these; the numbers are found out once."""
        self = super().__new__(cls, trains)
        self.frames = sum([train.count for train in self])
        self.length = sum([train.length for train in self])
        self.longest = max([train.size for train in self], default=0)
        self.shortest = min([train.last for train in self], default=0)
        return self


class Batch:
    """One buffer and the trains in it. `buffer` and `array` are the same memory, allocated once, at the address `base`.

    `vouched` says that the transport checksum of every frame is known to be right (this host computed it, or a peer
    that has been authenticated says so).
    """

    __slots__ = ("array", "base", "buffer", "trains", "vouched")

    def __init__(self, capacity: int = (TRAINS + 1) * STRIDE) -> None:
        """Allocate it. The room behind the last train is never touched, but views of whole rows may reach into it."""
        self.array: Bytes = np.zeros(capacity, np.uint8)
        self.buffer = self.array.data
        self.base: int = self.array.ctypes.data
        self.trains = Trains()
        self.vouched = False

    def datagrams(self) -> list[memoryview]:
        """Views of the datagrams, one each. For tests and slow paths: it allocates."""
        return [
            self.buffer[at + start : at + min(start + size, size * (count - 1) + last)]
            for at, size, count, last in self.trains
            for start in range(0, max(1, size * count), size or 1)
        ]
