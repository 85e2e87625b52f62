"""Trains that vanish: whether what goes in trains of datagrams (UDP_SEGMENT) arrives (docs/protocol.md, 3.6).

Some kernels, hypervisors and drivers lose trains, or long ones, in silence, and pass single datagrams. A congested
path loses both, and an outage loses everything for once. So there is an experiment: after two reports in a row that
show such loss, or after one that tells of trains alone, datagrams go one by one, until half as many have been reported
on, and loss must have fallen by that. Pure: no clock, no I/O.
"""

from dataclasses import dataclass

from tap2tap.protocols.secure.actions import FOREVER, NEVER, Action, Note, SendTrains
from tap2tap.protocols.secure.limits import (
    BAD_REPORTS,
    EXPERIMENT_INTERVAL,
    FEW_DATAGRAMS,
    FULL_ACCOUNT,
    HEAVY_LOSS,
    LOSS_FALLS_TO,
    MORE_ARRIVES,
    MOST,
    OTHERS_TOO,
    SINGLE_LOSS_MOST,
    SOME_ARRIVED,
    SOME_LOSS,
    SUSPECTED_PAUSE,
    TRAINS_PAUSE,
    TRAINS_PAUSE_MOST,
)
from tap2tap.protocols.secure.reports import Interval

VANISH = (
    "something below loses trains of datagrams (UDP_SEGMENT), sending one by one for a while:"
    " --no-segmentation does so for good"
)


@dataclass
class _Account:
    """What became of some datagrams."""

    sent: int = 0
    lost: int = 0
    in_trains: int = 0
    seconds: float = 0.0

    def add(self, sent: int, lost: int, in_trains: int, seconds: float) -> None:
        self.sent += sent
        self.lost += lost
        self.in_trains += in_trains
        self.seconds += seconds

    @property
    def loss(self) -> float:
        return self.lost / self.sent if self.sent else 0.0

    @property
    def arrived_a_second(self) -> float:
        return (self.sent - self.lost) / self.seconds if self.seconds else 0.0


class Segmentation:
    """Takes what the peer reports, and says whether trains may be sent: `on`."""

    def __init__(self) -> None:
        self.on = True
        self._next_experiment = NEVER
        self._switched = 0  # the counter from which on datagrams go as they go now
        self._forget()

    def _forget(self) -> None:
        self._pause = TRAINS_PAUSE
        self._suspected, self._confirmed = False, False  # trains seem to vanish; they do, and people know
        self._use_trains()

    def _use_trains(self) -> None:
        self.on = True
        self._pause_ends = FOREVER  # of the pause that follows an experiment
        self._recent = _Account()  # of the reports that together tell something
        self._bad, self._good = 0, 0  # of those, in a row
        self._trains, self._singly = _Account(), _Account()  # of the bad ones; of the experiment
        self._heavy = True  # all of the bad ones

    def rekeyed(self) -> None:
        """The datagrams of another session are counted from now on, of which none went before."""
        self._switched = 0

    def path_changed(self) -> list[Action]:
        """The peer has moved, or the path MTU has fallen: what was lost, was lost for that."""
        before = self.on
        self._forget()
        self._next_experiment = NEVER
        return [] if before else [SendTrains(True)]

    def reported(self, now: float, interval: Interval) -> list[Action]:
        """Take a report of the peer. That there is none says nothing of trains: nothing may arrive at all."""
        if interval.guessed:
            return []
        if self.on:
            return self._judge_trains(now, interval)
        if self._pause_ends == FOREVER:
            return self._judge_experiment(now, interval)
        if now < self._pause_ends:
            return []
        self._use_trains()
        self._switched = interval.next_counter
        return [SendTrains(True)]

    def _judge_trains(self, now: float, interval: Interval) -> list[Action]:
        if now < self._next_experiment and not (self._suspected or self._confirmed):
            return []
        recent = self._recent
        sent = min(interval.sent, max(0, interval.end - self._switched))
        recent.add(sent, min(interval.lost, sent), interval.in_trains, interval.seconds)
        if recent.in_trains < FEW_DATAGRAMS:
            return []
        if recent.lost > recent.in_trains * OTHERS_TOO:  # an outage, say
            self._recent = _Account()
            return []
        share = min(recent.lost, recent.in_trains) / recent.in_trains
        others = min(recent.sent - recent.in_trains, recent.sent - recent.lost)  # that were sent, or that arrived
        trains_alone = share >= MOST and others >= SOME_ARRIVED
        if recent.seconds < FULL_ACCOUNT and not trains_alone:
            return []
        if SOME_LOSS <= share < HEAVY_LOSS and recent.lost < FEW_DATAGRAMS:
            return []
        self._recent = _Account()
        if share < SOME_LOSS:
            self._bad, self._trains, self._heavy = 0, _Account(), True
            self._good += 1
            if self._good >= BAD_REPORTS:
                self._suspected, self._confirmed, self._pause = False, False, TRAINS_PAUSE
            return []
        self._good = 0
        self._bad += 1
        self._heavy = self._heavy and share >= HEAVY_LOSS
        self._trains.add(recent.sent, recent.lost, recent.in_trains, recent.seconds)
        if self._bad < (1 if self._confirmed or trains_alone else BAD_REPORTS):
            return []
        self.on, self._switched = False, interval.next_counter
        self._next_experiment = now + EXPERIMENT_INTERVAL
        return [SendTrains(False)]

    def _judge_experiment(self, now: float, interval: Interval) -> list[Action]:
        before = max(0, self._switched - interval.start)  # these may have gone in trains
        if before * 4 > interval.sent:
            return []
        trains, singly = self._trains, self._singly
        singly.add(interval.sent - before, max(0, interval.lost - before), 0, interval.seconds)
        enough = singly.sent >= max(FEW_DATAGRAMS, trains.sent / 2) and singly.sent * trains.loss >= FEW_DATAGRAMS
        if not enough and singly.lost < trains.lost:
            return []
        calm = singly.loss < min(SINGLE_LOSS_MOST, trains.loss * LOSS_FALLS_TO)
        more = singly.arrived_a_second >= trains.arrived_a_second * MORE_ARRIVES
        if not calm or not (self._heavy or more):
            self._forget()
            self._switched = interval.next_counter
            return [SendTrains(True)]
        if not self._heavy and not self._suspected:  # as when a new flow has found its pace meanwhile
            self._suspected = True
            self._pause_ends = now + SUSPECTED_PAUSE
            return []
        self._pause_ends = now + self._pause
        self._pause = min(2 * self._pause, TRAINS_PAUSE_MOST)
        known, self._confirmed, self._suspected = self._confirmed, True, True
        return [] if known else [Note(VANISH)]
