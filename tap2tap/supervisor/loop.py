"""The supervisor's loop: its children, kept alive until a signal says that it is over."""

import select
from collections.abc import Sequence
from contextlib import suppress

from tap2tap import clock, endpoint, log
from tap2tap.counters import Slot
from tap2tap.supervisor.bridges import Bridges
from tap2tap.supervisor.child import Child
from tap2tap.supervisor.hooks import Hooks
from tap2tap.supervisor.link_process import LinkProcess
from tap2tap.supervisor.publisher import Publisher
from tap2tap.supervisor.resolver import Resolver
from tap2tap.supervisor.route import Route
from tap2tap.supervisor.signals import Signals
from tap2tap.workers.worker import Cable

LOOK = 1.0  # seconds between two looks at the heartbeats


class Watch:
    """What the supervisor watches over: the workers, the link process and the remote's name where there are such."""

    def __init__(
        self,
        cable: Cable,
        workers: Sequence[Child],
        stop: Signals,
        hooks: Hooks,
        link: LinkProcess | None,
        resolver: Resolver | None,
        publisher: Publisher,
    ) -> None:
        self._cable = cable
        self._children = [*workers, *([link.child] if link else [])]
        self._stop = stop
        self._hooks = hooks
        self._link = link
        self._resolver = resolver
        self._publisher = publisher
        self._route = None if link else Route(cable)
        self._bridges = Bridges(cable.tap, parts=link is not None)
        # Not poll(2): a limit of open files that is lowered while we run makes it fail, though they are open already.
        self._epoll = select.epoll()
        self._waited: list[int] = []
        self._next_look = clock.now() + LOOK

    def run(self) -> None:
        """Replace children that die or hang until a stop signal comes.

        Raises StartError when one says that no successor could do better.
        """
        while not self._turn():
            for child in self._children:
                child.tend()
            now = clock.now()
            if now >= self._next_look:
                self._next_look = now + LOOK
                self._look(now)
            if now >= self._publisher.due:
                self._publisher.publish()
            if now >= self._bridges.due:
                self._bridges.look()

    def _turn(self) -> bool:
        """Wait for something to do, and do what came over a descriptor; whether a stop signal has come."""
        due = [self._next_look, self._publisher.due, self._bridges.due]
        due += [child.restart_at for child in self._children if child.restart_at is not None]
        waiting = self._hooks.waiting | self._publisher.waiting | self._bridges.waiting
        if self._link:
            waiting |= self._link.waiting
        if self._resolver:
            waiting |= self._resolver.waiting
        ready = self._wait([self._stop.fd, *waiting], max(0.0, min(due) - clock.now()) + 0.001)
        if number := self._stop.stop():
            log.info("stopping", signal=number.name)
            return True
        for fd in ready:
            waiting.get(fd, lambda: None)()
        return False

    def _wait(self, descriptors: list[int], seconds: float) -> list[int]:
        """Wait for one of them to become readable, and return those that are."""
        for fd in self._waited:
            with suppress(OSError):  # it was closed
                self._epoll.unregister(fd)
        self._waited = descriptors
        for fd in descriptors:
            self._epoll.register(fd, select.EPOLLIN)
        return [fd for fd, _ in self._epoll.poll(seconds)]

    def _look(self, now: float) -> None:
        for child in self._children:
            child.look()
        if self._resolver:
            self._resolve(self._resolver, now)
        if self._route:
            self._route.look()

    def _resolve(self, resolver: Resolver, now: float) -> None:
        slots = self._cable.memory.slots
        resolver.look(now, max(slots[Slot.PEER_HEARD], slots[Slot.STARTED]) / 1e9)
        if self._link:
            self._link.move([resolver.known])
        elif endpoint.load(slots, Slot.PEER) != resolver.known:
            endpoint.store(slots, Slot.PEER, resolver.known)
