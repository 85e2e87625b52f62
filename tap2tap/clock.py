"""The clock of sessions and of the peer: CLOCK_BOOTTIME (clock_gettime(2)), which goes on while the machine sleeps.

The far end's clock goes on meanwhile: a session that has outlived its time there must have done so here.
"""

from functools import partial
from time import CLOCK_BOOTTIME, clock_gettime, clock_gettime_ns

# Seconds since the machine was started, and nanoseconds. Workers ask once a train, hence no functions of our own.
now = partial(clock_gettime, CLOCK_BOOTTIME)
now_ns = partial(clock_gettime_ns, CLOCK_BOOTTIME)
