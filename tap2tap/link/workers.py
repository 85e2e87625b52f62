"""The two workers as the link process has them: what they are ordered, which sessions they have, what they say.

A worker that is replaced is told anew which sessions live, and their counters go on in the memory that it shares with
us. One that has no channel just now is told when it gets one.
"""

import dataclasses
import socket
from collections import deque
from collections.abc import Iterator

from tap2tap.counters import Counts, Role
from tap2tap.link.slots import SessionSlots
from tap2tap.memory import Memory, Private
from tap2tap.protocols.secure.actions import OpenReceive, Received, UseForSending
from tap2tap.protocols.secure.handshake import Identity
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS, WAITING
from tap2tap.protocols.secure.mailbox import LinkEnd, Notice, Order, Task


class Workers:
    """Both workers, through all their lives; `identity` has what the inbound one tells handshakes by."""

    def __init__(self, memory: Memory, identity: Identity) -> None:
        self._groups: dict[Role, Counts] = {Role.OUTBOUND: memory.outbound, Role.INBOUND: memory.inbound}
        self._slots = {role: SessionSlots(group) for role, group in self._groups.items()}
        self._ends: dict[Role, LinkEnd] = {}
        self._macs = [
            Order(Task.PEER_MAC, data=identity.peer_mac_key),
            Order(Task.OWN_MAC, data=identity.own_mac_key),
        ]
        self._expect: deque[Order] = deque(maxlen=WAITING)  # our last initiations
        self._receive: dict[int, Order] = {}  # open sessions by index
        self._send: Order | None = None
        self._looked: dict[int, int] = {}  # by the index of an open session: its next counter at the last look
        self._arriving = 0  # the index of the one on which something came last

    def connect(self, role: Role, channel: socket.socket) -> None:
        """Take the channel to a new life of a worker, and tell that what holds."""
        if role in self._ends:
            self._ends.pop(role).close()
        end = self._ends[role] = LinkEnd(channel, self._groups[role])
        for order in self._what_holds(role):
            end.order(order)

    def _what_holds(self, role: Role) -> list[Order]:
        """Everything that a worker must know in the beginning."""
        if role is Role.OUTBOUND:
            return [*([self._send] if self._send else []), Order(Task.ALL)]
        living = (dataclasses.replace(order, resumed=True) for order in self._receive.values())
        return [*self._macs, *self._expect, *living, Order(Task.ALL)]

    @property
    def channels(self) -> dict[int, Role]:
        """What to poll, and whose it is; a worker has none between two lives."""
        return {end.sock.fileno(): role for role, end in self._ends.items() if not end.deserted}

    def notices(self, role: Role) -> Iterator[Notice]:
        """Take what a worker has sent."""
        return self._ends[role].notices()

    def order(self, role: Role, order: Order) -> None:
        """Tell a worker something that its successor need not know."""
        if role in self._ends:
            self._ends[role].order(order)

    def expect(self, mac: bytes) -> None:
        """An initiation with this mac goes out: a challenge may be about it."""
        self._expect.append(Order(Task.EXPECT, data=mac))
        self.order(Role.INBOUND, self._expect[-1])

    def open(self, action: OpenReceive) -> None:
        """Have a session accepted."""
        end = int(action.until * 1e9)
        slot = self._slots[Role.INBOUND].take(end, 0)
        order = Order(Task.OPEN, action.cipher, action.index, slot, end, data=action.key)
        self._receive[action.index] = order
        self.order(Role.INBOUND, order)

    def close(self, index: int) -> None:
        """Have a session forgotten."""
        if order := self._receive.pop(index, None):
            self._slots[Role.INBOUND].give_back(order.slot)
            self._looked.pop(index, None)
            self.order(Role.INBOUND, Order(Task.CLOSE, index=index))

    def use(self, action: UseForSending) -> None:
        """Have a session sealed with."""
        end = int(action.until * 1e9)
        slot = self._slots[Role.OUTBOUND].take(end, CONTROL_COUNTERS)
        self._let_go()
        self._send = Order(Task.USE, action.cipher, action.index, slot, end, parts=action.parts, data=action.key)
        self.order(Role.OUTBOUND, self._send)

    def stop(self) -> None:
        """Have nothing sealed any more."""
        self._let_go()
        self.order(Role.OUTBOUND, Order(Task.STOP))

    def _let_go(self) -> None:
        if self._send:
            self._slots[Role.OUTBOUND].give_back(self._send.slot)
        self._send = None

    def last_end(self) -> int:
        """When the last session ends that is, or was, sealed with: ns of the clock."""
        return self._slots[Role.OUTBOUND].last_end()

    @property
    def next_counter(self) -> int:
        """The one that the outbound worker takes next, as it has published it; 0 when there is nothing to seal with."""
        return self._groups[Role.OUTBOUND][Private.SESSION + self._send.slot] if self._send else 0

    def received(self) -> Received | None:
        """Look at what came in, from CONTROL_COUNTERS on: on the session on which something came since the last look.

        That is the latest if there are several, and the one of before if there is none. The worker writes one number
        after the other, so they may be of two moments: they are cut down to what can be.
        """
        group = self._groups[Role.INBOUND]
        for index, order in self._receive.items():
            next_counter = group[Private.SESSION + order.slot]
            if next_counter > self._looked.get(index, CONTROL_COUNTERS):
                self._looked[index], self._arriving = next_counter, index
        if self._arriving not in self._receive:
            return None
        slot, next_counter = self._receive[self._arriving].slot, self._looked[self._arriving]
        accepted = min(group[Private.ACCEPTED + slot], next_counter - CONTROL_COUNTERS)
        return Received(self._arriving, next_counter, accepted, min(group[Private.LATE + slot], accepted))
