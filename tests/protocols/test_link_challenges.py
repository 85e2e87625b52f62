"""The life of a cable on a simulated network: recordings played at any time, challenges, and initiations that wait."""

import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure import handshake, wire
from tap2tap.protocols.secure.actions import OpenReceive, Send, Traffic
from tap2tap.protocols.secure.handshake import Answer, Identity, Received
from tap2tap.protocols.secure.link import Link
from tap2tap.protocols.secure.wire import Cipher
from tests.support.simulated import Host
from tests.support.simulated_cable import Cable
from tests.support.simulated_ends import ELSEWHERE, HOME, VPS, make_keys, recordings
from tests.support.simulated_network import DELAY

AFTER = [3.011, 3.012, 3.013, 3.014, *(3.015 + step / 2 for step in range(1, 6))]
BEFORE = [0.1 * number for number in range(8)]


@settings(max_examples=30)
@given(times=st.lists(st.floats(0, 12), max_size=60), lateness=st.floats(0, 4))
@example(times=AFTER, lateness=3.0)  # as many as the budget allows, as soon as the peer has called
@example(times=BEFORE, lateness=3.0)  # few, and slowly: every place is taken, and the budget is whole
def test_recordings_many_or_few_early_or_late_keep_nobody_out(times: list[float], lateness: float) -> None:
    """The peer calls after three seconds, and its proofs are late: what it is about to prove is not pushed out."""
    cable = Cable()
    cable.network.hosts.clear()
    network = cable.network
    cable.vps = Host(network, cable.keys[1], VPS, keepalive=0)
    for recording, when in zip(recordings(cable.keys[0], len(times)), times, strict=True):
        network.inject(recording, ELSEWHERE, VPS, when)
    network.policy = lambda datagram, source, destination: [
        (DELAY + lateness * (datagram[0] == wire.TYPE_DATA and source == HOME), datagram, source, destination)
    ]
    network.run(3)
    cable.home = Host(network, cable.keys[0], HOME, remote=VPS)
    network.run(lateness + 6 * DELAY)  # with a challenge, if need be
    assert all(host.up for host in cable.hosts)


def test_endless_challenges_draw_one_more_initiation_for_each_attempt() -> None:
    """As from two responders behind one address, of which each knows its own cookies only."""
    cable = Cable()
    identity = Identity(cable.keys[1])
    network = cable.network

    def challenge(datagram: bytes, source: Endpoint) -> None:
        network.send(handshake.challenge(identity, datagram, os.urandom(16)), VPS, source)

    cable.vps.deliver = challenge  # type: ignore[method-assign]
    network.run(60)
    assert {datagram[0] for datagram, _, _ in network.wire} == {wire.TYPE_INITIATION, wire.TYPE_CHALLENGE}
    sent = [datagram for datagram, source, _ in network.wire if source == HOME]
    assert 20 < len(sent) <= 2 * 17  # 17 by the clock
    assert sum(datagram[4:20] != bytes(16) for datagram in sent) > len(sent) / 2


def test_the_initiation_that_carries_a_cookie_has_an_ephemeral_key_of_its_own() -> None:
    """Its keys do not depend on the cookie, so with the key of the one before it would seal twice with one nonce."""
    cable = Cable()
    cable.network.hosts.clear()
    network = cable.network
    cable.vps = Host(network, cable.keys[1], VPS, keepalive=0)
    for recording in recordings(cable.keys[0], 10):
        network.inject(recording, ELSEWHERE, VPS)
    network.wire.clear()
    cable.home = Host(network, cable.keys[0], HOME, remote=VPS)
    network.run(1)
    assert cable.works()
    first, second = (each for each, source, _ in network.wire if source == HOME and wire.is_initiation(each))
    assert first[4:20] == handshake.NO_COOKIE != second[4:20]
    assert first[20:52] != second[20:52]


def alone(link: Link, now: float, until: float) -> list[bytes]:
    """Start a link and let time pass; returns the datagrams that it sends."""
    actions = link.start(now)
    while (now := link.next_deadline()) < until:
        actions += link.tick(now, Traffic())
    return [action.datagram for action in actions if isinstance(action, Send)]


@pytest.mark.parametrize(("age", "taken"), [(9.9, True), (10.1, False)])
def test_a_response_is_accepted_for_ten_seconds_however_many_initiations_followed(age: float, taken: bool) -> None:
    home, vps = make_keys()
    link = Link(home, client=True, candidates=(VPS,), keepalive=0, hardware_aes=True, random=os.urandom, mtu=1500)
    sent = alone(link, 100.0, 100.0 + age)
    assert len(sent) == 6
    received = Received(Identity(vps), sent[0])
    response, _ = received.respond(Answer(5, Cipher.AES_256_GCM, 0), ephemeral=os.urandom(32))
    actions = link.received(100.0 + age, response, VPS)
    assert any(isinstance(action, OpenReceive) for action in actions) == taken
