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

from tap2tap.vnet import VNET_LENGTH

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
_MARGIN = 64  # bytes in front of the first frame: as many as the processor fetches at once, so all stay aligned


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

    In front of every frame, the first included, there is room for its virtio_net_hdr, so that one piece of memory
    is enough to read or write it: see `with_header`. `vouched` says that the transport checksum of every frame is
    known to be right (this host computed it, or a peer that has been authenticated says so).
    """

    __slots__ = ("_memory", "array", "base", "buffer", "trains", "vouched")

    def __init__(self, capacity: int = (TRAINS + 1) * STRIDE) -> None:
        """Allocate it. The room behind the last train is never touched, but views of whole rows may reach into it."""
        memory: Bytes = np.zeros(_MARGIN + capacity, np.uint8)
        self._memory = memory.data
        self.array: Bytes = memory[_MARGIN:]
        self.buffer = self.array.data
        self.base: int = self.array.ctypes.data
        self.trains = Trains()
        self.vouched = False

    def with_header(self, at: int, size: int) -> memoryview:
        """View a frame and the virtio_net_hdr in front of it. In a train that is the end of the frame before."""
        return self._memory[_MARGIN + at - VNET_LENGTH : _MARGIN + at + size]

    def headers(self, spacing: int, count: int) -> npt.NDArray[np.void]:
        """View the virtio_net_hdr in front of each of `count` frames, the first at 0, one every `spacing` bytes."""
        return np.ndarray((count,), f"V{VNET_LENGTH}", self._memory, _MARGIN - VNET_LENGTH, (spacing,))

    def datagrams(self) -> list[memoryview]:
        """Views of the datagrams, one each. For tests and slow paths: it allocates."""
        return [
            self.buffer[at + start : at + min(start + size, size * (count - 1) + last)]
            for at, size, count, last in self.trains
            for start in range(0, max(1, size * count), size or 1)
        ]
