"""In which order the endpoints of a series of attempts are tried, and how far apart (docs/protocol.md, 3.1)."""

from collections.abc import Callable, Sequence

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import NEVER
from tap2tap.protocols.secure.limits import ATTEMPT_DELAYS, ATTEMPT_JITTER, FIRST_SPACING, ROUND, SPACING


class Rounds:
    """Each round tries up to ROUND endpoints, one after the other. `random(n)` returns n unpredictable bytes."""

    __slots__ = ("_began", "_left", "_number", "_random")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._left: list[Endpoint] = []  # of this round
        self._number = 0  # rounds begun
        self._began = NEVER  # the last one

    def begin(self) -> None:
        """Begin with a first round, in which everything is quick."""
        self._left, self._number = [], 0

    def insist(self, endpoints: Sequence[Endpoint]) -> None:
        """Try these before what is left of the round: nothing is known of them yet."""
        self._left = [*endpoints, *self._left][:ROUND]

    def next(self, now: float, leaders: Sequence[Endpoint], others: Sequence[Endpoint]) -> tuple[Endpoint, float]:
        """Return whom to try now, and when the next attempt is due.

        `leaders`, of which there are few, but some, are in each round; `others` by turns, if they are too many.
        """
        known = {*leaders, *others}
        self._left = [each for each in self._left if each in known]
        if not self._left:
            self._left = [*leaders, *self._turn(others, ROUND - len(leaders))]
            self._number += 1
            self._began = now
        target = self._left.pop(0)
        delay = spacing = FIRST_SPACING if self._number <= 1 else SPACING
        due = now + spacing
        if not self._left:
            delay = ATTEMPT_DELAYS[min(max(self._number, 1), len(ATTEMPT_DELAYS)) - 1]
            due = max(due, self._began + delay)
        return target, due + ATTEMPT_JITTER * min(delay, 1.0) * self._random(1)[0] / 256

    def _turn(self, others: Sequence[Endpoint], room: int) -> list[Endpoint]:
        if len(others) <= room:
            return list(others)
        start = self._number * room % len(others)
        return [*others[start:], *others[:start]][:room]
