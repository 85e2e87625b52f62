"""Which frames this cable takes: the lengths that the interface on this side could have."""

from tap2tap.counters import Count, Counts, Drop
from tap2tap.device import ETHERNET_HEADER, VLAN_TAGS
from tap2tap.workers.train import Train

TOO_LONG = Count.DROPPED + Drop.TOO_LONG
TOO_SHORT = Count.DROPPED + Drop.TOO_SHORT


def longest_frame(mtu: int) -> int:
    """Bytes of a full frame with two VLAN tags on an interface of that MTU."""
    return mtu + ETHERNET_HEADER + VLAN_TAGS


class LengthFilter:
    """Drops and counts what is too short for an Ethernet header, or longer than `longest`."""

    def __init__(self, longest: int, counts: Counts) -> None:
        self._longest = longest
        self._counts = counts

    def keep(self, frames: Train) -> bool:
        """Take from `frames` what does not pass; return whether anything is left.

        Only the last frame may be of another size, so what is left is a train too.
        """
        if frames.size > self._longest:
            alone = frames.count and frames.last <= self._longest
            self._counts[TOO_LONG] += frames.count - 1 if alone else frames.count
            if not alone:
                frames.count = 0
                return False
            frames.at += (frames.count - 1) * frames.step
            frames.size, frames.count = frames.last, 1
        if frames.size < ETHERNET_HEADER:
            self._counts[TOO_SHORT] += frames.count
            frames.count = 0
        elif frames.count and frames.last < ETHERNET_HEADER:
            self._counts[TOO_SHORT] += 1
            frames.count, frames.last = frames.count - 1, frames.size
        return frames.count > 0
