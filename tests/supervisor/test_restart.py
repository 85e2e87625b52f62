"""When a dead worker is replaced, and when a live one counts as hung."""

from hypothesis import given
from hypothesis import strategies as st

from tap2tap.supervisor.restart import HUNG_AFTER, MAX_DELAY, STABLE, Heartbeat, Restarts

lives = st.floats(0, 100)


def test_a_worker_that_was_sound_is_replaced_at_once() -> None:
    restarts = Restarts()
    assert [restarts.delay(STABLE) for _ in range(20)] == [0.0] * 20


def test_the_first_quick_death_is_forgiven() -> None:
    assert Restarts().delay(0.0) == 0.0


def test_quick_deaths_back_off_to_a_second_and_no_more() -> None:
    restarts = Restarts()
    delays = [restarts.delay(0.0) for _ in range(2000)]
    assert delays == sorted(delays)
    assert delays[1] > 0
    assert max(delays) == delays[-1] == MAX_DELAY == 1.0


def test_a_sound_life_is_a_new_beginning() -> None:
    restarts = Restarts()
    for _ in range(10):
        restarts.delay(0.0)
    assert restarts.delay(STABLE) == 0.0
    assert restarts.delay(0.0) == 0.0


@given(st.lists(lives))
def test_no_history_of_deaths_delays_longer_than_a_second(history: list[float]) -> None:
    restarts = Restarts()
    assert all(0 <= restarts.delay(lived) <= MAX_DELAY for lived in history)


def test_a_worker_without_a_beat_counts_as_hung_in_time_to_be_replaced_within_five_seconds() -> None:
    heart = Heartbeat(7, 0.0)
    assert not heart.hung(7, 1.0)
    assert not heart.hung(7, 2.0)
    assert heart.hung(7, 3.0)
    assert HUNG_AFTER + 1.0 < 5.0  # the supervisor looks once a second


def test_a_beat_is_a_sign_of_life_for_another_while() -> None:
    heart = Heartbeat(0, 0.0)
    assert not any(heart.hung(beat, beat * 2.9) for beat in range(1, 100))
    assert not heart.hung(99, 99 * 2.9 + 1.0)


def test_a_machine_that_slept_has_not_seen_its_workers_hang() -> None:
    heart = Heartbeat(0, 0.0)
    assert not heart.hung(0, 3600.0)
    assert not heart.hung(0, 3601.0)
    assert heart.hung(0, 3602.0)


@given(st.lists(st.floats(0, 1.0), min_size=1))
def test_a_beat_at_every_look_is_never_a_hang(pauses: list[float]) -> None:
    heart, now = Heartbeat(0, 0.0), 0.0
    for beat, pause in enumerate(pauses, 1):
        now += pause
        assert not heart.hung(beat, now)
