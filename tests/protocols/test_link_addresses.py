"""The life of a cable on a simulated network: a server answers from the address that was called, a client from any."""

from collections.abc import Iterable
from typing import Any

import pytest

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.actions import PathMtu, PeerAt, PeerMoved, Remember, SendControl
from tap2tap.protocols.secure.control import Kind
from tap2tap.protocols.secure.path_check import PathChecker
from tests.support.simulated_cable import Cable
from tests.support.simulated_ends import ELSEWHERE, HOME, VPS, at, recordings
from tests.support.simulated_network import DELAY, Fate

VPS2, HOME2 = at("198.51.100.2"), at("192.0.2.2")
HERE, THERE = HOME._replace(local=VPS.address), HOME._replace(local=VPS2.address)


def pair(remote: Endpoint = VPS2, **settings: Any) -> Cable:
    """The server has two addresses, of which the kernel would choose VPS; the client has two."""
    return Cable(home={"remote": remote, "also": (HOME2,), **settings}, vps={"also": (VPS2,)})


def test_all_that_a_server_sends_leaves_from_the_address_that_was_called() -> None:
    cable = pair()
    for number, recording in enumerate(recordings(cable.keys[0], 10)):  # so that challenges are among it
        cable.network.inject(recording, HOME, VPS2, number / 1000)
    cable.network.run(5)
    cable.network.every(1, 300, cable.home.send_frame)
    cable.network.every(0.7, 300, lambda: cable.vps.send_frame(length=1514))
    cable.network.run(301)
    assert cable.works(1514)
    theirs = [(datagram[0], source) for datagram, source, _ in cable.network.wire if source in (VPS, VPS2)]
    assert {source for _, source in theirs} == {VPS2}
    assert {wire.TYPE_RESPONSE, wire.TYPE_CHALLENGE, wire.TYPE_DATA, wire.TYPE_CONTROL} <= {kind for kind, _ in theirs}
    assert [action for _, action in cable.vps.actions(PeerMoved)] == []


def test_a_server_calls_and_calls_back_and_says_goodbye_from_there_too() -> None:
    cable = pair()
    cable.network.run(5)
    assert cable.vps.remembered == THERE
    done = len(cable.network.wire)
    cable.vps.restart()
    cable.network.run(5)
    cable.vps.act(cable.vps.link.call(cable.network.now))
    cable.network.run(1)
    cable.vps.replace_link()
    cable.network.run(1)
    assert cable.works()
    cable.vps.leave()
    cable.network.run(0.2)
    theirs = [(datagram[0], source) for datagram, source, _ in cable.network.wire[done:] if source in (VPS, VPS2)]
    assert {source for _, source in theirs} == {VPS2}
    assert sum(kind == wire.TYPE_INITIATION for kind, _ in theirs) == 3
    assert not cable.home.up


def test_a_client_pins_no_address_but_answers_from_the_one_that_was_called() -> None:
    cable = pair(VPS)
    cable.network.run(5)
    assert cable.home.peer == VPS
    (recording,) = recordings(cable.keys[1], 1)
    cable.network.inject(recording, ELSEWHERE, HOME2)
    done = len(cable.network.wire)
    cable.network.run(DELAY / 2)
    assert [(datagram[0], source) for datagram, source, _ in cable.network.wire[done:]] == [(wire.TYPE_RESPONSE, HOME2)]
    cable.home.address, cable.home.also = HOME2, (at("192.0.2.3"),)  # HOME is gone
    frame = cable.home.send_frame()
    cable.network.run(5 * DELAY)
    assert frame in cable.vps.heard_frames
    assert cable.works()
    assert not cable.home.actions(PeerMoved)
    assert [action for _, action in cable.home.actions(PeerAt)] == [PeerAt(VPS)]


def test_another_address_that_the_peer_calls_is_followed_at_once_and_is_no_move() -> None:
    cable = pair(VPS)
    cable.network.run(200)  # there is nothing left to search or to write down
    called = [VPS2]

    def forward(datagram: bytes, source: Endpoint, destination: Endpoint) -> Iterable[Fate]:
        """A router that sends the client's datagrams to an address of the server's that the client does not know."""
        return [(DELAY, datagram, VPS if source == VPS2 else source, called[0] if destination == VPS else destination)]

    cable.network.policy = forward
    cable.vps.log.clear()
    for number in range(40):
        called[0] = (VPS2, VPS)[number % 2]
        cable.home.send_frame()
        cable.network.run(1.5 * DELAY)
        assert cable.vps.peer == (THERE, HERE)[number % 2]
        cable.network.run(2)
    assert [action for _, action in cable.vps.actions(PeerAt)] == [PeerAt(THERE), PeerAt(HERE)] * 20
    kinds = {action.text[0] for _, action in cable.vps.actions(SendControl) if isinstance(action, SendControl)}
    assert Kind.PATH_CHECK not in kinds
    for kind in (PeerMoved, PathMtu, Remember):
        assert not cable.vps.actions(kind)
    assert cable.works()


@pytest.mark.parametrize("local", [None, VPS.address, VPS2.address])
def test_another_address_of_ours_gives_a_forged_source_no_more(local: Any) -> None:
    """Nor may it be had by turns with another one."""
    checker = PathChecker((), bytes)
    checker.follow(0, HERE, can_ask=True)
    checker.answered(0.1, bytes(8))
    (granted, _) = checker.follow(1, ELSEWHERE, can_ask=True)
    assert isinstance(granted, PeerAt)
    assert granted.limit
    again = ELSEWHERE._replace(local=local)
    assert checker.follow(1.1, again, can_ask=True) == []
    for now in (1.5, 2.0, 3.0):
        actions = checker.tick(now, can_ask=True)
    assert actions == [PeerAt(HERE)]
    assert checker.refuses(3.1, again)
    assert not checker.refuses(3.1, THERE)
    assert checker.follow(3.2, THERE, can_ask=True) == [PeerAt(THERE)]
