"""The network between two simulated ends, and the time: nothing here sleeps or guesses.

It delivers datagrams by a policy that a test may replace, keeps all that was ever sent, and asserts that no counter is
used twice with a key.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.link import Link

IP_AND_UDP = 28  # bytes around a datagram
DELAY = 0.01  # seconds from one host to the other, unless a test says otherwise

# What becomes of one datagram: (delay, datagram, source, destination), any number of times.
Fate = tuple[float, bytes, Endpoint, Endpoint]
Policy = Callable[[bytes, Endpoint, Endpoint], Iterable[Fate]]


def choose_source(ours: Sequence[Endpoint], endpoint: Endpoint) -> Endpoint | None:
    """Return the address of ours that the endpoint asks for, or the first of its version, if there is one."""
    possible = [one for one in ours if one.address.version == endpoint.address.version]
    return next((one for one in possible if one.address == endpoint.local), possible[0] if possible else None)


class Node(Protocol):
    """What the network knows of a host."""

    address: Endpoint

    @property
    def also(self) -> Sequence[Endpoint]:
        """Other addresses."""

    def deliver(self, datagram: bytes, source: Endpoint) -> None:
        """Take what has arrived."""

    def deadline(self) -> float:
        """When to `tick` at the latest."""

    def tick(self) -> None:
        """Look at the clock."""


class Network:
    """The hosts, what is in flight, and the time."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 1000.0
        self.mtu = 0  # of the path, IPv4; 0: whatever comes
        self.random = random.Random(seed)
        self.hosts: list[Node] = []
        self.policy: Policy = lambda datagram, source, destination: [(DELAY, datagram, source, destination)]
        self.wire: list[tuple[bytes, Endpoint, Endpoint]] = []  # all that was ever sent
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._nonces: set[tuple[int, int, int]] = set()
        self._links: list[Link] = []  # kept alive, so that an id stands for one link only

    def use_nonce(self, link: Link, index: int, counter: int) -> None:
        if link not in self._links:
            self._links.append(link)
        used = (id(link), index, counter)
        assert used not in self._nonces
        self._nonces.add(used)

    def send(self, datagram: bytes, source: Endpoint, destination: Endpoint) -> None:
        self.wire.append((datagram, source, destination))
        if self.mtu and len(datagram) + IP_AND_UDP > self.mtu:
            return
        for delay, what, whence, whither in self.policy(datagram, source, destination):
            self.inject(what, whence, whither, delay)

    def inject(self, datagram: bytes, source: Endpoint, destination: Endpoint, delay: float = 0.0) -> None:
        """Put a datagram on the path to `destination`, past the policy."""

        def arrive() -> None:
            for host in self.hosts:
                if destination in (host.address, *host.also):
                    host.deliver(datagram, source._replace(local=destination.address) if host.also else source)

        self.after(delay, arrive)

    def after(self, delay: float, what: Callable[[], object]) -> None:
        heapq.heappush(self._heap, (self.now + delay, next(self._order), what))

    def every(self, interval: float, until: float, what: Callable[[], object]) -> None:
        """Do something again and again for `until` seconds."""
        for step in range(int(until / interval)):
            self.after(step * interval, what)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            due = min((host.deadline() for host in self.hosts), default=float("inf"))
            arrival = self._heap[0][0] if self._heap else float("inf")
            if min(due, arrival) > end:
                break
            if arrival <= due:
                self.now, _, what = heapq.heappop(self._heap)
                what()
            else:
                self.now = max(self.now, due)
                for host in self.hosts:
                    if host.deadline() <= self.now:
                        host.tick()
        self.now = end
        for host in self.hosts:
            host.tick()
