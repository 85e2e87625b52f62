"""A sleep of the machine is noticed; a process that was stopped, or got no CPU, has not slept."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import CLOCK_BOOTTIME, CLOCK_MONOTONIC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap import clock

pauses = st.lists(st.tuples(*[st.floats(0, 1e4)] * 3, st.just(0.0) | st.floats(0, 1e6)), min_size=1, max_size=20)


class Machine:
    """A machine whose clocks are read after one pause each."""

    def __init__(self) -> None:
        self.time, self.slept = 1000.0, 5.0
        self.pauses: Iterator[float] = iter(())

    def clock_gettime(self, which: int) -> float:
        """As the system call."""
        self.time += next(self.pauses, 0.0)
        return self.time + {CLOCK_MONOTONIC: 0.0, CLOCK_BOOTTIME: self.slept}[which]


@contextmanager
def machine() -> Iterator[Machine]:
    """A machine in place of this one."""
    with pytest.MonkeyPatch.context() as patch:
        made = Machine()
        patch.setattr(clock, "clock_gettime", made.clock_gettime)
        patch.setattr(clock, "now", lambda: made.clock_gettime(CLOCK_BOOTTIME))
        yield made


@given(pauses)
def test_no_more_sleep_is_seen_than_there_was_whoever_stops_the_process(looks: list[tuple[float, ...]]) -> None:
    with machine() as here:
        wake_ups, before, seen = clock.WakeUps(), here.slept, 0.0
        for *stops, sleep in looks:
            here.slept += sleep
            here.pauses = iter(stops)
            seen += wake_ups.slept()
            assert seen <= here.slept - before + 1e-3
        last = here.slept
        seen += wake_ups.slept()  # which nothing stops
        assert seen >= last - before - clock.LEAST_SLEEP - sum(sum(stops) for *stops, _ in looks) - 1e-3


@pytest.mark.parametrize(("sleeps", "seen"), [([60.0, 0.0, 3600.0], [60, 0, 3600]), ([0.4, 0.4, 0.4], [0, 0, 1.2])])
def test_a_sleep_is_seen_once_and_short_ones_add_up(sleeps: list[float], seen: list[float]) -> None:
    with machine() as here:
        wake_ups = clock.WakeUps()
        for sleep, expected in zip(sleeps, seen, strict=True):
            here.time += 0.7
            here.slept += sleep
            assert wake_ups.slept() == pytest.approx(expected)


def test_this_machine_has_not_slept() -> None:
    wake_ups = clock.WakeUps()
    assert not any(wake_ups.slept() for _ in range(100))
