"""Reports: what an end tells the other about what came in, and what it learns from those of the other
(docs/protocol.md, 3.5): round trip, jitter, loss both ways.

A report is about the session on which frames arrive, whatever session it travels on, as the other end may send on
another one. Its counts are sums since that began: a report that is lost costs nothing. Stamps are microseconds since
then, modulo 2^32, and are compared that way. What a report says that cannot be is ignored. Pure: no clock, no I/O.
"""

from collections import deque
from typing import NamedTuple

from tap2tap.protocols.secure.actions import FOREVER, NEVER, Received, Traffic
from tap2tap.protocols.secure.control import Report
from tap2tap.protocols.secure.limits import (
    CONTROL_COUNTERS,
    EARLY_BYTES,
    EARLY_REPORT,
    JITTER_SHARE,
    LOSS_SHARE,
    REPORT_BYTES,
    REPORT_INTERVAL,
    REPORT_LOST_BYTES,
    REPORT_OVERDUE,
    ROUND_TRIP_MOST,
    ROUND_TRIP_SHARE,
)

LOOKS = 16  # as many are remembered: which bytes a report is about is known to one of them
_MODULUS = 1 << 32
_SECOND = 1_000_000


class Interval(NamedTuple):
    """What became of the datagrams with counters from `start` to before `end`, as the peer says."""

    start: int
    end: int
    lost: int
    in_trains: int  # of those that were sent meanwhile: went in trains of several
    seconds: float  # since the interval before, a REPORT_INTERVAL at most
    next_counter: int  # what was sent by the time that this is known
    guessed: bool = False  # no report says so, but there is none

    @property
    def sent(self) -> int:
        """How many there were."""
        return self.end - self.start


def _became(before: Received, after: Received) -> tuple[int, int]:
    """How many counters were used between the two, and how many of these are lost."""
    came = max(0, after.next_counter - before.next_counter)
    return came, min(came, max(0, came - (after.accepted - before.accepted)))


class Loss:
    """A share of datagrams that were lost, lately: of old ones count ever less."""

    def __init__(self) -> None:
        self._sent, self._lost = 0.0, 0.0

    def add(self, sent: int, lost: int) -> None:
        """Take what became of some more."""
        self._sent = self._sent * (1 - LOSS_SHARE) + sent
        self._lost = self._lost * (1 - LOSS_SHARE) + lost

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self._lost / self._sent if self._sent else 0.0


