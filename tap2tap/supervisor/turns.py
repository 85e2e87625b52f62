"""Which of several addresses the plain protocol sends to: they are tried by turns, and one that answers is kept.

A server answers an empty datagram of its peer, so an address from which nothing comes does not work; C tap2tap and
QuickTun do not, but whoever answers frames is heard as well.

Where the way to an address works and the way back does not, the server hears us there, and takes no other address of
ours for its peer's until that has been silent for a while. So after a few quick rounds each turn is longer than that.
"""

from collections.abc import Sequence

from tap2tap.endpoint import Endpoint

PATIENCE = 1.5  # seconds that an address has to answer
LONGEST = 6.0  # the same in the third round: each round in which nobody has answered doubles it, for slow paths
FOLLOWED = 35.0  # the same from then on: more than a server waits before it takes another address (stages.peer.SILENCE)
AGAIN = 2.5  # seconds until an address is asked once more, at most; half of its turn at least: one answer may be lost
UNREACHABLE = 0.25  # the same where the kernel has refused to send
UNANSWERED = 10.0  # seconds in which frames are sent and nothing is heard, before another address is tried
LOST = 2.5  # keepalive intervals, and
GRACE = 5.0  # seconds, of silence before that where there are no frames


class Turns:
    """`present` is the address in use; None while none is known. `keepalive` is in seconds, 0 is never.

    All times are of one clock, in seconds.
    """

    def __init__(self, keepalive: int) -> None:
        self.present: Endpoint | None = None
        self.answered = False  # since its turn began
        self._limit = LOST * keepalive + GRACE if keepalive else float("inf")
        self._candidates: list[Endpoint] = []
        self._next: list[Endpoint] = []  # still to be tried in this round
        self._since = 0.0  # when its turn began
        self._asked = 0.0  # when it was asked last
        self._patience = self._round = PATIENCE
        self._waited = False  # for an answer, in this round: not everything was refused
        self._heard = 0.0
        self._frames = 0
        self._first: float | None = None  # when frames were sent first since something was heard
        self._last = 0.0  # and last

    def look(self, now: float, candidates: Sequence[Endpoint], heard: float, frames: int) -> bool:
        """Whether `present`, which may be another one now, is to be sent an empty datagram now.

        `candidates` are the best first, `heard` is when anything came from `present` (0: never), `frames` how many have
        been sent so far.
        """
        self._count(now, heard, frames)
        if [*candidates] != self._candidates:
            self._candidates, self._next = [*candidates], self._others(candidates)
            if self.present not in candidates and candidates:
                return self._replace(now)
        if self.present is None or len({self.present, *candidates}) < 2:
            return False
        if self.answered and self._silent(now):  # it may have slept, or we may: it is asked once more
            return self._doubt(now)
        if self.answered or now < self.deadline:
            return False
        if now < self._since + self._patience:
            self._asked = now
            return True
        self._waited = self._waited or self._patience == self._round
        if not self._next:
            self._begin_round()
        return self._begin(now, self._next.pop(0))

    @property
    def deadline(self) -> float:
        """When `look` is needed, if nothing changes; infinity: when frames are sent, or something is heard."""
        if not self.answered and len({self.present, *self._candidates}) > 1:
            return min(self._since + self._patience, self._asked + min(self._round / 2, AGAIN))
        return float("inf")

    def refused(self) -> None:
        """The kernel would not send to `present`."""
        self._patience = min(self._patience, UNREACHABLE)

    def _count(self, now: float, heard: float, frames: int) -> None:
        if heard > self._since and heard > self._heard:
            self.answered, self._heard, self._first = True, heard, None
        if frames != self._frames:
            self._frames, self._last = frames, now
            self._first = now if self._first is None else self._first

    def _others(self, candidates: Sequence[Endpoint]) -> list[Endpoint]:
        return [each for each in candidates if each != self.present]

    def _replace(self, now: float) -> bool:
        """Leave what is no candidate any more: at once if it is another one now, else if it does not answer."""
        for each in self._candidates:
            if self.present is None or each._replace(scope=0) == self.present._replace(scope=0):
                self._next = [other for other in self._candidates if other != each]
                self._round = PATIENCE
                return self._begin(now, each)
        return self._doubt(now)

    def _doubt(self, now: float) -> bool:
        """Ask `present` once more whether it is there, before all others have their turns."""
        assert self.present
        self._next, self._round = self._others(self._candidates), PATIENCE
        return self._begin(now, self.present)

    def _begin_round(self) -> None:
        """Have all tried once more, for longer; the one that has just been tried goes on with the first long turn."""
        before, self._next = self._round, [*self._candidates]
        if self._waited:
            self._round = min(2 * before, LONGEST) if before < LONGEST else FOLLOWED
        if self._round == FOLLOWED and self.present in self._next:
            first = self._next.index(self.present) + (before == FOLLOWED)
            self._next = self._next[first:] + self._next[:first]
        self._waited = False

    def _silent(self, now: float) -> bool:
        """Whether it is time to ask `present` whether it is there, so that it is left in time if not."""
        silence = now - self._heard + PATIENCE
        if self.present not in self._candidates and silence >= UNANSWERED:
            return True
        unanswered = self._last - self._first + PATIENCE if self._first is not None else 0.0
        return unanswered >= UNANSWERED or silence >= self._limit

    def _begin(self, now: float, turn: Endpoint) -> bool:
        self.present, self._since, self._asked, self._patience = turn, now, now, self._round
        self.answered, self._first = False, None
        return True
