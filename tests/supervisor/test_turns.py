"""The address that the plain protocol sends to: tried by turns, kept when it answers, left when it does not."""

import ipaddress
import itertools
from collections.abc import Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.endpoint import Endpoint
from tap2tap.supervisor.turns import AGAIN, GRACE, LONGEST, LOST, PATIENCE, UNANSWERED, UNREACHABLE, Turns

ALL = [Endpoint(ipaddress.ip_address(f"192.0.2.{number}"), 1234) for number in range(1, 7)]
KEEPALIVE = 4
FOREVER = float("inf")


class World:
    """Turns on a clock, against addresses of which some answer after a while."""

    def __init__(self, candidates: Sequence[Endpoint], alive: Callable[[Endpoint], float], keepalive: int = 0) -> None:
        self.now = 1000.0
        self.candidates = [*candidates]
        self.alive = alive  # seconds until an answer; infinity: never
        self.turns = Turns(keepalive)
        self.asked: list[tuple[float, Endpoint]] = []
        self.heard = 0.0
        self.frames = 0
        self._due: list[tuple[float, Endpoint]] = []

    def run(self, seconds: float, frames: int = 0) -> None:
        """Let time pass, with so many frames a look."""
        end = self.now + seconds
        while self.now < end:
            self.frames += frames
            for when, who in self._due:
                if who == self.turns.present and when <= self.now:
                    self.heard = when
            self._due = [each for each in self._due if each[0] > self.now]
            if self.turns.look(self.now, self.candidates, self.heard, self.frames):
                assert self.turns.present
                self.ask(self.turns.present)
            self.now += 0.25

    def ask(self, who: Endpoint) -> None:
        """An empty datagram goes out."""
        self.asked.append((self.now, who))
        if (delay := self.alive(who)) < FOREVER:
            self._due.append((self.now + delay, who))

    @property
    def tried(self) -> list[Endpoint]:
        """Who was asked, in order, each once a turn or more."""
        return [who for who, _ in itertools.groupby(who for _, who in self.asked)]


def only(*some: Endpoint, after: float = 0.1) -> Callable[[Endpoint], float]:
    """Who answers."""
    return lambda who: after if who in some else FOREVER


@given(st.lists(st.sampled_from(ALL), min_size=1, unique=True), st.data())
def test_whoever_answers_is_found_in_the_first_round_and_kept(candidates: list[Endpoint], data: st.DataObject) -> None:
    good = data.draw(st.sampled_from(candidates))
    world = World(candidates, only(good))
    world.run(len(candidates) * (PATIENCE + 0.25) + 300)
    assert world.turns.present == good
    assert world.tried == candidates[: candidates.index(good) + 1]


@given(st.lists(st.sampled_from(ALL), min_size=2, unique=True), st.floats(0.1, LONGEST - 0.5))
def test_a_slow_path_is_waited_for_in_the_end(candidates: list[Endpoint], delay: float) -> None:
    world = World(candidates, only(candidates[-1], after=delay))
    world.run(4 * len(candidates) * (LONGEST + 1))
    assert world.turns.present == candidates[-1]
    assert world.turns.answered


@given(st.sampled_from([0, KEEPALIVE]), st.integers(0, 1))
def test_one_address_is_never_turned(keepalive: int, frames: int) -> None:
    world = World(ALL[:1], only(), keepalive)
    world.run(200, frames)
    assert world.tried == ALL[:1]


def test_one_that_dies_under_traffic_is_left_in_time() -> None:
    world = World(ALL[:3], only(ALL[0]))
    world.run(20)
    world.alive = only(ALL[2])
    died = world.now
    world.run(60, frames=1)
    assert world.tried[-1] == ALL[2]
    assert world.tried == ALL[:3]
    assert world.turns.present == ALL[2]
    left = next(when for when, who in world.asked if who == ALL[1])
    assert UNANSWERED - 0.5 <= left - died <= UNANSWERED + 1


def test_frames_that_nobody_answers_do_not_move_one_that_is_there() -> None:
    world = World(ALL[:2], only(ALL[0]))
    world.run(100, frames=1)
    assert {*world.tried} == {ALL[0]}


