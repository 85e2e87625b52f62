"""What an initiation must pass before it may cost any curve arithmetic.

Whoever lacks the keys is stopped before, by one hash (the mac). What is left is an attacker on the path who recorded
genuine initiations and plays them back. Without a clock that both ends share, an old initiation looks as good as a
new one, so:

- one that was seen lately is dropped in silence; the memory for that is bounded;
- the rest draw on a small budget, a token bucket, and need one of a few places; one honest peer exhausts neither;
- when either is exhausted, the answer is a challenge: a cookie that the peer must put into its next initiation. An
  initiation with a valid cookie cannot be an old recording; those have a budget, a memory and a place of their own,
  which no recordings can touch, be they many or few. So a handshake completes whatever is being replayed.
"""

from collections.abc import Callable
from enum import Enum

from tap2tap.protocols.secure.handshake import COOKIE_LENGTH, NO_COOKIE, cookie_in
from tap2tap.protocols.secure.limits import COOKIE_LIFE, HANDSHAKE_BURST, HANDSHAKES_PER_SECOND
from tap2tap.protocols.secure.mac import MAC_LENGTH
from tap2tap.protocols.secure.recent import Seen


class TokenBucket:
    """HANDSHAKE_BURST at once, HANDSHAKES_PER_SECOND in the long run."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._tokens = HANDSHAKE_BURST
        self._at = 0.0  # of the last call

    def take(self, now: float) -> bool:
        """Take one token, if there is one."""
        self._tokens = min(HANDSHAKE_BURST, self._tokens + max(0.0, now - self._at) * HANDSHAKES_PER_SECOND)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Verdict(Enum):
    """What to do with an initiation whose mac is right."""

    REPLAYED = "drop it"
    ANSWER = "answer it; it may be an old recording"
    ANSWER_FRESH = "answer it; it was made lately"
    CHALLENGE = "ask for proof that it was made lately"
    BUSY = "drop it; even fresh ones come too fast"


class RateLimiter:
    """Decides about initiations. `random(n)` returns n unpredictable bytes."""

    __slots__ = (
        "_budget",
        "_cookie",
        "_cookie_at",
        "_cookie_before",
        "_fresh_budget",
        "_fresh_seen",
        "_random",
        "_seen",
    )

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._budget, self._fresh_budget = TokenBucket(), TokenBucket()
        self._seen, self._fresh_seen = Seen(), Seen()
        self._cookie = self._cookie_before = NO_COOKIE
        self._cookie_at = float("-inf")

    def judge(self, now: float, initiation: bytes, *, room: bool = True) -> Verdict:
        """Decide, and remember. The mac, which has been checked, stands for the whole message.

        `room` says whether a session for what may be a recording still has a place.
        """
        mac = initiation[-MAC_LENGTH:]
        if self._is_fresh(now, cookie_in(initiation)):
            if not self._fresh_seen.add(mac):
                return Verdict.REPLAYED
            return Verdict.ANSWER_FRESH if self._fresh_budget.take(now) else Verdict.BUSY
        if not self._seen.add(mac):
            return Verdict.REPLAYED
        return Verdict.ANSWER if room and self._budget.take(now) else Verdict.CHALLENGE

    def cookie(self, now: float) -> bytes:
        """Return the cookie to give out now."""
        age = now - self._cookie_at
        if age >= COOKIE_LIFE:
            self._cookie_before = self._cookie if age < 2 * COOKIE_LIFE else NO_COOKIE
            self._cookie, self._cookie_at = self._random(COOKIE_LENGTH), now
        return self._cookie

    def _is_fresh(self, now: float, cookie: bytes) -> bool:
        if cookie == NO_COOKIE:
            return False
        age = now - self._cookie_at
        # Renewed only when one is asked for, so an honoured cookie is at most three times COOKIE_LIFE old.
        return (age < 2 * COOKIE_LIFE and cookie == self._cookie) or (
            age < COOKIE_LIFE and cookie == self._cookie_before
        )
