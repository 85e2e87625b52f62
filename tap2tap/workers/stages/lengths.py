"""Which frames come in: those that have an Ethernet header. How long they may be is the sender's to know."""

from tap2tap.counters import Count, Counts, Drop
from tap2tap.device import ETHERNET_HEADER
from tap2tap.workers.train import Train

TOO_SHORT = Count.DROPPED + Drop.TOO_SHORT


class LengthFilter:
    """Drops and counts what is too short for an Ethernet header."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def keep(self, frames: Train) -> bool:
        """Take from `frames` what does not pass; return whether anything is left.

        Only the last frame may be of another size, so what is left is a train too.
        """
        if frames.size < ETHERNET_HEADER:
            self._counts[TOO_SHORT] += frames.count
            frames.count = 0
        elif frames.count and frames.last < ETHERNET_HEADER:
            self._counts[TOO_SHORT] += 1
            frames.count, frames.last = frames.count - 1, frames.size
        return frames.count > 0
