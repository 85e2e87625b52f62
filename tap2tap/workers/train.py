"""The train: a run of frames or datagrams of one size in an arena, the last of which may be shorter.

UDP_SEGMENT sends exactly this shape, UDP_GRO receives it, and a super-frame of the tap is split into it and joined from
it. So it is what every stage between the tap and the socket takes and hands on.
"""

MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS in linux/udp.h, before Linux 6.9 raised it to 128
# Bytes of a train: with its UDP, IPv6 and Ethernet headers and a VLAN tag it must stay below GSO_LEGACY_MAX_SIZE
# (65536, linux/netdevice.h), or devices have the kernel cut it up before it leaves, and it is received in pieces.
MAX_PAYLOAD = 65535 - 8 - 40 - 14 - 4
ROOM = 65536 + 512  # bytes that one read may need: a super-frame of 64 KiB with its VLAN tags, and slack


class Train:
    """`count` frames or datagrams, the first at byte `at` of the arena, the next ones `step` bytes further each.

    All are `size` bytes long but the last, which has `last` bytes, last <= size. `step` is `size` where they lie back to
    back, more where there is room around each for the protocol's header and tag. With `count` 0 there is nothing.
    `vouched` says that the transport checksum of every frame is known to be right: this host computed it, or an
    authenticated peer says so.
    """

    __slots__ = ("at", "count", "last", "size", "step", "vouched")

    def __init__(self) -> None:
        self.at = self.size = self.step = self.count = self.last = 0
        self.vouched = False

    def size_of(self, number: int) -> int:
        """Bytes of a frame: 0 is the first."""
        return self.last if number == self.count - 1 else self.size

    def length(self) -> int:
        """Bytes of all frames together, without the room around them."""
        return self.size * (self.count - 1) + self.last if self.count else 0
