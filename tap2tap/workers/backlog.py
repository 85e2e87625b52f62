"""How much of what was sent still waits below the socket, and how much more may: a slow way out makes no long queue.

Where the way out is slower than the way in, a queue grows up to the whole send buffer, and all that is sent later waits
behind it: at 1 Mbit/s for a minute. So only so much is sent that what waits is no more than what has left in the last
tenth of a second, or FEW datagrams, whichever is more. For that the rate of the link need not be known: what is
allowed doubles as often as it has left, which on a fast link is at once. A link that gets slow all of a sudden is
found out within a hundredth of a second.
"""

import time
from array import array

from tap2tap.workers.udp import Outgoing

FEW = 64  # datagrams that may wait however slow the link is
WINDOW = 0.075  # seconds: less than a tenth, as messages are not of one size nor looks regular
PAUSE = 0.0005  # seconds to wait when there is no room: on a fast link there is some by then
PATIENCE = WINDOW / 5  # seconds of pauses in a window; such in which nothing leaves count six times
# What a message is charged for at least (truesize in linux/skbuff.h), and how much of that is room for its own bytes.
MESSAGE, OVERHEAD_ROOM = 832, 300
HEADERS = 42  # bytes of a datagram on the wire besides its own: Ethernet, IPv4, UDP
ENTRIES = 256  # of the ring of what waits; what finds no entry is added to the newest


class Backlog:
    """What waits of the datagrams sent by `out`.

    `free` datagrams may be sent without asking, then `admit` is to be asked. `sent` is to be told of all.
    """

    def __init__(self, out: Outgoing) -> None:
        self.free = 0
        self.out = out
        self.messages = self.datagrams = self.length = 0  # sent since, and not yet in the ring: all alike
        # What waits, a ring of entries from the oldest on: what is charged, datagrams, bytes on the wire.
        self.charges = memoryview(array("q", bytes(8 * ENTRIES)))
        self.counts = memoryview(array("q", bytes(8 * ENTRIES)))
        self.wires = memoryview(array("q", bytes(8 * ENTRIES)))
        self.oldest = self.entries = 0
        self.charged = self.few = self.bytes = 0  # the sums of it
        self.left = self.left_before = 0  # bytes that have left in this window, and in the one before
        self.since = self.looked = 0.0  # when this window began, and when the last look was
        self.waited = False  # whether something waited at the last look
        self.busy_since, self.busy_left = 0.0, 0  # since when something has always waited, and what has left since
        self.patience = 0.0

    def sent(self, messages: int, datagrams: int, length: int) -> int:
        """Take note of messages that the kernel took, of so many datagrams and bytes in all."""
        if self.length * messages != length * self.messages or self.datagrams * messages != datagrams * self.messages:
            self._enter()  # these are unlike those before
        self.free -= datagrams
        self.messages += messages
        self.datagrams += datagrams
        self.length += length
        return 0

    def admit(self, least: int, size: int) -> int:
        """How many datagrams of `size` bytes may be sent; where that is less than `least`, none are to be.

        It may wait for room, but at most a fifth of the time, and hardly where nothing leaves: to read the tap on.
        """
        self._look()
        while True:
            self.free = FEW - self.few
            room = max(self.free, (max(self.left, self.left_before) - self.bytes) // (size + HEADERS))
            if room >= least or self.patience <= 0:
                return room
            patience, before = self.patience, self.looked
            time.sleep(PAUSE)
            gone = self._look()
            self.patience = patience - (self.looked - before) * (1 if gone else 6)

    def _look(self) -> int:
        """See what has left since the last look, and return it in bytes."""
        now = _now()
        self._enter()
        queued = self.out.queued()
        if queued > self.charged:
            self._correct(queued)
        gone = self._leave(queued)
        waits = self.entries > 0
        self._measure(now, gone, self.waited and waits)
        self.waited = waits
        return gone

    def _enter(self) -> int:
        """Enter into the ring what was sent."""
        if self.messages:
            charge = self.messages * MESSAGE + max(0, self.length - self.messages * OVERHEAD_ROOM)
            self._add(charge, self.datagrams, self.length + self.datagrams * HEADERS)
            self.messages = self.datagrams = self.length = 0
        return 0

    def _add(self, charge: int, datagrams: int, wire: int) -> int:
        """Note that so much more waits."""
        if self.entries < ENTRIES:
            newest = (self.oldest + self.entries) % ENTRIES
            self.entries += 1
            self.charges[newest], self.counts[newest], self.wires[newest] = charge, datagrams, wire
        else:
            newest = (self.oldest + self.entries - 1) % ENTRIES
            self.charges[newest] += charge
            self.counts[newest] += datagrams
            self.wires[newest] += wire
        self.charged += charge
        self.few += datagrams
        self.bytes += wire
        return 0

    def _correct(self, queued: int) -> int:
        """The kernel charges more than we thought: the newest were cut up, say."""
        if not self.entries:  # from before our time
            self._add(0, min(FEW, queued // MESSAGE), queued)
        newest = (self.oldest + self.entries - 1) % ENTRIES
        self.charges[newest] += queued - self.charged
        self.charged = queued
        return 0

    def _leave(self, queued: int) -> int:
        """Strike out the oldest that no longer wait, as only `queued` is still charged; return their bytes."""
        gone = 0
        while self.entries and self.charged > queued:
            oldest = self.oldest
            charge, datagrams, wire = self.charges[oldest], self.counts[oldest], self.wires[oldest]
            still = max(0, queued - (self.charged - charge))  # a part of it may wait
            if still:
                self.charges[oldest] = still
                self.counts[oldest] = (datagrams * still + charge - 1) // charge
                self.wires[oldest] = (wire * still + charge - 1) // charge
                datagrams -= self.counts[oldest]
                wire -= self.wires[oldest]
            else:
                self.oldest = (oldest + 1) % ENTRIES
                self.entries -= 1
            self.charged -= charge - still
            self.few -= datagrams
            self.bytes -= wire
            gone += wire
        return gone

    def _measure(self, now: float, gone: int, busy: bool) -> int:
        """Keep account of what leaves in a window of time; `busy` says that something has waited all the time."""
        self.left += gone
        if now - self.since >= WINDOW:
            # What left before the last look is of no account if that is long ago.
            left, since = self.left, self.since
            if now - self.looked >= WINDOW:
                left, since = gone, self.looked
            self.left, self.left_before = 0, _in_window(left, now - since)
            self.since, self.patience = now, PATIENCE
        self.looked = now
        if not busy:
            self.busy_since, self.busy_left = now, 0
            return 0
        # As long as something waits all the time, what leaves is what the link can do: it may have got slow.
        self.busy_left += gone
        if now - self.busy_since >= WINDOW / 8:
            most = _in_window(self.busy_left, now - self.busy_since)
            self.left, self.left_before = min(self.left, most), min(self.left_before, most)
            self.busy_since, self.busy_left = now, 0
        return 0


def _in_window(amount: int, seconds: float) -> int:
    """How much of something would be in a window of time, if `amount` was in so many seconds."""
    return int(amount * WINDOW / seconds)


def _now() -> float:
    """Seconds, on a clock that never goes back."""
    return time.monotonic()
