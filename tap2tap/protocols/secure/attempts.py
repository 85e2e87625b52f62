"""Our own attempts at a handshake: when the next initiation is due, and which ones wait for a response.

A series of attempts begins when a handshake is wanted and ends when a session is proved, by whichever side's
handshake. Every attempt is a new initiation with a new ephemeral key. Several wait at the same time, so that a path
which is slower than our patience works too.
"""

from collections.abc import Callable
from typing import Final

from tap2tap.protocols.secure.handshake import (
    NO_COOKIE,
    Answer,
    Identity,
    Initiation,
    Offer,
    SessionKeys,
    index_in,
)
from tap2tap.protocols.secure.limits import COOKIE_LIFE
from tap2tap.protocols.secure.mac import WAITING
from tap2tap.protocols.secure.noise import KEY_LENGTH

# Seconds from attempt to attempt; the last one for ever. The first are short, as two ends are often started together,
# and the one that is ready first calls in vain; a responder's budget has room for them (HANDSHAKE_BURST).
DELAYS: Final = (0.25, 0.5, 1.0, 2.0, 4.0, 5.0)
JITTER: Final = 1 / 3  # of a delay, at most, and of a second, on top: two ends that start together do not stay in step
COOKIE_USE: Final = COOKIE_LIFE - 20.0  # seconds after which a cookie may no longer be honoured when it arrives


class _Waiting:
    """An initiation on its way."""

    __slots__ = ("challenged", "initiation", "sent_at")

    def __init__(self, initiation: Initiation, sent_at: float) -> None:
        self.initiation = initiation
        self.sent_at = sent_at
        self.challenged = False


class Attempts:
    """The running series, if any. `random(n)` returns n unpredictable bytes; times are monotonic seconds."""

    __slots__ = ("_cookie", "_cookie_until", "_identity", "_life", "_random", "_waiting", "due", "number", "started")

    def __init__(self, identity: Identity, random: Callable[[int], bytes], life: float) -> None:
        """`life` is how many seconds an initiation waits for its response."""
        self._identity, self._random, self._life = identity, random, life
        self._waiting: dict[int, _Waiting] = {}
        self._cookie, self._cookie_until = NO_COOKIE, float("-inf")
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

    def attempt(self, now: float, offer: Offer) -> bytes:
        """Build the initiation that is due, and set the time of the next one."""
        delay = DELAYS[min(self.number, len(DELAYS) - 1)]
        self.number += 1
        self.due = now + delay + JITTER * min(delay, 1.0) * self._random(1)[0] / 256
        return self._initiate(now, offer)

    def answered(self, now: float, response: bytes, wait: float) -> tuple[int, Answer, SessionKeys] | None:
        """Read a response whose mac is right; returns (our index, answer, keys), None if nothing waits for it.

        Everything else that waits is forgotten, and the next attempt is due in `wait` seconds. Raises NoiseError for
        a response that is not to be had from the peer; then nothing has changed.
        """
        waiting = self._waiting.get(index_in(response))
        if waiting is None or now - waiting.sent_at >= self._life:
            return None
        answer, keys = waiting.initiation.finish(response)
        self._waiting.clear()
        self.due = max(self.due, now + wait)
        return waiting.initiation.offer.index, answer, keys

    def challenged(self, now: float, challenge: bytes) -> bool:
        """Take the cookie out of a challenge; True if it is new and another initiation is due at once for it."""
        for waiting in self._waiting.values():
            cookie = waiting.initiation.cookie_from(challenge)
            if cookie is not None and not waiting.challenged and now - waiting.sent_at < self._life:
                waiting.challenged = True
                self._cookie, self._cookie_until = cookie, now + COOKIE_USE
                return True
        return False

    def retry(self, now: float, offer: Offer) -> bytes:
        """Build the initiation that answers a challenge; the time of the next attempt stays as it is."""
        return self._initiate(now, offer)

    def _initiate(self, now: float, offer: Offer) -> bytes:
        cookie = self._cookie if now < self._cookie_until else NO_COOKIE
        initiation = Initiation(self._identity, offer, ephemeral=self._random(KEY_LENGTH), cookie=cookie)
        if len(self._waiting) >= WAITING:
            del self._waiting[next(iter(self._waiting))]  # the oldest
        self._waiting[offer.index] = _Waiting(initiation, now)
        return initiation.datagram
