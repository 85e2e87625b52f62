"""Clamp: the MSS option of TCP's SYN and SYN-ACK is lowered, so that full segments fit the tap and one datagram.

Hosts behind a bridge look at their own MTU alone, and nobody tells them that the bridge drops what is too long for the
tap, or that frames go in parts.
"""

from tap2tap.counters import Count, Counts
from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.headers import Headers
from tap2tap.workers.offload.linux import (
    IP_MF,
    IP_OFFSET,
    ONES,
    SYN,
    TCP_MIN_MSS,
    TCPOLEN_MSS,
    TCPOPT_EOL,
    TCPOPT_MSS,
    TCPOPT_NOP,
)
from tap2tap.workers.path import Path
from tap2tap.workers.train import Train

CLAMPED = Count.CLAMPED
SHORT = 256  # bytes: a SYN without data is shorter
FRAGMENT = IP_MF | IP_OFFSET


class Clamp:
    """Lowers the MSS of TCP to what fits one datagram on `path` and a tap of that `mtu`; it never raises it."""

    def __init__(self, arena: Arena, counts: Counts, path: Path, mtu: int) -> None:
        self.arena = arena
        self.counts = counts
        self.path = path
        self.mtu = mtu
        self.headers = Headers()

    def lower(self, frames: Train) -> None:
        """See to the SYN segments among these frames, the checksums of which are complete, and count them.

        Of long frames, only the first is looked at: a SYN with data (TCP Fast Open) seldom comes behind others.
        """
        at = frames.at
        for number in range(frames.count):
            size = frames.size_of(number)
            if (size <= SHORT or not number) and self.is_syn(at, size):
                longest = min(self.path.room(), self.headers.l3 + self.mtu)
                if self.lower_options(at, max(longest - self.headers.l4 - 20, TCP_MIN_MSS)):
                    self.counts[CLAMPED] += 1
            at += frames.step

    def is_syn(self, at: int, size: int) -> bool:
        """Whether this frame is a SYN segment, whole; the headers are those that were found in it."""
        arena, headers = self.arena, self.headers
        if not headers.locate(arena, at, size) or not headers.tcp:  # stops at the header of an IPv6 fragment
            return False
        if not arena.load8(at + headers.l4 + 13) & SYN:
            return False
        return not headers.v4 or not arena.load16(at + headers.l3 + 6) & FRAGMENT

    def lower_options(self, at: int, mss: int) -> bool:
        """Lower every MSS option that is above `mss`; whether there was one.

        They are found as tcp_parse_options in the kernel does: a length that cannot be ends the search.
        """
        arena, l4 = self.arena, at + self.headers.l4
        option, end = l4 + 20, at + self.headers.hl
        lowered = False
        while option + TCPOLEN_MSS <= end:
            kind = arena.load8(option)
            if kind == TCPOPT_EOL:
                break
            if kind == TCPOPT_NOP:
                option += 1
                continue
            length = arena.load8(option + 1)
            if length < 2:
                break
            if kind == TCPOPT_MSS and length == TCPOLEN_MSS:
                value = arena.load16(option + 2)
                if value > mss:
                    arena.store16(option + 2, mss)
                    self.update(at + self.headers.check, (option - l4) & 1, value - mss)
                    lowered = True
            option += length
        return lowered

    def update(self, check: int, odd: int, less: int) -> None:
        """Make the checksum at `check` that of a segment in which a 16-bit number has become `less` smaller (RFC 1624).

        A number that begins at an odd byte counts with its bytes swapped, which is 256 times as much.
        """
        if odd:
            less *= 256
        total = (2 * ONES - self.arena.load16(check) - less % ONES) % ONES  # of the segment; is never zero
        self.arena.store16(check, ONES - total if total else 0)
