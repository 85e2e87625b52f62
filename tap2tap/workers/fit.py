"""Which frames this cable takes: the lengths that the interface on this side could have."""

from tap2tap.counters import Count, Counts, Drop
from tap2tap.device import ETHERNET_HEADER, VLAN_TAGS
from tap2tap.workers.train import Train


def longest_frame(mtu: int) -> int:
    """Bytes of a full frame with two VLAN tags on an interface of that MTU."""
    return mtu + ETHERNET_HEADER + VLAN_TAGS


def fits(train: Train, longest: int, counts: Counts) -> bool:
    """Drop and count what is no frame of this cable: too short for its header, or too long for the tap's MTU.

    Only the last of a train may be of another size. Returns whether anything is left.
    """
    if train.size > longest:
        last = train.last if train.last <= longest else 0
        counts[Count.DROPPED + Drop.TOO_LONG] += train.count - (last > 0)
        at = train.size * (train.count - 1)
        train.buffer[:last] = train.buffer[at : at + last]
        train.shape(last, 1 if last else 0, last)
    if train.count and train.last < ETHERNET_HEADER:
        counts[Count.DROPPED + Drop.TOO_SHORT] += 1
        train.shape(train.size, train.count - 1, train.size)
    if train.count and train.size < ETHERNET_HEADER:
        counts[Count.DROPPED + Drop.TOO_SHORT] += train.count
        return False
    return train.count > 0
