"""Where a worker runs: on a CPU of its own while it is busy, wherever it is woken while it is not.

A worker that copies a lot gains by its CPU: caches stay warm, and the two workers share the load for certain. A lone
frame loses by it: whoever brings the frame must first wake that CPU, and on a virtual machine this is a way through the
hypervisor. Left free, the worker runs where the frame was brought, and a round trip takes two thirds of the time.
Floods of small frames and the acknowledgements of a bulk transfer lose by it too: they cost system calls and leave the
caches alone, and do best wherever there is time. So what counts is bytes, not frames. Where there are but two CPUs, all
others need these too, and nothing is gained: with both workers left free, a TCP stream was carried with 0.87x the CPU
time, and round trips beside it took 0.67x (both ends and the stream on two cores).
"""

import os
from collections.abc import Set

from tap2tap import log

WINDOW = 64  # trains from one look to the next
NEVER = 1 << 62  # trains
BUSY = 100e6  # bytes a second, and more, are carried on the own CPU
QUIET = 75e6  # bytes a second, and fewer, wherever they come


class Pin:
    """The CPU of a worker, None for none. `anywhere`: where it may run while it is not busy, maybe on that one only."""

    def __init__(self, cpu: int | None, anywhere: Set[int]) -> None:
        self.cpu = cpu
        self._anywhere = anywhere
        self._free = cpu is not None and len(anywhere | {cpu}) > 1
        self._pinned = False
        self._carried = 0
        self._since: float | None = None

    def take(self) -> bool:
        """Go to the own CPU; False when there is none, or it cannot be had, which is logged."""
        if self.cpu is None:
            return False
        try:
            os.sched_setaffinity(0, {self.cpu})
        except OSError as error:
            log.warning("not pinned", cpu=self.cpu, error=error.strerror)
            self._free = False
            return False
        self._pinned = True
        return True

    def look(self, trains: int, carried: int, now: float) -> int:
        """Settle by the rate of the last trains: so many so far, `carried` bytes in all; `now` is in seconds.

        Returns after how many trains in all it is to be called again.
        """
        if not self._free:
            return NEVER
        amount, since = carried - self._carried, self._since
        self._carried, self._since = carried, now
        if since is None:
            return trains + WINDOW
        seconds = now - since
        if amount > BUSY * seconds and self.cpu is not None:
            self._move({self.cpu}, pinned=True)
        elif amount < QUIET * seconds:
            self._move(self._anywhere, pinned=False)
        return trains + WINDOW

    def rest(self) -> None:
        """Nothing has come for a while."""
        self._move(self._anywhere, pinned=False)

    def _move(self, cpus: Set[int], *, pinned: bool) -> None:
        if pinned == self._pinned or not self._free:
            return
        try:
            os.sched_setaffinity(0, cpus)
        except OSError:  # they have been taken from us since: stay where we may be
            self._free = False
        self._pinned = pinned
