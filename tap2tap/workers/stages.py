"""Which stages a worker puts between the tap's trains and the socket's: those of the cable's protocol."""

import socket

from tap2tap.counters import Slot
from tap2tap.protocols.secure.mailbox import WorkerEnd
from tap2tap.workers.fit import longest_frame
from tap2tap.workers.open import SecureOpen
from tap2tap.workers.peer import Doorkeeper
from tap2tap.workers.plain import PlainOpen, PlainSeal
from tap2tap.workers.seal import SecureSeal
from tap2tap.workers.worker import Cable


def sealer(cable: Cable, channel: socket.socket | None) -> PlainSeal | SecureSeal:
    """Make the outbound worker's stage."""
    if channel is not None:
        return SecureSeal(cable.memory, WorkerEnd(channel, cable.memory.outbound))
    return PlainSeal(cable.memory.outbound, cable.keepalive)


def opener(cable: Cable, channel: socket.socket | None) -> PlainOpen | SecureOpen:
    """Make the inbound worker's stage."""
    slots, family, longest = cable.memory.slots, cable.sock.family, longest_frame(cable.mtu)
    if channel is not None:
        return SecureOpen(cable.memory, WorkerEnd(channel, cable.memory.inbound), family, longest)
    door = Doorkeeper(slots, Slot.PEER, Slot.PEER_HEARD, family, fixed=cable.remote is not None)
    return PlainOpen(cable.memory.inbound, door, longest)
