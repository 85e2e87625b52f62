"""Split: a super-frame of the tap becomes trains of its segments, as the kernel's own segmentation would cut it.

The rules are those of tcp_gso_segment, __udp_gso_segment, inet_gso_segment and ipv6_gso_segment in the kernel: every
segment repeats the headers, but for lengths, IPv4 id and header checksum, TCP sequence number and flags, and the
transport checksum.
"""

from tap2tap.counters import Count, Counts, Drop
from tap2tap.vnet import (
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_NONE,
    VNET_LENGTH,
)
from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.checksum import complete
from tap2tap.workers.offload.clamp import Clamp
from tap2tap.workers.offload.headers import Headers, host
from tap2tap.workers.offload.linux import CWR, FIN, ONES, PSH, TCP_MIN_MSS
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, ROOM, Train

SUPER_FRAMES, SUPER_FRAME_FRAMES = Count.SUPER_FRAMES, Count.SUPER_FRAME_FRAMES
MALFORMED = Count.DROPPED + Drop.MALFORMED
OUT_AREA = ROOM + 128  # bytes of the arena that a Splitter writes to, with at most 128 bytes of overhead a frame


class Splitter:
    """Makes trains of what was read from the tap: of ordinary frames, where they lie; of a super-frame, segments.

    Segments are written to the OUT_AREA bytes of the arena from `out` on: the first one `front` bytes behind `out`, the
    next ones each `overhead` bytes behind the end of the one before. `clamp` sees to ordinary frames; None: nobody.
    """

    def __init__(
        self, arena: Arena, counts: Counts, out: int, front: int, overhead: int, clamp: Clamp | None = None
    ) -> None:
        self.arena = arena
        self.counts = counts
        self.out = out + front
        self.overhead = overhead
        self.clamp = clamp
        self.headers = Headers()
        self.ordinary = Train()
        # The super-frame in hand: where it is, the payload and the bytes of a segment, how many there are and are done.
        self.at = self.mss = self.size = self.last = self.segments = self.done = 0
        self.most = 0  # segments of that size in one train
        # What is in the first segment, of which the others follow; sums without what counts up.
        self.seq = self.ident = self.flags = self.ip_sum = self.partial = 0

    def begin(self, frames: Train, room: int) -> None:
        """Take frames that share the virtio_net_hdr in front of the first of them, or one super-frame.

        They are changed. Those that contradict that header are dropped and counted. Segments of TCP that would be
        longer than `room` bytes are cut smaller; datagrams of UDP stay what they are.
        """
        self.ordinary.count = 0
        self.segments = self.done = 0
        if self.arena.load8(frames.at - VNET_LENGTH + 1) == VIRTIO_NET_HDR_GSO_NONE:
            self.begin_ordinary(frames)
        elif self.begin_super_frame(frames.at, frames.size, room):
            self.counts[SUPER_FRAMES] += 1
        else:
            self.counts[MALFORMED] += 1

    def next(self, train: Train) -> bool:
        """Set `train` to the next train; False when there is no more. A train of segments overwrites the one before.

        It has at most MAX_SEGMENTS frames and, with the overhead, MAX_PAYLOAD bytes; only a single frame, or those that
        were read as a train, may exceed that.
        """
        if self.ordinary.count:
            ordinary = self.ordinary
            train.at, train.count, train.step = ordinary.at, ordinary.count, ordinary.step
            train.size, train.last, train.vouched = ordinary.size, ordinary.last, ordinary.vouched
            ordinary.count = 0
            return True
        count = self.segments - self.done
        if not count:
            return False
        step = self.size + self.overhead
        if count > self.most and (count > MAX_SEGMENTS or count * step - (self.size - self.last) > MAX_PAYLOAD):
            count = self.most
        train.at, train.count, train.step = self.out, count, step
        train.size, train.vouched = self.size, True
        to = self.out
        for number in range(self.done, self.done + count):
            self.segment(to, number)
            to += step
        self.done += count
        train.last = self.last if self.done == self.segments else self.size
        self.counts[SUPER_FRAME_FRAMES] += count
        return True

    def begin_ordinary(self, frames: Train) -> None:
        """Complete the checksums of frames that are none but ordinary ones."""
        arena, ordinary = self.arena, self.ordinary
        ordinary.at, ordinary.count, ordinary.step = frames.at, frames.count, frames.step
        ordinary.size, ordinary.last = frames.size, frames.last
        header = frames.at - VNET_LENGTH
        ordinary.vouched = False
        if arena.load8(header) & VIRTIO_NET_HDR_F_NEEDS_CSUM:
            start, offset = host(arena.load16(header + 6)), host(arena.load16(header + 8))
            count = complete(arena, frames, start, offset)
            if count < frames.count:
                self.counts[MALFORMED] += frames.count - count
                ordinary.count, ordinary.last = count, frames.size
            ordinary.vouched = self.is_transport(ordinary, start, start + offset)
        if self.clamp is not None:
            self.clamp.lower(ordinary)

    def is_transport(self, frames: Train, start: int, field: int) -> bool:
        """Whether in each frame the transport header begins at `start`, and its checksum is at `field`.

        A program with a packet socket may have another sum completed, and the transport checksum wrong.
        """
        headers, at = self.headers, frames.at
        for number in range(frames.count):
            if not headers.locate(self.arena, at, frames.size_of(number)):
                return False
            if headers.l4 != start or headers.check != field:
                return False
            at += frames.step
        return True

    def begin_super_frame(self, at: int, length: int, room: int) -> bool:
        """Make of its headers those of a segment that is neither the first nor the last; False if it is malformed."""
        arena, headers, header = self.arena, self.headers, at - VNET_LENGTH
        if length > ROOM or not headers.locate(arena, at, length):  # hdr_len in the virtio_net_hdr is only a hint
            return False
        if arena.load8(header + 1) & ~VIRTIO_NET_HDR_GSO_ECN != headers.kind:
            return False
        l3, l4, hl = headers.l3, headers.l4, headers.hl
        self.at, self.mss = at, host(arena.load16(header + 4))
        if headers.tcp and self.mss > room - hl:
            self.mss = min(self.mss, max(room - hl, TCP_MIN_MSS))
        self.size = min(length, hl + self.mss)
        if not self.mss or self.size - l3 > 65535:
            return False
        if arena.load8(header) & VIRTIO_NET_HDR_F_NEEDS_CSUM:  # the checksum field holds the sum of the pseudo-header
            start = host(arena.load16(header + 6))
            if start != l4 or start + host(arena.load16(header + 8)) != headers.check:
                return False
            self.partial = (arena.load16(at + headers.check) + 2 * ONES + self.size - length) % ONES
        else:
            self.partial = (headers.pseudo(arena, at) + self.size - l4) % ONES
        arena.store16(at + headers.check, 0)
        headers.set_lengths(arena, at, self.size)
        if headers.v4:
            self.ident = arena.load16(at + l3 + 4)
            arena.store16(at + l3 + 4, 0)
            arena.store16(at + l3 + 10, 0)
            self.ip_sum = arena.sum(at + l3, l4 - l3)
        if headers.tcp:
            self.seq = arena.load32(at + l4 + 4)
            self.flags = arena.load8(at + l4 + 13)
            arena.store8(at + l4 + 13, self.flags & ~(FIN | PSH | CWR))
        payload = length - hl
        self.segments = (payload + self.mss - 1) // self.mss if payload else 1
        self.last = length - (self.segments - 1) * self.mss
        self.most = max(1, min(MAX_SEGMENTS, MAX_PAYLOAD // (self.size + self.overhead)))
        return True

    def segment(self, to: int, number: int) -> None:
        """Write a segment of the super-frame."""
        arena, headers, hl = self.arena, self.headers, self.headers.hl
        l3, l4 = to + headers.l3, to + headers.l4
        final = number == self.segments - 1
        size = self.last if final else self.size
        less = self.size - size
        arena.copy(to, self.at, hl)
        arena.copy(to + hl, self.at + hl + number * self.mss, size - hl)
        if less:
            headers.set_lengths(arena, to, size)
        if headers.v4:
            ident = (self.ident + number) & 0xFFFF
            arena.store16(l3 + 4, ident)
            arena.store16(l3 + 10, (2 * ONES + less - self.ip_sum - ident) % ONES)
        if headers.tcp:
            arena.store32(l4 + 4, self.seq + number * self.mss)
            if not number or final:
                flags = self.flags
                if number:
                    flags &= ~CWR
                if not final:
                    flags &= ~(FIN | PSH)
                arena.store8(l4 + 13, flags)
        total = (arena.sum(l4, size - headers.l4) + self.partial + ONES - less) % ONES
        if headers.tcp and not total:  # its 0 stays 0, UDP's is written as 65535
            total = ONES
        arena.store16(to + headers.check, ONES - total)
