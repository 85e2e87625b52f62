"""An end that was written along docs/protocol.md alone, and ours, on a simulated network."""

import os
from typing import Any

import pytest

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.wire import Cipher
from tests.support.independent_end import End
from tests.support.simulated import Host
from tests.support.simulated_ends import HOME, VPS, make_keys
from tests.support.simulated_network import DELAY, Network

ROLES = pytest.mark.parametrize("we_call", [True, False], ids=["we call", "they call"])


class Pair:
    """Our end at HOME, the other one at VPS. If `we_call`, ours is told where the other is; else it waits."""

    def __init__(
        self, *, we_call: bool = False, ours: bool = True, theirs: bool = True, version: int = 2, mtu: int = 1500
    ) -> None:
        self.network = Network()
        home, vps = make_keys()
        self.address, self.also = VPS, ()
        self.end = End(vps.private, vps.peer, vps.psk, aes=theirs, send=self.send, version=version)
        self.network.hosts.append(self)
        self.host = Host(self.network, home, HOME, remote=VPS if we_call else None, keepalive=0, aes=ours, mtu=mtu)
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


# Version 2.


def joined(*, we_call: bool = False, **settings: Any) -> Pair:
    """A pair whose session is proved at both ends, after the first probes and path checks."""
    pair = Pair(we_call=we_call, **settings)
    if not we_call:
        pair.end.initiate(HOME)
    assert pair.works()
    pair.network.run(6)
    return pair


@ROLES
def test_with_a_version_1_there_are_no_parts_and_no_control_datagrams(we_call: bool) -> None:
    pair = joined(we_call=we_call, version=1)
    pair.network.every(0.2, 130, lambda: pair.host.send_frame(length=15000))
    pair.network.every(0.2, 130, lambda: pair.end.send_frame(os.urandom(15000)))
    pair.network.run(131)  # with a rekey in it
    assert pair.works()
    assert {datagram[0] for datagram, _, _ in pair.network.wire} <= set(range(1, 6))
    assert pair.host.link.status().peer_mtu == 0


@ROLES
def test_each_end_knows_the_others_mtu(we_call: bool) -> None:
    pair = joined(we_call=we_call, mtu=9000)
    assert pair.host.link.status().peer_mtu == 1400
    assert pair.end.current
    assert pair.end.current.peer_mtu == 9000


@ROLES
@pytest.mark.parametrize("kind", [wire.TYPE_DATA, wire.TYPE_DATA_VOUCHED])
def test_long_frames_go_in_parts_both_ways(we_call: bool, kind: int) -> None:
    pair = joined(we_call=we_call)
    pair.network.mtu = 1280
    pair.host.payload = 1252
    before = len(pair.network.wire)
    ours = [pair.host.send_frame(kind, length) for length in (1228, 1229, 1514, 9014, 65000)]
    pair.network.run(2 * DELAY)
    assert pair.end.frames[-5:] == [(kind, frame) for frame in ours]
    theirs = [os.urandom(length) for length in (1229, 1514, 9014)]
    for order in (1, -1):
        for frame in theirs:
            pair.end.send_parts(frame, 1252, kind, order)
        pair.network.run(2 * DELAY)
        assert set(theirs) <= pair.host.heard_frames
        pair.host.heard_frames.clear()
    lengths = {len(each) for each, _, _ in pair.network.wire[before:] if each[0] != wire.TYPE_CONTROL}
    assert max(lengths) <= 1252


def test_their_answers_find_the_path_mtu() -> None:
    pair = Pair(we_call=True)
    pair.network.mtu = 1400
    pair.network.run(5)
    assert pair.host.payload == 1400 - 28


def test_our_answers_are_theirs_to_find_the_path_mtu_with() -> None:
    pair = joined()
    pair.end.told.clear()
    for size in (27, 31, 32, 1000, 1372):
        assert pair.end.current
        pair.end.tell(bytes([1]) + bytes(size - wire.OVERHEAD - 1))
        counter = pair.end.current.sent - 1
        pair.network.run(2 * DELAY)
        answer = bytes([2, 0]) + size.to_bytes(2, "little") + counter.to_bytes(4, "little")
        assert pair.end.told == ([answer] if size >= 32 else [])
        pair.end.told.clear()


def test_there_are_ten_answers_a_second_at_most() -> None:
    pair = joined()
    pair.end.told.clear()
    pair.network.every(0.01, 3, lambda: pair.end.tell(bytes([1]) + bytes(1000)))
    pair.network.every(0.01, 3, lambda: pair.end.tell(b"\5\0\0\0a token!"))
    for second in range(1, 4):
        pair.network.run(1)
        assert len([text for text in pair.end.told if text[0] in (2, 6)]) == 10 * second
    assert pair.works()


def test_a_path_check_is_answered_and_so_is_ours() -> None:
    pair = joined()
    assert pair.host.remembered == VPS  # as the first one was answered
    pair.end.tell(b"\5\0\0\0a token!")
    pair.network.run(2 * DELAY)
    assert pair.end.told[-1] == b"\6\0\0\0a token!"


def test_reports_of_both_are_understood() -> None:
    pair = joined()
    session = pair.end.current
    assert session
    (mine,) = [index.to_bytes(3, "little") for index, each in pair.end.sessions.items() if each is session]
    pair.end.told.clear()

    def exchange() -> None:
        for _ in range(10):
            pair.host.send_frame(length=1000)
            pair.end.send_frame(os.urandom(1000))

    def report() -> None:
        """Half is said to be lost; what was stamped last comes back, and was held for 1 ms."""
        newest = max(session.seen)
        counts = (newest, (newest - 15) // 2, 0, 77)
        stamp = next((int.from_bytes(text[16:20], "little") for text in reversed(pair.end.told) if text[0] == 3), 0)
        pair.end.tell(b"\3" + mine + b"".join(each.to_bytes(4, "little") for each in (*counts, stamp, 1000)))

    pair.network.every(0.1, 10, exchange)
    pair.network.after(3, report)
    pair.network.after(9.9, report)
    pair.network.run(10)
    reports = [text for text in pair.end.told if text[0] == 3]
    assert 5 <= len(reports) <= 10
    assert all(len(text) == 28 for text in reports)
    assert {text[1:4] for text in reports} == {session.index.to_bytes(3, "little")}
    newest, accepted, late, _, echo, _ = (int.from_bytes(reports[-1][at : at + 4], "little") for at in range(4, 28, 4))
    assert late == 0
    assert newest - 15 == accepted
    assert accepted > 900
    assert echo == 77
    status = pair.host.link.status()
    assert 0.3 < status.loss_out < 0.7
    assert status.loss_in == 0
    assert status.round_trip > 2 * DELAY - 0.002


@ROLES
def test_their_goodbye_is_obeyed_in_silence(we_call: bool) -> None:
    pair = joined(we_call=we_call)
    pair.end.tell(b"\4\0\0\0")
    done = len(pair.network.wire)
    pair.network.run(0.5)
    assert not pair.host.up
    assert not pair.host.inbound
    assert len(pair.network.wire) == done


@ROLES
def test_our_goodbye_is_understood(we_call: bool) -> None:
    pair = joined(we_call=we_call)
    pair.host.leave()
    pair.network.run(0.5)
    assert not pair.end.sessions
    assert pair.end.told[-1] == b"\4\0\0\0"
