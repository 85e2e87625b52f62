"""Carrying out what the link decides: orders to the workers, datagrams, the carrier of the tap, the facts for `stats`.

The link itself (tap2tap.protocols.secure.link) knows no system call. A link process that is replaced finds in the
memory whether the peer is up and where: sessions it makes anew, and meanwhile the workers go on with those they have.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tap2tap import clock, device, log, peer_record, udp_socket
from tap2tap.counters import Link, Role, Slot
from tap2tap.endpoint import Endpoint
from tap2tap.keys import CableKeys
from tap2tap.link import messages
from tap2tap.link.path import PeerPath
from tap2tap.link.sampler import Sampler
from tap2tap.link.workers import Workers
from tap2tap.memory import Memory
from tap2tap.protocols.secure import actions, link
from tap2tap.protocols.secure.actions import FOREVER
from tap2tap.protocols.secure.limits import MISSED_WAIT, Timers
from tap2tap.protocols.secure.mac import MAC_LENGTH
from tap2tap.protocols.secure.mailbox import Handshake, Missed, Order, Proved, Received, Task, TooLong
from tap2tap.protocols.secure.wire import is_initiation

OnPeerEvent = Callable[[messages.PeerEvent], None]

BEFORE_LAST_GOODBYE = 0.05  # seconds


def hardware_aes(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether every CPU has AES instructions ("flags" on x86, "Features" on ARM): else ChaCha20 is the faster one."""
    try:
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features"))]
    except OSError:
        return False
    return bool(lines) and all("aes" in line.split() for line in lines)


