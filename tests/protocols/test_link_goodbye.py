"""The life of a cable on a simulated network: an end that says goodbye, and one that calls back where its peer was."""

from typing import Any

import pytest

from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.actions import PeerDown, PeerUp, Remember
from tap2tap.protocols.secure.limits import CALLS_BACK, GOODBYE_WAIT
from tests.support.datagrams import take_apart
from tests.support.simulated_cable import Cable, both, times
from tests.support.simulated_ends import ELSEWHERE, HOME, VPS
from tests.support.simulated_network import DELAY

WHO = pytest.mark.parametrize("who", ["home", "vps"])
ENDS = pytest.mark.parametrize("ends", [{}, both()], ids=["one knows where", "both know where"])


def pair(cable: Cable, who: str) -> tuple[Any, Any]:
    return (cable.home, cable.vps) if who == "home" else (cable.vps, cable.home)


@WHO
@ENDS
@pytest.mark.parametrize("age", [0.2, 5, 60, 130])
@pytest.mark.parametrize("lost", [0, 1])
def test_a_clean_end_is_known_at_once(who: str, ends: dict[str, Any], age: float, lost: int) -> None:
    """`lost`: so many goodbyes are. At the age of 0.2 s both sessions of ends that called at once are young."""
    cable = Cable(**ends)
    cable.network.run(age)
    leaving, other = pair(cable, who)
    calm, drop = cable.network.policy, [True] * lost
    cable.network.policy = lambda datagram, source, destination: (
        [] if source == leaving.address and drop and drop.pop() else calm(datagram, source, destination)
    )
    leaving.leave()
    done = len(cable.network.wire)
    cable.network.run(0.2)
    assert not other.up
    assert [action for _, action in other.actions(PeerDown)] == [PeerDown("it said goodbye")]
    assert other.inbound == {}
    assert other.outbound is None
    assert other.actions(Remember)[-1][1] == Remember(None)
    assert {each[0] for each, source, _ in cable.network.wire[done:] if source == other.address} <= {wire.TYPE_DATA}
    silent = len(cable.network.wire)
    cable.network.run(60)
    sent = cable.network.wire[silent:]
    if other.remote:
        assert {datagram[0] for datagram, _, _ in sent} == {wire.TYPE_INITIATION}
        left, called = times(other, PeerDown)[-1], [when for when, each in other.log if when > 1000 + age + 0.2]
        assert GOODBYE_WAIT <= called[0] - left < GOODBYE_WAIT + 0.01
    else:
        assert sent == []
        assert other.link.next_deadline() == float("inf")
    leaving.restart()
    cable.network.run(6)
    assert cable.works() or not (leaving.remote or other.remote)


@WHO
def test_a_goodbye_at_any_moment_of_a_rekey_is_obeyed(who: str) -> None:
    rekey = Cable()
    rekey.network.run(130)
    begins = next(when for when, action in rekey.home.log if when > 1100 and wire.is_initiation(_datagram(action)))
    for step in range(-2, 12):
        cable = Cable()
        leaving, other = pair(cable, who)
        cable.network.run(begins - 1000 + step * DELAY / 2 + DELAY / 4)
        leaving.leave()
        cable.network.run(0.2)
        assert not other.up
        assert len(other.actions(PeerDown)) == 1
        cable.network.run(20)
        assert other.inbound == {}


def _datagram(action: Any) -> bytes:
    return getattr(action, "datagram", b"")


@WHO
def test_a_goodbye_that_was_held_back_does_no_harm(who: str) -> None:
    """It came from the life before: a session that is older than the one of now."""
    cable = Cable(**both())
    cable.network.run(30)
    leaving, other = pair(cable, who)
    calm, held = cable.network.policy, list[bytes]()
    cable.network.policy = lambda datagram, source, destination: (
        held.append(datagram) or []  # type: ignore[func-returns-value]
        if source == leaving.address and leaving.gone
        else calm(datagram, source, destination)
    )
    leaving.leave()
    cable.network.run(0.3)
    assert len(held) == 3  # two on its session, one on the other of the same age
    leaving.restart()
    cable.network.run(0.3)
    ups = len(other.actions(PeerUp))
    for datagram in held:
        cable.network.inject(datagram, leaving.address, other.address)
    cable.network.run(1)
    assert cable.works()
    assert len(other.actions(PeerUp)) == ups
    assert not other.actions(PeerDown)


