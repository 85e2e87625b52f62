"""The supervisor's loop: its children, kept alive until a signal says that it is over, and what looks around."""

import math
import select
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from tap2tap import clock, log
from tap2tap.supervisor.child import Child
from tap2tap.supervisor.signals import Signals

LOOK = 1.0  # seconds between two looks at the heartbeats


def next_second(now: float) -> float:
    """The beginning of the next second of the clock: whoever looks once a second does so at the same wake-up."""
    return math.floor(now) + LOOK


class Part:
    """Something that is looked after in the loop. Times are those of `clock`.

    `due` is when `look` is wanted; infinity: not before something comes over a descriptor.
    """

    due = math.inf

    @property
    def waiting(self) -> Mapping[int, Callable[[], None]]:
        """What to do when a descriptor becomes readable."""
        return {}

    def look(self) -> None:
        """Do what is due; `due` is later then. Raises StartError for what ends the tunnel."""


class Watch:
    """Watches over the children, and over the parts, until a signal comes; SIGHUP has `on_hang_up` called instead."""

    def __init__(
        self,
        children: Sequence[Child],
        stop: Signals,
        parts: Sequence[Part],
        on_hang_up: Callable[[], None],
    ) -> None:
        self._children = children
        self._stop = stop
        self._parts = parts
        self._on_hang_up = on_hang_up
        # Not poll(2): a limit of open files that is lowered while we run makes it fail, though they are open already.
        self._epoll = select.epoll()
        self._waited: list[int] = []
        self._next_look = next_second(clock.now())

    def run(self) -> None:
        """Replace children that die or hang until a stop signal comes.

        Raises StartError when one says that no successor could do better, or a part that the tunnel cannot go on.
        """
        while not self._turn():
            for child in self._children:
                child.tend()
            now = clock.now()
            if now >= self._next_look:
                self._next_look = next_second(now)
                for child in self._children:
                    child.look()
            for part in self._parts:
                if now >= part.due:
                    part.look()

    def _turn(self) -> bool:
        """Wait for something to do, and do what came over a descriptor; whether a stop signal has come."""
        due = [self._next_look, *(part.due for part in self._parts)]
        due += [child.restart_at for child in self._children if child.restart_at is not None]
        waiting: dict[int, Callable[[], None]] = {}
        for part in self._parts:
            waiting.update(part.waiting)
        ready = self._wait([self._stop.fd, *waiting], max(0.0, min(due) - clock.now()) + 0.001)
        if number := self._stop.stop():
            log.info("stopping", signal=number.name)
            return True
        if self._stop.hang_up():
            self._on_hang_up()
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
