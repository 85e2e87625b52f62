"""A path with an MTU, a delay and loss, and one end's control datagrams on it, in simulated time."""

import heapq
import random
from collections.abc import Callable

from tap2tap.endpoint import HEADERS
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.actions import FOREVER, Action, PathMtu, SendControl
from tap2tap.protocols.secure.control import Answer, Probe, pack, unpack
from tap2tap.protocols.secure.limits import PROBE_BURST, PROBES_PER_SECOND, Timers
from tap2tap.protocols.secure.path_mtu import SMALLEST, PathMtuSearch


class ProbedPath:
    """A `PathMtuSearch` whose probes cross a path of this MTU, and are answered; all may change as time goes by."""

    def __init__(
        self, mtu: int, *, version: int = 4, most: int = 1546, delay: float = 0.01, loss: float = 0.0, seed: int = 0
    ) -> None:
        """`mtu` is of IP, 0 for a dead path; `delay` is one way, `loss` of each datagram."""
        self.mtu, self.version, self.most, self.delay, self.loss = mtu, version, most, delay, loss
        self.random = random.Random(seed)
        self.now = 1000.0
        self.search = PathMtuSearch(Timers())
        self.counter = 16
        self.sent: list[tuple[float, int]] = []
        self.log: list[tuple[float, PathMtu]] = []
        self._flight: list[tuple[float, Answer]] = []

    @property
    def right(self) -> int:
        """What should be found."""
        return min(self.mtu - HEADERS[self.version], self.most)

    def begin(self) -> None:
        self.act(self.search.begin(self.now, version=self.version, most=self.most, counter=self.counter))

    def passes(self) -> bool:
        return self.random.random() >= self.loss

    def act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, PathMtu):
                assert action.payload == self.search.payload
                self.log.append((self.now, action))
                continue
            assert isinstance(action, SendControl)
            assert isinstance(unpack(action.text), Probe)
            assert SMALLEST <= action.size <= self.most
            self.sent.append((self.now, action.size))
            answer = Answer(action.size, self.counter)
            self.counter += 1
            if action.size < wire.OVERHEAD + len(pack(answer)):
                continue  # an answer is never longer than what it answers
            if action.size + HEADERS[self.version] <= self.mtu and self.passes() and self.passes():
                heapq.heappush(self._flight, (self.now + 2 * self.delay, answer))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass, or `until` something is so: then True."""
        end = self.now + seconds
        while not until():
            arrival = self._flight[0][0] if self._flight else FOREVER
            if min(arrival, self.search.due) > end:
                self.now = end
                break
            self.now = max(self.now, min(arrival, self.search.due))
            if arrival <= self.now:
                self.act(self.search.answered(self.now, heapq.heappop(self._flight)[1]))
            else:
                self.act(self.search.tick(self.now))
                assert self.search.due > self.now  # or a link process would spin
        return until()

    def check_rate(self) -> None:
        """PROBE_BURST at once, PROBES_PER_SECOND in the long run."""
        for at, (when, _) in enumerate(self.sent):
            for before in range(max(0, at - 12), at):
                allowed = PROBE_BURST + (when - self.sent[before][0]) * PROBES_PER_SECOND
                assert at - before + 1 <= allowed + 1e-6

    def told(self) -> list[int]:
        return [change.payload for _, change in self.log if change.told]