def test_one_frame_now_and_then_is_no_reason_to_leave() -> None:
    world = World(ALL[:2], only(ALL[0]))
    world.run(1)
    world.alive = only()
    world.run(1, frames=1)
    world.run(100)
    assert world.tried == ALL[:1]


def test_with_keepalives_silence_is_noticed_without_frames() -> None:
    world = World(ALL[:2], only(ALL[0]), KEEPALIVE)
    world.run(1)
    world.alive = only(ALL[1])
    world.run(LOST * KEEPALIVE + GRACE - 1)
    assert world.turns.present == ALL[0]
    world.run(3)
    assert world.turns.present == ALL[1]
    assert world.turns.answered


def test_without_keepalives_several_are_still_tried() -> None:
    world = World(ALL[:2], only())
    world.run(20)
    assert {*world.tried} == {*ALL[:2]}


def test_a_sleep_is_no_reason_to_leave() -> None:
    world = World(ALL[:2], only(ALL[0]), KEEPALIVE)
    world.run(1)
    world.now += 3600
    world.run(1)
    assert {*world.tried} == {ALL[0]}
    assert world.turns.answered


def test_another_address_takes_the_place_of_one_that_is_silent() -> None:
    world = World(ALL[:1], only(ALL[0]))
    world.run(1)
    world.candidates = ALL[1:2]
    world.run(UNANSWERED - 3)
    assert world.turns.present == ALL[0]
    world.alive = only(ALL[1])
    world.run(5)
    assert world.turns.present == ALL[1]


def test_one_that_the_name_has_no_more_is_left_at_once_if_it_is_not_there() -> None:
    world = World(ALL[:1], only(ALL[0]))
    world.run(1)
    world.alive = only(ALL[1])
    world.candidates = ALL[1:2]
    world.run(PATIENCE + 0.5)
    assert world.turns.present == ALL[1]


def test_one_that_is_not_there_yet_is_found_while_its_long_turn_lasts() -> None:
    world = World(ALL[:2], only())
    world.run(2 * (PATIENCE + 2 * PATIENCE + LONGEST + 1) + AGAIN)
    present = world.turns.present
    assert present
    world.alive = only(present)
    world.run(AGAIN + 0.5)
    assert world.turns.answered
    assert world.turns.present == present


def test_where_all_is_refused_turns_stay_short() -> None:
    world = World(ALL[:2], only())
    for _ in range(100):
        world.run(0.25)
        world.turns.refused()
    world.alive = only(ALL[1])
    world.run(2 * PATIENCE + 1)
    assert world.turns.present == ALL[1]


def test_an_interface_that_was_made_anew_is_another_one_at_once() -> None:
    here = Endpoint(ipaddress.ip_address("fe80::1"), 1234, 3)
    world = World([here], only(here))
    world.run(1)
    world.candidates = []
    world.run(2)
    assert world.turns.present == here
    world.candidates = [here._replace(scope=4)]
    world.run(0.25)
    assert world.tried == [here, here._replace(scope=4)]


def test_what_cannot_be_sent_to_is_left_at_once() -> None:
    world = World(ALL[:2], only(ALL[1]))
    world.run(0.25)
    world.turns.refused()
    world.run(UNREACHABLE + 0.25)
    assert world.turns.present == ALL[1]


@settings(max_examples=30)
@given(st.data())
def test_whatever_happens_one_of_the_candidates_is_in_use_and_time_is_kept(data: st.DataObject) -> None:
    turns, now, heard, frames = Turns(data.draw(st.integers(0, 30))), 1000.0, 0.0, 0
    candidates: list[Endpoint] = []
    for _ in range(30):
        now += data.draw(st.floats(0, 20))
        if data.draw(st.booleans()):
            candidates = data.draw(st.lists(st.sampled_from(ALL), unique=True))
        if data.draw(st.booleans()):
            heard = now
        frames += data.draw(st.integers(0, 2))
        begun = turns.look(now, candidates, heard, frames)
        assert turns.present or not candidates
        assert not begun or turns.present
        assert turns.deadline > now
