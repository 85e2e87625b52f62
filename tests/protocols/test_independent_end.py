"""An end that was written along docs/protocol.md alone, and ours, on a simulated network."""

import os
from typing import Any

import pytest

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.wire import Cipher
from tests.support.independent_end import End
from tests.support.simulated import HOME, VPS, Host, make_keys
from tests.support.simulated_network import DELAY, Network

ROLES = pytest.mark.parametrize("we_call", [True, False], ids=["we call", "they call"])


class Pair:
    """Our end at HOME, the other one at VPS. If `we_call`, ours is told where the other is; else it waits."""

    def __init__(self, *, we_call: bool = False, ours: bool = True, theirs: bool = True) -> None:
        self.network = Network()
        home, vps = make_keys()
        self.address = VPS
        self.end = End(vps.private, vps.peer, vps.psk, aes=theirs, send=self.send)
        self.network.hosts.append(self)
        self.host = Host(self.network, home, HOME, remote=VPS if we_call else None, keepalive=0, aes=ours)
        self.count = 0

    # What a network wants of a host.

    def send(self, datagram: bytes, where: Any) -> None:
        self.network.send(datagram, VPS, where)

    def deliver(self, datagram: bytes, source: Endpoint) -> None:
        self.end.receive(datagram, source)

    def deadline(self) -> float:
        return float("inf")

    def tick(self) -> None:
        pass

    def works(self) -> bool:
        """Tell whether frames of both types go through in both directions, and a keepalive from there is heard."""
        self.network.run(10 * DELAY)
        ours, theirs = [], []
        for kind in (wire.TYPE_DATA, wire.TYPE_DATA_VOUCHED):
            self.count += 1
            theirs.append(b"frame %d of theirs" % self.count)
            self.end.send_frame(theirs[-1], kind)
            ours.append((kind, self.host.send_frame(kind)))
        self.end.send_frame(b"")
        self.network.run(5 * DELAY)
        arrived = set(theirs) <= self.host.heard_frames and self.end.frames[-2:] == ours
        return self.host.up and arrived and self.host.last_heard > self.network.now - 5 * DELAY


@ROLES
@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("theirs", [True, False])
def test_a_handshake_in_either_role_and_with_either_cipher(we_call: bool, ours: bool, theirs: bool) -> None:
    pair = Pair(we_call=we_call, ours=ours, theirs=theirs)
    if not we_call:
        pair.end.initiate(HOME)
    assert pair.works()
    assert pair.host.link.status().cipher == (Cipher.AES_256_GCM if ours and theirs else Cipher.CHACHA20_POLY1305)
    kinds = [datagram[0] for datagram, _, _ in pair.network.wire]
    assert kinds[:4] == [wire.TYPE_INITIATION, wire.TYPE_RESPONSE, wire.TYPE_DATA, wire.TYPE_DATA]


@ROLES
@pytest.mark.parametrize("we_renew", [True, False], ids=["we renew", "they renew"])
def test_a_rekey_by_either_end_loses_nothing(we_call: bool, we_renew: bool) -> None:
    pair = Pair(we_call=we_call)
    if not we_call:
        pair.end.initiate(HOME)
    pair.network.run(1)
    pair.network.every(0.5, 300, pair.host.send_frame)
    pair.network.every(0.5, 300, lambda: pair.end.send_frame(os.urandom(16)))
    for number in range(1, 6):
        if not we_renew:
            pair.network.after(50 * number, lambda: pair.end.initiate(HOME))
    pair.network.run(301)
    assert pair.works()
    assert pair.host.link.status().rekeys == (2 if we_renew else 5)
    assert len(pair.host.heard_frames) == 600 + 2
    assert len(pair.end.frames) == 600 + 2


def test_a_frame_proves_a_session_as_a_confirmation_does() -> None:
    pair = Pair(we_call=True)
    calm = pair.network.policy
    pair.network.policy = lambda datagram, source, destination: (
        [] if source == VPS and len(datagram) == wire.OVERHEAD else calm(datagram, source, destination)
    )
    pair.network.run(5 * DELAY)
    assert pair.end.current is not None
    assert not pair.host.up
    pair.end.send_frame(b"a frame")
    pair.network.run(2 * DELAY)
    assert pair.host.up
    pair.network.policy = calm
    assert pair.works()


def test_their_challenge_is_answered() -> None:
    pair = Pair(we_call=True)
    pair.network.run(0)  # the first initiation is on its way
    pair.end.demands = b"what they demand"
    assert pair.works()
    initiations = [datagram for datagram, _, _ in pair.network.wire if wire.is_initiation(datagram)]
    assert [datagram[4:20] for datagram in initiations] == [bytes(16), b"what they demand"]


def test_they_answer_our_challenge() -> None:
    pair = Pair()
    for _ in range(10):  # recordings, which leave nothing of the budget
        pair.network.inject(pair.end.initiation(HOME), VPS, HOME)
    pair.end.waiting.clear()
    pair.network.run(0)
    pair.end.initiate(HOME)
    assert pair.works()
    assert pair.end.cookie != bytes(16)
    assert sum(datagram[0] == wire.TYPE_CHALLENGE for datagram, _, _ in pair.network.wire) == 5 + 1
