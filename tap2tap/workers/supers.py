"""Super-frames: what os.writev gets for a run of frames, the headers of the first made to be those of all."""

from struct import Struct
from typing import NamedTuple

from tap2tap.vnet import VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN, VNET_HEADER, VNET_LENGTH
from tap2tap.workers.checksum import ONES, native
from tap2tap.workers.headers import ACK, CWR, FIN, IPPROTO_TCP, IPPROTO_UDP, PSH, RST, SYN, U16, URG, Layout
from tap2tap.workers.train import Batch, Train

_IP4 = Struct(">10H")  # the words of an IPv4 header
_IP6 = Struct(">8x16H")  # those of the addresses in an IPv6 header


class Run(NamedTuple):
    """`frames` frames of a train, from number `first` on, that are lined up from `row` on.

    `vector` writes them as one super-frame of `length` bytes: its headers, and the payload of each.
    """

    train: Train
    first: int
    frames: int
    row: int
    length: int
    vector: list[memoryview]


class Maker:
    """Makes the headers of super-frames of one layout.

    They are what a virtio-net driver writes: NEEDS_CSUM, the sum of the pseudo-header in the checksum field.
    """

    def __init__(self, layout: Layout) -> None:
        l3, l4, hl, _, v4 = layout
        self._layout = layout
        self._protocol = IPPROTO_TCP if layout.tcp else IPPROTO_UDP
        beginning = layout.mask()
        beginning[layout.length : layout.length + 2] = b"\xff\xff"
        if v4:
            beginning[l3 + 6 : l3 + 8] = b"\xbf\xff"  # of a fragment, but not DF
        if layout.tcp:
            beginning[l4 + 13] = FIN | SYN | RST | PSH | ACK | URG
        else:
            beginning[l4 + 4 : l4 + 6] = b"\xff\xff"  # length
        self._beginning = int.from_bytes(beginning)  # the bits of their headers that all first frames share

    def signature(self, frame: memoryview) -> int:
        """What all frames of one size have in common that may begin a run, if one of them may."""
        return int.from_bytes(frame[: self._layout.hl]) & self._beginning

    def make(self, batch: Batch, run: Run, signature: int, total: int | None) -> bool:
        """Make the headers of a run; False if its first frame is not like that, or its checksums are wrong.

        `total` is the sum of its transport header and payload, in the byte order of the host; None if that is right.
        """
        l3, l4, hl, kind, v4 = self._layout
        train, first, _, _, length, vector = run
        size = train.size
        at = train.at + first * size
        header = vector[0]
        frame = header[VNET_LENGTH:]
        frame[:] = batch.buffer[at : at + hl]
        if self.signature(frame) != signature:
            return False
        if v4:
            words = _IP4.unpack_from(frame, l3)
            if sum(words) % ONES:
                return False
            pseudo = sum(words[6:]) + self._protocol
            U16.pack_into(frame, l3 + 2, length - l3)
            U16.pack_into(frame, l3 + 10, (words[5] + size - length) % ONES)  # the sum grows by what the length grows by
        else:
            pseudo = sum(_IP6.unpack_from(frame, l3)) + self._protocol
            U16.pack_into(frame, l3 + 4, length - l3 - 40)
        if total is not None and total != native(l4 - size - pseudo):
            return False
        U16.pack_into(frame, self._layout.check, (pseudo + length - l4 - 1) % ONES + 1)  # additions never give 0
        if self._layout.tcp:
            if frame[l4 + 13] & CWR:
                kind |= VIRTIO_NET_HDR_GSO_ECN
            frame[l4 + 13] |= batch.buffer[at + (run.frames - 1) * size + l4 + 13] & (FIN | PSH)
        else:
            U16.pack_into(frame, l4 + 4, length - l4)
        offset = self._layout.check - l4
        VNET_HEADER.pack_into(header, 0, VIRTIO_NET_HDR_F_NEEDS_CSUM, kind, hl, size - hl, l4, offset)
        return True
