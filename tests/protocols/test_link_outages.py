"""The life of a cable on a simulated network: loss, restarts, outages, moves."""

import itertools
from typing import Any

import pytest

from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.actions import PeerDown, PeerMoved, PeerUp, Send, SendControl
from tap2tap.protocols.secure.control import Kind
from tests.support.simulated_cable import Cable, both, notes, times
from tests.support.simulated_ends import ELSEWHERE, VPS
from tests.support.simulated_network import DELAY, Network


def test_initiations_are_repeated_with_patience_and_a_fresh_key_each() -> None:
    cable = Cable()
    cable.network.policy = lambda *_: []
    cable.home.log.clear()
    cable.network.run(60)
    sends = times(cable.home, Send)
    gaps = [later - earlier for earlier, later in itertools.pairwise(sends)]
    least = (0.5, 1, 2, 4, 5, 5)
    assert all(low <= gap < low + min(low, 1) / 3 + 0.01 for gap, low in zip(gaps[:6], least, strict=True))
    assert 12 <= len(sends) <= 15
    keys = {datagram[20:52] for datagram, _, _ in cable.network.wire}
    assert len(keys) == len(cable.network.wire)
    assert len([note for note in notes(cable.home) if "no answer" in note]) == 1
    assert cable.home.link.status().state == "handshake"
    cable.network.run(3600)
    assert len(times(cable.home, Send)) > 600  # for ever
    cable.network.policy = Network().policy
    cable.network.run(6)
    assert cable.works()


def test_a_lost_response_proof_or_confirmation_is_made_up_for() -> None:
    for lost in range(4):
        cable = Cable()
        dropped: list[bytes] = []

        def drop(datagram: bytes, source: Any, destination: Any, lost: int = lost, dropped: Any = dropped) -> Any:
            dropped.append(datagram)
            return [] if len(dropped) == lost else [(DELAY, datagram, source, destination)]

        cable.network.policy = drop
        cable.network.run(2)
        assert cable.works()


@pytest.mark.parametrize("who", ["home", "vps"])
def test_an_end_that_restarts_comes_back(who: str) -> None:
    cable = Cable()
    cable.network.run(50)
    getattr(cable, who).restart()
    cable.network.run(37 if who == "vps" else 1)  # vps cannot ask; home notices that a keepalive is late
    assert cable.works()


@pytest.mark.parametrize("sampled", [False, True])
def test_frames_without_an_echo_find_a_restarted_peer_sooner(sampled: bool) -> None:
    cable = Cable(home={"keepalive": 0, "sampled": sampled})
    cable.network.run(50)
    cable.vps.restart()
    cable.network.every(0.5, 30, cable.home.send_frame)
    cable.network.run(20)
    assert cable.works()


@pytest.mark.parametrize("sampled", [False, True])
def test_when_a_conversation_ends_nothing_follows_but_a_keepalive(sampled: bool) -> None:
    ends = {"keepalive": 0, "sampled": sampled}
    cable = Cable(home=ends, vps=ends)
    cable.network.run(5)
    before = len(cable.network.wire)
    for step in range(40):
        cable.network.after(step * 0.1, cable.home.send_frame)
        cable.network.after(step * 0.1 + 0.03, cable.vps.send_frame)
    cable.network.run(60)
    assert len(cable.network.wire) <= before + 80 + 2


def test_a_few_small_frames_are_not_reported_on_in_a_new_session_either() -> None:
    cable = Cable()
    cable.network.run(125)
    assert cable.home.link.status().rekeys == 1
    assert cable.works()
    cable.network.run(5)
    for host in cable.hosts:
        sent = [action.text[0] for _, action in host.actions(SendControl) if isinstance(action, SendControl)]
        assert Kind.REPORT not in sent


def test_one_frame_after_a_long_silence_is_no_reason_for_a_handshake() -> None:
    cable = Cable(home={"keepalive": 0})
    cable.network.run(60)
    before = len(cable.network.wire)
    cable.home.send_frame()
    cable.network.run(30)
    assert len(cable.network.wire) == before + 2  # the frame, and the keepalive that says it was heard


