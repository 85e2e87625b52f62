"""The search for the path MTU, on simulated paths: what it finds, how fast, and what does not mislead it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.endpoint import HEADERS
from tap2tap.protocols.secure.actions import FOREVER, PathMtu, SendControl
from tap2tap.protocols.secure.control import Answer
from tap2tap.protocols.secure.limits import BASE_MTU, DEAD_PATH_PAUSE, LEAST_MTU, PROBES_PER_SECOND, Timers
from tap2tap.protocols.secure.path_mtu import SMALLEST, PathMtuSearch
from tests.support.simulated_path import ProbedPath

VERSIONS = (4, 6)
delays = st.sampled_from([0.0005, 0.01, 0.1, 0.6])


def searched(mtu: int, *, loss: float = 0.0, seed: int = 0, version: int = 4, most: int = 1546) -> ProbedPath:
    """A path on which the first search has ended."""
    path = ProbedPath(mtu, version=version, most=most, loss=loss, seed=seed)
    path.begin()
    assert path.run(120, lambda: bool(path.told()))
    return path


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mtu", [1500, 1492, 1480, 1472, 1400, 1280])
def test_common_paths_are_found_exactly_within_four_seconds(mtu: int, version: int) -> None:
    path = ProbedPath(mtu, version=version)
    path.begin()
    assert path.log[0][1] == PathMtu(BASE_MTU - HEADERS[version], told=False)
    assert path.run(4, lambda: path.told() == [path.right])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mtu", [1500, 1492, 1400])
def test_the_most_common_take_one_round_trip(mtu: int, version: int) -> None:
    path = ProbedPath(mtu, version=version, delay=0.6)
    path.begin()
    assert path.run(1.2001, lambda: path.search.payload == path.right)


@given(st.integers(BASE_MTU, 9100), st.sampled_from(VERSIONS), delays, st.sampled_from([1546, 9046]), st.integers(0, 9))
def test_any_path_is_found_to_the_byte(mtu: int, version: int, delay: float, most: int, seed: int) -> None:
    path = ProbedPath(mtu, version=version, most=most, delay=delay, seed=seed)
    path.begin()
    assert path.run(60, lambda: bool(path.told()))
    assert path.told() == [path.right]
    rising = [change.payload for _, change in path.log]
    assert rising == sorted(rising)


@given(st.integers(BASE_MTU, 1500), delays)
def test_the_probes_that_do_not_arrive_are_counted_exactly(mtu: int, delay: float) -> None:
    """However late the answers come: after one about a longer probe, or after the size was raised."""
    path = ProbedPath(mtu, delay=delay)
    path.begin()
    assert path.run(60, lambda: bool(path.told()))
    path.run(2)
    assert path.search.overlong == sum(size > path.right for _, size in path.sent)


def test_what_the_tap_never_needs_is_not_looked_for() -> None:
    path = searched(9000)
    assert path.told() == [path.most]
    assert path.search.due == FOREVER
    small = ProbedPath(1500, most=500)
    small.begin()
    assert small.log[-1][1] == PathMtu(500, told=True)
    assert not small.sent


@given(st.integers(0, 10_000), st.sampled_from([1500, 1492, 1400, 1437]), st.sampled_from([0.02, 0.1, 0.2]))
def test_probes_that_are_lost_by_chance_do_not_leave_it_low(seed: int, mtu: int, loss: float) -> None:
    path = searched(mtu, loss=loss, seed=seed)
    # One of some thousands needs the search that comes after ten minutes.
    assert path.run(1000, lambda: path.search.payload == path.right)
    assert all(payload <= path.right for payload in path.told())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("after", [1400, 1300, 1280])
def test_a_path_that_shrinks_in_silence(after: int, version: int) -> None:
    path = searched(1500, version=version)
    path.run(100)
    path.mtu = after
    began = path.now
    path.act(path.search.suspect(path.now))
    floor = BASE_MTU - HEADERS[version]
    assert path.run(2, lambda: path.search.payload == floor)
    assert path.log[-1][1] == PathMtu(floor, told=False)
    assert path.run(6, lambda: len(path.told()) == 2)
    assert path.told()[-1] == path.right
    assert path.now - began < 8


@pytest.mark.parametrize("after", [1279, 1000, LEAST_MTU])
def test_a_path_below_the_base_on_ipv4(after: int) -> None:
    path = searched(1500)
    path.mtu = after
    path.act(path.search.suspect(path.now))
    assert path.run(10, lambda: path.search.payload <= path.right)
    assert path.run(30, lambda: path.told()[-1] == path.right)
    begun = ProbedPath(after)
    begun.begin()
    assert begun.run(30, lambda: begun.told() == [begun.right])


def test_on_ipv6_there_is_nothing_below_the_base() -> None:
    path = ProbedPath(1200, version=6)
    path.begin()
    path.run(100)
    assert {change.payload for _, change in path.log} == {BASE_MTU - HEADERS[6]}
    path.mtu = 1500
    assert path.run(30, lambda: path.told() == [path.right])


def test_a_path_that_grows_is_noticed_when_it_is_searched_again() -> None:
    path = searched(1400)
    path.run(100)
    path.mtu = 1500
    assert path.run(Timers().search_again + 10, lambda: len(path.told()) == 2)
    assert path.told() == [1372, path.right]


def test_searches_that_find_the_same_are_rare_and_told_to_nobody() -> None:
    path = searched(1400)
    path.run(120)
    told, before = path.told(), len(path.sent)
    path.run(6000)
    assert path.told() == told
    assert len(path.sent) - before <= 60


@given(st.sampled_from([1500, 1400, 1280]), st.floats(0, 3), st.sampled_from(VERSIONS))
def test_a_dead_path_lowers_nothing_and_is_not_flooded(mtu: int, alive: float, version: int) -> None:
    path = ProbedPath(mtu, version=version)
    path.begin()
    path.run(alive)
    path.mtu = 0
    path.run(2 * path.delay)
    before = path.search.payload
    for _ in range(120):
        path.act(path.search.suspect(path.now))
        path.run(1)
    path.check_rate()
    assert path.search.payload == before
    path.mtu = mtu
    assert path.run(DEAD_PATH_PAUSE + 30, lambda: bool(path.told()) and path.search.payload == path.right)


@given(st.floats(0, 2), st.floats(0.1, 2.5))
def test_an_outage_is_not_a_smaller_path(start: float, length: float) -> None:
    path = searched(1500)
    path.run(15 - 2 + start)
    changes, path.mtu = len(path.log), 0
    path.act(path.search.suspect(path.now))
    path.run(length)
    path.mtu = 1500
    path.run(60)
    assert len(path.log) == changes


@pytest.mark.parametrize("delay", [0.0005, 0.1, 0.6])
def test_suspicions_without_cause_change_nothing_and_cost_little(delay: float) -> None:
    path = searched(1500)
    path.delay = delay
    path.run(100)
    before, changes = len(path.sent), len(path.log)
    for _ in range(600):
        path.act(path.search.suspect(path.now))
        path.run(0.1)
    assert len(path.log) == changes
    assert len(path.sent) - before <= 60 * PROBES_PER_SECOND / 1.4


def test_the_kernel_knows_that_something_is_too_long() -> None:
    path = searched(1500)
    path.mtu = 1300
    path.act(path.search.too_long(path.now, 1472))
    assert path.log[-1][1] == PathMtu(1252, told=False)
    assert path.run(6, lambda: path.told()[-1] == 1272)
    assert 1472 not in [size for when, size in path.sent if when > path.log[-1][0]]
    before = path.search.payload
    path.act(path.search.too_long(path.now, 1400))  # as nothing of the kind is sent any more
    assert path.search.payload == before


@pytest.mark.parametrize("version", VERSIONS)
def test_the_kernel_says_that_the_floor_is_too_long(version: int) -> None:
    path = ProbedPath(1000, version=version)
    path.begin()
    path.act(path.search.too_long(path.now, path.search.payload))
    assert path.search.payload == (LEAST_MTU - HEADERS[4] if version == 4 else BASE_MTU - HEADERS[6])
    for size in (0, 1, 548, 1232, 2**16):
        path.act(path.search.too_long(path.now, size))
    assert path.search.payload >= 548


def test_a_probe_that_the_kernel_refuses_need_not_be_tried_again() -> None:
    path = ProbedPath(1400)
    path.begin()
    path.act(path.search.too_long(path.now, 1472))
    path.act(path.search.too_long(path.now, 1464))
    assert path.run(3, lambda: path.told() == [1372])
    assert [size for _, size in path.sent].count(1472) == 1


def test_after_a_move_it_begins_anew_and_hears_nothing_of_the_path_before() -> None:
    path = searched(1500)
    path.run(5)
    path.mtu = 1400
    path.begin()
    assert path.search.payload == 1252
    path.act(path.search.answered(path.now, Answer(1472, path.counter - 4)))  # they went out a moment ago
    assert path.search.payload == 1252 or path.search.payload == 1372
    assert path.run(5, lambda: path.told() == [1472, 1372])
    path.mtu = 1500
    path.begin()
    assert path.run(5, lambda: path.told() == [1472, 1372, 1472])


def test_moves_to_and_fro_do_not_flood() -> None:
    path = ProbedPath(1400)
    for _ in range(100):
        path.begin()
        path.run(0.05)
    path.check_rate()


def test_counters_below_that_of_the_move_are_stale_until_the_next_session() -> None:
    search = PathMtuSearch(Timers())
    first = search.begin(0.0, version=4, most=1546, counter=1000)
    assert [action.size for action in first if isinstance(action, SendControl)] == [1472, 1464, 1372]
    assert not search.answered(0.1, Answer(1472, 999))
    assert search.payload == 1252
    search.rekeyed()
    search.answered(0.1, Answer(1472, 20))
    assert search.payload == 1472


@given(st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1), st.floats(0, 2)), max_size=40))
def test_answers_about_sizes_that_were_not_asked_for_say_nothing(answers: list[tuple[int, int, float]]) -> None:
    path = ProbedPath(1400)
    path.begin()
    for size, counter, later in answers:
        asked = {each for _, each in path.sent}
        if size not in asked:
            before = path.search.payload
            path.act(path.search.answered(path.now, Answer(size, counter)))
            assert path.search.payload == before
        path.run(later)
        assert path.search.payload <= path.right


@given(st.data())
def test_whatever_happens_it_neither_spins_nor_floods_nor_leaves_its_bounds(data: st.DataObject) -> None:
    path = ProbedPath(1500, version=data.draw(st.sampled_from(VERSIONS)), delay=data.draw(delays))
    path.act(path.search.tick(path.now))
    path.act(path.search.suspect(path.now))
    path.act(path.search.too_long(path.now, 1400))
    assert not path.log
    path.begin()
    again = 0
    for _ in range(data.draw(st.integers(1, 20))):
        match data.draw(st.integers(0, 5)):
            case 0:
                path.mtu = data.draw(st.sampled_from([0, 300, 576, 1000, 1280, 1400, 1500, 9000]))
            case 1:
                path.act(path.search.suspect(path.now))
            case 2:
                path.act(path.search.too_long(path.now, data.draw(st.integers(0, 0xFFFF))))
            case 3:
                path.act(path.search.answered(path.now, Answer(data.draw(st.integers(0, 1600)), path.counter)))
            case 4:
                path.begin()
                again += 1
            case 5:
                path.loss = data.draw(st.sampled_from([0.0, 0.5, 1.0]))
        path.run(data.draw(st.floats(0, 20)))
        assert SMALLEST < path.search.payload <= path.most
    path.check_rate()
    told = path.told()
    # Told for each change, and once for each peer that comes.
    assert sum(one == other for one, other in itertools.pairwise(told)) <= again
