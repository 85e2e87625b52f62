"""Reports between two simulated ends: round trip, jitter, loss both ways, and reports that cannot be true."""

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.protocols.secure.actions import NEVER, Received, Traffic
from tap2tap.protocols.secure.control import Report
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS, REPORT_OVERDUE
from tap2tap.protocols.secure.reports import Interval, Reports

SIZE = 1000  # bytes of a frame here
REPORT_ON_THE_WIRE = 52 + 28
u32 = st.integers(0, 2**32 - 1)


class End:
    """What link and workers of one end know. `look` is taken every 0.1 s."""

    def __init__(self, began: float) -> None:
        self.reports = Reports()
        self.reports.begin(began, 1)
        self.next_counter = self.heard_next = CONTROL_COUNTERS
        self.accepted = self.bytes = 0
        self.last_frame_sent = self.last_frame_heard = NEVER
        self.said: list[tuple[float, Report]] = []
        self.intervals: list[Interval] = []
        self.in_trains = 0

    def traffic(self) -> Traffic:
        received = Received(1, self.heard_next, self.accepted, 0) if self.accepted else None
        return Traffic(
            last_frame_sent=self.last_frame_sent,
            last_frame_heard=self.last_frame_heard,
            next_counter=self.next_counter,
            in_trains=self.in_trains,
            bytes=self.bytes,
            received=received,
        )

    def send(self, now: float, frame: bool) -> int:
        counter, self.next_counter = self.next_counter, self.next_counter + 1
        if frame:
            self.last_frame_sent = now
            self.bytes += SIZE
        return counter

    def accept(self, now: float, counter: int, frame: bool) -> None:
        self.accepted += 1
        self.heard_next = max(self.heard_next, counter + 1)
        if frame:
            self.last_frame_heard = now
            self.bytes += SIZE


