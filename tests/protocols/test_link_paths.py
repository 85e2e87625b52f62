"""The life of a cable on a simulated network: what decides where the peer is, and what does not."""

import os
from collections.abc import Iterable
from typing import Any

import pytest

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.actions import OpenReceive, PeerMoved, Send
from tap2tap.protocols.secure.handshake import Identity, Initiation, Offer
from tap2tap.protocols.secure.link import Link
from tests.support.simulated_cable import LAN_TIME, Cable, both
from tests.support.simulated_ends import ELSEWHERE, HOME, VPS, make_keys, recordings
from tests.support.simulated_network import DELAY, Fate


@pytest.mark.parametrize("ends", [{}, both()], ids=["one knows where", "both know where"])
def test_one_raced_datagram_makes_a_relay_until_the_next_handshake_and_no_longer(ends: dict[str, Any]) -> None:
    cable = Cable(**ends)
    network = cable.network
    network.run(5)
    race = [HOME]

    def relay(datagram: bytes, source: Endpoint, destination: Endpoint) -> Iterable[Fate]:
        """One datagram of home's is overtaken by its copy; after that, whoever calls elsewhere is put through."""
        if destination == ELSEWHERE:
            return [(DELAY, datagram, ELSEWHERE, VPS if source == HOME else HOME)]
        fates = [(DELAY, datagram, source, destination)]
        if source in race and datagram[0] == wire.TYPE_DATA:
            race.remove(source)
            fates.append((DELAY / 2, datagram, ELSEWHERE, destination))
        return fates

    network.policy = relay
    network.every(1, 7200, cable.home.send_frame)
    network.after(0.5, lambda: network.every(1, 7200, cable.vps.send_frame))
    network.run(10)
    assert (cable.home.peer, cable.vps.peer) == (ELSEWHERE, ELSEWHERE)  # there is no help against that
    rekeys = cable.home.link.status().rekeys
    network.run(125)
    assert cable.home.link.status().rekeys > rekeys
    done = len(network.wire)
    network.run(7200)
    assert cable.works()
    assert ELSEWHERE not in {destination for _, _, destination in network.wire[done:]}
    assert cable.home.link.status().rekeys > 50


def test_a_relay_ends_also_when_the_end_without_a_configured_address_renews_the_sessions() -> None:
    cable = Cable()
    network = cable.network
    calm = network.policy
    network.run(5)
    network.policy = lambda datagram, source, destination: (
        [] if wire.is_initiation(datagram) and source == HOME else calm(datagram, source, destination)
    )
    network.run(140)
    assert [host.link.status().rekeys for host in cable.hosts] == [1, 1]  # by vps
    network.policy = lambda datagram, source, destination: (
        [(DELAY, datagram, ELSEWHERE, VPS if source == HOME else HOME)]
        if destination == ELSEWHERE
        else calm(datagram, source, destination)
    )
    network.hosts.remove(cable.vps)
    cable.home.send_frame()
    raced, _, _ = network.wire[-1]
    network.hosts.append(cable.vps)
    network.inject(raced, ELSEWHERE, VPS)
    network.every(1, 3600, cable.vps.send_frame)
    network.after(0.5, lambda: network.every(1, 3600, cable.home.send_frame))
    network.run(10)
    assert (cable.home.peer, cable.vps.peer) == (ELSEWHERE, ELSEWHERE)
    network.run(125)
    done = len(network.wire)
    network.run(3600)
    assert cable.works()
    assert ELSEWHERE not in {destination for _, _, destination in network.wire[done:]}


def test_when_the_peer_is_no_longer_where_it_was_configured_to_be_it_is_found_where_it_was_heard() -> None:
    cable = Cable()
    cable.network.run(5)
    cable.vps.address = ELSEWHERE
    cable.vps.send_frame()
    cable.network.run(2 * DELAY)
    cable.network.every(1, 300, cable.home.send_frame)
    cable.network.run(301)
    assert cable.works()
    assert len(cable.vps.heard_frames) == cable.home.sent_frames
    assert cable.home.link.status().rekeys == 2


def test_proofs_and_answers_to_challenges_go_where_the_initiation_went() -> None:
    """Nothing authenticates the address that responses and challenges come from: it is no target for more."""
    cable = Cable()
    cable.network.hosts.clear()
    cable.network.policy = lambda datagram, source, destination: [
        (DELAY, datagram, ELSEWHERE if source == VPS and datagram[0] in wire.HANDSHAKE_TYPES else source, destination)
    ]
    cable.network.hosts += [cable.vps, cable.home]
    for recording in recordings(cable.keys[0], 10):  # so the first initiation is challenged
        cable.network.inject(recording, ELSEWHERE, VPS)
    cable.home.restart()
    cable.network.run(LAN_TIME)
    assert cable.works()
    assert {destination for _, source, destination in cable.network.wire if source == HOME} == {VPS}
    kinds = [datagram[0] for datagram, source, _ in cable.network.wire if source == VPS]
    assert {wire.TYPE_CHALLENGE, wire.TYPE_RESPONSE} <= set(kinds)
    assert not cable.home.actions(PeerMoved)


