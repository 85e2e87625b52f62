"""The outbound worker: frames from the tap, as datagrams to the peer."""

import socket
import time
from typing import NoReturn

from tap2tap.counters import Count, Drop, Slot
from tap2tap.memory import Private
from tap2tap.workers.arena import Arena
from tap2tap.workers.gather import AREA, Gather
from tap2tap.workers.offload.clamp import Clamp
from tap2tap.workers.offload.split import OUT_AREA, Splitter
from tap2tap.workers.path import Path
from tap2tap.workers.pin import Pin
from tap2tap.workers.send import Sender
from tap2tap.workers.stages import STAGE_AREA, sealer
from tap2tap.workers.stages.peer import Address
from tap2tap.workers.tap import Tap
from tap2tap.workers.train import Train
from tap2tap.workers.worker import BEAT, Cable

IDLE, FRAMES, BYTES = Count.BEAT, Count.FRAMES, Count.BYTES
DATAGRAMS, TRAINS = Count.DATAGRAMS, Count.TRAINS
KEEPALIVES, CONTROL = Count.KEEPALIVES, Count.CONTROL
MAIL = Private.MAIL
NO_PEER = Count.DROPPED + Drop.NO_PEER


def outbound(cable: Cable, pin: Pin, channel: socket.socket | None) -> NoReturn:
    """Carry frames from `cable.tap` to the peer until killed. Raises TapGoneError.

    `channel` is the link's, for the protocols that have one; it stays the caller's.
    """
    counts = cable.memory.outbound
    arena = Arena(AREA + OUT_AREA + STAGE_AREA)
    stage = sealer(cable, arena, AREA + OUT_AREA, channel)
    tap = Tap(cable.tap, arena, channel.fileno() if channel else -1)
    gather = Gather(tap, arena, 0, stage.overhead)
    path = Path(cable.memory.slots, stage.overhead)
    clamp = Clamp(arena, counts, path, cable.mtu) if cable.clamp else None
    split = Splitter(arena, counts, AREA, stage.front, stage.overhead, clamp)
    sender = Sender(cable.sock, arena, counts, cable.trains, stage.too_long)
    peer = Address(cable.memory.slots, Slot.PEER, cable.sock.family)
    read, frames, train = Train(), Train(), Train()
    sent, due, mail = -1, 0, -1
    while True:
        while gather.read(read):
            split.begin(read, path.room())
            while split.next(frames):
                counts[FRAMES] += frames.count
                counts[BYTES] += frames.length()
                address = peer.current()
                if address is None:
                    counts[NO_PEER] += frames.count
                    continue
                while stage.seal(frames, train):
                    sender.send(train, address)
            if counts[MAIL] != mail:
                break  # the link waits for nobody, also while the tap never runs empty
            if counts[TRAINS] >= due:
                due = pin.look(counts[TRAINS], counts[BYTES], time.monotonic())
        if counts[MAIL] != mail:
            mail = counts[MAIL]  # first: an order that comes after this raises it again
            address = peer.current()
            while stage.control(train):
                if address is not None:
                    counts[CONTROL] += sender.single(train, address)
            continue
        if counts[DATAGRAMS] == sent:  # nothing has gone out since the tap was empty last
            counts[IDLE] += 1
            address = peer.current()
            if stage.keepalive(train) and address is not None:
                counts[KEEPALIVES] += sender.single(train, address)
        sent = counts[DATAGRAMS]
        if not tap.wait(BEAT):
            pin.rest()
