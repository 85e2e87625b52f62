"""Join: runs of frames become super-frames for the tap, as the kernel's own receive offload would join them.

There is one rule: a run is joined only if cutting the super-frame again gives back its frames, byte for byte, and the
checksum of each was right. What that rule does not see is left of the conditions in inet_gro_receive,
ipv6_gro_receive, tcp_gro_receive and udp_gro_receive_segment: no fragments, IP options or extension headers; no SYN,
RST or URG; a payload, a UDP checksum, one host that a UDP datagram is for; and IPv4 ids that stand still only with DF.
In that case alone the frames would come back with ids other than they had.
"""

from tap2tap.vnet import VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN, VNET_LENGTH
from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.headers import Headers, host
from tap2tap.workers.offload.linux import ACK, CWR, FIN, IP_DF, ONES, PSH, RST, SYN, URG
from tap2tap.workers.train import MAX_SEGMENTS, Train

SCRATCH = 256  # bytes of the arena that a Joiner writes to: a virtio_net_hdr, and headers without options of IP
BEGIN = FIN | SYN | RST | PSH | ACK | URG  # of these flags, the first segment of a run has ACK alone
LIMITS = FIN | PSH | CWR  # flags that end or begin a run
SEQUENCE = 1 << 32  # TCP sequence numbers


