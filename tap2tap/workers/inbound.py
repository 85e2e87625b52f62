"""The inbound worker: datagrams from the peer, as frames to the tap."""

import socket
import time
from typing import NoReturn

from tap2tap.counters import Count
from tap2tap.workers.join import Joiner
from tap2tap.workers.pin import Pin
from tap2tap.workers.singles import singly
from tap2tap.workers.stages import opener
from tap2tap.workers.udp import Receiver
from tap2tap.workers.worker import Cable
from tap2tap.workers.writer import TapWriter


def inbound(cable: Cable, pin: Pin, channel: socket.socket | None) -> NoReturn:
    """Carry frames from the peer to `cable.tap` until killed. Raises SystemExit(TAP_GONE).

    `channel` is the supervisor's, for the protocols that need one; it stays the caller's.
    """
    counts = cable.memory.inbound
    receiver = Receiver(cable.sock)
    stage = opener(cable, channel)
    writer = TapWriter(cable.tap, counts, Joiner(cable.join_udp).join if cable.offload else singly)
    batch, receive, open_, write = receiver.batch, receiver.receive, stage.open, writer.write
    while True:
        source = receive()
        if source is None:
            counts[Count.BEAT] += 1
            stage.mail()
            pin.rest()
            continue
        trains = batch.trains
        counts[Count.DATAGRAMS] += trains.frames
        carried = counts[Count.TRAINS] = counts[Count.TRAINS] + len(trains)
        if carried >= pin.due:
            pin.look(carried, counts[Count.BYTES], time.monotonic())
        frames = open_(batch, source)
        if frames is not None:
            write(frames)
