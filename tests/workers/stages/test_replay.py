"""The replay window against a set of all that was ever accepted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.protocols.secure.limits import REJECT_AFTER_MESSAGES
from tap2tap.workers.stages.secure.replay import ReplayWindow

SIZE = 64


class Naive:
    """The same, with a set that remembers everything."""

    def __init__(self, start: int) -> None:
        self.next = start
        self.start = start
        self.seen: set[int] = set()

    def fresh(self, counter: int) -> bool:
        in_window = max(self.start, self.next - SIZE) <= counter < REJECT_AFTER_MESSAGES
        return in_window and counter not in self.seen

    def accept(self, counter: int) -> None:
        self.seen.add(counter)
        self.next = max(self.next, counter + 1)


# Runs, most of them near the newest counter, and whether they are authentic.
RUNS = st.tuples(st.integers(-SIZE - 10, SIZE * 3), st.integers(1, SIZE * 2), st.booleans())


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([0, 5, 1000, REJECT_AFTER_MESSAGES - 50]), st.lists(RUNS, max_size=30))
def test_window_against_a_naive_model(start: int, runs: list[tuple[int, int, bool]]) -> None:
    window, naive = ReplayWindow(SIZE, start), Naive(start)
    for offset, count, authentic in runs:
        first = max(0, naive.next + offset)
        counters = range(first, first + count)
        assert [window.fresh(counter) for counter in counters] == [naive.fresh(counter) for counter in counters]
        if not authentic:
            continue  # a forgery marks nothing
        for counter in counters:
            if naive.fresh(counter):  # accepting one may put others out of the window
                window.accept(counter)
                naive.accept(counter)
        assert window.next == naive.next
        assert not any(window.fresh(counter) for counter in counters)


def test_a_successor_takes_nothing_from_before() -> None:
    window = ReplayWindow(SIZE, start=500)
    assert not any(window.fresh(counter) for counter in range(400, 500))
    assert all(window.fresh(counter) for counter in range(500, 564))


@pytest.mark.parametrize("ahead", [SIZE - 1, SIZE, SIZE + 1, 100 * SIZE, REJECT_AFTER_MESSAGES - 12])
def test_what_comes_into_the_window_has_not_been_seen(ahead: int) -> None:
    window = ReplayWindow(SIZE)
    for counter in range(11):
        window.accept(counter)
    newest = 10 + ahead
    window.accept(newest)
    assert window.next == newest + 1
    fresh = [counter for counter in range(newest - 2 * SIZE, newest + 1) if window.fresh(counter)]
    assert fresh == list(range(max(11, newest + 1 - SIZE), newest))


def test_a_window_is_a_power_of_two() -> None:
    with pytest.raises(ValueError):
        ReplayWindow(100)
