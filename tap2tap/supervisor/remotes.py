"""Where the peer may be: the remotes that are configured, as addresses, and which of them is tried now."""

from collections.abc import Callable

from tap2tap import clock, endpoint
from tap2tap.counters import Slot
from tap2tap.memory import Memory
from tap2tap.supervisor.link_process import LinkProcess
from tap2tap.supervisor.loop import next_second
from tap2tap.supervisor.resolver import Resolver


class Remotes:
    """A part of the supervisor's loop. It tells the link, or, in the plain protocol, turns to the remote itself."""

    def __init__(self, memory: Memory, resolver: Resolver, link: LinkProcess | None) -> None:
        self.due = next_second(clock.now())
        self._memory = memory
        self._resolver = resolver
        self._link = link

    def hang_up(self) -> None:
        """Look the name up again now."""
        self._resolver.look(clock.now(), 0.0)

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when a lookup has answered."""
        return self._resolver.waiting

    def look(self) -> None:
        """Look the name up again where the peer is silent, and pass on what is known."""
        now, slots = clock.now(), self._memory.slots
        self.due = next_second(now)
        self._resolver.look(now, max(slots[Slot.PEER_HEARD], slots[Slot.STARTED]) / 1e9)
        if self._link:
            self._link.move([self._resolver.known])
        elif endpoint.load(slots, Slot.PEER) != self._resolver.known:
            endpoint.store(slots, Slot.PEER, self._resolver.known)