def converse(
    *, rates: tuple[int, int], losses: tuple[float, float], delay: float = 0.02, seconds: int = 30, jitter: float = 0.0
) -> tuple[End, End]:
    """Two ends that send so many frames a second, of which a share is lost; the clock of the second began earlier."""
    dice = random.Random(1)
    ends = End(1000.0), End(987.0)
    flight: list[tuple[float, int, int, bool, Report | None]] = []
    for step in range(seconds * 10):
        now = 1000.0 + step / 10
        for at, end in enumerate(ends):
            for arrival, _to, counter, frame, report in sorted(
                each for each in flight if each[0] <= now and each[1] == at
            ):
                end.accept(arrival, counter, frame)
                if report and (interval := end.reports.heard(arrival, report, end.traffic())):
                    end.intervals.append(interval)
            flight = [each for each in flight if each[0] > now or each[1] != at]
            sent: list[tuple[int, bool, Report | None]] = []
            sent += [(end.send(now, True), True, None) for _ in range(rates[at] // 10)]
            if report := end.reports.look(now, end.traffic()):
                end.said.append((now, report))
                sent.append((end.send(now, False), False, report))
            for counter, frame, what in sent:
                if dice.random() >= losses[at]:
                    flight.append((now + delay + dice.random() * jitter, 1 - at, counter, frame, what))
    return ends


@pytest.mark.parametrize("delay", [0.001, 0.02, 0.6])
def test_round_trip_and_no_jitter_on_a_steady_path(delay: float) -> None:
    for end in converse(rates=(100, 100), losses=(0, 0), delay=delay):
        assert end.reports.round_trip == pytest.approx(2 * delay, abs=1e-5)
        assert end.reports.jitter < 1e-5
        assert end.reports.loss_out == 0
        assert end.reports.loss_in == 0


def test_jitter_is_seen() -> None:
    for end in converse(rates=(100, 100), losses=(0, 0), jitter=0.03, seconds=60):
        assert 0.004 < end.reports.jitter < 0.02  # the mean difference is 10 ms
        assert end.reports.round_trip == pytest.approx(0.07, abs=0.02)


def test_loss_is_seen_by_direction_at_both_ends() -> None:
    one, other = converse(rates=(500, 500), losses=(0.1, 0.02), seconds=60)
    assert one.reports.loss_out == pytest.approx(0.1, abs=0.03)
    assert one.reports.loss_in == pytest.approx(0.02, abs=0.015)
    assert other.reports.loss_in == pytest.approx(0.1, abs=0.03)
    assert other.reports.loss_out == pytest.approx(0.02, abs=0.015)


@pytest.mark.parametrize("rate", [10, 50, 1000])
def test_reports_are_a_hundredth_of_the_bytes_and_one_a_second_at_most(rate: int) -> None:
    one, other = converse(rates=(rate, 0), losses=(0, 0))
    assert not one.said  # it hears no frames
    assert len(other.said) * REPORT_ON_THE_WIRE <= other.bytes / 100
    assert len(other.said) == pytest.approx(min(30, rate * 30 * SIZE / 16_000), abs=2 + rate // 10)
    times = [when for when, _ in other.said]
    assert all(later - earlier > 0.999 for earlier, later in itertools.pairwise(times))


def test_loss_at_the_beginning_of_a_flow_is_reported_on_at_once() -> None:
    end = End(1000.0)
    for number in range(200):
        end.accept(1000.0 + number / 100, end.heard_next, number == 0)
    assert not end.reports.look(1002, end.traffic())  # one frame is not enough, and the looks begin here
    end.heard_next += 9  # a train that is lost
    end.accept(1002.1, end.heard_next, True)
    assert (first := end.reports.look(1002.12, end.traffic()))
    assert first.newest - CONTROL_COUNTERS + 1 - first.accepted == 9
    end.heard_next += 9
    end.accept(1002.19, end.heard_next, True)
    assert not end.reports.look(1002.2, end.traffic())  # too soon
    end.heard_next += 9
    end.accept(1002.22, end.heard_next, True)
    assert end.reports.look(1002.23, end.traffic())


def test_nothing_is_said_when_idle() -> None:
    for end in converse(rates=(0, 0), losses=(0, 0)):
        assert not end.said


def test_where_nearly_all_is_lost_the_few_that_come_are_reported_on() -> None:
    one, other = converse(rates=(100, 0), losses=(0.95, 0), seconds=20)
    assert len(other.said) > 10
    assert one.reports.loss_out > 0.8


def test_no_report_though_there_ought_to_be_one_is_a_loss_of_everything() -> None:
    end = End(1000.0)
    end.reports.look(1000.0, end.traffic())
    for _ in range(20):
        end.send(1000.1, True)
    end.in_trains = 12
    assert not end.reports.overdue(1005.0, end.traffic())  # the first look that finds them
    assert not end.reports.overdue(1005.9, end.traffic())
    late = 1005.0 + REPORT_OVERDUE
    assert end.reports.overdue(late, end.traffic()) == Interval(16, 36, 20, 12, 1.0, 36, guessed=True)
    assert not end.reports.overdue(late + 0.1, end.traffic())
    assert not end.reports.overdue(late + 60, end.traffic())  # nothing was sent since


def test_a_few_bytes_without_a_report_are_no_loss() -> None:
    end = End(1000.0)
    end.reports.look(1000.0, end.traffic())
    for _ in range(7):
        end.send(1000.1, True)
    assert not end.reports.overdue(1010.0, end.traffic())


def with_history() -> tuple[Reports, Traffic]:
    """An end 100 s into a session, which has heard one good report."""
    reports = Reports()
    reports.begin(1000.0, 1)
    traffic = Traffic(next_counter=1016, bytes=10**6)
    reports.look(1000.0, traffic)
    reports.heard(1100.0, Report(1, 515, 490, 3, 90_000_000, 99_900_000, 60_000), traffic)
    assert reports.round_trip == pytest.approx(0.04)
    assert reports.loss_out == pytest.approx(10 / 500)
    return reports, traffic


@pytest.mark.parametrize(
    "wrong",
    [
        {"newest": 1016},  # above what was sent
        {"newest": 2**32 - 1},
        {"newest": 514},  # goes back
        {"newest": 0},
        {"accepted": 489},
        {"accepted": 601},  # more than there were
        {"late": 591},  # more than that
    ],
    ids=str,
)
def test_a_report_that_cannot_be_is_ignored(wrong: dict[str, int]) -> None:
    reports, traffic = with_history()
    before = reports.loss_out, reports.round_trip, reports.jitter
    good = Report(1, 615, 590, 3, 91_000_000, 100_900_000, 60_000)
    assert reports.heard(1101.0, good._replace(**wrong), traffic) is None
    assert (reports.loss_out, reports.round_trip, reports.jitter) == before
    assert reports.heard(1101.0, good, traffic) == Interval(516, 616, 0, 0, 1.0, 1016)


@pytest.mark.parametrize(
    ("echo", "held"),
    [
        (100_900_000, 100_001),  # held for longer than it was away
        (101_000_001, 0),  # from the future
        (2**32 - 1, 0),
        (2**31, 0),
        (100_000_000, 2**32 - 1),
        (0, 0),  # none
    ],
)
def test_stamps_that_cannot_be_leave_the_round_trip(echo: int, held: int) -> None:
    reports, traffic = with_history()
    reports.heard(1101.0, Report(1, 615, 590, 3, 91_000_000, echo, held), traffic)
    assert reports.round_trip == pytest.approx(0.04)


@given(st.lists(st.tuples(u32, u32, u32, u32, u32, u32, st.floats(0, 5)), max_size=20))
def test_whatever_a_peer_reports_the_figures_stay_within_reason(
    said: list[tuple[int, int, int, int, int, int, float]],
) -> None:
    reports, traffic = with_history()
    now = 1100.0
    for newest, accepted, late, stamp, echo, held, later in said:
        now += later
        report = Report(1, newest % 2000, accepted % 2000, late % 2000, stamp, echo, held)
        interval = reports.heard(now, report, traffic)
        if interval:
            assert 0 <= interval.lost <= interval.sent
            assert interval.end <= traffic.next_counter
        assert 0 <= reports.loss_out <= 1
        assert 0 < reports.round_trip <= 60
        assert 0 <= reports.jitter <= 60
        answer = reports.look(
            now, replace(traffic, last_frame_heard=now, received=Received(1, 500, 480, 0), bytes=10**9)
        )
        if answer:
            assert all(0 <= number < 2**32 for number in answer)


def test_probes_that_were_too_long_are_no_loss_whenever_they_are_missed() -> None:
    reports, traffic = with_history()
    missed = [(615, 588, 2), (620, 593, 2), (630, 600, 5), (640, 605, 5)]
    lost = []
    for second, (newest, accepted, overlong) in enumerate(missed, 1):
        interval = reports.heard(1100.0 + second, Report(1, newest, accepted, 3, 0, 0, 0), traffic, overlong)
        assert interval
        lost.append(interval.lost)
    assert lost == [0, 0, 0, 5]


def test_nothing_was_sent_before_the_session_began() -> None:
    reports = Reports()
    reports.begin(1000.0, 1)
    reports.heard(1005.0, Report(1, 20, 5, 0, 100, 2**32 - 10_000_000, 0), Traffic(next_counter=100))
    assert reports.round_trip == 0
    reports.heard(1006.0, Report(1, 20, 5, 0, 100, 5_900_000, 0), Traffic(next_counter=100))
    assert reports.round_trip == pytest.approx(0.1)


def test_stamps_go_round() -> None:
    reports = Reports()
    reports.begin(1000.0, 1)
    now = 1000.0 + 2**32 / 1e6 + 0.5  # half a second past the end of the stamps
    heard = Traffic(next_counter=100, last_frame_heard=now, received=Received(1, 40, 24, 0))
    reports.look(1000.0, replace(heard, received=None))
    assert (report := reports.look(now, replace(heard, bytes=10**6)))
    assert report.stamp == 500_000
    for at, stamp in ((now + 0.03, 2**32 - 5), (now + 1.03, 1_000_000 - 5)):
        reports.heard(at, Report(1, 20, 5, 0, stamp, 500_000, round((at - now) * 1e6) - 30_000), heard)
    assert reports.round_trip == pytest.approx(0.03, abs=1e-4)
    assert reports.jitter < 1e-4


def test_another_session_counts_anew_and_forgets_the_stamps() -> None:
    reports, traffic = with_history()
    reports.begin(1200.0, 2)
    fresh = replace(traffic, next_counter=26, last_frame_heard=1201.0, received=Received(2, 30, 14, 0))
    reports.look(1200.0, replace(fresh, received=None))
    assert reports.heard(1201.0, Report(1, 25, 10, 0, 500, 0, 0), fresh) == Interval(16, 26, 0, 0, 1.0, 26)
    report = reports.look(1201.5, replace(fresh, bytes=2 * 10**6))
    assert report is not None
    assert (report.newest, report.accepted, report.stamp, report.echo) == (29, 14, 1_500_000, 500)
    assert report.held == 500_000


def test_what_was_heard_before_the_session_began_is_not_reported_on_it() -> None:
    reports = Reports()
    reports.begin(1200.0, 2)
    stale = Traffic(last_frame_heard=1199.0, received=Received(2, 30, 14, 0))
    reports.look(1200.0, stale)
    assert reports.look(1205.0, replace(stale, bytes=10**6)) is None
    for now, heard in ((1205.0, Received(1, 30, 14, 0)), (1206.0, Received(2, 40, 20, 0))):
        report = reports.look(now, Traffic(last_frame_heard=now, bytes=int(now) * 10**6, received=heard))
        assert report
        assert report[:3] == (heard.index, heard.next_counter - 1, heard.accepted)
