"""What a protocol does to frames on their way between tap and socket: the contract, and the choice of the cable's one.

A protocol is two stages, one a direction, and an entry in `sealer` and in `opener`.
"""

import socket
from collections.abc import Callable
from typing import Protocol

from tap2tap import endpoint
from tap2tap.counters import Link, Slot
from tap2tap.protocols.secure.mailbox import Order, WorkerEnd
from tap2tap.workers.arena import Arena
from tap2tap.workers.path import Path
from tap2tap.workers.stages.lengths import LengthFilter
from tap2tap.workers.stages.peer import PeerFilter
from tap2tap.workers.stages.plain import PlainOpen, PlainSeal
from tap2tap.workers.stages.secure.open import SecureOpen
from tap2tap.workers.stages.secure.parts import AREA as PARTS_AREA
from tap2tap.workers.stages.secure.seal import AREA as STAGE_AREA
from tap2tap.workers.stages.secure.seal import SecureSeal
from tap2tap.workers.train import Train
from tap2tap.workers.worker import Cable

__all__ = ["PARTS_AREA", "STAGE_AREA", "Open", "Seal", "opener", "sealer"]


class Seal(Protocol):
    """The outbound stage: makes datagrams of frames, where they lie in the arena.

    Each frame needs `overhead` bytes around it, the first `front` of them before it: so frames come `size + overhead`
    apart. A train that it makes holds until the next call.
    """

    @property
    def front(self) -> int:
        """Bytes of the header before each frame."""

    @property
    def overhead(self) -> int:
        """Bytes of header and trailer together."""

    def seal(self, frames: Train, train: Train) -> bool:
        """Make `train` the next datagrams of `frames`, which are taken from its front.

        What cannot be sent is dropped there, each frame counted by its reason. False when nothing is left.
        """

    def keepalive(self, train: Train) -> bool:
        """Make `train` a datagram without a frame, if it is time to send one. Called when nothing was sent lately."""

    def control(self, train: Train) -> bool:
        """Make `train` the next datagram that the link has ordered; False when there is none.

        Called soon after Private.MAIL has gone up.
        """

    def too_long(self, size: int) -> None:
        """Hear that the kernel has refused a datagram of `size` bytes for its length."""


class Open(Protocol):
    """The inbound stage: finds the frames in received datagrams, which anyone may have made in any way."""

    def open(self, train: Train, frames: Train, source: bytes) -> bool:
        """Make `frames` the next ones in `train` that may be written, which are in the arena and of one kind.

        They are taken from the front of `train`, with all that is dropped there, each counted by its reason. False when
        nothing is left. `source` is where the train came from, and to which address of ours, as Endpoint.raw writes it.
        """

    def idle(self) -> None:
        """Do what there is to do while nothing comes; called once a second then."""


def sealer(cable: Cable, arena: Arena, room: int, channel: socket.socket | None) -> Seal:
    """Make the outbound worker's stage. STAGE_AREA bytes at `room` of the arena are its own."""
    if channel is not None:
        end = WorkerEnd(channel)
        seal = SecureSeal(cable.memory, end, arena, room)
        _take_over(cable, end, seal.obey)
        return seal
    return PlainSeal(cable.memory.outbound, Path(cable.memory.slots, 0), room, cable.keepalive)


def opener(cable: Cable, arena: Arena, room: int, channel: socket.socket | None) -> Open:
    """Make the inbound worker's stage. PARTS_AREA bytes at `room` of the arena are its own."""
    slots, counts, family = cable.memory.slots, cable.memory.inbound, cable.sock.family
    lengths = LengthFilter(counts)
    if channel is not None:
        end = WorkerEnd(channel)
        opened = SecureOpen(cable.memory, end, family, arena, room, lengths, client=cable.client)
        _take_over(cable, end, opened.obey)
        return opened
    here = endpoint.load(slots, Slot.LOCAL) or endpoint.from_sockaddr(cable.sock.getsockname())
    peers = PeerFilter(slots, Slot.PEER, Slot.PEER_HEARD, family, here, fixed=cable.client)
    return PlainOpen(counts, peers, lengths, cable.sock)


def _take_over(cable: Cable, channel: WorkerEnd, obey: Callable[[Order], None]) -> None:
    """Learn which sessions there are before a frame is touched, where this worker is the successor of a dead one."""
    if cable.memory.slots[Slot.LINK] == Link.UP:
        for order in channel.first_orders():
            obey(order)
