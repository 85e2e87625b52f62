"""The replay window against a set of all that was ever accepted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.protocols.secure.limits import REJECT_AFTER_MESSAGES
from tap2tap.protocols.secure.replay import ReplayWindow

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
        expected = [naive.fresh(counter) for counter in counters]
        assert [window.fresh(counter) for counter in counters] == expected
        assert window.fresh(first, count) == all(expected)
        if not authentic:
            continue  # a forgery marks nothing
        if all(expected):
            window.accept(first, count)
            for counter in counters:
                naive.accept(counter)
        else:
            for counter in counters:
                if naive.fresh(counter):  # accepting one may put others out of the window
                    window.accept(counter)
                    naive.accept(counter)
        assert window.next == naive.next
        assert not any(window.fresh(counter) for counter in counters)


def test_a_successor_takes_nothing_from_before() -> None:
    window = ReplayWindow(SIZE, start=500)
    assert not any(window.fresh(counter) for counter in range(400, 500))
    assert window.fresh(500, 64)


def test_a_run_longer_than_the_window() -> None:
    window = ReplayWindow(SIZE)
    window.accept(10, 5 * SIZE)
    assert window.next == 10 + 5 * SIZE
    assert not any(window.fresh(counter) for counter in range(10 + 5 * SIZE))


def test_a_window_is_a_power_of_two() -> None:
    with pytest.raises(ValueError):
        ReplayWindow(100)