@pytest.mark.parametrize("sampled", [False, True])
def test_frames_in_one_direction_are_answered_with_keepalives_not_handshakes(sampled: bool) -> None:
    cable = Cable(home={"keepalive": 0, "sampled": sampled}, vps={"sampled": sampled})
    cable.network.run(1)
    cable.network.every(0.1, 100, cable.home.send_frame)
    cable.network.run(100)
    assert sum(datagram[0] == wire.TYPE_INITIATION for datagram, _, _ in cable.network.wire) == 1
    from_vps = [
        datagram for datagram, source, _ in cable.network.wire if (source, datagram[0]) == (VPS, wire.TYPE_DATA)
    ]
    assert 8 <= len(from_vps) <= 13


def test_a_dead_peer_is_noticed_and_its_return_too() -> None:
    cable = Cable()
    cable.network.run(100)
    policy, cable.network.policy = cable.network.policy, lambda *_: []
    died = cable.network.now
    cable.network.run(80)
    for host in cable.hosts:
        (down,) = times(host, PeerDown)
        assert 20 <= down - died <= 2.5 * 25 + 5 + 3
        assert host.link.status().state in ("down", "handshake")
    cable.network.policy = policy
    cable.network.run(6)
    assert cable.works()
    assert all(len(host.actions(PeerUp)) == 2 for host in cable.hosts)


def test_without_keepalives_failing_handshakes_tell() -> None:
    cable = Cable(home={"keepalive": 0})
    cable.network.run(100)
    cable.network.policy = lambda *_: []
    cable.network.run(80)
    (down,) = times(cable.home, PeerDown)
    assert 1000 + 120 + 40 <= down <= 1000 + 123 + 45


def test_a_short_outage_needs_no_handshake_to_be_over_and_a_long_one_does() -> None:
    cable = Cable(**both(keepalive=2))
    network, policy = cable.network, cable.network.policy
    for seconds, works in ((30, True), (60, False)):
        network.run(10)
        network.policy = lambda *_: []
        network.run(seconds)
        assert [host.up for host in cable.hosts] == [works, works]
        network.policy = lambda datagram, source, destination: (
            [] if datagram[0] in wire.HANDSHAKE_TYPES else policy(datagram, source, destination)
        )
        network.run(5)
        assert cable.works() == works
    network.policy = policy
    network.run(2)
    assert cable.works()
    assert all(len(host.actions(PeerUp)) == 2 for host in cable.hosts)


def test_a_peer_that_moves_is_followed() -> None:
    cable = Cable()
    cable.network.run(10)
    cable.home.address = ELSEWHERE
    cable.home.send_frame()
    cable.network.run(3)
    assert [action for _, action in cable.vps.actions(PeerMoved)] == [PeerMoved(ELSEWHERE)]
    assert cable.works()
    assert not cable.home.actions(PeerMoved)
    cable.network.run(200)  # the next handshake goes there too
    assert cable.works()


def test_a_remote_with_a_new_address_is_found() -> None:
    """As with dynamic DNS: the supervisor resolves the name again."""
    cable = Cable()
    cable.network.run(10)
    cable.vps.address = ELSEWHERE
    cable.vps.restart()  # so it does not know us, and cannot tell us itself
    cable.home.act(cable.home.link.move(cable.network.now, (ELSEWHERE,)))
    cable.network.run(60)
    assert cable.works()
    assert PeerMoved(ELSEWHERE) in [action for _, action in cable.home.actions(PeerMoved)]


def test_a_learnt_endpoint_is_not_pestered_for_ever() -> None:
    cable = Cable()
    cable.network.run(10)
    cable.home.address = ELSEWHERE  # and never speaks again
    cable.home.act(cable.home.link.move(cable.network.now, ()))
    cable.network.hosts.remove(cable.home)
    cable.network.run(400)
    sent = len(cable.network.wire)
    cable.network.run(400)
    assert len(cable.network.wire) == sent
    assert cable.vps.link.status().state == "down"
    assert cable.vps.link.next_deadline() == float("inf")
