"""The life of a cable on a simulated network: wrong keys, and an attacker on the path."""

import os
from collections.abc import Iterable
from typing import Any

import pytest

from tap2tap.keys import CableKeys
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.actions import (
    CloseReceive,
    OpenReceive,
    PeerMoved,
    Send,
    SendControl,
    Traffic,
    UseForSending,
)
from tap2tap.protocols.secure.control import Goodbye, PathCheck, Probe, pack
from tap2tap.protocols.secure.handshake import FEATURE_CONTROL, Identity, Initiation, Offer
from tap2tap.protocols.secure.link import Link
from tap2tap.protocols.secure.mailbox import Received
from tests.support.simulated import Host
from tests.support.simulated_cable import Cable, both, notes
from tests.support.simulated_ends import ELSEWHERE, HOME, VPS, make_keys, recordings
from tests.support.simulated_network import DELAY, Fate, Network

# Wrong keys.


def with_keys(home: CableKeys, vps: CableKeys, *, both_know: bool = False) -> Cable:
    cable = Cable()
    cable.network = Network()
    cable.vps = Host(cable.network, vps, VPS, remote=HOME if both_know else None)
    cable.home = Host(cable.network, home, HOME, remote=VPS)
    cable.network.run(100)
    return cable


def test_a_wrong_key_file_meets_silence_and_one_line_in_each_log() -> None:
    cable = with_keys(make_keys()[0], make_keys()[1])
    assert {source for _, source, _ in cable.network.wire} == {HOME}
    assert notes(cable.vps) == []  # whoever sorts datagrams says so
    (line,) = notes(cable.home)
    assert "no answer" in line
    assert len(cable.vps.link._sessions) == 0


def test_another_psk_is_another_cable() -> None:
    home, vps = make_keys()
    cable = with_keys(CableKeys(home.private, home.peer, bytes(32)), vps)
    assert {source for _, source, _ in cable.network.wire} == {HOME}


def test_the_same_file_at_both_ends_is_silent() -> None:
    home, _ = make_keys()
    cable = with_keys(home, home, both_know=True)
    assert {datagram[0] for datagram, _, _ in cable.network.wire} == {wire.TYPE_INITIATION}
    for host in cable.hosts:
        assert len(host.link._sessions) == 0


def test_swapped_files_are_simply_the_other_end() -> None:
    home, vps = make_keys()
    assert with_keys(vps, home).works()


