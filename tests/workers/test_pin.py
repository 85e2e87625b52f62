"""Where a worker runs: on its own CPU while it is busy, anywhere while it is not, and only where it was told to be."""

import os
from collections.abc import Iterator

import pytest

from tap2tap.workers.pin import BUSY, QUIET, WINDOW, Pin

MINE = os.sched_getaffinity(0)
OWN = max(MINE)

pytestmark = pytest.mark.skipif(len(MINE) < 2, reason="a process that may use one CPU has no choice")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    os.sched_setaffinity(0, MINE)


class Worker:
    """What a worker tells its pin, on a clock of its own."""

    def __init__(self, pin: Pin) -> None:
        self.pin = pin
        self.trains = self.carried = self.due = 0
        self.now = 1000.0

    def carry(self, trains: int, rate: float, size: int = 60000) -> None:
        """`rate` is in bytes a second, `size` in bytes of a train."""
        for _ in range(trains):
            self.trains += 1
            self.carried += size
            self.now += size / rate
            if self.trains >= self.due:
                self.due = self.pin.look(self.trains, self.carried, self.now)


def where() -> set[int]:
    return os.sched_getaffinity(0)


def test_a_busy_worker_is_on_its_own_cpu_and_an_idle_one_is_not() -> None:
    pin = Pin(OWN, MINE)
    worker = Worker(pin)
    assert pin.take()
    assert where() == {OWN}
    pin.rest()
    assert where() == MINE
    worker.carry(3 * WINDOW, 2 * BUSY)
    assert where() == {OWN}
    pin.rest()
    assert where() == MINE


def test_a_little_now_and_then_lets_it_go_and_a_lot_brings_it_back() -> None:
    pin = Pin(OWN, MINE)
    worker = Worker(pin)
    pin.take()
    worker.carry(3 * WINDOW, QUIET / 2)
    assert where() == MINE
    worker.carry(3 * WINDOW, 2 * BUSY)
    assert where() == {OWN}


def test_many_small_trains_are_little() -> None:
    pin = Pin(OWN, MINE)
    pin.take()
    Worker(pin).carry(3 * WINDOW, QUIET / 2, size=66)
    assert where() == MINE


def test_between_the_two_rates_it_stays_as_it_is() -> None:
    pin = Pin(OWN, MINE)
    worker = Worker(pin)
    pin.take()
    worker.carry(1, 2 * BUSY)
    worker.carry(3 * WINDOW, (QUIET + BUSY) / 2)
    assert where() == {OWN}
    worker.carry(3 * WINDOW, QUIET / 2)
    worker.carry(3 * WINDOW, (QUIET + BUSY) / 2)
    assert where() == MINE


def test_a_cpu_that_was_asked_for_is_never_left() -> None:
    pin = Pin(OWN, {OWN})
    pin.take()
    pin.rest()
    Worker(pin).carry(3 * WINDOW, QUIET / 2)
    assert where() == {OWN}


def test_without_its_cpu_a_worker_stays_where_it_is() -> None:
    pin = Pin(5000, MINE)
    assert not pin.take()
    Worker(pin).carry(3 * WINDOW, 2 * BUSY)
    pin.rest()
    assert where() == MINE
