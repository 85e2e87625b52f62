"""A flow over a path that loses trains, or anything, with the reports of its far end, in simulated time."""

import random
from collections.abc import Callable

from tap2tap.protocols.secure.actions import Action, Note, SendTrains
from tap2tap.protocols.secure.reports import Interval
from tap2tap.protocols.secure.segmentation import Segmentation

LONGEST_TRAIN = 44  # datagrams of a super-frame of 64 KiB
MOST = 60  # datagrams of a window, or it takes too long to simulate
RTO = 0.2  # seconds
Path = Callable[[int], int]  # of a train of so many, how many arrive


def vanishing(longest: int, loss: float = 0.0, seed: int = 0) -> Path:
    """Trains above this length vanish; of the others each datagram is lost with this probability."""
    dice = random.Random(seed)
    if not loss:
        return lambda train: train if train <= longest else 0
    return lambda train: 0 if train > longest else sum(dice.random() >= loss for _ in range(train))


class Flow:
    """A TCP-like sender, its congestion window in datagrams, over a `path`; `capacity` is that of the bottleneck.

    What does not fit its queue is lost, of trains and of single datagrams alike.
    """

    def __init__(
        self, path: Path, *, round_trip: float = 0.01, capacity: int = 100_000, queue: int = 2000, report: float = 1.0
    ) -> None:
        """`capacity` is in datagrams a second."""
        self.path, self.round_trip, self.capacity, self.queue, self.interval = path, round_trip, capacity, queue, report
        self.watch = Segmentation()
        self.now = 0.0
        self.window, self.threshold = 10.0, 1e9
        self.counter, self.accepted, self.in_trains = 16, 0, 0
        self.reports: list[tuple[float, int, int]] = []  # in flight: when, next counter, accepted
        self.reported = (16, 0, 0)  # next counter, accepted, in trains
        self.next_report = self.heard_at = 0.0
        self.log: list[tuple[float, Action]] = []
        self.goodput: list[tuple[float, int]] = []

    def act(self, actions: list[Action]) -> None:
        for action in actions:
            assert isinstance(action, SendTrains | Note)
            if isinstance(action, SendTrains):
                assert action.on == self.watch.on
            self.log.append((self.now, action))

    def send(self, count: int, room: int) -> int:
        """Send datagrams, in trains if that may be; returns how many arrive."""
        arrived = 0
        while count:
            train = min(count, LONGEST_TRAIN if self.watch.on else 1)
            count -= train
            self.counter += train
            if train > 1:
                self.in_trains += train
            arrived += min(self.path(train), room - arrived)
        self.accepted += arrived
        return arrived

    def turn(self) -> None:
        """One round trip of the flow."""
        count = int(self.window)
        room = int(self.capacity * self.round_trip) + self.queue
        arrived = self.send(count, room)
        self.goodput.append((self.now, arrived))
        pause = self.round_trip
        if arrived == 0 or arrived < count / 4:
            self.threshold, self.window, pause = max(2, self.window / 2), 1, max(RTO, 2 * self.round_trip)
        elif arrived < count:
            self.threshold = self.window = max(2, self.window / 2)
        elif self.window < self.threshold:
            self.window = min(2 * self.window, self.threshold)
        else:
            self.window += 1
        self.window = min(self.window, MOST)
        self.pass_time(pause)

    def pass_time(self, pause: float) -> None:
        end = self.now + pause
        if self.accepted and self.now >= self.next_report:
            self.next_report = self.now + self.interval
            self.reports.append((self.now + self.round_trip / 2, self.counter, self.accepted))
        while self.reports and self.reports[0][0] <= end:
            self.now, counter, accepted = self.reports.pop(0)
            before, accepted_before, in_trains = self.reported
            if counter > before:
                lost = counter - before - (accepted - accepted_before)
                seconds = min(1.0, self.now - self.heard_at)
                trains = self.in_trains - in_trains
                self.heard_at, self.reported = self.now, (counter, accepted, self.in_trains)
                self.act(self.watch.reported(self.now, Interval(before, counter, lost, trains, seconds, self.counter)))
        self.now = end

    def run(self, seconds: float, *, pause: float = 0.0) -> None:
        """Bulk for so long; `pause`: a new flow so often, with some rest before it."""
        end, fresh = self.now + seconds, self.now + (pause or 1e9)
        while self.now < end:
            if self.now >= fresh:
                self.pass_time(0.3)
                self.window, self.threshold, fresh = 10, 1e9, self.now + pause
            self.turn()

    def arrived(self, since: float, until: float) -> int:
        return sum(count for when, count in self.goodput if since <= when < until)

    def switches(self) -> list[tuple[float, bool]]:
        return [(when, action.on) for when, action in self.log if isinstance(action, SendTrains)]

    def notes(self) -> list[float]:
        return [when for when, action in self.log if isinstance(action, Note)]

    def singly(self, until: float) -> float:
        """Seconds without trains."""
        since, total = None, 0.0
        for when, on in [*self.switches(), (until, True)]:
            if on and since is not None:
                total, since = total + when - since, None
            elif not on:
                since = when
        return total
