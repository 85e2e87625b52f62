"""The endpoints that the peer is configured to be at: bounded, tried by turns at a bearable rate, all of them."""

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from tap2tap.protocols.secure.home import Home
from tap2tap.protocols.secure.limits import CANDIDATES, HANDSHAKE_BURST, HANDSHAKES_PER_SECOND, ROUND
from tap2tap.protocols.secure.rounds import Rounds
from tests.support.simulated_ends import HOME, VPS, at

MANY = [at("192.0.2.1", 1 + number) for number in range(200)]


def test_they_are_no_more_than_64_and_none_is_there_twice() -> None:
    ours = VPS._replace(local=HOME.address)
    candidates = Home([HOME, VPS, ours, HOME, *MANY])
    assert list(candidates)[:2] == [HOME, VPS]
    assert len(candidates) == len(list(candidates)) == CANDIDATES
    assert ours in candidates
    assert None not in candidates


def test_the_one_that_answered_last_is_the_best_as_long_as_it_is_among_them() -> None:
    candidates = Home(MANY[:4])
    candidates.keep(MANY[2])
    candidates.keep(MANY[9])  # a stranger
    candidates.keep(None)
    assert list(candidates) == [MANY[2], MANY[0], MANY[1], MANY[3]]
    assert candidates.replace([MANY[5], MANY[2]]) == [MANY[5]]
    assert list(candidates) == [MANY[2], MANY[5]]
    assert candidates.replace([MANY[7]]) == [MANY[7]]
    assert candidates.best == MANY[7]
    assert candidates.replace([]) == []
    assert candidates.best is None
    assert not candidates
    candidates.replace([MANY[7], MANY[2]])
    assert candidates.best == MANY[2]  # it is there again


@given(leaders=st.integers(1, 3), others=st.integers(0, CANDIDATES), seed=st.integers(0, 2**16))
def test_all_are_tried_and_no_budget_is_exceeded(leaders: int, others: int, seed: int) -> None:
    """Even if all of them belong to one responder."""
    rounds, now = Rounds(random.Random(seed).randbytes), 1000.0
    first, rest = MANY[:leaders], MANY[leaders : leaders + others]
    tried: dict[object, list[float]] = {}
    times: list[float] = []
    while now < 1100:
        target, due = rounds.next(now, first, rest)
        tried.setdefault(target, []).append(now)
        times.append(now)
        assert due > now
        now = due
    assert list(tried)[: min(ROUND, leaders + others)] == [*first, *rest][:ROUND]
    for one in first:
        assert max(later - earlier for earlier, later in itertools.pairwise(tried[one])) < 6
    assert set(tried) == {*first, *rest}
    tokens, last = HANDSHAKE_BURST, times[0]
    for when in times:
        tokens = min(HANDSHAKE_BURST, tokens + HANDSHAKES_PER_SECOND * (when - last)) - 1
        last = when
        assert tokens >= 0
    assert len([when for when in times if when < 1002]) <= 8


def test_whoever_is_not_meant_any_more_is_not_tried_in_the_round_that_runs() -> None:
    rounds = Rounds(bytes)
    assert rounds.next(0, MANY[:1], MANY[1:4])[0] == MANY[0]
    assert rounds.next(1, MANY[:1], MANY[2:4])[0] == MANY[2]
    assert rounds.next(2, MANY[4:5], [])[0] == MANY[4]


def test_new_ones_come_first_and_are_no_more_than_a_round() -> None:
    rounds = Rounds(bytes)
    rounds.next(0, MANY[:1], MANY[1:4])
    rounds.insist(MANY[10:60])
    tried = [rounds.next(number, MANY[:1], MANY[1:60])[0] for number in range(ROUND + 1)]
    assert tried == [*MANY[10 : 10 + ROUND], MANY[0]]