def test_a_proof_that_was_held_back_moves_nothing() -> None:
    cable = Cable()
    proofs: list[bytes] = []

    def hold(datagram: bytes, source: Endpoint, destination: Endpoint) -> Iterable[Fate]:
        if datagram[0] == wire.TYPE_DATA and source == HOME and len(proofs) < 2:
            proofs.append(datagram)
            if len(proofs) == 2:
                return []
        elif datagram[0] >= wire.TYPE_DATA and source == VPS and len(proofs) < 2:
            return []  # the first confirmation is lost, and whatever proves as much, so there is a second proof
        return [(DELAY, datagram, source, destination)]

    cable.network.policy = hold
    cable.network.run(100)
    assert cable.works()
    done = len(cable.network.wire)
    cable.network.inject(proofs[1], ELSEWHERE, VPS)
    cable.network.run(0.001)
    ((_, _, destination),) = cable.network.wire[done:]
    assert destination == ELSEWHERE  # the confirmation: it was fresh and authentic
    assert not cable.vps.actions(PeerMoved)
    assert cable.vps.link.status().endpoint == HOME
    assert cable.works()


def test_the_last_datagram_of_an_old_session_moves_nothing_when_it_comes_late() -> None:
    cable = Cable()
    cable.network.run(110)
    held: list[bytes] = []

    def hold(datagram: bytes, source: Endpoint, destination: Endpoint) -> Iterable[Fate]:
        if source == HOME and datagram[0] == wire.TYPE_DATA and not held:
            held.append(datagram)
            return []
        return [(DELAY, datagram, source, destination)]

    cable.network.policy = hold
    frame = cable.home.send_frame()
    cable.network.run(30)
    assert cable.vps.link.status().rekeys == 1
    cable.network.inject(held[0], ELSEWHERE, VPS)
    cable.network.run(5)
    assert frame in cable.vps.heard_frames
    assert cable.vps.peer == cable.vps.link.status().endpoint == HOME
    assert not cable.vps.actions(PeerMoved)


def test_only_the_newest_datagram_of_the_session_in_use_moves_the_peer() -> None:
    """Whatever a worker says."""
    home, vps = make_keys()
    link = Link(vps, client=False, candidates=(), keepalive=0, hardware_aes=True, random=os.urandom, mtu=1500)
    old, current = (
        next(action.index for action in link.received(when, initiation.datagram, HOME) if type(action) is OpenReceive)
        for when in (1.0, 121.0)
        if (initiation := Initiation(Identity(home), Offer(7, True, 0), ephemeral=os.urandom(32)))
    )
    assert link.status().endpoint is None  # an initiation says nothing
    link.proved(2.0, old, HOME, newest=True)
    link.proved(122.0, current, HOME, newest=True)
    for number, (index, newest) in enumerate([(old, True), (old, False), (current, False)]):
        actions = link.proved(123.0 + number, index, ELSEWHERE, newest=newest)
        assert {type(action) for action in actions} == {Send}  # a confirmation
        assert link.status().endpoint == HOME
    assert PeerMoved(ELSEWHERE) in link.proved(130.0, current, ELSEWHERE, newest=True)
    assert link.status().endpoint == ELSEWHERE


def test_a_response_alone_moves_nothing() -> None:
    cable = Cable()
    cable.network.policy = lambda datagram, _, destination: (
        [] if datagram[0] == wire.TYPE_DATA else [(DELAY, datagram, ELSEWHERE, destination)]
    )
    cable.network.run(60)
    assert cable.home.actions(OpenReceive)
    for host in cable.hosts:
        assert host.link.status().endpoint is None
        assert not host.up
    assert {destination for _, source, destination in cable.network.wire if source == HOME} == {VPS}


@pytest.mark.parametrize("who", ["home", "vps"])
@pytest.mark.parametrize("delay", [0.0001, DELAY, 0.7, 3.0])
def test_an_end_that_moves_is_followed_also_when_both_called_at_once(who: str, delay: float) -> None:
    """Then each end sends on another session, and takes another one for the newest."""
    cable = Cable(**both())
    cable.network.policy = lambda datagram, source, destination: [(delay, datagram, source, destination)]
    cable.network.run(10 + 6 * delay)
    mover, other = (cable.home, cable.vps) if who == "home" else (cable.vps, cable.home)
    mover.address = ELSEWHERE
    mover.send_frame()
    cable.network.run(4 * delay + 0.1)
    assert other.peer == other.link.status().endpoint == ELSEWHERE
    frame = other.send_frame()
    cable.network.run(2 * delay)
    assert frame in mover.heard_frames
