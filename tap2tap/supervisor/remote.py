"""One configured remote: an address, a link-local address on an interface by its name, or a name that is looked up."""

import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from tap2tap import log
from tap2tap.endpoint import Endpoint
from tap2tap.errors import NoSuchNameError, StartError
from tap2tap.supervisor.resolver import Lookups

SILENCE = 30.0  # seconds without a word from the peer before its name is looked up again
EVERY = 60.0  # seconds between two lookups, at least
AGAIN = 1.0  # the same while nothing is known


class Remote(Protocol):
    """One remote; `known` is what it stands for now, the best first. Times are those of `clock`."""

    known: Sequence[Endpoint]

    def look(self, now: float, heard: float) -> None:
        """See what is due; `heard` is when the peer was last heard, or when the tunnel began."""

    def ask(self, now: float) -> None:
        """Find out again what it stands for."""

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when a descriptor is readable."""

    def close(self) -> None:
        """Ask nobody any more."""


class Literal:
    """A remote that is an address, of the interface `zone` if it is link-local."""

    waiting: dict[int, Callable[[], None]] = {}  # noqa: RUF012  (it stays empty)

    def __init__(self, address: Endpoint, zone: str) -> None:
        self.known: Sequence[Endpoint] = () if zone else (address,)
        self._address = address
        self._zone = zone
        self._told = False
        self.ask(0.0)

    def look(self, now: float, heard: float) -> None:  # noqa: ARG002  (of a Remote)
        """Find the interface: it may have been made anew, with another index."""
        if not self._zone:
            return
        index = _index(self._zone)
        self.known = (self._address._replace(scope=index),) if index else ()
        if index and self._told:
            log.info("the interface of the remote is there", interface=self._zone)
        elif not index and not self._told:
            words = "waiting for the interface of the remote: what stands behind its % must be the name of one"
            log.warning(words, remote=self._address.address, interface=self._zone)
        self._told = not index

    def ask(self, now: float) -> None:
        """Find the interface."""
        self.look(now, now)

    def close(self) -> None:
        """Nothing: nobody is asked."""


def _index(interface: str) -> int:
    """The index of an interface, which may stand there itself; 0 if there is none."""
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(interface)
    return int(interface) if interface.isascii() and interface.isdigit() and len(interface) < 10 else 0


class Name:
    """A remote that is a name; `known` is what it stands for, the best first, and stays so while lookups fail.

    Times are those of one clock; the first lookup has been begun `now`. `end` tells whether a first answer that there
    is no such name is reason to end; if not, it is asked for again, like one that nobody knows yet.
    """

    def __init__(self, host: str, lookups: Lookups, now: float, end: Callable[[], bool] = lambda: True) -> None:
        self.known: Sequence[Endpoint] = ()
        self._host = host
        self._lookups = lookups
        self._end = end
        self._begun = now
        self._next = 0.0
        self._answers = 0
        self._failing = False

    def look(self, now: float, heard: float) -> None:
        """Begin a lookup if one is due; `heard` is when the peer was last heard, or when the tunnel began."""
        if now >= self._next and (not self.known or now - heard >= SILENCE):
            self.ask(now)

    def ask(self, now: float) -> None:
        """Begin a lookup."""
        self._begun, self._next = now, now + EVERY
        self._lookups.ask()

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when the descriptor of the answers is readable; empty when none is to come."""
        return {self._lookups.fd: self.take} if self._lookups.asked else {}

    def take(self) -> None:
        """Take the answer, which is there. Raises NoSuchNameError when it is the first, and reason to end."""
        self._answers += 1
        try:
            found = self._lookups.take()
        except StartError as error:
            if isinstance(error, NoSuchNameError) and self._answers == 1 and self._end():
                raise
            self._fail(str(error))
            return
        if not self.known and self._failing:
            log.info("the name of the remote is known now", name=self._host, remote=found[0])
        elif self.known and {*found}.isdisjoint(self.known):  # some services give a few of many addresses at a time
            log.info("the name of the remote stands for another address now", was=self.known[0], now=found[0])
        self._failing = False
        self.known = found

    def _fail(self, words: str) -> None:
        if not self.known:
            self._next = self._begun + AGAIN
        if not self._failing:  # told once, however often it is tried
            if self.known:
                log.warning(words)
            else:
                log.warning(f"waiting for a name service that knows {self._host!r}", reason=words)
        self._failing = True

    def close(self) -> None:
        """Look up no more."""
        self._lookups.close()
