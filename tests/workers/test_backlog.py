"""The measure of what may wait, on a simulated link: never more than a tenth of a second, or 64 datagrams; and no less.

Time and the kernel's answer are those of the simulation, so the results are the same on every machine.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.workers import backlog
from tap2tap.workers.backlog import Backlog
from tap2tap.workers.udp import Outgoing

HEADERS = 42
FEW = 64


class Link:
    """A device that sends `rate` bytes a second, from a queue of messages as the kernel charges for them.

    `cuts`: it cuts trains up before they wait. Whoever sleeps does so for `oversleeps` seconds more than asked.
    """

    def __init__(self, rate: float, *, cuts: bool, oversleeps: float = 0) -> None:
        self.rate = rate
        self.now = 1000.0
        self.sent = 0.0
        self._cuts = cuts
        self._oversleeps = oversleeps
        self._queue: deque[tuple[int, int]] = deque()  # charge, bytes on the wire
        self._charged = self._bytes = 0  # the sums of it
        self._spare = 0.0  # bytes of the first message that have left already

    @contextmanager
    def connected(self) -> Iterator[Backlog]:
        """The backlog of a socket on this link."""
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=lambda pause: self.wait(pause + self._oversleeps))
        with mock.patch.object(backlog, "time", clock):
            yield Backlog(Queue(self))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        able = self.rate * seconds + self._spare
        while self._queue and self._queue[0][1] <= able:
            charge, size = self._queue.popleft()
            able -= size
            self.sent += size
            self._charged -= charge
            self._bytes -= size
        self._spare = able if self._queue else 0.0

    @property
    def charged(self) -> int:
        """What the kernel charges for all that waits."""
        return self._charged

    @property
    def waiting(self) -> float:
        """Bytes on the wire that wait."""
        return self._bytes - self._spare

    def take(self, datagrams: int, size: int) -> None:
        """Put a message into the queue; what is charged for it is what Linux 6.18 does."""
        for count in [1] * datagrams if self._cuts else [datagrams]:
            charge = count * size + 832
            if count == 1:
                charge = 832 if size < 300 else 1280 if size < 700 else 2304
            self._queue.append((charge, count * (size + HEADERS)))
            self._charged += charge
            self._bytes += count * (size + HEADERS)

    def offer(self, measure: Backlog, counts: list[int], size: int) -> int:
        """Send as many of these messages as may be; how many of their datagrams were dropped."""
        dropped = 0
        for count in counts:
            if count > measure.free and measure.admit(count, size) < count:
                dropped += count
                continue
            self.take(count, size)
            measure.sent(1, count, count * size)
        return dropped


class Queue(Outgoing):
    """A socket on a link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def queued(self) -> int:
        """Bytes of truesize."""
        return self._link.charged


RATES = st.sampled_from((1e3, 1e5, 1e6, 5e6, 2e7, 1e8, 1e9)).map(lambda bits: bits / 8)
SIZES = st.integers(14, 1472)


@given(RATES, SIZES, st.integers(1, 64), st.integers(1, 8), st.sampled_from((0.0001, 0.001, 0.02)), st.booleans())
@settings(max_examples=60)
def test_no_more_waits_than_a_tenth_of_a_second_or_a_few_datagrams(
    rate: float, size: int, count: int, messages: int, step: float, cuts: bool
) -> None:
    link = Link(rate, cuts=cuts)
    datagram = size + HEADERS
    leaving = datagram if cuts else datagram * count  # what leaves last, and is seen to leave as a whole
    most = max(rate * 0.1 + leaving, FEW * datagram)
    with link.connected() as measure:
        for _ in range(1000):
            link.wait(step)
            link.offer(measure, [count] * messages, size)
            assert link.waiting <= most


@given(RATES.filter(lambda rate: rate > 1e4), SIZES, st.integers(1, 64), st.booleans())
@settings(max_examples=40)
def test_a_link_never_idles_while_there_is_something_to_send(rate: float, size: int, count: int, cuts: bool) -> None:
    link = Link(rate, cuts=cuts)
    step = 0.001
    messages = min(50, 1 + int(3 * rate * step / count / (size + HEADERS)))  # three times what it can take
    able = min(rate, messages * count * (size + HEADERS) / step)
    with link.connected() as measure:
        for _ in range(100):
            link.wait(step)
            link.offer(measure, [count] * messages, size)
        sent, since = link.sent, link.now
        while link.now < since + 0.5:
            link.wait(step)
            link.offer(measure, [count] * messages, size)
        assert link.sent - sent >= 0.9 * able * (link.now - since) - FEW * (size + HEADERS)


@given(SIZES, st.integers(1, 64), st.sampled_from((1e3, 1e5, 1e6)))
@settings(max_examples=20)
def test_a_link_that_becomes_slow_has_a_short_queue_at_once(size: int, count: int, slow: float) -> None:
    link = Link(1e9 / 8, cuts=False)
    with link.connected() as measure:
        for _ in range(100):
            link.wait(0.001)
            link.offer(measure, [count] * 20, size)
        link.wait(1)
        assert not link.waiting
        link.rate = slow / 8
        for _ in range(3):
            link.offer(measure, [1], 100)
            link.wait(0.1)
        for _ in range(500):
            link.wait(0.001)
            link.offer(measure, [count] * 20, size)
            train = count * (size + HEADERS)
            assert link.waiting <= max(link.rate * 0.1 + train, FEW * (size + HEADERS)) + 3 * (100 + HEADERS)


@given(st.lists(st.tuples(SIZES, st.integers(1, 64), st.integers(1, 8), st.floats(0, 0.2)), max_size=60), RATES)
@settings(max_examples=40)
def test_whoever_sends_now_and_then_is_never_refused_for_long(
    batches: list[tuple[int, int, int, float]], rate: float
) -> None:
    """Nothing that waits is forgotten or counted twice: when all has left, 64 datagrams go again."""
    link = Link(rate, cuts=False)
    with link.connected() as measure:
        for size, count, messages, pause in batches:
            link.wait(pause)
            link.offer(measure, [count] * messages, size)
        while link.waiting:
            link.wait(10)
        assert link.offer(measure, [FEW], 1472) == 0


@given(st.sampled_from((1e8, 1e9, 1e10)), SIZES, st.integers(1, 64))
@settings(max_examples=20)
def test_a_burst_after_silence_passes_where_the_link_is_fast(rate: float, size: int, count: int) -> None:
    link = Link(rate / 8, cuts=True)
    with link.connected() as measure:
        for _ in range(5):
            since = link.now
            assert link.offer(measure, [count] * (200 // count), size) == 0
            assert link.now - since < 0.02
            link.wait(0.5)


@pytest.mark.parametrize("oversleeps", [0, 0.02])
def test_a_queue_that_does_not_move_takes_few_and_costs_no_time(oversleeps: float) -> None:
    link = Link(0, cuts=False, oversleeps=oversleeps)
    with link.connected() as measure:
        dropped, before = 0, link.now
        for _ in range(1000):
            dropped += link.offer(measure, [1] * 8, 1472)
            link.wait(0.001)
        assert dropped == 8000 - FEW
        assert link.now - before < 1.1 + 15 * oversleeps  # of which 1.0 is ours
