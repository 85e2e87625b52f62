"""The life of a cable on a simulated network: the peer has several endpoints, of which some may be dead."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.actions import PeerDown, PeerMoved, PeerUp
from tests.support.simulated_cable import Cable
from tests.support.simulated_ends import ELSEWHERE, HOME, VPS, at
from tests.support.simulated_network import DELAY, Fate, Policy

HOME6, VPS6, VPS2 = at("2001:db8::1"), at("2001:db8::99"), at("198.51.100.2")
NOBODY = [at("203.0.113.7", 1 + number) for number in range(100)]


def pair(*remotes: Endpoint, seed: int = 0, **settings: Any) -> Cable:
    """Both ends have both families, the server two IPv4 addresses, and the client tries these."""
    home = {"also": (HOME6,), "remote": remotes[0], "others": remotes[1:], **settings}
    return Cable(home=home, vps={"also": (VPS6, VPS2)}, seed=seed)


def dead(*ways: tuple[Endpoint, Endpoint]) -> Policy:
    """Lose what goes from the first of a pair to the second."""

    def policy(datagram: bytes, source: Endpoint, destination: Endpoint) -> Iterable[Fate]:
        return [] if (source, destination) in ways else [(DELAY, datagram, source, destination)]

    return policy


def called(cable: Cable, begin: int = 0) -> list[Endpoint]:
    """Where home has sent initiations."""
    return [to for each, source, to in cable.network.wire[begin:] if wire.is_initiation(each) and source != VPS]


@pytest.mark.parametrize("way", [(HOME, VPS), (VPS, HOME), (HOME6, VPS6), (VPS6, HOME6)])
@pytest.mark.parametrize("remotes", [(VPS, VPS6), (VPS6, VPS)], ids=["4 then 6", "6 then 4"])
def test_the_other_family_is_tried_well_within_two_seconds(remotes: tuple[Endpoint, ...], way: Any) -> None:
    """One of them is dead, in one direction."""
    cable = pair(*remotes)
    cable.network.policy = dead(way)
    for host in (cable.vps, cable.home):
        host.restart()
    cable.network.run(0.4)
    assert cable.works()
    alive = VPS6 if HOME in way else VPS
    assert cable.home.peer == alive


@settings(deadline=None, max_examples=25)
@given(before=st.integers(0, 7), after=st.integers(0, 70), seed=st.integers(0, 2**16))
def test_whichever_of_them_is_alive_is_found(before: int, after: int, seed: int) -> None:
    cable = pair(*NOBODY[:before], VPS, *NOBODY[before : before + after], seed=seed)
    cable.network.run(0.1 + before / 3)
    assert cable.works()
    assert called(cable) == [*NOBODY[:before], VPS]


def test_whoever_is_beyond_the_first_round_has_a_turn_and_is_kept() -> None:
    cable = pair(*NOBODY[:40], VPS)
    cable.network.run(60)
    assert cable.works()
    done = len(cable.network.wire)
    cable.network.run(600)
    assert set(called(cable, done)) == {VPS}  # each new series begins with it


def test_the_one_that_answers_is_kept_though_a_preferred_one_is_there_again() -> None:
    cable = pair(VPS, VPS6)
    calm, cable.network.policy = cable.network.policy, dead((HOME, VPS))
    cable.home.restart()
    cable.network.run(5)
    assert cable.home.peer == VPS6
    cable.network.policy = calm
    done = len(cable.network.wire)
    cable.network.run(1000)
    assert set(called(cable, done)) == {VPS6}
    assert cable.home.peer == VPS6
    assert len(cable.home.actions(PeerUp)) == 1


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_an_initiation_that_is_lost_when_keys_are_renewed_is_no_reason_to_leave(lost: int) -> None:
    """Nor is a second one."""
    cable = pair(VPS, VPS6)
    cable.network.run(5)
    done = len(cable.network.wire)
    drop = [True] * lost
    cable.network.policy = lambda datagram, source, destination: (
        [] if wire.is_initiation(datagram) and drop and drop.pop() else [(DELAY, datagram, source, destination)]
    )
    cable.network.run(130)
    assert not drop
    assert [host.link.status().rekeys for host in cable.hosts] == [1, 1]
    assert set(called(cable, done)) == ({VPS, VPS6} if lost > 2 else {VPS})


@pytest.mark.parametrize("silent", [0, 5])
def test_who_calls_tries_the_others_at_once(silent: float) -> None:
    """The network may be another one, though nobody has missed the peer yet."""
    cable = pair(VPS, VPS6)
    cable.network.run(5)
    cable.network.policy = dead((HOME, VPS))
    cable.network.run(silent)
    cable.home.act(cable.home.link.call(cable.network.now))
    cable.network.run(0.4)
    assert cable.home.peer == VPS6
    assert cable.works()


@pytest.mark.parametrize(
    ("ways", "more"),
    [(((HOME, VPS), (VPS, HOME)), 0), (((VPS, HOME),), 0), (((HOME, VPS),), 16)],
    ids=["both directions", "to us", "from us"],
)
@pytest.mark.parametrize(("traffic", "patience"), [(True, 17), (False, 37)], ids=["frames", "keepalives"])
def test_it_is_left_when_it_stops_answering_and_nobody_goes_down(
    ways: Any, more: float, traffic: bool, patience: float
) -> None:
    """`more`: an end that is heard and does not hear calls, and is answered in vain."""
    cable = pair(VPS, VPS6)
    network = cable.network
    network.run(10)
    for host in cable.hosts if traffic else ():
        network.every(0.5, 100, host.send_frame)
    network.policy = dead(*ways)
    network.run(patience + more)
    assert cable.works()
    assert (cable.home.peer, cable.vps.peer and cable.vps.peer.from_anywhere) == (VPS6, HOME6)
    network.run(60)
    assert cable.works()
    for host in cable.hosts:
        assert not host.actions(PeerDown)
        assert len(host.actions(PeerMoved)) == 1


def test_a_relay_ends_with_the_next_handshake_whichever_of_them_is_alive() -> None:
    cable = pair(VPS6, VPS)
    network = cable.network
    network.policy = dead((HOME6, VPS6))
    cable.home.restart()
    network.run(5)
    network.hosts.remove(cable.home)
    cable.vps.send_frame()
    raced, _, _ = network.wire[-1]
    network.hosts.append(cable.home)

    def relay(datagram: bytes, source: Endpoint, destination: Endpoint) -> Iterable[Fate]:
        if destination == ELSEWHERE:
            return [(DELAY, datagram, ELSEWHERE, VPS if source == HOME else HOME)]
        return dead((HOME6, VPS6))(datagram, source, destination)

    network.policy = relay
    network.inject(raced, ELSEWHERE, HOME)
    network.every(1, 600, cable.home.send_frame)
    network.run(10)
    assert cable.home.peer == ELSEWHERE
    network.run(125)
    done = len(network.wire)
    assert cable.home.peer == VPS
    network.run(300)
    assert cable.works()
    assert ELSEWHERE not in {destination for _, _, destination in network.wire[done:]}


# The list changes.


@pytest.mark.parametrize("after", [0.0, 0.01, 1.3, 61.7])
def test_what_a_name_has_newly_is_tried_at_once_while_the_peer_is_not_up(after: float) -> None:
    cable = pair(*NOBODY[:3])
    cable.network.run(after)
    cable.home.act(cable.home.link.move(cable.network.now, (*NOBODY[:3], VPS6)))
    cable.network.run(0.3)
    assert cable.works()


@pytest.mark.parametrize("up", [False, True])
def test_what_was_known_already_is_no_reason_to_call(up: bool) -> None:
    cable = pair(VPS, VPS6)
    cable.network.policy = cable.network.policy if up else dead((HOME, VPS), (HOME6, VPS6))
    cable.home.restart()
    cable.network.run(30)
    done = len(cable.network.wire)
    for number in range(100):
        remotes = (VPS, VPS6) if number % 2 else (VPS6, VPS)
        cable.home.act(cable.home.link.move(cable.network.now, remotes))
        cable.network.run(0.1)
    assert len(called(cable, done)) <= (0 if up else 6)


def test_a_new_one_is_no_reason_to_call_while_the_peer_is_up() -> None:
    cable = pair(VPS)
    cable.network.run(30)
    done = len(cable.network.wire)
    cable.home.act(cable.home.link.move(cable.network.now, (VPS6, VPS)))
    cable.network.run(200)
    assert set(called(cable, done)) == {VPS}


def test_with_nowhere_to_go_an_end_waits_until_there_is() -> None:
    cable = pair(NOBODY[0])
    cable.network.run(3)
    for _ in range(2):
        cable.home.act(cable.home.link.move(cable.network.now, ()))
        assert cable.home.link.next_deadline() == float("inf")
        cable.network.run(50)
    cable.home.act(cable.home.link.move(cable.network.now, (VPS,)))
    cable.network.run(0.3)
    assert cable.works()
    cable.home.act(cable.home.link.move(cable.network.now, ()))
    cable.network.run(600)
    assert cable.works()  # where the peer was heard is good enough
