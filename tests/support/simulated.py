"""The two ends of a cable, simulated.

A `Host` is what link process and workers are to a `Link`: it carries out actions, seals and opens frames. Its link
process may be stopped; its workers then go on with the orders that they have, and for as long as those say. What must
always hold is asserted: no frame arrives that the peer did not send, or that has arrived before; nothing but handshakes
is sent before the peer has proved a session; no answer is longer than what it answers.
"""

from collections.abc import Sequence

from cryptography.exceptions import InvalidTag

from tap2tap.endpoint import Endpoint
from tap2tap.keys import CableKeys
from tap2tap.protocols.secure import mailbox, wire
from tap2tap.protocols.secure.actions import (
    NEVER,
    Action,
    CloseReceive,
    OpenReceive,
    PathMtu,
    PeerAt,
    PeerDown,
    PeerMoved,
    PeerUp,
    Received,
    Remember,
    Send,
    SendControl,
    SendKeepalive,
    SendTrains,
    StopSending,
    Traffic,
    UseForSending,
)
from tap2tap.protocols.secure.control import LONGEST, Kind
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS, SAME_AGE, Timers
from tap2tap.protocols.secure.link import Link
from tests.support.datagrams import take_apart
from tests.support.simulated_network import Network, choose_source
from tests.support.simulated_worker import MAX_SESSIONS, Inbound, Outbound, arriving, check_sessions


