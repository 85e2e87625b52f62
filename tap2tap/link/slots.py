"""Which slots of the memory hold the counters of a session, through all lives of the link process."""

from tap2tap import clock
from tap2tap.counters import Counts
from tap2tap.memory import SESSIONS, Private


class SessionSlots:
    """Those of one worker, whose group is `counts`.

    When each becomes free stands in the memory: a successor gives out none that a worker still uses for a session of
    its predecessor. Of the free ones that comes next which has been so for the longest time, as the worker may still
    write to one that was given back a moment ago.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._ends = counts[Private.END : Private.END + SESSIONS]

    def take(self, until: int, counter: int) -> int:
        """Begin one for a session that ends at `until`, ns of the clock, with `counter`; return its number."""
        slot = min(range(SESSIONS), key=self._ends.__getitem__)
        self._ends[slot] = until
        self._counts[Private.SESSION + slot] = counter
        self._counts[Private.ACCEPTED + slot] = self._counts[Private.LATE + slot] = 0
        return slot

    def give_back(self, slot: int) -> None:
        """The session is over."""
        self._ends[slot] = clock.now_ns()

    def last_end(self) -> int:
        """When the last session ends, ns of the clock; what has ended may count."""
        return max(self._ends)
