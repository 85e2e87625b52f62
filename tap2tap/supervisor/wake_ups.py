"""What is done when the machine has slept: the peer is called, as it, and the NATs on the way, may have given us up."""

import math
from collections.abc import Callable

from tap2tap import clock, endpoint, log
from tap2tap.counters import Slot
from tap2tap.supervisor.loop import Part
from tap2tap.workers.worker import Cable

# Seconds. The timeout of epoll_wait(2) stands still in a sleep: what is left of it, this at most, passes after it.
INTERVAL = 0.5


class Sleep(Part):
    """`wake` is called after every sleep."""

    def __init__(self, cable: Cable, wake: Callable[[], None]) -> None:
        self.due = 0.0
        self._cable = cable
        self._wake = wake
        self._wake_ups = clock.WakeUps()

    def look(self) -> None:
        """See whether there was one."""
        self.due = math.floor(clock.now() / INTERVAL + 1) * INTERVAL  # every other one is a next_second()
        if slept := self._wake_ups.slept():
            somebody = self._cable.client or endpoint.load(self._cable.memory.slots, Slot.PEER)
            log.info(f"woke up after a sleep of {slept:.0f} s{', calling the peer' if somebody else ''}")
            self._wake()