class Joiner:
    """Finds runs of frames. The super-frame of one is its headers, and the payloads of the frames where they are.

    The first `head` bytes at `scratch` in the arena are the virtio_net_hdr and the headers of the last run that was
    found. The payload of a frame begins `hl` bytes behind its beginning.
    """

    def __init__(self, arena: Arena, scratch: int, udp: bool) -> None:
        """`udp`: whether the kernel takes UDP super-frames (TUN_F_USO4 and TUN_F_USO6, since Linux 6.2)."""
        self.arena = arena
        self.scratch = scratch
        self.udp = udp
        self.paused = 0  # kinds of super-frame that are not made, as bits: 1 << gso_type
        self.head = self.hl = 0
        # Of the first frame of a run: where it is, its bytes, those of its payload, and what counts up from there.
        self.headers = Headers()
        self.at = self.size = self.mss = 0
        self.seq = self.ident = self.flags = self.window = 0
        self.ends = 0  # flags of the frame compared last that end a run
        self.steps = 0  # by how much the IPv4 id goes up from frame to frame
        self.ip_sum = self.pseudo = 0

    def kind(self) -> int:
        """The gso_type of the last run that was found, without ECN."""
        return self.headers.kind

    def run(self, frames: Train, first: int) -> int:
        """How many frames, from number `first` on, are one run: 1 if that frame is to be written as it is.

        Frames are only read, and whatever they hold, nothing is raised.
        """
        left = frames.count - first
        at, size, step = frames.at + first * frames.step, frames.size, frames.step
        if left < 2 or not self.begins(at, size):
            return 1
        most = 1 + (65535 - (size - self.headers.l3 - (0 if self.headers.v4 else 40))) // self.mss  # 16 bits of length
        if most > MAX_SEGMENTS:
            most = MAX_SEGMENTS
        if most > left:
            most = left
        number = 1
        length = size
        while number < most:
            here = frames.last if number == left - 1 else size
            if not self.continues(at + number * step, here, number):
                break
            if not frames.vouched:
                if number == 1 and not self.right(at, size):
                    break
                if not self.right(at + number * step, here):
                    break
            number += 1
            length += here - self.hl
            if self.ends:
                self.flags |= self.ends
                break
        if number > 1:
            self.write_head(length)
        return number

    def begins(self, at: int, size: int) -> bool:
        """Whether this frame may be the first of a run, but for its transport checksum."""
        arena, headers = self.arena, self.headers
        if not headers.locate(arena, at, size) or self.paused >> headers.kind & 1:
            return False
        l3, l4, hl = headers.l3, headers.l4, headers.hl
        if hl >= size or l4 - l3 != (20 if headers.v4 else 40):  # no payload, or options or extension headers
            return False
        if arena.load16(at + headers.length) != (size - l3 if headers.v4 else size - l4):
            return False
        if headers.v4 and arena.load16(at + l3 + 6) & ~IP_DF:  # a fragment
            return False
        check = arena.load16(at + headers.check)
        if headers.tcp:
            self.flags = arena.load8(at + l4 + 13)
            if self.flags & BEGIN != ACK or check == ONES:  # split writes 0
                return False
            self.seq = arena.load32(at + l4 + 4)
            self.window = arena.load16(at + l4 + 14)
        else:
            if not self.udp or not check or arena.load16(at + l4 + 4) != size - l4:
                return False
            # Datagrams to many hosts, as of DHCP and discovery: programs with packet sockets expect them one by one.
            if arena.load8(at) & 1 or arena.load8(at + l3 + (16 if headers.v4 else 24)) >= (224 if headers.v4 else 255):
                return False
            self.flags = self.ends = 0
        if headers.v4:
            check = arena.load16(at + l3 + 10)
            if check == ONES or arena.sum(at + l3, 20):
                return False
            self.ident = arena.load16(at + l3 + 4)
            self.ip_sum = (size + self.ident + check) % ONES
        self.at, self.size, self.mss, self.hl = at, size, size - hl, hl
        self.pseudo = headers.pseudo(arena, at)
        return True

    def continues(self, at: int, size: int, number: int) -> bool:
        """Whether the headers of this frame are those of segment `number` of the super-frame."""
        arena, headers, first = self.arena, self.headers, self.at
        l4, hl = headers.l4, self.hl
        if size <= hl or not self.network_continues(at, size, number):
            return False
        if not headers.tcp:
            lengths_and_check = arena.load32(at + l4 + 4)
            return lengths_and_check >> 16 == size - l4 and lengths_and_check & 0xFFFF != 0
        if arena.load32(at + l4 + 4) != (self.seq + number * self.mss) % SEQUENCE:
            return False
        flags = arena.load8(at + l4 + 13)
        if (flags ^ self.flags) & ~LIMITS or flags & CWR:
            return False
        self.ends = flags & (FIN | PSH)
        window_and_check = arena.load32(at + l4 + 14)
        if window_and_check >> 16 != self.window or window_and_check & 0xFFFF == ONES:
            return False
        # Acknowledgement number, data offset; urgent pointer, options.
        return arena.equal(at + l4 + 8, first + l4 + 8, 5) and arena.equal(at + l4 + 18, first + l4 + 18, hl - l4 - 18)

    def network_continues(self, at: int, size: int, number: int) -> bool:
        """The same of the headers up to and with the ports."""
        arena, headers, first, l3 = self.arena, self.headers, self.at, self.headers.l3
        if not headers.v4:
            if not arena.equal(at, first, l3 + 4) or arena.load16(at + l3 + 4) != size - l3 - 40:
                return False
            return arena.equal(at + l3 + 6, first + l3 + 6, 38)
        if not arena.equal(at, first, l3 + 2) or not arena.equal(at + l3 + 12, first + l3 + 12, 12):
            return False
        length_and_ident, check = arena.load32(at + l3 + 2), arena.load16(at + l3 + 10)
        ident = length_and_ident & 0xFFFF
        if length_and_ident >> 16 != size - l3 or not arena.equal(at + l3 + 6, first + l3 + 6, 4):
            return False
        if check == ONES or (size + ident + check) % ONES != self.ip_sum:
            return False
        if number == 1:
            self.steps = 1 if ident != self.ident or not arena.load16(first + l3 + 6) & IP_DF else 0
        return ident == (self.ident + number * self.steps) & 0xFFFF

    def right(self, at: int, size: int) -> bool:
        """Whether the transport checksum of this frame is right."""
        l4 = self.headers.l4
        return (self.arena.sum(at + l4, size - l4) + self.pseudo + size - l4) % ONES == 0

    def write_head(self, length: int) -> None:
        """Write the headers of the super-frame of `length` bytes, as a virtio-net driver writes them.

        That is with NEEDS_CSUM, and the sum of the pseudo-header in the checksum field.
        """
        arena, headers, scratch = self.arena, self.headers, self.scratch
        at, l3, l4, kind = scratch + VNET_LENGTH, headers.l3, headers.l4, headers.kind
        arena.copy(at, self.at, self.hl)
        headers.set_lengths(arena, at, length)
        if headers.v4:  # the sum grows by what the length grows by
            arena.store16(at + l3 + 10, (arena.load16(at + l3 + 10) + ONES + self.size - length) % ONES)
        arena.store16(at + headers.check, (self.pseudo + length - l4 - 1) % ONES + 1)  # additions never give 0
        if headers.tcp:
            if self.flags & CWR:
                kind |= VIRTIO_NET_HDR_GSO_ECN
            arena.store8(at + l4 + 13, self.flags)
        arena.store8(scratch, VIRTIO_NET_HDR_F_NEEDS_CSUM)
        arena.store8(scratch + 1, kind)
        arena.store16(scratch + 2, host(self.hl))
        arena.store16(scratch + 4, host(self.mss))
        arena.store16(scratch + 6, host(l4))
        arena.store16(scratch + 8, host(headers.check - l4))
        self.head = VNET_LENGTH + self.hl
