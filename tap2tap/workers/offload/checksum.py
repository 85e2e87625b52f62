"""Completing the transport checksums of ordinary frames, as VIRTIO_NET_HDR_F_NEEDS_CSUM asks for."""

from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.linux import ONES
from tap2tap.workers.train import Train


def complete(arena: Arena, frames: Train, start: int, offset: int) -> int:
    """Fill in the checksum of each frame, and return of how many: not of those that end before the field.

    In each frame the field at `start + offset`, neither of them negative, holds the sum of its pseudo-header. The
    checksum is that of the bytes from `start` to the end of the frame, and 0 is written as 65535, for TCP too
    (skb_checksum_help in net/core/dev.c).
    """
    field = start + offset
    at = frames.at
    for number in range(frames.count):
        size = frames.size_of(number)
        if field + 2 > size:  # and so do all that follow, as only the last is shorter than others
            return number
        arena.store16(at + field, ONES - arena.sum(at + start, size - start))
        at += frames.step
    return frames.count
