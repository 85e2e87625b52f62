"""The clock of sessions and of the peer: CLOCK_BOOTTIME (clock_gettime(2)), which goes on while the machine sleeps.

The far end's clock goes on meanwhile: a session that has outlived its time there must have done so here.
"""

from time import CLOCK_BOOTTIME, clock_gettime, clock_gettime_ns


def now() -> float:
    """Seconds since the machine was started."""
    return clock_gettime(CLOCK_BOOTTIME)


def now_ns() -> int:
    """The same in nanoseconds."""
    return clock_gettime_ns(CLOCK_BOOTTIME)
