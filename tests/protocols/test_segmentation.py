"""Whether trains vanish, on simulated flows: found soon where they do, and not believed where they do not."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.protocols.secure.actions import SendTrains
from tap2tap.protocols.secure.exchange import Exchange
from tap2tap.protocols.secure.handshake import SessionKeys
from tap2tap.protocols.secure.home import Home
from tap2tap.protocols.secure.limits import EXPERIMENT_INTERVAL, TRAINS_PAUSE, TRAINS_PAUSE_MOST, Timers
from tap2tap.protocols.secure.presence import Presence
from tap2tap.protocols.secure.reports import Interval
from tap2tap.protocols.secure.segmentation import Segmentation
from tap2tap.protocols.secure.sessions import Session
from tap2tap.protocols.secure.wire import Cipher
from tests.support.simulated_trains import Flow, vanishing

ALL_PASS = vanishing(99)
NONE_PASS = vanishing(1)


@given(st.integers(1, 32), st.sampled_from([0.005, 0.01]))
def test_vanishing_trains_are_found_within_three_seconds(longest: int, round_trip: float) -> None:
    flow = Flow(vanishing(longest), round_trip=round_trip)
    flow.run(6)
    assert [on for _, on in flow.switches()] == [False]
    assert flow.switches()[0][0] < 3
    assert flow.arrived(4, 5) > 1.5 * flow.arrived(0, 1)


def test_where_all_trains_vanish_people_hear_of_it_within_three_seconds() -> None:
    flow = Flow(NONE_PASS)
    flow.run(3)
    assert len(flow.notes()) == 1


def test_where_long_ones_vanish_people_hear_of_it_when_it_has_happened_again() -> None:
    flow = Flow(vanishing(11))
    flow.run(25)
    assert len(flow.notes()) == 1
    assert [on for _, on in flow.switches()] == [False, True, False]


def test_trains_are_tried_again_ever_later_and_it_is_said_once() -> None:
    flow = Flow(NONE_PASS)
    flow.run(420)
    assert len(flow.notes()) == 1
    starts = [when for when, on in flow.switches() if on]
    pauses = [later - earlier for earlier, later in itertools.pairwise([flow.notes()[0], *starts])]
    for pause, wanted in zip(pauses, (TRAINS_PAUSE, 2 * TRAINS_PAUSE, 4 * TRAINS_PAUSE), strict=False):
        assert pause == pytest.approx(wanted, abs=6)
    assert len(pauses) == 2
    assert flow.singly(flow.now) > 0.97 * flow.now


def test_a_path_that_is_mended_gets_its_trains_back() -> None:
    flow = Flow(NONE_PASS)
    flow.run(10)
    flow.path = ALL_PASS
    flow.run(TRAINS_PAUSE + 60)
    assert [on for _, on in flow.switches()] == [False, True]
    flow.path = NONE_PASS
    flow.run(5)
    assert len(flow.notes()) == 2


@given(st.sampled_from([0.01, 0.1, 0.6]), st.sampled_from([0.0, 1.3, 3.0]), st.sampled_from([0.0, 0.001, 0.01]))
def test_healthy_paths_never(round_trip: float, fresh: float, loss: float) -> None:
    flow = Flow(vanishing(99, loss), round_trip=round_trip)
    flow.run(60, pause=fresh)
    assert not flow.log


@pytest.mark.parametrize("round_trip", [0.02, 0.1])
@pytest.mark.parametrize("queue", [5, 20, 100])
@pytest.mark.parametrize("capacity", [100, 1000, 5000])
@pytest.mark.parametrize("fresh", [0.0, 1.3])
def test_congested_paths_have_short_experiments_once_a_minute(
    round_trip: float, queue: int, capacity: int, fresh: float
) -> None:
    flow = Flow(ALL_PASS, round_trip=round_trip, capacity=capacity, queue=queue)
    flow.run(200, pause=fresh)
    check_experiments(flow)


@pytest.mark.parametrize("loss", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("round_trip", [0.01, 0.1])
def test_so_have_paths_that_lose_by_chance(loss: float, round_trip: float) -> None:
    flow = Flow(vanishing(99, loss), round_trip=round_trip)
    flow.run(200)
    check_experiments(flow)


def check_experiments(flow: Flow) -> None:
    assert not flow.notes()
    starts = [when for when, on in flow.switches() if not on]
    assert all(later - earlier >= EXPERIMENT_INTERVAL for earlier, later in itertools.pairwise(starts))
    assert flow.singly(flow.now) < 0.1 * flow.now


@pytest.mark.parametrize("length", [0.3, 0.9, 1.5, 3.0])
@pytest.mark.parametrize("start", [5.0, 5.5, 5.9])
def test_an_outage_is_no_word_about_trains(start: float, length: float) -> None:
    flow = Flow(ALL_PASS)
    flow.run(start)
    flow.path = vanishing(0)
    flow.run(length)
    flow.path = ALL_PASS
    flow.run(60)
    assert not flow.notes()
    assert flow.singly(flow.now) < 15
    assert flow.watch.on


def report(start: int, sent: int, lost: int, trains: int, *, now_sent: int = 0, guessed: bool = False) -> Interval:
    return Interval(start, start + sent, lost, trains, 1.0, now_sent or start + sent, guessed)


def test_one_report_is_enough_if_trains_alone_were_lost() -> None:
    assert Segmentation().reported(1, report(16, 30, 20, 20)) == [SendTrains(False)]
    assert not Segmentation().reported(1, report(16, 30, 12, 20))  # some trains arrived
    assert not Segmentation().reported(1, report(16, 22, 17, 20))  # there is hardly anything else
    assert not Segmentation().reported(1, report(16, 22, 20, 20))  # hardly anything arrived: an outage


def test_early_reports_are_taken_together_unless_trains_alone_were_lost() -> None:
    watch = Segmentation()
    for number in range(10):  # an overshoot: half is lost for most of a second, which is one bad report and no more
        early = report(16 + 40 * number, 40, 15, 25)._replace(seconds=0.09)
        assert not watch.reported(1 + number / 10, early)
    assert watch.reported(2, report(496, 60, 40, 41)._replace(seconds=0.1)) == [SendTrains(False)]


def test_an_outage_that_takes_more_than_trains_tells_nothing() -> None:
    watch = Segmentation()
    for number in range(5):
        assert not watch.reported(1 + number, report(16 + 100 * number, 100, 60, 10))
    assert watch.on
    assert watch.reported(9, report(516, 60, 20, 20)) == [SendTrains(False)]  # and hinders nothing


def test_few_datagrams_tell_nothing_and_many_reports_of_few_do() -> None:
    watch = Segmentation()
    assert not watch.reported(1, report(16, 9, 7, 7))
    assert not watch.reported(2, report(25, 3, 2, 2))  # the first bad one
    assert not watch.reported(3, report(28, 5, 4, 4))
    assert watch.reported(4, report(33, 5, 4, 4)) == [SendTrains(False)]


def test_losses_among_single_datagrams_are_not_those_of_trains() -> None:
    watch = Segmentation()
    for second in range(30):
        before = 16 + 1000 * second
        for action in watch.reported(second, report(before, 1000, 30 + second % 3, 10)):
            assert isinstance(action, SendTrains)  # an experiment, and no word
    assert watch.on


def test_what_was_on_its_way_in_trains_is_left_out_of_the_experiment() -> None:
    watch = Segmentation()
    watch.reported(1, report(16, 100, 60, 100))
    assert watch.reported(2, report(116, 100, 60, 100, now_sent=266)) == [SendTrains(False)]
    assert not watch.reported(3, report(216, 150, 50, 0, now_sent=400))  # a third of these went before
    note = watch.reported(4, report(366, 250, 0, 0, now_sent=700))
    assert len(note) == 1
    assert not watch.on


def test_silence_starts_no_experiment_and_ends_none() -> None:
    """Nothing that a guess begins could end while there is no report."""
    watch = Segmentation()
    for second in range(10):
        assert not watch.reported(second, report(16, 100 * second, 100 * second, 100, guessed=True))
    assert not watch.reported(10, report(16, 1000, 60, 100))
    assert watch.reported(11, report(1016, 1000, 60, 100)) == [SendTrains(False)]
    assert not watch.reported(12, report(2016, 1000, 1000, 0, guessed=True))
    assert watch.reported(13, report(2016, 1000, 1000, 0)) == [SendTrains(True)]


def test_another_path_is_judged_anew() -> None:
    watch = Segmentation()
    assert not watch.path_changed()
    watch.reported(1, report(16, 100, 60, 100))
    watch.reported(2, report(116, 100, 60, 100))
    assert watch.path_changed() == [SendTrains(True)]
    assert not watch.reported(3, report(216, 100, 60, 100))


@given(st.lists(st.tuples(*[st.integers(0, 300)] * 5, st.booleans(), st.integers(0, 9)), max_size=60))
def test_whatever_is_reported_every_switch_is_one(reports: list[tuple[int, int, int, int, int, bool, int]]) -> None:
    watch, now, on = Segmentation(), 0.0, True
    for start, sent, lost, trains, later, guessed, event in reports:
        now += later / 4
        if event == 0:
            watch.rekeyed()
        actions = watch.path_changed() if event == 1 else []
        actions += watch.reported(now, report(start, sent, min(lost, sent), trains, guessed=guessed))
        for action in actions:
            if isinstance(action, SendTrains):
                assert action.on != on
                on = action.on
    assert watch.on == on


def test_the_longest_pause_is_bounded() -> None:
    watch, now, counter, pauses = Segmentation(), 0.0, 16, []
    stopped = 0.0
    for _ in range(6000):
        now += 1
        lost, trains = (60, 100) if watch.on else (0, 0)
        for action in watch.reported(now, report(counter, 100, lost, trains)):
            if isinstance(action, SendTrains):
                pauses += [now - stopped] if action.on else []
                stopped = now
        counter += 100
    assert max(pauses) == pytest.approx(TRAINS_PAUSE_MOST, abs=5)


def test_a_session_without_reports_has_trains() -> None:
    """On it nobody could find out that they arrive again."""
    exchange = Exchange(Presence(0, Timers()), Home(()), mtu=1500, random=bytes, timers=Timers())
    keys = SessionKeys(bytes(32), bytes(32))
    one, other = (
        Session(number, number, Cipher.AES_256_GCM, keys, False, 0, float(number), control=number == 1)
        for number in (1, 2)
    )
    exchange.begin(1, one)
    trains = exchange.measurement.trains
    for second in (1, 2):
        trains.reported(second, report(100 * second, 100, 60, 100))
    assert not trains.on
    assert exchange.begin(3, other) == [SendTrains(True)]
    assert not exchange.begin(4, other)
