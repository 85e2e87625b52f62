"""The life of a cable on a simulated network: the good days."""

from typing import Any

import pytest

from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.actions import PeerDown, PeerUp
from tap2tap.protocols.secure.limits import Timers
from tap2tap.protocols.secure.wire import Cipher
from tests.support.simulated import Host
from tests.support.simulated_cable import Cable, both
from tests.support.simulated_ends import HOME, VPS, make_keys
from tests.support.simulated_network import DELAY, Network

TIMERS = Timers()


def test_a_handshake_takes_two_round_trips_until_both_ends_send() -> None:
    cable = Cable()
    cable.network.run(5 * DELAY)
    assert cable.works()
    assert [datagram[0] for datagram, _, _ in cable.network.wire[:4]] == [
        wire.TYPE_INITIATION,
        wire.TYPE_RESPONSE,
        wire.TYPE_DATA,
        wire.TYPE_DATA,
    ]
    assert [action for _, action in cable.home.actions(PeerUp)] == [PeerUp(VPS)]
    assert [action for _, action in cable.vps.actions(PeerUp)] == [PeerUp(HOME)]
    for host in cable.hosts:
        status = host.link.status()
        assert (status.state, status.cipher, len(host.link._sessions)) == ("up", Cipher.AES_256_GCM, 1)
        assert status.rekeys == 0


@pytest.mark.parametrize("weak", ["home", "vps"])
def test_without_hardware_aes_at_one_end_it_is_chacha(weak: str) -> None:
    cable = Cable(**{weak: {"aes": False}})  # type: ignore[arg-type]
    cable.network.run(1)
    assert cable.works()
    assert {host.link.status().cipher for host in cable.hosts} == {Cipher.CHACHA20_POLY1305}


def test_an_end_that_knows_no_remote_waits_without_a_sound() -> None:
    network = Network()
    vps = Host(network, make_keys()[1], VPS)
    network.run(1000)
    assert network.wire == []
    assert vps.ticks == 1  # the simulation's own, at the end
    assert vps.link.next_deadline() == float("inf")


@pytest.mark.parametrize("delay", [0.0001, DELAY, 0.7, 3.0])
def test_both_at_once_converge(delay: float) -> None:
    cable = Cable(
        **both(), seed=1
    )  # chance ends it, and on a path as slow as the jitter is wide not soon with every seed
    cable.network.policy = lambda datagram, source, destination: [(delay, datagram, source, destination)]
    cable.network.run(20 + 6 * delay)
    assert all(host.up for host in cable.hosts)
    rekeys = [host.link.status().rekeys for host in cable.hosts]
    # Later, one of them is the one that renews: not both, every time.
    cable.network.run(1200)
    done = [host.link.status().rekeys - before for host, before in zip(cable.hosts, rekeys, strict=True)]
    assert all(9 <= count <= 12 for count in done)
    assert all(len(host.actions(PeerUp)) == 1 for host in cable.hosts)


@pytest.mark.parametrize("timers", [None, Timers(rekey_after=1.0)], ids=["120 s", "1 s"])
@pytest.mark.parametrize("ends", [{}, both()], ids=["one knows where", "both know where"])
def test_rekeys_lose_nothing(timers: Timers | None, ends: dict[str, Any]) -> None:
    ends = {end: {**ends.get(end, {}), "timers": timers} for end in ("home", "vps")}
    cable = Cable(**ends)
    cable.network.run(1)
    seconds = 400 if timers is None else 40
    for host in cable.hosts:
        cable.network.every(seconds / 4000, seconds, host.send_frame)
    cable.network.run(seconds + 1)
    assert cable.home.sent_frames == cable.vps.sent_frames >= 3999
    assert len(cable.home.heard_frames) == cable.vps.sent_frames
    assert len(cable.vps.heard_frames) == cable.home.sent_frames
    least = 3 if timers is None else 30
    assert all(host.link.status().rekeys >= least for host in cable.hosts)
    assert all(len(host.link._sessions) <= (4 if timers is None else 8) for host in cable.hosts)


def test_the_responder_rekeys_when_the_initiator_does_not() -> None:
    cable = Cable()
    cable.network.run(1)
    cable.network.policy = lambda datagram, source, destination: (
        [] if datagram[0] == wire.TYPE_INITIATION and source == HOME else [(DELAY, datagram, source, destination)]
    )
    cable.network.run(140)
    assert cable.works()
    assert all(host.link.status().rekeys == 1 for host in cable.hosts)


def test_many_messages_ask_for_a_rekey() -> None:
    cable = Cable(home={"timers": Timers(rekey_messages=500)}, vps={"timers": Timers(rekey_messages=500)})
    cable.network.run(1)
    cable.network.every(0.05, 60, cable.vps.send_frame)
    cable.network.run(61)
    # Only the responder sends much, so it goes first, at twice the count.
    assert [host.link.status().rekeys for host in cable.hosts] == [1, 1]
    assert len(cable.home.heard_frames) == cable.vps.sent_frames


def test_idle_ends_send_little_and_wake_up_seldom() -> None:
    cable = Cable()
    cable.network.run(10)
    sent = len(cable.network.wire)
    cable.network.run(3600)
    datagrams = cable.network.wire[sent:]
    assert sum(datagram[0] == wire.TYPE_INITIATION for datagram, _, _ in datagrams) in (29, 30)
    assert len(datagrams) < 2 * 3600 / 25 + 30 * 5
    assert all(host.ticks < 3600 / TIMERS.poll * 1.1 for host in cable.hosts)
    assert all(len(host.actions(PeerUp)) == 1 and not host.actions(PeerDown) for host in cable.hosts)


def test_a_session_dies_at_180_seconds_and_its_keys_are_forgotten() -> None:
    cable = Cable()
    cable.network.run(1)
    cable.network.policy = lambda *_: []
    cable.network.run(185)
    for host in cable.hosts:
        assert host.inbound == {}
        assert host.outbound is None
        assert len(host.link._sessions) == 0
        assert host.link.status().cipher is None
