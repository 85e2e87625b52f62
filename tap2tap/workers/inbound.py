"""The inbound worker: datagrams from the peer, as frames to the tap."""

import socket
import time
from typing import NoReturn

from tap2tap.counters import Count
from tap2tap.protocols.secure.wire import OVERHEAD
from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.clamp import Clamp
from tap2tap.workers.offload.join import SCRATCH, Joiner
from tap2tap.workers.path import Path
from tap2tap.workers.pin import Pin
from tap2tap.workers.receive import Receiver
from tap2tap.workers.stages import PARTS_AREA, opener
from tap2tap.workers.tap import Tap
from tap2tap.workers.train import Train
from tap2tap.workers.udp import AREA
from tap2tap.workers.worker import Cable
from tap2tap.workers.write import Writer

IDLE, BYTES, DATAGRAMS, TRAINS = Count.BEAT, Count.BYTES, Count.DATAGRAMS, Count.TRAINS


def inbound(cable: Cable, pin: Pin, channel: socket.socket | None) -> NoReturn:
    """Carry frames from the peer to `cable.tap` until killed. Raises TapGoneError.

    `channel` is the link's, for the protocols that have one; it stays the caller's.
    """
    counts = cable.memory.inbound
    arena = Arena(AREA + SCRATCH + PARTS_AREA)
    receiver = Receiver(cable.sock, arena, 0)
    stage = opener(cable, arena, AREA + SCRATCH, channel)
    joiner = Joiner(arena, AREA, cable.join_udp) if cable.offload else None
    path = Path(cable.memory.slots, OVERHEAD if channel else 0)
    clamp = Clamp(arena, counts, path, cable.mtu) if cable.clamp else None
    writer = Writer(Tap(cable.tap, arena), arena, counts, joiner, clamp)
    train, frames = Train(), Train()
    due = 0
    while True:
        if not receiver.receive():
            counts[IDLE] += 1
            stage.idle()
            pin.rest()
        while receiver.next(train):
            counts[DATAGRAMS] += train.count
            counts[TRAINS] += 1
            while stage.open(train, frames, receiver.source):
                writer.write(frames)
        if counts[TRAINS] >= due:
            due = pin.look(counts[TRAINS], counts[BYTES], time.monotonic())
