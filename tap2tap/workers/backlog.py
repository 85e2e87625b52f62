"""How much of what was sent still waits below the socket, and how much more may: a slow way out makes no long queue.

Where the way out is slower than the way in, a queue grows up to the whole send buffer, and all that is sent later waits
behind it: at 1 Mbit/s for a minute. So only so much is sent that what waits is no more than what has left in the last
tenth of a second, or FEW datagrams, whichever is more. For that the rate of the link need not be known: what is
allowed doubles as often as it has left, which on a fast link is at once. A link that gets slow all of a sudden is
found out within a hundredth of a second.
"""

import fcntl
import socket
import time
from array import array
from collections import deque
from collections.abc import Sequence
from itertools import islice
from termios import TIOCOUTQ

FEW = 64  # datagrams that may wait however slow the link is
WINDOW = 0.075  # seconds: less than a tenth, as messages are not of one size nor looks regular
_PAUSE = 0.0005  # seconds to wait when there is no room: on a fast link there is some by then
_PATIENCE = WINDOW / 5  # seconds of pauses in a window; such in which nothing leaves count six times
# What a message is charged for at least (truesize in linux/skbuff.h), and how much of that is room for its own bytes.
_MESSAGE, _ROOM = 832, 300
_HEADERS = 42  # bytes of a datagram on the wire besides its own: Ethernet, IPv4, UDP


class Backlog:
    """What waits of the datagrams sent by `sock`, which is borrowed.

    `free` datagrams may be sent without asking, then `admit` is to be asked. `sent` is to be told of all.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.free = 0
        self._fd = sock.fileno()
        self._queued = array("i", [0])  # SIOCOUTQ, in linux/sockios.h another name of TIOCOUTQ, in bytes of truesize
        self._messages = self._datagrams = self._length = 0  # sent since the last look
        self._waiting: deque[tuple[int, int, int]] = deque()  # what is charged, datagrams, bytes on the wire
        self._charged = self._few = self._bytes = 0  # the sums of it
        self._left = self._left_before = 0  # bytes that have left in this window, and in the one before
        self._since = self._looked = 0.0  # when this window began, and when the last look was
        self._busy_since, self._busy_left = 0.0, 0  # since when something has always waited, and what has left since
        self._patience = 0.0

    def sent(self, messages: int, datagrams: int, length: int) -> None:
        """Take note of messages that the kernel took, of so many datagrams and bytes in all."""
        self.free -= datagrams
        self._messages += messages
        self._datagrams += datagrams
        self._length += length

    def admit(self, counts: Sequence[int], first: int, size: int) -> int:
        """How many messages from number `first` on may be sent; message i has counts[i] datagrams of `size` bytes.

        It may wait for room, but at most a fifth of the time, and hardly where nothing leaves: to read the tap on.
        """
        self._look()
        while True:
            self.free = FEW - self._few
            room = max(self.free, (max(self._left, self._left_before) - self._bytes) // (size + _HEADERS))
            admitted = 0
            for count in islice(counts, first, None):
                room -= count
                if room < 0:
                    break
                admitted += 1
            if admitted or self._patience <= 0:
                return admitted
            patience, before = self._patience, self._looked
            time.sleep(_PAUSE)
            gone = self._look()
            self._patience = patience - (self._looked - before) * (1 if gone else 6)

    def _look(self) -> int:
        """See what has left since the last look, and return it in bytes."""
        waiting, now, gone = self._waiting, time.monotonic(), 0
        waited = bool(waiting)
        if self._messages:
            charge = self._messages * _MESSAGE + max(0, self._length - self._messages * _ROOM)
            wire = self._length + self._datagrams * _HEADERS
            waiting.append((charge, self._datagrams, wire))
            self._charged += charge
            self._few += self._datagrams
            self._bytes += wire
            self._messages = self._datagrams = self._length = 0
        fcntl.ioctl(self._fd, TIOCOUTQ, self._queued)
        queued = self._queued[0]
        if queued > self._charged:
            if not waiting:  # from before our time
                waiting.append((0, min(FEW, queued // _MESSAGE), queued))
                self._few, self._bytes = waiting[0][1:]
            charge, datagrams, wire = waiting.pop()  # the newest were charged for more: they were cut up, say
            waiting.append((charge + queued - self._charged, datagrams, wire))
            self._charged = queued
        while waiting and self._charged > queued:
            charge, datagrams, wire = waiting.popleft()
            self._charged -= charge
            self._few -= datagrams
            self._bytes -= wire
            gone += wire
            still = queued - self._charged
            if still > 0:  # a part of it waits
                datagrams, wire = -(-datagrams * still // charge), -(-wire * still // charge)
                waiting.appendleft((still, datagrams, wire))
                self._charged += still
                self._few += datagrams
                self._bytes += wire
                gone -= wire
        self._left += gone
        if now - self._since >= WINDOW:
            # What left before the last look is of no account if that is long ago.
            left, since = (gone, self._looked) if now - self._looked >= WINDOW else (self._left, self._since)
            self._left, self._left_before = 0, int(left * WINDOW / (now - since))
            self._since, self._patience = now, _PATIENCE
        self._looked = now
        if not (waited and waiting):
            self._busy_since, self._busy_left = now, 0
            return gone
        # As long as something waits all the time, what leaves is what the link can do: it may have got slow.
        self._busy_left += gone
        if now - self._busy_since >= WINDOW / 8:
            most = int(self._busy_left * WINDOW / (now - self._busy_since))
            self._left, self._left_before = min(self._left, most), min(self._left_before, most)
            self._busy_since, self._busy_left = now, 0
        return gone
