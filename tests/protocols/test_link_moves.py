"""The life of a cable on a simulated network: a peer that moves is followed at once, and asked whether it is there."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure import path_check, wire
from tap2tap.protocols.secure.actions import PathMtu, PeerAt, PeerMoved, Remember
from tap2tap.protocols.secure.limits import CHECK_DELAYS, CONTROL_COUNTERS, MOVE_LIMIT, MOVE_WINDOW, REFUSED
from tap2tap.protocols.secure.path_check import PathChecker
from tests.support.datagrams import take_apart
from tests.support.simulated_cable import Cable, times
from tests.support.simulated_ends import ELSEWHERE, HOME, VPS, at
from tests.support.simulated_network import DELAY, Fate, Policy

VICTIM = at("203.0.113.1")
REBOUND = at("192.0.2.1", 4321)


def forging(race: Callable[[], bool], *, replace: bool = True) -> Policy:
    """Make copies of home's datagrams come first, from the victim; `replace`: and the originals never."""

    def policy(datagram: bytes, source: Endpoint, destination: Endpoint) -> Iterable[Fate]:
        raced = source == HOME and datagram[0] in (wire.TYPE_DATA, wire.TYPE_CONTROL) and race()
        fates = [(DELAY / 2, datagram, VICTIM, destination)] if raced else []
        return fates if raced and replace else [*fates, (DELAY, datagram, source, destination)]

    return policy


def deaf_to_control(calm: Policy, endpoint: Endpoint) -> Policy:
    """As `calm`, but no control datagram arrives at `endpoint`."""
    return lambda datagram, source, destination: (
        [] if destination == endpoint and datagram[0] == wire.TYPE_CONTROL else calm(datagram, source, destination)
    )


def sent_to(cable: Cable, endpoint: Endpoint, begin: int = 0) -> int:
    return sum(len(datagram) for datagram, _, destination in cable.network.wire[begin:] if destination == endpoint)


@pytest.mark.parametrize("often", [False, True], ids=["once", "again and again"])
@pytest.mark.parametrize("home_speaks", [False, True])
def test_a_forged_source_gets_256_kib_at_most(often: bool, home_speaks: bool) -> None:
    cable = Cable(home={"keepalive": 0})
    cable.network.run(5)
    begin, moved, known = len(cable.network.wire), [False], cable.vps.actions(PathMtu)

    def race() -> bool:
        moved[0] = not moved[0]
        return often or not cable.vps.actions(PeerMoved)

    cable.network.policy = forging(lambda: race() and moved[0])
    cable.network.every(0.001, 3, lambda: cable.vps.send_frame(length=1500))
    if home_speaks:
        cable.network.every(0.05, 3, cable.home.send_frame)
    else:
        cable.home.send_frame()
    cable.network.run(6)
    assert cable.vps.actions(PeerMoved)
    assert 10_000 < sent_to(cable, VICTIM, begin) <= MOVE_LIMIT
    assert cable.vps.peer == cable.vps.link.status().endpoint == HOME
    assert cable.vps.actions(PathMtu) == known  # it says nothing about the path that is known
    assert not [action for _, action in cable.vps.actions(Remember) if action == Remember(VICTIM)]


