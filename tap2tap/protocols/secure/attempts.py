"""Our own attempts at a handshake: when the next initiation is due, and which ones wait for a response.

A series of attempts begins when a handshake is wanted and ends when a session is proved, by whichever side's
handshake. Every attempt is a new initiation with a new ephemeral key, and so is the one that answers a challenge: the
keys of message 1 do not depend on the cookie, so with the same ephemeral key they would seal twice with one nonce.
Several wait at the same time, so that a path which is slower than our patience works too.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.handshake import (
    NO_COOKIE,
    Answer,
    Identity,
    Initiation,
    Offer,
    SessionKeys,
    index_in,
)
from tap2tap.protocols.secure.limits import ATTEMPT_DELAYS, ATTEMPT_JITTER, COOKIE_USE, WAITING
from tap2tap.protocols.secure.noise import KEY_LENGTH


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An initiation on its way to `target`."""

    initiation: Initiation
    sent_at: float
    target: Endpoint


@dataclass(frozen=True, slots=True)
class Answered:
    """A handshake that has its response. The initiation that was answered went to `target`."""

    index: int  # ours
    answer: Answer
    keys: SessionKeys
    target: Endpoint


class Attempts:
    """The running series, if any. `random(n)` returns n unpredictable bytes; times are of the link's clock."""

    __slots__ = (
        "_cookie",
        "_cookie_until",
        "_identity",
        "_life",
        "_may_retry",
        "_random",
        "_waiting",
        "due",
        "number",
        "started",
    )

    def __init__(self, identity: Identity, random: Callable[[int], bytes], life: float) -> None:
        """`life` is how many seconds an initiation waits for its response."""
        self._identity, self._random, self._life = identity, random, life
        self._waiting: dict[int, _Waiting] = {}
        self._cookie, self._cookie_until = NO_COOKIE, float("-inf")
        self._may_retry = False  # whether the attempt made last has not been repeated for a challenge yet
        self.started: float | None = None  # None: no series
        self.due = float("inf")  # of the next attempt
        self.number = 0  # attempts made in this series

    def begin(self, now: float) -> None:
        """Begin a series, if none is running; its first attempt is due at once."""
        if self.started is None:
            self.started, self.due, self.number = now, now, 0

    def end(self) -> None:
        """A session is proved, or there is nobody to try: forget the series and all that waits."""
        self.started, self.due = None, float("inf")
        self._waiting.clear()

    def uses(self, index: int) -> bool:
        """Tell whether an initiation that waits has this index."""
        return index in self._waiting

    def attempt(self, now: float, offer: Offer, target: Endpoint) -> bytes:
        """Build the initiation that is due, and set the time of the next one."""
        delay = ATTEMPT_DELAYS[min(self.number, len(ATTEMPT_DELAYS) - 1)]
        self.number += 1
        self.due = now + delay + ATTEMPT_JITTER * min(delay, 1.0) * self._random(1)[0] / 256
        self._may_retry = True
        return self._initiate(now, offer, target)

    def answered(self, now: float, response: bytes, wait: float) -> Answered | None:
        """Read a response whose mac is right; None if nothing waits for it.

        Everything else that waits is forgotten, and the next attempt is due in `wait` seconds. Raises NoiseError for
        a response that is not to be had from the peer; then nothing has changed.
        """
        waiting = self._waiting.get(index_in(response))
        if waiting is None or now - waiting.sent_at >= self._life:
            return None
        answer, keys = waiting.initiation.finish(response)
        self._waiting.clear()
        self.due = max(self.due, now + wait)
        return Answered(waiting.initiation.offer.index, answer, keys, waiting.target)

    def challenged(self, now: float, challenge: bytes) -> Endpoint | None:
        """Take the cookie out of a challenge; returns where another initiation is to go at once, if one is.

        That is one for each attempt by the clock: a responder that challenges everything draws no more. And it goes
        where the challenged one went, as nothing authenticates where the challenge came from.
        """
        for index, waiting in self._waiting.items():
            cookie = waiting.initiation.cookie_from(challenge)
            if cookie is not None and now - waiting.sent_at < self._life:
                del self._waiting[index]  # who has challenged it will not answer it any more
                self._cookie, self._cookie_until = cookie, now + COOKIE_USE
                may, self._may_retry = self._may_retry, False
                return waiting.target if may else None
        return None

    def retry(self, now: float, offer: Offer, target: Endpoint) -> bytes:
        """Build the initiation that answers a challenge; the time of the next attempt stays as it is."""
        return self._initiate(now, offer, target)

    def _initiate(self, now: float, offer: Offer, target: Endpoint) -> bytes:
        cookie = self._cookie if now < self._cookie_until else NO_COOKIE
        initiation = Initiation(self._identity, offer, ephemeral=self._random(KEY_LENGTH), cookie=cookie)
        if len(self._waiting) >= WAITING:
            del self._waiting[next(iter(self._waiting))]  # the oldest
        self._waiting[offer.index] = _Waiting(initiation, now, target)
        return initiation.datagram
