"""Keeping the secure link: the only part of the supervisor that sees bytes of the network, a handshake's at most.

The link itself (tap2tap.protocols.secure.link) decides; here is what carries its decisions out: orders to the workers,
datagrams, the carrier of the tap, the peer's hook, the log and the facts for `stats`. A worker that is replaced is
told anew which sessions live, and their counters go on in the memory that it shares with the supervisor.
"""

import contextlib
import dataclasses
import os
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

from tap2tap import clock, device, log
from tap2tap.counters import Link, Slot
from tap2tap.endpoint import Endpoint
from tap2tap.keys import CableKeys
from tap2tap.memory import SESSIONS, Private
from tap2tap.protocols.secure import actions, link
from tap2tap.protocols.secure.mac import MAC_LENGTH, WAITING
from tap2tap.protocols.secure.mailbox import Order, Proved, SupervisorEnd, Task, channel
from tap2tap.protocols.secure.wire import is_initiation
from tap2tap.supervisor.sampler import Sampler
from tap2tap.workers.worker import Cable

Told = Callable[[str, Endpoint | None], None]  # an event of the peer, "up", "down" or "moved", and where it is


def hardware_aes(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether every CPU has AES instructions ("flags" on x86, "Features" on ARM): else ChaCha20 is the faster one."""
    try:
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features"))]
    except OSError:
        return False
    return bool(lines) and all("aes" in line.split() for line in lines)


class Keeper:
    """Carries out what the link decides. `told` hears of the peer's coming, going and moving."""

    def __init__(self, cable: Cable, keys: CableKeys, timers: actions.Timers, told: Told) -> None:
        self._cable = cable
        self._told = told
        self._link = link.Link(
            keys,
            remote=cable.remote,
            keepalive=cable.keepalive,
            hardware_aes=hardware_aes(),
            random=os.urandom,
            timers=timers,
        )
        self._ends: dict[str, SupervisorEnd] = {}
        self._receive: dict[int, Order] = {}  # open sessions by index
        self._slot = 0  # of the session that was opened last
        self._expect: deque[Order] = deque(maxlen=WAITING)  # our last initiations
        self._send: Order | None = None
        self._sent = 0  # sessions used for sending so far
        self._traffic = Sampler(cable)
        self._publish()  # before anyone looks: a tunnel without a link is a plain one

    def hire(self, role: str) -> socket.socket:
        """Make the channel of a worker that is about to be forked, and tell it what lives; the caller closes it."""
        if role in self._ends:
            self._ends.pop(role).close()
        ours, theirs = channel()
        memory = self._cable.memory
        end = self._ends[role] = SupervisorEnd(ours, memory.inbound if role == "inbound" else memory.outbound)
        for order in self._what_holds(role):
            end.order(order)
        return theirs

    def _what_holds(self, role: str) -> list[Order]:
        """Everything that a worker must know in the beginning."""
        if role == "outbound":
            return [self._send] if self._send else []
        identity = self._link.identity
        return [
            Order(Task.PEER_MAC, key=identity.peer_mac_key),
            Order(Task.OWN_MAC, key=identity.own_mac_key),
            *self._expect,
            *(dataclasses.replace(order, resumed=True) for order in self._receive.values()),
        ]

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when the inbound worker's channel is readable; empty between two lives of that worker."""
        end = self._ends.get("inbound")
        return {} if end is None or end.deserted else {end.sock.fileno(): self.read}

    def start(self) -> None:
        """Begin; the workers run, and the cable is unplugged."""
        self._do(self._link.start(clock.now()))

    def read(self) -> None:
        """Take what the inbound worker has sent."""
        for notice in self._ends["inbound"].notices():
            now = clock.now()
            if isinstance(notice, Proved):
                self._do(self._link.proved(now, notice.index, notice.source, newest=notice.newest))
            else:
                self._do(self._link.received(now, notice.datagram, notice.source))

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
            case actions.Send(datagram, endpoint):
                if is_initiation(datagram):
                    self._expect.append(Order(Task.EXPECT, key=datagram[-MAC_LENGTH:]))
                    self._order("inbound", self._expect[-1])
                with contextlib.suppress(OSError):  # the link tries again
                    sock = self._cable.sock
                    sock.sendto(datagram, socket.MSG_DONTWAIT, endpoint.sockaddr(sock.family))
            case actions.OpenReceive(index, cipher, key, until=until):
                slot = self._free_slot()
                self._cable.memory.inbound[Private.SESSION + slot] = 0
                self._receive[index] = Order(Task.OPEN, cipher, index, slot, int(until * 1e9), key=key)
                self._order("inbound", self._receive[index])
            case actions.CloseReceive(index):
                if self._receive.pop(index, None):
                    self._order("inbound", Order(Task.CLOSE, index=index))
            case actions.UseForSending(index, cipher, key, first, until=until):
                self._sent += 1
                slot = self._sent % SESSIONS
                self._cable.memory.outbound[Private.SESSION + slot] = first
                self._send = Order(Task.USE, cipher, index, slot, int(until * 1e9), key=key)
                self._order("outbound", self._send)
            case actions.StopSending():
                self._send = None
                self._order("outbound", Order(Task.STOP))
            case actions.SendKeepalive():
                self._order("outbound", Order(Task.KEEPALIVE))
            case actions.PeerUp(endpoint):
                device.set_carrier(self._cable.tap, on=True)
                log.info("peer is up", endpoint=endpoint)
                self._told("up", endpoint)
            case actions.PeerDown(reason):
                device.set_carrier(self._cable.tap, on=False)
                log.info("peer is down", reason=reason)
                self._told("down", None)
            case actions.PeerMoved(endpoint):
                log.info("peer moved", endpoint=endpoint)
                self._told("moved", endpoint)
            case actions.Note(message, facts):
                log.warning(message, **facts)

    def _order(self, role: str, order: Order) -> None:
        """Tell a worker; one that has no channel just now is told when it gets one."""
        if role in self._ends:
            self._ends[role].order(order)

    def _free_slot(self) -> int:
        """By turns, for the worker may still write to one that was given up a moment ago."""
        taken = {order.slot for order in self._receive.values()}
        turns = ((self._slot + step) % SESSIONS for step in range(1, SESSIONS + 1))
        self._slot = next(slot for slot in turns if slot not in taken)
        return self._slot

    def _publish(self) -> None:
        """Write the facts for `stats`."""
        status, slots = self._link.status(), self._cable.memory.slots
        slots[Slot.LINK] = Link[status.state.upper()]
        slots[Slot.CIPHER] = status.cipher or 0
        slots[Slot.HANDSHAKE] = int(status.last_handshake * 1e9) if status.last_handshake is not None else 0
        slots[Slot.REKEYS] = status.rekeys