def test_who_comes_back_after_a_goodbye_is_written_down_at_once() -> None:
    cable = Cable()
    cable.network.run(5)
    assert cable.vps.remembered == HOME
    cable.home.leave()
    cable.network.run(0.3)
    assert cable.vps.remembered is None
    cable.home.restart()
    cable.network.run(1)
    assert cable.vps.remembered == HOME


def test_all_goodbyes_but_the_second_of_the_current_session_go_out_first() -> None:
    """So that one pause is enough, however many sessions there are."""
    cable = Cable(**both())
    cable.network.run(0.2)
    current = cable.home.outbound
    assert current
    cable.home.leave()
    done = len(cable.network.wire)
    cable.network.run(0.01)
    at_once = [take_apart(datagram)[1] for datagram, source, _ in cable.network.wire[done:] if source == HOME]
    assert at_once[0] == current.index
    assert len(at_once) >= 2
    assert current.index not in at_once[1:]
    cable.network.run(0.2)
    last, _, _ = cable.network.wire[-1]
    assert take_apart(last)[1] == current.index


def test_nobody_else_can_say_goodbye() -> None:
    cable = Cable()
    cable.network.run(5)
    for index in cable.vps.inbound:
        front = wire.header(wire.TYPE_CONTROL, index, 1000)
        cable.network.inject(front + b"\4\0\0\0" + bytes(16), HOME, VPS)
    cable.network.run(1)
    assert cable.works()


def test_who_has_no_session_leaves_without_a_word() -> None:
    cable = Cable()
    cable.home.leave()
    done = len(cable.network.wire)
    cable.network.run(1)
    assert HOME not in {source for _, source, _ in cable.network.wire[done:]}


# Calling back.


@pytest.mark.parametrize("clean", [False, True])
def test_a_server_that_starts_again_calls_its_client(clean: bool) -> None:
    """Which would not notice for long: it has nothing to say, and its keepalives are far between."""
    cable = Cable()
    cable.network.run(50)
    if clean:
        cable.vps.leave()
        cable.network.run(0.3)
    cable.vps.restart()
    cable.network.run(10 * DELAY)
    assert cable.works()
    assert len(cable.home.actions(PeerUp)) == 1 + clean


def test_nobody_is_called_back_for_long() -> None:
    cable = Cable()
    cable.network.run(5)
    cable.network.hosts.remove(cable.home)
    cable.vps.restart()
    done = len(cable.network.wire) - 1  # the first initiation is on its way
    cable.network.run(300)
    sent = cable.network.wire[done:]
    assert len(sent) == CALLS_BACK
    assert {(datagram[0], destination) for datagram, _, destination in sent} == {(wire.TYPE_INITIATION, HOME)}
    assert cable.vps.link.next_deadline() == float("inf")
    cable.network.hosts.append(cable.home)
    cable.home.restart()
    cable.network.run(1)
    assert cable.works()


def test_who_knows_a_remote_calls_nowhere_else() -> None:
    cable = Cable()
    cable.network.run(5)
    cable.home.remembered = ELSEWHERE
    cable.network.hosts.remove(cable.vps)
    cable.home.restart()
    cable.network.run(30)
    assert {destination for _, source, destination in cable.network.wire if source == HOME} == {VPS}


def test_recordings_of_a_call_back_change_nothing() -> None:
    cable = Cable()
    cable.network.run(5)
    cable.vps.restart()
    cable.network.run(5)
    captured = list(cable.network.wire)
    for datagram, _, destination in captured:
        cable.network.inject(datagram, ELSEWHERE, destination)
    cable.network.run(1)
    assert {datagram[0] for datagram, _, _ in cable.network.wire[len(captured) :]} <= {wire.TYPE_RESPONSE}
    assert cable.works()
