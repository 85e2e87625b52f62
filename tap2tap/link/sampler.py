"""What the workers did, and when, found out by looking at their counters now and then."""

from tap2tap.counters import Count, Slot
from tap2tap.link.workers import Workers
from tap2tap.memory import Memory, Private
from tap2tap.protocols.secure.actions import NEVER, Traffic


class Sampler:
    """Turns counts into times: what has grown since the last look happened about now. It costs the workers nothing."""

    def __init__(self, memory: Memory, workers: Workers) -> None:
        self._memory = memory
        self._workers = workers
        self._counts = self._read()
        self._times = [NEVER] * len(self._counts)

    def _read(self) -> list[int]:
        outbound, inbound = self._memory.outbound, self._memory.inbound
        return [
            outbound[Count.DATAGRAMS],
            outbound[Count.DATAGRAMS] - outbound[Count.KEEPALIVES] - outbound[Count.CONTROL],
            inbound[Count.FRAMES],
        ]

    def look(self, now: float) -> Traffic:
        """Return the traffic up to `now`, seconds of the clock."""
        counts = self._read()
        for number, (count, before) in enumerate(zip(counts, self._counts, strict=True)):
            if count > before:  # less: a worker was about to count what was no frame
                self._times[number] = now
        self._counts = counts
        sent, frame_sent, frame_heard = self._times
        outbound, inbound = self._memory.outbound, self._memory.inbound
        heard = self._memory.slots[Slot.PEER_HEARD]
        return Traffic(
            last_sent=sent,
            last_heard=heard / 1e9 if heard else NEVER,
            last_frame_sent=frame_sent,
            last_frame_heard=frame_heard,
            next_counter=self._workers.next_counter,
            in_trains=outbound[Private.IN_TRAINS],
            bytes=outbound[Count.BYTES] + inbound[Count.BYTES],
            received=self._workers.received(),
        )
