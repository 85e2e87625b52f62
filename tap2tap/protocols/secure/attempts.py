"""Our own attempts at a handshake: when the next initiation is due, and which ones wait for a response.

A series of attempts, each at one of the peer's endpoints, begins when a handshake is wanted and ends when a session is
proved, by whichever side's handshake. Every attempt is a new initiation with a new ephemeral key, and so is the one
that answers a challenge: the keys of message 1 do not depend on the cookie, so with the same ephemeral key they would
seal twice with one nonce. Several wait at the same time, so that a path which is slower than our patience works too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import FOREVER, NEVER, Send
from tap2tap.protocols.secure.handshake import FEATURE_CONTROL, NO_COOKIE, Identity, Initiation, Offer, index_in
from tap2tap.protocols.secure.limits import ASK_AGAIN, CALL_AGAIN, COOKIE_USE, FIRST_SPACING, WAITING, Timers
from tap2tap.protocols.secure.noise import KEY_LENGTH
from tap2tap.protocols.secure.rounds import Rounds
from tap2tap.protocols.secure.sessions import Session
from tap2tap.protocols.secure.states import SessionEvent


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An initiation on its way to `target`."""

    initiation: Initiation
    sent_at: float
    target: Endpoint


class Attempts:
    """The running series, if any. Times are of the link's clock."""

    __slots__ = (
        "_called",
        "_cookie",
        "_cookie_until",
        "_identity",
        "_may_retry",
        "_offer",
        "_random",
        "_rounds",
        "_timers",
        "_waiting",
        "due",
        "last",
        "number",
        "started",
    )

    def __init__(
        self, identity: Identity, offer: Callable[[], Offer], random: Callable[[int], bytes], timers: Timers
    ) -> None:
        """`offer()` makes the payload of an initiation, `random(n)` returns n unpredictable bytes."""
        self._identity, self._offer, self._random, self._timers = identity, offer, random, timers
        self._rounds = Rounds(random)
        self._waiting: dict[int, _Waiting] = {}
        self._cookie, self._cookie_until = NO_COOKIE, NEVER
        self._may_retry = False  # whether the attempt made last has not been repeated for a challenge yet
        self._called = NEVER  # when a series was called for, and began
        self.started: float | None = None  # None: no series
        self.last = NEVER  # when an attempt was made
        self.due = FOREVER  # of the next attempt
        self.number = 0  # attempts made in this series

    def begin(self, now: float) -> None:
        """Begin a series, if none is running; its first attempt is due at once."""
        if self.started is None:
            self.started, self.due, self.number = now, now, 0
            self._rounds.begin()

    def soon(self, now: float) -> None:
        """There is reason for an attempt, in a series; but such reasons may come in numbers."""
        running, due = self.due, max(now, self.last + ASK_AGAIN)
        self.begin(now)
        self.due = min(running, due)

    def call(self, now: float) -> None:
        """Do as if a series began now; but not if that was so lately, as a responder's budget is small."""
        self.soon(now)
        if now >= self._called + CALL_AGAIN:
            self._called = self.due = now
            self._rounds.begin()

    @property
    def called(self) -> bool:
        """Whether the running series was called for."""
        return self.started is not None and self._called >= self.started

    def insist(self, now: float, endpoints: Sequence[Endpoint]) -> None:
        """Try these next, in the running series."""
        if self.started is not None and endpoints:
            self._rounds.insist(endpoints)
            self.due = min(self.due, max(now, self.last + FIRST_SPACING))

    def end(self) -> None:
        """A session is proved, or there is nobody to try: forget the series and all that waits."""
        self.started, self.due = None, FOREVER
        self._waiting.clear()

    def uses(self, index: int) -> bool:
        """Tell whether an initiation that waits has this index."""
        return index in self._waiting

    def attempt(self, now: float, leaders: Sequence[Endpoint], others: Sequence[Endpoint]) -> Send:
        """Make the attempt that is due, with one of these (see `Rounds.next`), and set the time of the next one."""
        target, self.due = self._rounds.next(now, leaders, others)
        self.number += 1
        self.last = now
        self._may_retry = True
        return self._initiate(now, target)

    def answered(self, now: float, response: bytes) -> Session | None:
        """Make a session of a response whose mac is right; None if nothing waits for it.

        Everything else that waits is forgotten, and the next attempt is put off. Raises NoiseError for a response
        that is not to be had from the peer; then nothing has changed.
        """
        waiting = self._waiting.get(index_in(response))
        if waiting is None or now - waiting.sent_at >= self._timers.initiation_life:
            return None
        answer, keys = waiting.initiation.finish(response)
        self._waiting.clear()
        self.due = max(self.due, now + self._timers.answer_wait)
        session = Session(
            waiting.initiation.offer.index,
            answer.index,
            answer.cipher,
            keys,
            initiator=True,
            peer_keepalive=answer.keepalive,
            peer_mtu=answer.mtu,
            control=bool(answer.features & waiting.initiation.offer.features & FEATURE_CONTROL),
            established=now,
            target=waiting.target,
        )
        session.advance(SessionEvent.RESPONSE)
        return session

    def challenged(self, now: float, challenge: bytes) -> Send | None:
        """Take the cookie out of a challenge; returns the initiation that is to be sent at once, if one is.

        That is one for each attempt by the clock: a responder that challenges everything draws no more. And it goes
        where the challenged one went, as nothing authenticates where the challenge came from.
        """
        for index, waiting in self._waiting.items():
            cookie = waiting.initiation.cookie_from(challenge)
            if cookie is not None and now - waiting.sent_at < self._timers.initiation_life:
                del self._waiting[index]  # who has challenged it will not answer it any more
                self._cookie, self._cookie_until = cookie, now + COOKIE_USE
                may_retry, self._may_retry = self._may_retry, False
                return self._initiate(now, waiting.target) if may_retry else None
        return None

    def _initiate(self, now: float, target: Endpoint) -> Send:
        cookie = self._cookie if now < self._cookie_until else NO_COOKIE
        initiation = Initiation(self._identity, self._offer(), ephemeral=self._random(KEY_LENGTH), cookie=cookie)
        if len(self._waiting) >= WAITING:
            del self._waiting[next(iter(self._waiting))]  # the oldest
        self._waiting[initiation.offer.index] = _Waiting(initiation, now, target)
        return Send(initiation.datagram, target)
