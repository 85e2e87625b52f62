"""Which frames this cable takes: the lengths that the interface on this side could have."""

from tap2tap.counters import Count, Counts, Drop
from tap2tap.device import ETHERNET_HEADER, VLAN_TAGS
from tap2tap.workers.train import Batch, Train, Trains


def longest_frame(mtu: int) -> int:
    """Bytes of a full frame with two VLAN tags on an interface of that MTU."""
    return mtu + ETHERNET_HEADER + VLAN_TAGS


def fits(batch: Batch, longest: int, counts: Counts) -> bool:
    """Drop and count what is no frame of this cable: too short for its header, or too long for the tap's MTU.

    Returns whether anything is left.
    """
    trains = batch.trains
    if trains.shortest >= ETHERNET_HEADER and trains.longest <= longest:
        return True
    batch.trains = Trains(left for train in trains for left in _fitting(train, longest, counts))
    return bool(batch.trains)


def _fitting(train: Train, longest: int, counts: Counts) -> list[Train]:
    """What is left of a train; only the last datagram may be of another size."""
    at, size, count, last = train
    if size > longest:
        alone = last if last <= longest else 0
        counts[Count.DROPPED + Drop.TOO_LONG] += count - (alone > 0)
        if not alone:
            return []
        at, size, count = at + (count - 1) * size, alone, 1
    if last < ETHERNET_HEADER:
        counts[Count.DROPPED + Drop.TOO_SHORT] += 1
        count, last = count - 1, size
    if size < ETHERNET_HEADER:
        counts[Count.DROPPED + Drop.TOO_SHORT] += count
        return []
    return [Train(at, size, count, last)] if count else []
