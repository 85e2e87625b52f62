"""The clock of sessions and of the peer: CLOCK_BOOTTIME (clock_gettime(2)), which goes on while the machine sleeps.

The far end's clock goes on meanwhile: a session that has outlived its time there must have done so here.
"""

from functools import partial
from math import inf
from time import CLOCK_BOOTTIME, CLOCK_MONOTONIC, clock_gettime, clock_gettime_ns

LEAST_SLEEP = 1.0  # seconds: a shorter one is none

# Seconds since the machine was started, and nanoseconds. Workers ask once a train, hence no functions of our own.
now = partial(clock_gettime, CLOCK_BOOTTIME)
now_ns = partial(clock_gettime_ns, CLOCK_BOOTTIME)


class WakeUps:
    """Notices that the machine has slept: CLOCK_BOOTTIME has gone on then, and CLOCK_MONOTONIC has not.

    Whoever reads both may be stopped in between, for however long. So what is known of their difference is a least and
    a most, and only a least above the most of before is a sleep.
    """

    def __init__(self) -> None:
        self._most = inf
        self.slept()

    def slept(self) -> float:
        """Seconds that the machine has slept since it was last said that it has; 0 if it has not."""
        before = clock_gettime(CLOCK_MONOTONIC)
        boot = now()
        after = clock_gettime(CLOCK_MONOTONIC)
        slept = boot - after - self._most
        if slept < LEAST_SLEEP:
            self._most = min(self._most, boot - before)
            return 0.0
        self._most = boot - before
        return slept