class Driver:
    """Drives one link over one cable. It owns the descriptors in `cable`, and the channels to the workers."""

    def __init__(self, memory: Memory, keys: CableKeys, cable: messages.Cable, on_peer_event: OnPeerEvent) -> None:
        self._memory = memory
        self._tap = cable.tap
        self._sock = socket.socket(fileno=cable.sock)
        self._record = cable.record
        self._on_peer_event = on_peer_event
        self._link = link.Link(
            keys,
            client=cable.client,
            candidates=cable.candidates,
            keepalive=cable.keepalive,
            hardware_aes=hardware_aes(),
            random=os.urandom,
            timers=Timers(),
            mtu=cable.mtu,
            last=None if cable.record is None else peer_record.read(cable.record),
        )
        self._workers = Workers(memory, self._link.identity)
        self._path = PeerPath(memory)
        self._traffic = Sampler(memory, self._workers)
        self._rekeys = memory.slots[Slot.REKEYS]  # of our predecessors
        self._look_at = FOREVER  # when a look at the traffic is wanted besides

    def start(self) -> None:
        """Begin, or go on where a killed predecessor was, with a handshake if it is known where the peer is."""
        slots = self._memory.slots
        peer = self._path.endpoint
        if slots[Slot.LINK] == Link.UP and peer is not None:
            self._link.resume(peer, heard=slots[Slot.PEER_HEARD] / 1e9, until=self._workers.last_end() / 1e9)
        self._plug()
        self._do(self._link.start(clock.now()))
        self._publish()

    def connect(self, role: Role, channel: socket.socket) -> None:
        """Take the channel to a new life of a worker, and tell that what holds."""
        self._workers.connect(role, channel)

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when the channel of a worker is readable."""
        return {fd: partial(self._read, role) for fd, role in self._workers.channels.items()}

    def _read(self, role: Role) -> None:
        """Take what a worker has sent: each may say what is its own to say."""
        for notice in self._workers.notices(role):
            now = clock.now()
            match notice:
                case TooLong(size) if role is Role.OUTBOUND:
                    self._do(self._link.too_long(now, size))
                case Proved(index, source, newest) if role is Role.INBOUND:
                    self._do(self._link.proved(now, index, source, newest=newest))
                case Handshake(datagram, source) if role is Role.INBOUND:
                    self._do(self._link.received(now, datagram, source))
                case Received() if role is Role.INBOUND:
                    self._do(self._link.control(now, notice))
                case Missed() if role is Role.INBOUND:
                    self._look_at = min(self._look_at, now + MISSED_WAIT)

    def use_socket(self, fd: int) -> None:
        """Send by this socket from now on, which is our own to close."""
        self._sock.close()
        self._sock = socket.socket(fileno=fd)

    def move(self, candidates: tuple[Endpoint, ...]) -> None:
        """The peer may be at these now, the best first."""
        self._do(self._link.move(clock.now(), candidates))

    def call(self) -> None:
        """Call the peer now. The supervisor may have plugged the cable out meanwhile, as datagrams came back by it."""
        self._plug()
        self._do(self._link.call(clock.now()))

    def _plug(self) -> None:
        """Give the cable the carrier that it is to have."""
        device.set_carrier(self._tap, on=self._link.status().state == "up")

    def deadline(self) -> float:
        """When `tick` is next needed, in seconds of the clock."""
        return min(self._look_at, self._link.next_deadline())

    def tick(self) -> None:
        """Let the link look at the clock and at the traffic."""
        now, self._look_at = clock.now(), FOREVER
        self._do(self._link.tick(now, self._traffic.look(now)))
        self._publish()

    def goodbye(self) -> None:
        """Tell the peer that this is the end. The outbound worker must be gone: its count is used here."""
        counter = self._workers.next_counter
        todo = self._link.goodbye(clock.now(), counter) if counter else []
        for number, action in enumerate(todo, 1):
            if 1 < number == len(todo):
                time.sleep(BEFORE_LAST_GOODBYE)
            self._act(action)

    def _do(self, todo: list[actions.Action]) -> None:
        for action in todo:
            self._act(action)
        if todo:
            self._publish()

    def _act(self, action: actions.Action) -> None:
        match action:
            case actions.Send(datagram, target):
                if is_initiation(datagram):
                    self._workers.expect(datagram[-MAC_LENGTH:])
                with contextlib.suppress(OSError):  # the link tries again
                    udp_socket.send(self._sock, datagram, target)
            case actions.OpenReceive():
                self._workers.open(action)
            case actions.CloseReceive(index):
                self._workers.close(index)
            case actions.UseForSending():
                self._workers.use(action)
            case actions.StopSending():
                self._workers.stop()
            case actions.SendKeepalive():
                self._workers.order(Role.OUTBOUND, Order(Task.KEEPALIVE))
            case actions.SendControl(text, size):
                self._workers.order(Role.OUTBOUND, Order(Task.CONTROL, size=size, data=text))
            case actions.PeerAt(peer, limit):
                self._path.turn(peer, limit)
            case actions.PathMtu(payload, told):
                self._set_path_mtu(payload, told=told)
            case actions.SendTrains(on):
                self._path.send_trains(on=on)
            case actions.Remember(peer):
                self._remember(peer)
            case actions.PeerUp(peer):
                device.set_carrier(self._tap, on=True)
                log.info("peer is up", endpoint=peer)
                self._on_peer_event(messages.PeerUp(peer))
            case actions.PeerDown(reason):
                device.set_carrier(self._tap, on=False)
                log.info("peer is down", reason=reason)
                if last := self._link.status().endpoint:
                    self._on_peer_event(messages.PeerDown(last))
            case actions.PeerMoved(peer):
                log.info("peer moved", endpoint=peer)
                self._on_peer_event(messages.PeerMoved(peer))
            case actions.Note(message, facts):
                log.warning(message, **facts)

    def _remember(self, peer: Endpoint | None) -> None:
        """Write down where the peer is to be called after a restart."""
        if self._record is None:
            return
        try:
            peer_record.write(self._record, peer)
        except OSError as error:
            log.warning("cannot remember where to call the peer: --no-call-back does without", reason=error.strerror)
            self._record = None  # said once

    def _set_path_mtu(self, payload: int, *, told: bool) -> None:
        peer = self._path.endpoint
        news = self._path.set_payload(payload, told=told)
        if peer is None or not told:
            return
        if news:
            log.info("path mtu", mtu=payload + peer.headers, endpoint=peer)
        self._on_peer_event(messages.PathMtu(peer))  # news or not: when the peer came up, a hook was told the floor

    def _publish(self) -> None:
        """Write the facts for `stats`, and what a successor begins with."""
        status, slots = self._link.status(), self._memory.slots
        slots[Slot.LINK] = Link[status.state.upper()]
        slots[Slot.REKEYS] = self._rekeys + status.rekeys
        if status.state == "up" and status.cipher is None:  # the workers go on with our predecessor's session
            return
        slots[Slot.CIPHER] = status.cipher or 0
        if status.last_handshake is not None:
            slots[Slot.HANDSHAKE] = int(status.last_handshake * 1e9)
        slots[Slot.PEER_MTU] = status.peer_mtu
        slots[Slot.ROUND_TRIP], slots[Slot.JITTER] = int(status.round_trip * 1e9), int(status.jitter * 1e9)
        slots[Slot.LOSS_OUT], slots[Slot.LOSS_IN] = int(status.loss_out * 1e6), int(status.loss_in * 1e6)
