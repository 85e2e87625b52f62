"""What an initiation must pass: repetitions, floods and old cookies do not."""

import os

from tap2tap.keys import CableKeys
from tap2tap.protocols.secure import limits
from tap2tap.protocols.secure.handshake import NO_COOKIE
from tap2tap.protocols.secure.rate_limiter import RateLimiter, Verdict
from tests.support.simulated_ends import make_keys, recordings


def initiation(sender: CableKeys, cookie: bytes = NO_COOKIE) -> bytes:
    return recordings(sender, 1, cookie)[0]


def test_a_patient_peer_passes_and_nothing_passes_twice() -> None:
    limiter, (home, _) = RateLimiter(os.urandom), make_keys()
    for second in range(60):
        first = initiation(home)
        assert limiter.judge(second, first) is Verdict.ANSWER
        assert limiter.judge(second, first) is Verdict.REPLAYED


def test_a_flood_is_challenged_and_fresh_initiations_pass_it() -> None:
    limiter, (home, _) = RateLimiter(os.urandom), make_keys()
    old = recordings(home, 200)
    verdicts = [limiter.judge(1.0, recording) for recording in old]
    assert verdicts.count(Verdict.ANSWER) == limits.HANDSHAKE_BURST
    assert set(verdicts[5:]) == {Verdict.CHALLENGE}
    cookie = limiter.cookie(1.0)
    fresh = initiation(home, cookie=cookie)
    assert limiter.judge(1.1, fresh) is Verdict.ANSWER_FRESH
    assert limiter.judge(1.1, fresh) is Verdict.REPLAYED
    assert limiter.judge(1.1, initiation(home)) is Verdict.CHALLENGE
    many = [limiter.judge(1.2, initiation(home, cookie=cookie)) for _ in range(50)]
    assert many.count(Verdict.ANSWER_FRESH) <= limits.HANDSHAKE_BURST
    assert many[-1] is Verdict.BUSY


def test_cookies_go_stale() -> None:
    limiter, (home, _) = RateLimiter(os.urandom), make_keys()
    life = limits.COOKIE_LIFE
    cookie = limiter.cookie(0.0)
    assert limiter.cookie(life - 1) == cookie
    second = limiter.cookie(life)
    assert second != cookie
    assert limiter.judge(life + 1, initiation(home, cookie=cookie)) is Verdict.ANSWER_FRESH
    assert limiter.judge(2 * life, initiation(home, cookie=cookie)) is Verdict.ANSWER
    assert limiter.judge(2 * life, initiation(home, cookie=second)) is Verdict.ANSWER_FRESH
    limiter.cookie(10 * life)
    assert limiter.judge(10 * life, initiation(home, cookie=second)) is Verdict.ANSWER
