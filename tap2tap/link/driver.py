"""Carrying out what the link decides: orders to the workers, datagrams, the carrier of the tap, the facts for `stats`.

The link itself (tap2tap.protocols.secure.link) knows no system call. A worker that is replaced is told anew which
sessions live, and their counters go on in the memory that it shares with us. A link process that is replaced finds
there whether the peer is up and where: sessions it makes anew, and meanwhile the workers go on with those they have.
"""

import contextlib
import dataclasses
import os
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tap2tap import clock, device, endpoint, log
from tap2tap.counters import Counts, Link, Role, Slot
from tap2tap.endpoint import Endpoint
from tap2tap.keys import CableKeys
from tap2tap.link import messages
from tap2tap.link.sampler import Sampler
from tap2tap.link.slots import SessionSlots
from tap2tap.memory import Memory
from tap2tap.protocols.secure import actions, link
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS, WAITING, Timers
from tap2tap.protocols.secure.mac import MAC_LENGTH
from tap2tap.protocols.secure.mailbox import Handshake, LinkEnd, Order, Proved, Task
from tap2tap.protocols.secure.wire import is_initiation

OnPeerEvent = Callable[[messages.PeerEvent], None]


def hardware_aes(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether every CPU has AES instructions ("flags" on x86, "Features" on ARM): else ChaCha20 is the faster one."""
    try:
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features"))]
    except OSError:
        return False
    return bool(lines) and all("aes" in line.split() for line in lines)


class Driver:
    """Drives one link over one cable. It owns the tap and the socket in `cable`, and the channels to the workers."""

    def __init__(self, memory: Memory, keys: CableKeys, cable: messages.Cable, on_peer_event: OnPeerEvent) -> None:
        self._memory = memory
        self._tap = cable.tap
        self._sock = socket.socket(fileno=cable.sock)
        self._on_peer_event = on_peer_event
        self._link = link.Link(
            keys,
            remote=cable.remote,
            keepalive=cable.keepalive,
            hardware_aes=hardware_aes(),
            random=os.urandom,
            timers=Timers(),
        )
        self._ends: dict[Role, LinkEnd] = {}
        self._receive: dict[int, Order] = {}  # open sessions by index
        self._expect: deque[Order] = deque(maxlen=WAITING)  # our last initiations
        self._send: Order | None = None
        self._slots = {role: SessionSlots(self._counts(role)) for role in (Role.OUTBOUND, Role.INBOUND)}
        self._traffic = Sampler(memory)
        self._rekeys = memory.slots[Slot.REKEYS]  # of our predecessors

    def _counts(self, role: Role) -> Counts:
        return self._memory.inbound if role is Role.INBOUND else self._memory.outbound

    def start(self) -> None:
        """Begin, or go on where a killed predecessor was, with a handshake if it is known where the peer is."""
        slots = self._memory.slots
        peer = endpoint.load(slots, Slot.PEER)
        if slots[Slot.LINK] == Link.UP and peer is not None:
            until = self._slots[Role.OUTBOUND].last_end()
            self._link.resume(peer, heard=slots[Slot.PEER_HEARD] / 1e9, until=until / 1e9)
        device.set_carrier(self._tap, on=slots[Slot.LINK] == Link.UP)
        self._do(self._link.start(clock.now()))
        self._publish()

    def connect(self, role: Role, channel: socket.socket) -> None:
        """Take the channel to a new life of a worker, and tell that what holds."""
        if role in self._ends:
            self._ends.pop(role).close()
        end = self._ends[role] = LinkEnd(channel, self._counts(role))
        for order in self._what_holds(role):
            end.order(order)

    def _what_holds(self, role: Role) -> list[Order]:
        """Everything that a worker must know in the beginning."""
        if role is Role.OUTBOUND:
            return [*([self._send] if self._send else []), Order(Task.ALL)]
        identity = self._link.identity
        return [
            Order(Task.PEER_MAC, data=identity.peer_mac_key),
            Order(Task.OWN_MAC, data=identity.own_mac_key),
            *self._expect,
            *(dataclasses.replace(order, resumed=True) for order in self._receive.values()),
            Order(Task.ALL),
        ]

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when the inbound worker's channel is readable; empty between two lives of that worker."""
        end = self._ends.get(Role.INBOUND)
        return {} if end is None or end.deserted else {end.sock.fileno(): self._read}

    def _read(self) -> None:
        """Take what the inbound worker has sent."""
        for notice in self._ends[Role.INBOUND].notices():
            now = clock.now()
            match notice:
                case Proved(index, source, newest):
                    self._do(self._link.proved(now, index, source, newest=newest))
                case Handshake(datagram, source):
                    self._do(self._link.received(now, datagram, source))

    def move(self, remote: Endpoint) -> None:
        """The configured remote has another address now."""
        self._link.remote = remote

    def deadline(self) -> float:
        """When `tick` is next needed, in seconds of the clock."""
        return self._link.next_deadline()

    def tick(self) -> None:
        """Let the link look at the clock and at the traffic."""
        now = clock.now()
        self._do(self._link.tick(now, self._traffic.look(now, self._send)))
        self._publish()

    def _do(self, todo: list[actions.Action]) -> None:
        for action in todo:
            self._act(action)
        if todo:
            self._publish()

    def _act(self, action: actions.Action) -> None:
        match action:
            case actions.Send(datagram, target):
                if is_initiation(datagram):
                    self._expect.append(Order(Task.EXPECT, data=datagram[-MAC_LENGTH:]))
                    self._order(Role.INBOUND, self._expect[-1])
                with contextlib.suppress(OSError):  # the link tries again
                    self._sock.sendto(datagram, socket.MSG_DONTWAIT, target.sockaddr(self._sock.family))
            case actions.OpenReceive(index, cipher, key, until=until):
                end = int(until * 1e9)
                slot = self._slots[Role.INBOUND].take(end, 0)
                self._receive[index] = Order(Task.OPEN, cipher, index, slot, end, data=key)
                self._order(Role.INBOUND, self._receive[index])
            case actions.CloseReceive(index):
                if order := self._receive.pop(index, None):
                    self._slots[Role.INBOUND].give_back(order.slot)
                    self._order(Role.INBOUND, Order(Task.CLOSE, index=index))
            case actions.UseForSending(index, cipher, key, until=until):
                end = int(until * 1e9)
                slot = self._slots[Role.OUTBOUND].take(end, CONTROL_COUNTERS)
                self._stop_sending()
                self._send = Order(Task.USE, cipher, index, slot, end, data=key)
                self._order(Role.OUTBOUND, self._send)
            case actions.StopSending():
                self._stop_sending()
                self._order(Role.OUTBOUND, Order(Task.STOP))
            case actions.SendKeepalive():
                self._order(Role.OUTBOUND, Order(Task.KEEPALIVE))
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

    def _stop_sending(self) -> None:
        if self._send:
            self._slots[Role.OUTBOUND].give_back(self._send.slot)
        self._send = None

    def _order(self, role: Role, order: Order) -> None:
        """Tell a worker; one that has no channel just now is told when it gets one."""
        if role in self._ends:
            self._ends[role].order(order)

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