class Host:
    """One end, at `address`, which may change, and `also` at these; with several it is told which one was called."""

    def __init__(
        self,
        network: Network,
        keys: CableKeys,
        address: Endpoint,
        *,
        also: Sequence[Endpoint] = (),
        remote: Endpoint | None = None,
        others: Sequence[Endpoint] = (),
        keepalive: int = 25,
        aes: bool = True,
        mtu: int = 1500,
        timers: Timers | None = None,
        sampled: bool = False,
    ) -> None:
        """`remote` and `others` are where the peer is configured to be.

        `sampled`: what the workers did is known by the time of the next tick only, not by its own.
        """
        self.sampled = sampled
        self.network, self.keys, self.address, self.also = network, keys, address, also
        self.remote, self.others = remote, others
        self.keepalive, self.aes, self.mtu, self.timers = keepalive, aes, mtu, timers
        self.remembered: Endpoint | None = None  # in a file
        self.log: list[tuple[float, Action]] = []
        self.sent_frames = 0
        self.heard_frames: set[bytes] = set()
        self.ticks = 0
        self.stopped = False  # the link process
        self.asleep = False  # the machine
        network.hosts.append(self)
        self.restart()

    def restart(self) -> None:
        """As when the tunnel is killed and started again: nothing survives but the key file, and where the peer was."""
        self.link = self.make_link()
        self.inbound: dict[int, Inbound] = {}
        self.outbound: Outbound | None = None
        self.inherited: set[int] = set()  # sessions that a predecessor of the link process has made
        self.receives: Received | None = None  # when it was looked at
        self.gone = self.up = False
        self.peer = self.remote  # where frames go,
        self.sealed, self.limit = 0, 0  # in bytes; no more than the limit, if there is one
        self.payload = 0  # that fits the path; 0: not known
        self.bytes = 0  # of frames
        self.trains = True
        self.in_trains = 0  # datagrams that a test says went so
        self.provoked = 0  # bytes of the control datagram that is being answered
        self.ticked = self.last_sent = self.last_heard = self.last_frame_sent = self.last_frame_heard = NEVER
        self.act(self.link.start(self.network.now))

    def replace_link(self) -> None:
        """As when the link process is killed: the workers go on with what they have."""
        self.link = self.make_link()
        self.inherited |= set(self.inbound)
        if self.up and self.peer:
            until = max(session.until for session in self.inbound.values())
            self.link.resume(self.peer, heard=self.last_heard, until=until)
        self.act(self.link.start(self.network.now))

    def make_link(self) -> Link:
        return Link(
            self.keys,
            client=self.remote is not None,
            candidates=[self.remote, *self.others] if self.remote else [],
            keepalive=self.keepalive,
            hardware_aes=self.aes,
            random=self.network.random.randbytes,
            mtu=self.mtu,
            last=self.remembered,
            timers=self.timers,
        )

    def act(self, actions: list[Action]) -> None:
        now = self.network.now
        for action in actions:
            self.log.append((now, action))
            match action:
                case Send(datagram, endpoint):
                    if datagram[0] >= wire.TYPE_DATA:
                        kind, index, counter = take_apart(datagram)
                        assert kind == wire.TYPE_CONTROL if self.gone else counter < CONTROL_COUNTERS
                        self.network.use_nonce(self.link, index, counter)
                        self.last_sent = now
                    self.send(datagram, endpoint)
                case OpenReceive():
                    assert action.index not in self.inbound
                    self.inbound[action.index] = Inbound(action)
                    assert len(self.inbound) <= MAX_SESSIONS + 1  # one may be closed right after
                case CloseReceive(index):
                    del self.inbound[index]
                case UseForSending():
                    self.outbound = Outbound(action)
                case StopSending():
                    self.outbound = None
                case SendKeepalive():
                    assert self.seal(b"")
                case SendControl(text, size):
                    assert self.outbound
                    assert self.outbound.parts
                    if text[0] in (Kind.ANSWER, Kind.PATH_ANSWER):
                        self.provoked -= wire.OVERHEAD + len(text)
                        assert self.provoked >= 0
                    assert size == 0 or not self.limit  # nothing padded goes where the peer may not be
                    self.transmit(wire.TYPE_CONTROL, text.ljust(max(0, size - wire.OVERHEAD), b"\0"))
                case PeerAt(endpoint, limit):
                    self.peer, self.limit = endpoint, 0 if limit is None else self.sealed + limit
                case PathMtu(payload):
                    self.payload = payload
                case SendTrains(on):
                    self.trains = on
                case Remember(endpoint):
                    self.remembered = endpoint
                case PeerUp(endpoint):
                    assert (self.up, endpoint) == (False, self.peer)
                    self.up = True
                case PeerMoved(endpoint):
                    assert (self.up, endpoint) == (True, self.peer)
                case PeerDown():
                    assert self.up
                    self.up = False
        self.check()

    def check(self) -> None:
        """What the link takes for true is what it has told: the states of its sessions and of the peer."""
        assert self.up == (self.link.status().state == "up")
        check_sessions(self.link, self.inbound, self.outbound, self.inherited)

    def deadline(self) -> float:
        return float("inf") if self.stopped or self.asleep else self.link.next_deadline()

    def tick(self) -> None:
        if self.stopped or self.asleep:
            return
        self.ticks += 1
        if self.sampled:
            now, before = self.network.now, self.ticked
            self.last_sent, self.last_frame_sent, self.last_frame_heard = (
                now if when > before else when for when in (self.last_sent, self.last_frame_sent, self.last_frame_heard)
            )
            self.ticked = now
        self.receives = arriving(self.inbound, self.receives)
        traffic = Traffic(
            self.last_sent,
            self.last_heard,
            self.last_frame_sent,
            self.last_frame_heard,
            self.outbound.counter if self.outbound else 0,
            in_trains=self.in_trains,
            bytes=self.bytes,
            received=self.receives,
        )
        self.act(self.link.tick(self.network.now, traffic))
        assert self.link.next_deadline() > self.network.now  # or a link process would spin

    def seal(self, frame: bytes, kind: int = wire.TYPE_DATA) -> bool:
        """Send a frame, or a keepalive if it is empty; False without a session."""
        if self.outbound is None or self.peer is None or self.network.now >= self.outbound.until or self.asleep:
            return False
        texts = list(self.outbound.texts(kind, frame, self.payload))
        if frame and self.limit and self.sealed + sum(len(text) + wire.OVERHEAD for _, text in texts) > self.limit:
            return True  # dropped: the peer may be elsewhere
        if frame:
            self.last_frame_sent = self.network.now
            self.bytes += len(frame)
        for each, text in texts:
            self.transmit(each, text)
        return True

    def transmit(self, kind: int, text: bytes) -> None:
        """Seal and send one datagram."""
        if self.outbound is None or self.peer is None or self.network.now >= self.outbound.until:
            return
        self.network.use_nonce(self.link, self.outbound.index, self.outbound.counter)
        datagram = self.outbound.seal(kind, text)
        self.sealed += len(datagram)
        self.last_sent = self.network.now
        self.send(datagram, self.peer)

    def send(self, datagram: bytes, endpoint: Endpoint) -> None:
        if source := choose_source((self.address, *self.also), endpoint):
            self.network.send(datagram, source, endpoint.from_anywhere)

    def leave(self) -> None:
        """Stop in an orderly way. The workers are gone before the link process says goodbye."""
        counter = self.outbound.counter if self.outbound else 0
        self.gone = True
        *at_once, last = [None, *self.link.goodbye(self.network.now, counter)]
        for pause, action in [*((0.0, each) for each in at_once), (0.05, last)]:
            if action:
                self.network.after(pause, lambda action=action: self.act([action]))  # type: ignore[misc]
        assert self.link.next_deadline() == float("inf")
        self.inbound, self.outbound, self.up = {}, None, False

    def send_frame(self, kind: int = wire.TYPE_DATA, length: int = 0) -> bytes:
        self.sent_frames += 1
        frame = (b"%d from %d" % (self.sent_frames, id(self))).rjust(length, b".")
        self.seal(frame, kind)
        return frame

    def deliver(self, datagram: bytes, source: Endpoint) -> None:
        if self.gone or self.asleep:
            return
        if datagram and datagram[0] in wire.HANDSHAKE_TYPES:
            if not self.stopped:
                self.act(self.link.received(self.network.now, datagram, source))
            return
        if len(datagram) < wire.OVERHEAD:
            return
        kind, index, counter = take_apart(datagram)
        session = self.inbound.get(index)
        if session is None or self.network.now >= session.until or not session.fresh(counter):
            return
        try:
            text = session.aead.decrypt(wire.nonce(session.cipher, counter), datagram[8:], datagram[:8])
        except InvalidTag:
            return
        session.accept(counter)
        first, session.proved = not session.proved, True
        latest = max(one.until for one in self.inbound.values() if one.proved)
        newest = session.newest == counter and session.until >= latest - SAME_AGE
        self.last_heard = self.network.now
        if kind == wire.TYPE_PART:
            self.accept(session.finish(counter, text))
        elif kind != wire.TYPE_CONTROL:
            self.accept(text)
        if self.stopped:
            return
        if (
            first
            or counter < CONTROL_COUNTERS
            or (newest and (source.from_anywhere if self.remote else source) != self.peer)
        ):
            self.act(self.link.proved(self.network.now, index, source, newest=newest))
        if kind == wire.TYPE_CONTROL:
            self.provoked = len(datagram)
            came = mailbox.Received(index, counter, len(datagram), text[:LONGEST])
            self.act(self.link.control(self.network.now, came))
            self.provoked = 0

    def accept(self, frame: bytes) -> None:
        """Take a frame; an empty one is none."""
        if frame:
            self.last_frame_heard = self.network.now
            self.bytes += len(frame)
            assert frame not in self.heard_frames
            assert not frame.endswith(b" %d" % id(self))
            self.heard_frames.add(frame)

    def actions(self, kind: type) -> list[tuple[float, Action]]:
        return [(when, action) for when, action in self.log if isinstance(action, kind)]