class Reports:
    """Call `begin` for each session that is sent on, `look` once a second while there is traffic."""

    def __init__(self) -> None:
        self.round_trip = 0.0  # seconds; 0: not known
        self.jitter = 0.0
        self._loss_out, self._loss_in = Loss(), Loss()
        self._began = NEVER
        self._overlong, self._allowed = 0, 0  # in all; of these not yet missed
        self._forget(0)

    @property
    def loss_out(self) -> float:
        """Of the datagrams to the peer, 0 to 1."""
        return self._loss_out.share

    @property
    def loss_in(self) -> float:
        """Of the datagrams from the peer, 0 to 1."""
        return self._loss_in.share

    def begin(self, now: float, index: int) -> None:
        """Another session is sent on, on which we receive by this index: all begins anew, what was learned stays."""
        self._began = now
        self._forget(index)

    def _forget(self, index: int) -> None:
        self._sent_at, self._sent_bytes = NEVER, -1  # our last report; -1: not known yet
        self._told = self._seen = Received(
            index, CONTROL_COUNTERS, 0, 0
        )  # what it said; what was seen at the last look
        self._heard_at, self._heard_bytes, self._heard_trains = NEVER, -1, -1  # the peer's last one
        self._looks: deque[tuple[int, int]] = deque(maxlen=LOOKS)  # what was sent by then: the next counter, and bytes
        self._waits_since = FOREVER  # for the next one, as there are frames enough for it
        self._newest, self._accepted = CONTROL_COUNTERS - 1, 0  # what it said
        self._echo, self._echo_at = 0, NEVER
        self._transit: int | None = None  # of the last report, the difference of the clocks included

    def look(self, now: float, traffic: Traffic) -> Report | None:
        """Return the report that is to be sent now, if any."""
        self._see(traffic)
        received = traffic.received
        if received is None or received.next_counter <= CONTROL_COUNTERS:  # nothing yet but proofs
            return None
        if received.index != self._told.index:
            self._told = self._seen = received  # what was lost on it before says nothing of now
        if traffic.last_frame_heard <= max(self._sent_at, self._began):
            self._told = self._seen = received  # probes that were too long, perhaps: nobody missed them
            return None
        came, lost = _became(self._told, received)
        lately, lost_lately = _became(self._seen, received)
        heavy, self._seen = 0 < lately <= 2 * lost_lately, received
        if now < self._sent_at + (EARLY_REPORT if heavy else REPORT_INTERVAL):
            return None
        size = traffic.bytes - self._sent_bytes
        missed = lost_lately if heavy else 0
        size += (lost - missed) * (size // max(1, came - lost)) + missed * REPORT_LOST_BYTES
        if size < (EARLY_BYTES if heavy else REPORT_BYTES):
            return None
        self._loss_in.add(came, lost)
        self._sent_at, self._sent_bytes, self._told = now, traffic.bytes, received
        held = round((now - self._echo_at) * _SECOND) if self._echo else 0
        stamp = self._stamp(now) or 1  # 0 is none
        held = min(held, _MODULUS - 1)
        newest = received.next_counter - 1
        return Report(received.index, newest, received.accepted, received.late, stamp, self._echo, held)

    def heard(self, now: float, report: Report, traffic: Traffic, overlong: int = 0) -> Interval | None:
        """Take a report of the peer on the session that is sent on; `traffic` as of now, or later than the report came.

        `overlong` is how many probes were too long so far: their loss is none.
        None for one that tells nothing about what was sent: it was overtaken, is the same, or cannot be.
        """
        self._see(traffic)
        sent, accepted = report.newest - self._newest, report.accepted - self._accepted
        possible = report.late <= report.accepted <= report.newest - CONTROL_COUNTERS + 1
        if not possible or report.newest >= traffic.next_counter or sent < 0 or accepted < 0:
            return None
        self._measure(now, report)
        missing = max(0, sent - accepted)
        self._allowed = max(0, self._allowed + overlong - self._overlong)
        self._overlong = overlong
        lost = max(0, missing - self._allowed)
        self._allowed -= missing - lost
        interval = Interval(
            self._newest + 1,
            report.newest + 1,
            lost,
            traffic.in_trains - self._heard_trains,
            min(REPORT_INTERVAL, now - max(self._heard_at, self._began)),
            traffic.next_counter,
        )
        covered = [sent_bytes for counter, sent_bytes in self._looks if counter <= report.newest + 1]
        self._hear(now, traffic, covered[-1] if covered else self._heard_bytes)
        self._newest, self._accepted = report.newest, report.accepted
        if sent == 0:
            return None
        self._loss_out.add(sent, lost)
        return interval

    def overdue(self, now: float, traffic: Traffic) -> Interval | None:
        """Return what was sent since the last report, as if all were lost, when there ought to be another by now.

        Call it after `look`, with the same traffic. It says so again after as long, if there is still none.
        """
        # Where nothing is heard at all, the first flight of a flow may be all that there is.
        least = EARLY_BYTES if now >= traffic.last_heard + REPORT_OVERDUE else REPORT_BYTES
        enough = traffic.bytes - self._heard_bytes >= least and traffic.next_counter > self._newest + 1
        if not enough or traffic.last_frame_sent <= max(self._heard_at, self._began):
            return None
        self._waits_since = min(self._waits_since, now)
        if now < self._waits_since + REPORT_OVERDUE:
            return None
        sent = traffic.next_counter - self._newest - 1
        in_trains = traffic.in_trains - self._heard_trains
        self._hear(now, traffic, traffic.bytes)
        return Interval(
            self._newest + 1, traffic.next_counter, sent, in_trains, REPORT_INTERVAL, traffic.next_counter, guessed=True
        )

    def _see(self, traffic: Traffic) -> None:
        """Before the first report of a session everything counts from the first look."""
        if self._sent_bytes < 0:
            self._sent_bytes = self._heard_bytes = traffic.bytes
            self._heard_trains = traffic.in_trains
        self._looks.append((traffic.next_counter, traffic.bytes))

    def _hear(self, now: float, traffic: Traffic, covered: int) -> None:
        self._heard_at, self._heard_bytes, self._heard_trains = now, covered, traffic.in_trains
        self._waits_since = FOREVER

    def _stamp(self, now: float) -> int:
        return round((now - self._began) * _SECOND) % _MODULUS

    def _measure(self, now: float, report: Report) -> None:
        """Round trip and jitter, if the stamps can be true."""
        elapsed = (self._stamp(now) - report.echo) % _MODULUS
        trip = (elapsed - report.held) / _SECOND
        if report.echo and 0 <= trip <= ROUND_TRIP_MOST and elapsed <= (now - self._began) * _SECOND:
            self.round_trip += (trip - self.round_trip) * (ROUND_TRIP_SHARE if self.round_trip else 1)
        if not report.stamp:
            return
        transit = (self._stamp(now) - report.stamp) % _MODULUS
        if self._transit is not None:
            change = (transit - self._transit + _MODULUS // 2) % _MODULUS - _MODULUS // 2
            if abs(change) <= ROUND_TRIP_MOST * _SECOND:
                self.jitter += (abs(change) / _SECOND - self.jitter) * JITTER_SHARE
        self._transit, self._echo, self._echo_at = transit, report.stamp, now
