"""The outbound worker: frames from the tap, as datagrams to the peer."""

import socket
import time
from typing import NoReturn

from tap2tap.counters import Count, Drop, Slot
from tap2tap.workers.peer import Address
from tap2tap.workers.pin import Pin
from tap2tap.workers.reader import TapReader
from tap2tap.workers.stages import sealer
from tap2tap.workers.train import Batch
from tap2tap.workers.udp import Sender
from tap2tap.workers.worker import BEAT, Cable, poller


def outbound(cable: Cable, pin: Pin, channel: socket.socket | None) -> NoReturn:
    """Carry frames from `cable.tap` to the peer until killed. Raises SystemExit(TAP_GONE).

    `channel` is the supervisor's, for the protocols that need one; it stays the caller's.
    """
    counts = cable.memory.outbound
    stage = sealer(cable, channel)
    reader = TapReader(cable.tap, counts, stage.overhead)
    sender = Sender(cable.sock, counts, segment=cable.trains)
    peer = Address(cable.memory.slots, Slot.PEER, cable.sock.family)
    poll = poller(cable.tap, channel).poll
    current, seal, send, drain = peer.current, stage.seal, sender.send, reader.drain

    def carry(batch: Batch) -> None:
        trains = batch.trains
        counts[Count.FRAMES] += trains.frames
        counts[Count.BYTES] += trains.length
        address = current()
        if address is None:
            counts[Count.DROPPED + Drop.NO_PEER] += trains.frames
            return
        sealed = seal(batch)
        if sealed is not None:
            send(sealed, address)

    sent = counts[Count.DATAGRAMS]
    while True:
        carried = counts[Count.DATAGRAMS]
        if carried == sent:  # nothing has gone out since the last round
            counts[Count.BEAT] += 1
            keepalive, address = stage.keepalive(), current()
            if keepalive is not None and address is not None:
                counts[Count.KEEPALIVES] += sender.keepalive(keepalive, address)
        sent = carried
        if counts[Count.TRAINS] >= pin.due:
            pin.look(counts[Count.TRAINS], counts[Count.BYTES], time.monotonic())
        if not poll(BEAT):
            pin.rest()
        drain(carry)
