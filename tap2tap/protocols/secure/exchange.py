"""What the two ends say to each other in control datagrams: answers are given here, and what is heard goes to the
machine that it is for.

Only the outbound worker seals, on the session that is sent on, and to where frames go. An answer is never longer than
what it answers, is itself never answered, and there are ANSWERS_PER_SECOND of them at most.
"""

from collections import deque
from collections.abc import Callable

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import FOREVER, Action, SendControl, Traffic
from tap2tap.protocols.secure.control import Answer, PathAnswer, PathCheck, Probe, Report, pack, unpack
from tap2tap.protocols.secure.home import Home
from tap2tap.protocols.secure.limits import ANSWERS_PER_SECOND, Timers
from tap2tap.protocols.secure.mailbox import Received
from tap2tap.protocols.secure.measurement import Measurement
from tap2tap.protocols.secure.path_check import PathChecker
from tap2tap.protocols.secure.presence import Presence
from tap2tap.protocols.secure.sessions import Session
from tap2tap.protocols.secure.wire import OVERHEAD


class Exchange:
    """Times are of the link's clock. `mtu` is that of our own tap; `home` is where the peer is configured to be."""

    __slots__ = ("_answers", "_checker", "_on", "_presence", "measurement")

    def __init__(
        self, presence: Presence, home: Home, *, mtu: int, random: Callable[[int], bytes], timers: Timers
    ) -> None:
        self.measurement = Measurement(mtu, timers)
        self._presence = presence
        self._checker = PathChecker(home, random)
        self._on: Session | None = None  # what control datagrams are sent on; None: nothing that takes them
        self._answers: deque[float] = deque(maxlen=ANSWERS_PER_SECOND)  # when the last ones were given

    @property
    def endpoint(self) -> Endpoint | None:
        """Where frames go, as far as the peer itself has said it."""
        return self._checker.endpoint

    @property
    def due(self) -> float:
        """When `tick` is needed next."""
        return min(self._checker.due, self.measurement.due) if self._on else FOREVER

    def begin(self, now: float, session: Session) -> list[Action]:
        """Another session is sent on from now on."""
        self._on = session if session.control else None
        if self._on is None:
            return self.measurement.end()
        self.measurement.begin(now, session.index)
        return []

    def locate(self, now: float, endpoint: Endpoint, *, new_session: bool) -> list[Action]:
        """The peer's newest datagram came from here; `new_session`: and is the first on its session."""
        if new_session:
            self._checker.pardon(endpoint)
        if self._checker.refuses(now, endpoint):
            return []
        todo = self._checker.follow(now, endpoint, can_ask=self._on is not None)
        return todo + self._presence.locate(self._checker.endpoint or endpoint)

    def check_again(self, now: float) -> list[Action]:
        """A new session is a time to ask an address that has not answered yet, or long ago."""
        here = self._checker.endpoint
        if here is None:
            return []
        return self._checker.follow(now, here, can_ask=self._on is not None)

    def hear(self, now: float, received: Received) -> list[Action]:
        """Take a control datagram that came on a session which is proved and has them."""
        match unpack(received.text):
            case Probe():
                return self._answer(now, Answer(received.size, received.counter), received.size)
            case PathCheck(token):
                return self._answer(now, PathAnswer(token), received.size)
            case Answer() as answer if not self._checker.limited:
                return self.measurement.answered(now, answer)
            case PathAnswer(token):
                todo = self._checker.answered(now, token)
                return todo + (self._presence.locate(here) if (here := self.endpoint) else []) + self.lead(now)
            case Report() as report if self._on and report.about == self._on.peer_index:
                self.measurement.reported(now, report)
        return []

    def tick(self, now: float, traffic: Traffic, current: Session | None) -> list[Action]:
        """Look at the clock and at what the workers did; `current` is the session that is sent on."""
        todo: list[Action] = []
        if current is not self._on:
            self._on = None
            todo += self.measurement.end()
        before = self._checker.endpoint
        todo += self._checker.tick(now, can_ask=self._on is not None)
        after = self._checker.endpoint
        if after is not None and after != before:
            todo += self._presence.fall_back(after)
        todo += self.lead(now)
        return todo + self.measurement.tick(now, traffic, certain=not self._checker.limited)

    def too_long(self, now: float, size: int) -> list[Action]:
        """The kernel did not send so much to where frames go, which may not be where the known path leads."""
        return [] if self._checker.limited else self.measurement.too_long(now, size)

    def forget(self) -> list[Action]:
        """Nobody knows where the peer is."""
        self._on = None
        self._checker.forget()
        return self.measurement.forget()

    def lead(self, now: float) -> list[Action]:
        """Measure the path to where frames go, once the peer is up and it is certain that they are wanted there."""
        here = self._checker.endpoint
        return (
            []
            if here is None or self._checker.limited or not self._presence.up
            else self.measurement.lead_to(now, here.from_anywhere)
        )

    def _answer(self, now: float, answer: Answer | PathAnswer, size: int) -> list[Action]:
        text = pack(answer)
        busy = len(self._answers) == ANSWERS_PER_SECOND and now < self._answers[0] + 1.0
        if self._on is None or busy or OVERHEAD + len(text) > size:
            return []
        self._answers.append(now)
        return [SendControl(text)]
