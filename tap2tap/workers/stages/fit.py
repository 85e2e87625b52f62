"""Which frames this cable takes: the lengths that the interface on this side could have."""

from tap2tap.counters import Count, Counts, Drop
from tap2tap.device import ETHERNET_HEADER
from tap2tap.workers.train import Train

TOO_LONG = Count.DROPPED + Drop.TOO_LONG
TOO_SHORT = Count.DROPPED + Drop.TOO_SHORT


def fits(frames: Train, longest: int, counts: Counts) -> bool:
    """Take from `frames` what is no frame of this cable, and count it: too short for its header, or longer than that.

    Returns whether anything is left. Only the last frame may be of another size, so what is left is a train too.
    """
    if frames.size > longest:
        alone = frames.count and frames.last <= longest
        counts[TOO_LONG] += frames.count - 1 if alone else frames.count
        if not alone:
            frames.count = 0
            return False
        frames.at += (frames.count - 1) * frames.step
        frames.size, frames.count = frames.last, 1
    if frames.size < ETHERNET_HEADER:
        counts[TOO_SHORT] += frames.count
        frames.count = 0
    elif frames.count and frames.last < ETHERNET_HEADER:
        counts[TOO_SHORT] += 1
        frames.count, frames.last = frames.count - 1, frames.size
    return frames.count > 0
