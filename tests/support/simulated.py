"""The two ends of a cable, simulated.

A `Host` is what link process and workers are to a `Link`: it carries out actions, seals and opens frames. Its link
process may be stopped; its workers then go on with the orders that they have, and for as long as those say. What must
always hold is asserted: no frame arrives that the peer did not send, or that has arrived before.
"""

import ipaddress
import os

from cryptography.exceptions import InvalidTag

from tap2tap.endpoint import Endpoint
from tap2tap.keys import CableKeys, public_key
from tap2tap.protocols.secure import limits, wire
from tap2tap.protocols.secure.actions import (
    NEVER,
    Action,
    CloseReceive,
    Note,
    OpenReceive,
    PeerDown,
    PeerMoved,
    PeerUp,
    Send,
    SendKeepalive,
    StopSending,
    Traffic,
    UseForSending,
)
from tap2tap.protocols.secure.handshake import NO_COOKIE, Identity, Initiation, Offer
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS, SAME_AGE, Timers
from tap2tap.protocols.secure.link import Link
from tap2tap.protocols.secure.sealing import aead
from tap2tap.protocols.secure.sessions import ROOM
from tap2tap.protocols.secure.states import SessionState
from tests.support.datagrams import take_apart
from tests.support.simulated_network import Network

MAX_SESSIONS = limits.ROOM_ANSWERED + limits.ROOM_ANSWERED_FRESH + limits.ROOM_STARTED + limits.ROOM_PROVED


def at(address: str, port: int = 1234) -> Endpoint:
    return Endpoint(ipaddress.ip_address(address), port)


HOME, VPS, ELSEWHERE = at("192.0.2.1"), at("198.51.100.1"), at("203.0.113.66")


def make_keys() -> tuple[CableKeys, CableKeys]:
    one, other, psk = os.urandom(32), os.urandom(32), os.urandom(32)
    return CableKeys(one, public_key(other), psk), CableKeys(other, public_key(one), psk)


def recordings(sender: CableKeys, count: int, cookie: bytes = NO_COOKIE) -> list[bytes]:
    """Genuine initiations, as many as an attacker on the path had the patience to collect."""
    identity = Identity(sender)
    offers = (Offer(number + 1, True, 25) for number in range(count))
    return [Initiation(identity, offer, ephemeral=os.urandom(32), cookie=cookie).datagram for offer in offers]


class Inbound:
    """What an inbound worker keeps of one session."""

    def __init__(self, action: OpenReceive) -> None:
        self.cipher, self.aead, self.until = action.cipher, aead(action.cipher, action.key), action.until
        self.counters: set[int] = set()  # that were accepted
        self.newest = -1
        self.proved = False

    def fresh(self, counter: int) -> bool:
        return counter > self.newest - 64 and counter not in self.counters

    def accept(self, counter: int) -> None:
        self.counters.add(counter)
        self.newest = max(self.newest, counter)