def test_strangers_get_no_answer_whatever_they_send() -> None:
    cable = Cable()
    cable.network.run(1)
    genuine = [datagram for datagram, _, _ in cable.network.wire]
    before = len(cable.network.wire)
    opened = len(cable.vps.actions(OpenReceive))
    for length in (0, 1, 3, 4, 23, 24, 35, 36, 37, 83, 84, 85, 99, 100, 101, 1500):
        for kind in range(8):
            cable.network.inject((bytes([kind]) + bytes(3) + os.urandom(1500))[:length], ELSEWHERE, VPS)
    for datagram in genuine:
        for bit in range(0, len(datagram) * 8, 5):
            forged = bytearray(datagram)
            forged[bit // 8] ^= 1 << bit % 8
            cable.network.inject(bytes(forged), ELSEWHERE, VPS)
            cable.network.inject(bytes(forged), ELSEWHERE, HOME)
    cable.network.run(0.5)
    assert len(cable.network.wire) == before
    assert len(cable.vps.actions(OpenReceive)) == opened
    assert not cable.vps.actions(PeerMoved)
    assert cable.works()


# An attacker on the path.


def test_replays_of_everything_change_nothing() -> None:
    cable = Cable()
    cable.network.run(125)  # with a rekey in it
    assert cable.works()
    session = [host.actions(UseForSending) for host in cable.hosts]
    captured = list(cable.network.wire)
    for datagram, _, destination in captured:
        cable.network.inject(datagram, ELSEWHERE, destination)
    cable.network.run(1)
    assert len(cable.network.wire) == len(captured)  # not one answer
    assert [host.actions(UseForSending) for host in cable.hosts] == session
    assert not any(host.actions(PeerMoved) for host in cable.hosts)
    assert cable.works()


def test_everything_reflected_to_its_sender_changes_nothing() -> None:
    cable = Cable(**both())

    def reflect(datagram: bytes, source: Any, destination: Any) -> Iterable[Fate]:
        return [(DELAY, datagram, source, destination), (DELAY / 2, datagram, destination, source)]

    cable.network.policy = reflect
    cable.network.run(300)
    assert cable.works()


def test_a_flood_of_recordings_stops_neither_handshake_nor_rekey_nor_frames() -> None:
    cable = Cable()
    cable.network.hosts.clear()
    old = recordings(cable.keys[0], 3000)  # more than anyone remembers
    at_once = iter(range(1 << 30))

    def flood() -> None:
        for _ in range(10):
            cable.network.inject(old[next(at_once) % len(old)], HOME, VPS)

    network = cable.network
    network.every(0.02, 150, flood)
    cable.vps = Host(network, cable.keys[1], VPS, keepalive=0)
    network.run(2)  # the flood is there before the peer is
    cable.home = Host(network, cable.keys[0], HOME, remote=VPS)
    network.run(1)
    assert cable.works()
    network.every(0.1, 145, cable.home.send_frame)
    network.run(147)
    assert len(cable.vps.heard_frames) == cable.home.sent_frames
    assert [host.link.status().rekeys for host in cable.hosts] == [1, 1]
    assert cable.works()
    assert sum(datagram[0] == wire.TYPE_CHALLENGE for datagram, _, _ in network.wire) > 50_000
    # What the flood cost: two handshakes a second.
    assert len(cable.vps.actions(OpenReceive)) < 2.1 * 150 + 10
    assert len(cable.vps.inbound) <= 24


def test_a_flood_of_few_recordings_is_not_even_answered() -> None:
    cable = Cable()
    cable.network.run(1)
    before = len(cable.network.wire)
    for _ in range(100):
        for recording in recordings(cable.keys[0], 1) * 20:
            cable.network.inject(recording, ELSEWHERE, VPS, cable.network.random.random() * 100)
    cable.network.run(101)
    answers = [one for one in cable.network.wire[before:] if one[2] == ELSEWHERE]
    assert len(answers) <= 100
    assert all(len(datagram) < 100 for datagram, _, _ in answers)
    assert not cable.vps.actions(PeerMoved)
    assert cable.works()


def test_recordings_cannot_push_out_a_session_that_is_about_to_be_proved() -> None:
    """The proof comes six seconds late, the flood meanwhile."""
    cable = Cable()
    cable.network.hosts.clear()
    network = cable.network
    old = recordings(cable.keys[0], 500)
    cable.vps = Host(network, cable.keys[1], VPS, keepalive=0)
    for number, recording in enumerate(old):
        network.inject(recording, ELSEWHERE, VPS, number / 25)
    network.run(3)
    cable.home = Host(network, cable.keys[0], HOME, remote=VPS)
    network.policy = lambda datagram, source, destination: [
        (6.0 if datagram[0] == wire.TYPE_DATA else DELAY, datagram, source, destination)
    ]
    network.run(16)
    assert all(host.up for host in cable.hosts)


def test_an_initiation_held_back_and_played_later_changes_nothing() -> None:
    cable = Cable()
    held: list[bytes] = []

    def hold(datagram: bytes, source: Any, destination: Any) -> Iterable[Fate]:
        if datagram[0] == wire.TYPE_INITIATION and not held:
            held.append(datagram)
            return []
        return [(DELAY, datagram, source, destination)]

    cable.network.policy = hold
    cable.home.restart()
    cable.network.run(30)
    assert cable.works()
    used = [len(host.actions(UseForSending)) for host in cable.hosts]
    cable.network.inject(held[0], ELSEWHERE, VPS)
    cable.network.run(30)
    assert [len(host.actions(UseForSending)) for host in cable.hosts] == used
    assert not cable.vps.actions(PeerMoved)
    assert cable.vps.actions(CloseReceive)  # what was opened for it is gone again
    assert cable.works()


def test_a_proof_that_was_overtaken_does_not_bring_an_older_session_back() -> None:
    home, vps = make_keys()
    link = Link(vps, client=False, candidates=(), keepalive=0, hardware_aes=True, random=os.urandom, mtu=1500)
    opened = []
    for number, recording in enumerate(recordings(home, 2)):
        (one,) = (action for action in link.received(1.0 + number, recording, HOME) if isinstance(action, OpenReceive))
        opened.append(one.index)
    assert any(isinstance(action, UseForSending) for action in link.proved(4.0, opened[1], HOME, newest=True))
    assert not any(isinstance(action, UseForSending) for action in link.proved(5.0, opened[0], HOME, newest=False))
    assert len(link._sessions) == 2  # but it may still be received on


def test_a_challenge_is_answered_once_and_only_if_it_is_for_us() -> None:
    cable = Cable()
    cable.network.policy = lambda *_: []
    cable.home.restart()
    first = cable.network.wire[-1][0]
    challenge = Identity(cable.keys[1]).sign(b"\x03" + first[-16:-13] + b"cookie cookie co", first[-16:])
    link = cable.home.link
    now = cable.network.now + 0.1
    assert link.received(now, challenge[:-1] + bytes([challenge[-1] ^ 1]), VPS) == []
    (send,) = link.received(now, challenge, VPS)
    assert isinstance(send, Send)
    assert send.datagram[4:20] == b"cookie cookie co"
    assert link.received(now, challenge, VPS) == []


def test_no_key_shows_in_actions_or_sessions() -> None:
    cable = Cable()
    cable.network.run(1)
    keys = {action.key for _, action in cable.home.log if isinstance(action, (OpenReceive, UseForSending))}
    assert len(keys) == 2
    shown = repr(cable.home.log) + repr(vars(cable.home.link)) + repr(list(cable.home.link._sessions))
    for key in keys:
        assert repr(key)[2:-1] not in shown


def test_a_data_datagram_given_to_the_link_is_ignored() -> None:
    link = Link(
        make_keys()[0], client=False, candidates=(), keepalive=0, hardware_aes=True, random=os.urandom, mtu=1500
    )
    assert link.start(5.0) == []
    for kind in (0, 4, 5, 6, 255):
        assert link.received(6.0, bytes([kind]) + bytes(99), HOME) == []
    assert link.received(6.0, b"", HOME) == []
    assert link.proved(6.0, 77, HOME, newest=True) == []
    assert link.tick(7.0, Traffic()) == []


# Control datagrams.


@pytest.mark.parametrize("features", [0, FEATURE_CONTROL])
def test_on_a_session_that_is_not_proved_or_has_no_such_feature_nothing_is_answered(features: int) -> None:
    home, vps = make_keys()
    link = Link(vps, client=False, candidates=(), keepalive=0, hardware_aes=True, random=os.urandom, mtu=1500)
    initiation = Initiation(Identity(home), Offer(7, True, 0, 1500, features), ephemeral=os.urandom(32))
    opened = link.received(1.0, initiation.datagram, HOME)
    (index,) = (action.index for action in opened if isinstance(action, OpenReceive))
    questions = [pack(Probe()) + bytes(1000), pack(PathCheck(b"a token!")), pack(Goodbye())]
    for text in questions:
        assert link.control(2.0, Received(index, 20, wire.OVERHEAD + len(text), text[:28])) == []
    actions = link.proved(3.0, index, HOME, newest=True)
    assert any(isinstance(action, SendControl) for action in actions) == bool(features)
    for text in questions:
        actions = link.control(4.0, Received(index, 20, wire.OVERHEAD + len(text), text[:28]))
        assert bool(actions) == bool(features)
    assert link.control(4.0, Received(index + 1, 20, 28, pack(Goodbye()))) == []
