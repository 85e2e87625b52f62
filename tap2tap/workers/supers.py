"""Super-frames: what os.writev gets for a run of frames, the headers of the first made to be those of all."""

from struct import Struct

from tap2tap.vnet import VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN, VNET_HEADER
from tap2tap.workers.checksum import ONES, native
from tap2tap.workers.headers import ACK, CWR, FIN, IPPROTO_TCP, IPPROTO_UDP, PSH, RST, SYN, U16, URG, Layout
from tap2tap.workers.train import Train

pack = U16.pack_into
_IP4 = Struct(">10H")  # the words of an IPv4 header
_IP6 = Struct(">8x16H")  # those of the addresses in an IPv6 header


class Maker:
    """Makes the headers of super-frames of one layout.

    They are what a virtio-net driver writes: NEEDS_CSUM, the sum of the pseudo-header in the checksum field.
    """

    def __init__(self, layout: Layout) -> None:
        l3, l4, _, _, v4 = layout
        self._layout = layout
        self._tcp, self._check = layout.tcp, layout.check
        self._protocol = IPPROTO_TCP if layout.tcp else IPPROTO_UDP
        # Where the IP destination begins, and the least first byte of it that means many hosts: a UDP run is of one.
        self._target, self._many = l3 + (16 if v4 else 24), 224 if v4 else 255
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

    def make(
        self, buffer: memoryview, train: Train, first: int, frames: int, signature: int, total: int
    ) -> bytes | None:
        """Make the headers of a run of `frames` frames in `buffer`, from number `first` of a train on, and return them.

        None if its first frame is unlike that, or its checksums are wrong, or it is a UDP datagram to many: programs
        with packet sockets, for DHCP and discovery, expect those one by one. `total` is the sum of its transport header
        and payload, in the byte order of the host; -1 if that is known to be right.
        """
        l3, l4, hl, kind, v4 = self._layout
        at, size, count, last = train
        at += first * size
        length = (frames - 1) * (size - hl) + (last if first + frames == count else size)
        frame = bytearray(buffer[at : at + hl])  # each run has its own: others are made before this one is written
        if int.from_bytes(frame) & self._beginning != signature:
            return None
        if not self._tcp and (frame[0] & 1 or frame[self._target] >= self._many):  # an Ethernet group, an IP one
            return None
        if v4:
            words = _IP4.unpack_from(frame, l3)
            if sum(words) % ONES:
                return None
            pseudo = sum(words[6:]) + self._protocol
            pack(frame, l3 + 2, length - l3)
            pack(frame, l3 + 10, (words[5] + size - length) % ONES)  # the sum grows by what the length grows by
        else:
            pseudo = sum(_IP6.unpack_from(frame, l3)) + self._protocol
            pack(frame, l3 + 4, length - l3 - 40)
        if total >= 0 and total != native(l4 - size - pseudo):
            return None
        pack(frame, self._check, (pseudo + length - l4 - 1) % ONES + 1)  # additions never give 0
        if self._tcp:
            if frame[l4 + 13] & CWR:
                kind |= VIRTIO_NET_HDR_GSO_ECN
            frame[l4 + 13] |= buffer[at + (frames - 1) * size + l4 + 13] & (FIN | PSH)
        else:
            pack(frame, l4 + 4, length - l4)
        return VNET_HEADER.pack(VIRTIO_NET_HDR_F_NEEDS_CSUM, kind, hl, size - hl, l4, self._check - l4) + frame
