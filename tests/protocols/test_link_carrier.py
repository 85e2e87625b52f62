"""The life of a cable on a simulated network: what takes a peer down and what does not, and what brings it back."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import PeerDown, PeerUp
from tests.support.simulated import Host
from tests.support.simulated_cable import Cable, sleep, times
from tests.support.simulated_ends import HOME, VPS, at, make_keys
from tests.support.simulated_network import DELAY, Fate, Network, Policy

NOBODY = [at("203.0.113.7", 1 + number) for number in range(20)]
KEEPALIVES = [0, 1, 2, 10, 20, 25, 60]
ONE_WAY = pytest.mark.parametrize("dead", [HOME, VPS], ids=["from home", "from vps"])


def dead_from(sources: Collection[Endpoint]) -> Policy:
    """Lose what these send."""

    def policy(datagram: bytes, source: Endpoint, destination: Endpoint) -> Iterable[Fate]:
        return [] if source in sources else [(DELAY, datagram, source, destination)]

    return policy


def talk(cable: Cable, traffic: str, seconds: float) -> None:
    """Send a frame a second: "home" or "vps" or both of them do, or nobody."""
    for host, name in ((cable.home, "home"), (cable.vps, "vps")):
        if name in traffic:
            cable.network.every(1, seconds, host.send_frame)


def downs(cable: Cable) -> list[Any]:
    return [each for host in cable.hosts for each in host.actions(PeerDown)]


@settings(deadline=None, max_examples=20)
@given(
    keepalives=st.tuples(st.sampled_from(KEEPALIVES), st.sampled_from(KEEPALIVES)),
    begins=st.one_of(st.floats(0, 0.1), st.floats(0, 400)),
    lasts=st.floats(1, 29.9),
    dead=st.sampled_from([(HOME,), (VPS,), (HOME, VPS)]),
    traffic=st.sampled_from(["", "home", "vps", "home vps"]),
    both_know=st.booleans(),
    sampled=st.booleans(),
    replaced=st.sampled_from(["", "home", "vps", "home vps"]),
    replaced_at=st.floats(-60, 60),
    others=st.integers(0, 20),
    seed=st.integers(0, 2**16),
)
@example((2, 25), 141.9, 29.9, (HOME, VPS), "", True, False, "home vps", 0.8, 0, 57426)  # successors know no interval
@example((1, 0), 50.0, 29.9, (HOME, VPS), "", False, False, "", 0.0, 0, 0)
@example((10, 0), 50.0, 29.9, (HOME, VPS), "", False, False, "", 0.0, 0, 0)
@example((0, 0), 119.0, 29.9, (HOME, VPS), "home", False, False, "", 0.0, 0, 0)
@example((0, 0), 20.0, 29.9, (HOME, VPS), "home vps", False, False, "", 0.0, 0, 0)
def test_an_outage_of_less_than_half_a_minute_takes_nobody_down(
    keepalives: tuple[int, int],
    begins: float,
    lasts: float,
    dead: tuple[Endpoint, ...],
    traffic: str,
    both_know: bool,
    sampled: bool,
    replaced: str,
    replaced_at: float,
    others: int,
    seed: int,
) -> None:
    """Wherever in the life of a session it begins, in one direction or both.

    `replaced` link processes, if any; so many `others` are called in vain.
    """
    cable = Cable(
        home={"keepalive": keepalives[0], "sampled": sampled, "others": NOBODY[:others]},
        vps={"keepalive": keepalives[1], "sampled": sampled, **({"remote": HOME} if both_know else {})},
        seed=seed,
    )
    network, calm = cable.network, cable.network.policy
    for name in replaced.split():
        host: Host = getattr(cable, name)
        network.after(max(0.5, begins + replaced_at), host.replace_link)
    network.after(max(0.0, begins - 20), lambda: talk(cable, traffic, 80))
    network.run(begins)
    network.policy = dead_from(dead)
    network.run(lasts)
    network.policy = calm
    network.run(60)
    assert downs(cable) == []
    assert cable.works()


@ONE_WAY
@pytest.mark.parametrize(
    ("keepalives", "traffic"),
    [
        ((0, 0), "home"),
        ((0, 0), "vps"),
        ((0, 0), "home vps"),
        ((1, 0), ""),
        ((1, 0), "home"),
        ((0, 1), ""),
        ((0, 1), "vps"),
        ((25, 0), ""),
        ((25, 0), "home vps"),
        ((0, 25), "home"),
    ],
)
def test_a_path_that_works_in_one_direction_only_flaps_nothing(
    dead: Endpoint, keepalives: tuple[int, int], traffic: str
) -> None:
    cable = Cable(home={"keepalive": keepalives[0]}, vps={"keepalive": keepalives[1]})
    network, calm = cable.network, cable.network.policy
    talk(cable, traffic, 440)
    network.run(20)
    network.policy = dead_from([dead])
    network.run(400)
    assert all(len(host.actions(PeerUp)) == 1 for host in cable.hosts)
    assert [len(host.actions(PeerDown)) for host in cable.hosts] == [1, 1]
    network.policy = calm
    network.run(7)
    assert cable.works()
    assert all(len(host.actions(PeerUp)) == 2 for host in cable.hosts)


@ONE_WAY
def test_a_path_that_never_worked_in_one_direction_brings_nobody_up(dead: Endpoint) -> None:
    cable = Cable(home={"keepalive": 1})
    cable.network.policy = dead_from([dead])
    cable.network.run(300)
    assert not any(host.actions(PeerUp) for host in cable.hosts)


@pytest.mark.parametrize("age", [5, 70, 110])
@pytest.mark.parametrize("dead", [(HOME,), (VPS,), (HOME, VPS)], ids=["from home", "from vps", "both"])
def test_a_peer_that_is_down_is_up_soon_when_frames_come_through_again(dead: tuple[Endpoint, ...], age: float) -> None:
    """The session of before is still there, but a proved one is what counts."""
    cable = Cable(home={"keepalive": 1, "sampled": True}, vps={"sampled": True})
    network, calm = cable.network, cable.network.policy
    talk(cable, "home vps", 200)
    network.run(age)
    network.policy = dead_from(dead)
    network.run(44)
    assert downs(cable)
    assert all(host.outbound for host in cable.hosts)
    done = len(network.wire)
    network.policy = calm
    network.run(2)
    assert cable.works()
    calls = sum(datagram[0] == 1 for datagram, _, _ in network.wire[done:])
    assert calls <= 4


@pytest.mark.parametrize("wake", [3, 100, 600])
@pytest.mark.parametrize("who", ["home", "vps"])
def test_after_a_wake_up_the_peer_is_proved_anew_at_once(wake: float, who: str) -> None:
    cable = Cable()
    cable.network.run(20)
    host: Host = getattr(cable, who)
    sleep(host, wake)
    cable.network.run(wake)
    done = host.link.status().last_handshake
    begin = cable.network.now
    cable.network.run(5 * DELAY)
    again = host.link.status().last_handshake
    assert done is not None
    assert again is not None
    assert again >= begin > done
    assert cable.works()
    assert not host.actions(PeerDown)


@pytest.mark.parametrize("keepalive", [0, 1, 25])
@pytest.mark.parametrize("asleep", [100, 175, 3600])
def test_a_network_that_is_late_after_a_wake_up_is_an_outage_like_any_other(keepalive: int, asleep: float) -> None:
    """Whether the session is over or not."""
    cable = Cable(home={"keepalive": keepalive}, vps={"keepalive": keepalive})
    calm = cable.network.policy
    cable.network.run(20)
    sleep(cable.home, asleep)
    cable.network.policy = dead_from([HOME, VPS])
    cable.network.run(asleep + 29)
    cable.network.policy = calm
    cable.network.run(6)
    assert cable.works()
    assert not cable.home.actions(PeerDown)


# Calling.


def initiations(cable: Cable, source: Endpoint, begin: int = 0) -> int:
    return sum(each[0] == 1 and whence == source for each, whence, _ in cable.network.wire[begin:])


def test_a_call_is_a_handshake_at_once_and_the_session_goes_on_meanwhile() -> None:
    cable = Cable()
    network = cable.network
    network.run(30)
    talk(cable, "home vps", 5)
    done = len(network.wire)
    cable.home.act(cable.home.link.call(network.now))
    assert initiations(cable, HOME, done) == 1
    network.run(6)
    assert initiations(cable, HOME, done) == 1
    assert [host.link.status().rekeys for host in cable.hosts] == [1, 1]
    assert len(cable.vps.heard_frames) == cable.home.sent_frames
    assert downs(cable) == []


def test_a_call_is_an_attempt_at_once_in_a_series_that_has_become_slow() -> None:
    cable = Cable()
    cable.network.policy = dead_from([HOME, VPS])
    cable.network.run(61.3)
    for _ in range(2):
        done = len(cable.network.wire)
        cable.home.act(cable.home.link.call(cable.network.now))
        assert initiations(cable, HOME, done) == 1
        cable.network.run(8)
        assert initiations(cable, HOME, done) >= 5
    assert cable.home.link.next_deadline() > cable.network.now


@pytest.mark.parametrize("alive", [False, True])
@pytest.mark.parametrize("interval", [0.05, 0.4, 0.9])
def test_calls_in_numbers_stay_within_a_responders_budget(alive: bool, interval: float) -> None:
    cable = Cable()
    cable.network.run(10)
    cable.network.policy = cable.network.policy if alive else dead_from([VPS])
    done = len(cable.network.wire)
    cable.network.every(interval, 60, lambda: cable.home.act(cable.home.link.call(cable.network.now)))
    cable.network.run(60)
    assert 50 <= initiations(cable, HOME, done) <= 2 * 60 + 5
    challenged = any(datagram[0] == 3 for datagram, _, _ in cable.network.wire[done:])
    assert not (alive and challenged)  # if none is proved, the places for sessions are taken before
    assert len(downs(cable)) == (0 if alive else 1)


@pytest.mark.parametrize("ask", [lambda link, now: link.call(now), lambda link, now: link.move(now, ())])
def test_who_knows_nobody_calls_nobody(ask: Callable[[Any, float], list[Any]]) -> None:
    network = Network()
    vps = Host(network, make_keys()[1], VPS)
    assert ask(vps.link, network.now) == []
    assert vps.link.next_deadline() == float("inf")


def test_who_has_left_calls_nobody() -> None:
    cable = Cable()
    cable.network.run(5)
    cable.home.leave()
    cable.network.run(1)
    assert cable.home.link.call(cable.network.now) == []
    assert cable.home.link.move(cable.network.now, (HOME,)) == []
    assert times(cable.home, PeerDown) == []