def test_what_the_kernel_says_of_the_way_to_a_forged_source_is_no_word_about_the_path() -> None:
    cable = Cable()
    cable.network.run(5)
    known = cable.vps.actions(PathMtu)
    cable.network.policy = forging(lambda: not cable.vps.actions(PeerMoved))
    cable.home.send_frame()
    cable.network.run(DELAY)
    assert cable.vps.peer == VICTIM
    cable.vps.act(cable.vps.link.too_long(cable.network.now, 1472))
    cable.network.run(6)
    assert cable.vps.peer == HOME
    assert cable.vps.actions(PathMtu) == known


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_nat_rebinding_is_followed_at_once_and_checked(lost: int) -> None:
    """`lost`: so many of the tries do not arrive, and all is as if they had."""
    cable = Cable()
    cable.network.run(70)
    calm, drop = cable.network.policy, [True] * lost

    def policy(datagram: bytes, source: Endpoint, destination: Endpoint) -> Iterable[Fate]:
        if destination == REBOUND and datagram[0] == wire.TYPE_CONTROL and drop:
            drop.pop()
            return []
        return calm(datagram, source, destination)

    cable.network.policy = policy
    cable.home.address = REBOUND
    cable.home.send_frame()
    done = len(cable.vps.log)
    cable.network.run(1.2 * DELAY)
    assert [action for _, action in cable.vps.log[done:] if isinstance(action, PeerAt | PeerMoved)] == [
        PeerAt(REBOUND, MOVE_LIMIT // 2),
        PeerMoved(REBOUND),
    ]
    frame = cable.vps.send_frame()
    cable.network.run(3)
    assert frame in cable.home.heard_frames
    assert [action for _, action in cable.vps.actions(PeerAt)][-1] == PeerAt(REBOUND)
    assert len(cable.vps.actions(PeerMoved)) == 1
    assert cable.vps.limit == 0
    assert cable.vps.remembered == REBOUND
    cable.network.run(60)
    assert cable.works()
    assert len(cable.vps.actions(PeerMoved)) == 1


def test_when_all_tries_are_lost_frames_go_to_the_last_place_that_answered_and_follow_later() -> None:
    cable = Cable()
    cable.network.run(70)
    calm = cable.network.policy
    cable.network.policy = deaf_to_control(calm, ELSEWHERE)
    cable.home.address = ELSEWHERE
    cable.network.every(0.1, 60, cable.home.send_frame)
    cable.network.run(DELAY * 2)
    assert cable.vps.peer == ELSEWHERE
    moved = cable.network.now
    cable.network.run(sum(CHECK_DELAYS))
    assert cable.vps.peer == cable.vps.link.status().endpoint == HOME
    cable.network.policy = calm
    cable.network.run(REFUSED + 1)
    assert cable.vps.peer == ELSEWHERE
    first, back, again = times(cable.vps, PeerMoved)
    assert sum(CHECK_DELAYS) <= back - first < sum(CHECK_DELAYS) + DELAY
    assert REFUSED <= again - back < REFUSED + 0.2
    assert first < moved
    assert cable.works()


def test_a_new_session_from_an_address_that_did_not_answer_is_followed_at_once() -> None:
    cable = Cable()
    cable.network.run(70)
    calm = cable.network.policy
    cable.network.policy = deaf_to_control(calm, ELSEWHERE)
    cable.home.address = ELSEWHERE
    cable.home.send_frame()
    cable.network.run(sum(CHECK_DELAYS) + 0.1)
    assert cable.vps.peer == HOME
    cable.network.policy = calm
    cable.home.restart()
    cable.network.run(0.2)
    assert cable.vps.peer == cable.vps.link.status().endpoint == ELSEWHERE
    assert cable.works()


def test_a_peer_without_control_datagrams_is_followed_unasked() -> None:
    checker = PathChecker((VPS,), bytes)
    for number, where in enumerate((HOME, ELSEWHERE, HOME)):
        assert checker.follow(number, where, can_ask=False) == [PeerAt(where)]
    assert checker.due == float("inf")


def test_a_move_provokes_no_confirmation() -> None:
    """There are 16, which are for proofs."""
    cable = Cable()
    cable.network.run(5)
    done = len(cable.network.wire)
    for number in range(30):
        cable.home.address = at("192.0.2.1", 5000 + number)
        cable.home.send_frame()
        cable.network.run(0.5)
    sent = [take_apart(datagram) for datagram, source, _ in cable.network.wire[done:] if source == VPS]
    assert min(counter for _, _, counter in sent) >= CONTROL_COUNTERS
    assert cable.vps.link.status().endpoint == cable.home.address


def test_where_the_peer_is_is_written_down_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_check, "CHECK_AGAIN", 600.0)  # for a day
    cable = Cable()
    cable.network.run(3 * 600)
    (first, _), *later = cable.vps.actions(Remember)
    assert first < 1001
    assert len(later) in (2, 3)
    cable.vps.log.clear()
    for number in range(120):
        cable.home.address = at("192.0.2.1", 5000 + number)
        cable.home.send_frame()
        cable.network.run(1)
    assert 1 <= len(cable.vps.actions(Remember)) <= 3
    cable.network.run(60)
    assert cable.vps.remembered == cable.home.address


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 12), st.booleans()), max_size=80))
def test_all_unanswered_places_together_get_no_more_than_the_limit_in_a_while(
    moves: list[tuple[float, int, bool]],
) -> None:
    """Place 0 is the one that answered. Whatever the order, any 20 seconds from a first grant have one budget."""
    checker, now = PathChecker((), lambda count: b"t" * count), 0.0
    granted: list[tuple[float, int]] = []

    def take(actions: list[Any]) -> None:
        granted.extend((now, each.limit) for each in actions if isinstance(each, PeerAt) and each.limit is not None)

    take(checker.follow(now, at("192.0.2.1", 1), can_ask=True))
    take(checker.answered(now, b"t" * 8))
    for pause, place, new_session in moves:
        now += pause
        where = at("192.0.2.1", 1 + place)
        take(checker.tick(now, can_ask=True))
        if new_session:
            checker.pardon(where)
        if not checker.refuses(now, where):
            take(checker.follow(now, where, can_ask=True))
    while granted:
        begin = granted[0][0]
        window = [limit for when, limit in granted if when < begin + MOVE_WINDOW]
        assert sum(window) < MOVE_LIMIT
        granted = granted[len(window) :]