class Host:
    """One end, at `address`, which may change."""

    def __init__(
        self,
        network: Network,
        keys: CableKeys,
        address: Endpoint,
        *,
        remote: Endpoint | None = None,
        keepalive: int = 25,
        aes: bool = True,
        timers: Timers | None = None,
        sampled: bool = False,
    ) -> None:
        """`sampled`: what the workers did is known by the time of the next tick only, not by its own."""
        self.sampled = sampled
        self.network, self.keys, self.address = network, keys, address
        self.remote, self.keepalive, self.aes, self.timers = remote, keepalive, aes, timers
        self.log: list[tuple[float, Action]] = []
        self.sent_frames = 0
        self.heard_frames: set[bytes] = set()
        self.lost_without_session = 0
        self.ticks = 0
        self.stopped = False  # the link process
        network.hosts.append(self)
        self.restart()

    def restart(self) -> None:
        """As when the tunnel is killed and started again: nothing survives but the key file."""
        self.link = Link(
            self.keys,
            remote=self.remote,
            keepalive=self.keepalive,
            hardware_aes=self.aes,
            random=self.network.random.randbytes,
            timers=self.timers,
        )
        self.inbound: dict[int, Inbound] = {}
        self.outbound: UseForSending | None = None
        self.counter = 0
        self.up = False
        self.peer = self.remote  # where frames go
        self.ticked = self.last_sent = self.last_heard = self.last_frame_sent = self.last_frame_heard = NEVER
        self.act(self.link.start(self.network.now))

    def act(self, actions: list[Action]) -> None:
        now = self.network.now
        for action in actions:
            self.log.append((now, action))
            match action:
                case Send(datagram, endpoint):
                    if datagram[0] == wire.TYPE_DATA:
                        _, index, counter = take_apart(datagram)
                        assert counter < CONTROL_COUNTERS
                        self.network.use_nonce(self.link, index, counter)
                        self.last_sent = now
                    self.network.send(datagram, self.address, endpoint)
                case OpenReceive():
                    assert action.index not in self.inbound
                    self.inbound[action.index] = Inbound(action)
                    assert len(self.inbound) <= MAX_SESSIONS + 1  # one may be closed right after
                case CloseReceive(index):
                    del self.inbound[index]
                case UseForSending():
                    self.outbound, self.counter = action, CONTROL_COUNTERS
                case StopSending():
                    self.outbound = None
                case SendKeepalive():
                    assert self.seal(b"")
                case PeerUp(endpoint):
                    assert not self.up
                    assert endpoint == self.peer
                    self.up = True
                case PeerMoved(endpoint):
                    assert self.up
                    assert endpoint == self.peer
                case PeerDown():
                    assert self.up
                    self.up = False
                case Note():
                    pass
        self.check()

    def check(self) -> None:
        """What the link takes for true is what it has told: the states of its sessions and of the peer."""
        assert self.up == (self.link.status().state == "up")
        open_ = list(self.link._sessions)
        assert {session.index for session in open_} == set(self.inbound)
        sealing = [session.keys.send for session in open_ if session.state is SessionState.CURRENT]
        assert sealing == ([self.outbound.key] if self.outbound else [])
        for state, room in ROOM.items():
            assert sum(session.state is state for session in open_) <= room + (state is SessionState.PROVED)

    def deadline(self) -> float:
        return float("inf") if self.stopped else self.link.next_deadline()

    def tick(self) -> None:
        if self.stopped:
            return
        self.ticks += 1
        if self.sampled:
            now, before = self.network.now, self.ticked
            self.last_sent, self.last_frame_sent, self.last_frame_heard = (
                now if when > before else when for when in (self.last_sent, self.last_frame_sent, self.last_frame_heard)
            )
            self.ticked = now
        traffic = Traffic(
            self.last_sent, self.last_heard, self.last_frame_sent, self.last_frame_heard, self.counter, self.peer
        )
        self.act(self.link.tick(self.network.now, traffic))
        assert self.link.next_deadline() > self.network.now  # or a link process would spin

    def seal(self, frame: bytes, kind: int = wire.TYPE_DATA) -> bool:
        """Send a frame, or a keepalive if it is empty; False without a session."""
        if self.outbound is None or self.peer is None or self.network.now >= self.outbound.until:
            self.lost_without_session += bool(frame)
            return False
        one = self.outbound
        self.network.use_nonce(self.link, one.index, self.counter)
        header = wire.header(kind, one.index, self.counter)
        sealed = aead(one.cipher, one.key).encrypt(wire.nonce(one.cipher, self.counter), frame, header)
        self.counter += 1
        self.last_sent = self.network.now
        if frame:
            self.last_frame_sent = self.network.now
        self.network.send(header + sealed, self.address, self.peer)
        return True

    def send_frame(self, kind: int = wire.TYPE_DATA) -> bytes:
        frame = b"%d from %d" % (self.sent_frames, id(self))
        self.sent_frames += 1
        self.seal(frame, kind)
        return frame

    def deliver(self, datagram: bytes, source: Endpoint) -> None:
        if datagram and datagram[0] in wire.HANDSHAKE_TYPES:
            if not self.stopped:
                self.act(self.link.received(self.network.now, datagram, source))
            return
        if len(datagram) < wire.OVERHEAD:
            return
        _, index, counter = take_apart(datagram)
        session = self.inbound.get(index)
        if session is None or self.network.now >= session.until or not session.fresh(counter):
            return
        try:
            frame = session.aead.decrypt(wire.nonce(session.cipher, counter), datagram[8:], datagram[:8])
        except InvalidTag:
            return
        session.accept(counter)
        first, session.proved = not session.proved, True
        latest = max(one.until for one in self.inbound.values() if one.proved)
        newest = session.newest == counter and session.until >= latest - SAME_AGE
        self.last_heard = self.network.now
        if newest:
            self.peer = source
        if frame:
            self.last_frame_heard = self.network.now
            assert frame not in self.heard_frames
            assert not frame.endswith(b" %d" % id(self))
            self.heard_frames.add(frame)
        if (first or counter < CONTROL_COUNTERS) and not self.stopped:
            self.act(self.link.proved(self.network.now, index, source, newest=newest))

    def actions(self, kind: type) -> list[tuple[float, Action]]:
        return [(when, action) for when, action in self.log if isinstance(action, kind)]
