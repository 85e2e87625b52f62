"""The stages of the plain protocol: one Ethernet frame is one datagram, and nothing is done to it."""

from tap2tap import clock
from tap2tap.counters import Count, Counts, Drop
from tap2tap.workers.fit import fits
from tap2tap.workers.peer import Doorkeeper
from tap2tap.workers.train import Batch, Train, Trains


class PlainSeal:
    """The outbound stage. A keepalive is an empty datagram, which C tap2tap and QuickTun ignore."""

    overhead = 0

    def __init__(self, counts: Counts, keepalive: int) -> None:
        self._counts = counts
        self._keepalive = Keepalive(keepalive)
        self._empty = Batch(1)
        self._empty.trains = Trains([Train(0, 0, 1, 0)])

    def seal(self, batch: Batch) -> Batch:
        """Return the batch as it is."""
        return batch

    def keepalive(self) -> Batch | None:
        """Return an empty datagram when it is time to remind the peer of us."""
        due = self._keepalive.due(self._counts[Count.DATAGRAMS], clock.now())
        return self._empty if due else None


class PlainOpen:
    """The inbound stage: who may come in is all there is to decide. `longest` is in bytes of a frame."""

    def __init__(self, counts: Counts, door: Doorkeeper, longest: int) -> None:
        self._counts = counts
        self._door = door
        self._longest = longest

    def open(self, batch: Batch, source: bytes) -> Batch | None:
        """Return the frames of the batch when it comes from the peer; None when there are none (counted)."""
        keepalives = 0
        if not batch.trains.shortest:
            keepalives = len(batch.trains)
            batch.trains = Trains(train for train in batch.trains if train.size)
            keepalives -= len(batch.trains)
        if not fits(batch, self._longest, self._counts) and not keepalives:
            return None
        if not self._door.admits(source, clock.now_ns()):
            self._counts[Count.DROPPED + Drop.STRANGER] += batch.trains.frames + keepalives
            return None
        if keepalives:
            self._counts[Count.KEEPALIVES] += keepalives
        return batch if batch.trains else None

    def mail(self) -> None:
        """Nothing: nobody writes to this stage."""


class Keepalive:
    """Tells when the peer, and every NAT on the way to it, should be reminded of us; at once in the beginning.

    `seconds` 0 is never.
    """

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._sent = 0
        self._since = float("-inf")

    def due(self, sent: int, now: float) -> bool:
        """Whether nothing has been sent for `seconds`; `sent` is the number of datagrams sent so far."""
        if not self._seconds:
            return False
        if sent != self._sent:
            self._sent, self._since = sent, now
        return now - self._since >= self._seconds
