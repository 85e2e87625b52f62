"""Datagrams of the handshake on their way to the link: what the peer did not make costs one hash and goes no further.

So whoever lacks the keys can neither keep the link process busy nor crowd genuine handshakes out of the way there.
"""

from collections import deque

from tap2tap import clock, log
from tap2tap.counters import Count, Counts, Drop
from tap2tap.endpoint import from_raw
from tap2tap.protocols.secure.limits import WAITING
from tap2tap.protocols.secure.mac import MAC_LENGTH, matches
from tap2tap.protocols.secure.mailbox import Order, Task, WorkerEnd
from tap2tap.protocols.secure.recent import Seen, Sparingly
from tap2tap.protocols.secure.wire import is_challenge, is_initiation, is_response


class Handshakes:
    """Passes on what has the peer's mac and has not been passed on lately. Nothing, before it is told the keys."""

    def __init__(self, channel: WorkerEnd, counts: Counts) -> None:
        self._channel = channel
        self._counts = counts
        self._key = self._own_key = b""
        self._initiations: deque[bytes] = deque(maxlen=WAITING)  # the macs of those that a challenge may be about
        self._seen = Seen()
        self._looks, self._lines = Sparingly(1.0), Sparingly()

    def obey(self, order: Order) -> None:
        """Take an order; those that are not for here do nothing."""
        if order.task is Task.PEER_MAC:
            self._key = order.data
        elif order.task is Task.OWN_MAC:
            self._own_key = order.data
        elif order.task is Task.EXPECT:
            self._initiations.append(order.data[:MAC_LENGTH])

    def take(self, datagram: bytes, source: bytes) -> None:
        """Take a datagram of a handshake's type, or what pretends to be one; `source` is a `struct sockaddr`."""
        if not self._genuine(datagram):
            self._counts[Count.DROPPED + Drop.AUTHENTICATION] += 1
            if self._looks.allows(clock.now(), "stranger"):
                self._explain(datagram, source)
        elif datagram[-MAC_LENGTH:] in self._seen:
            self._counts[Count.DROPPED + Drop.REPLAY] += 1
        elif self._channel.handshake(datagram, from_raw(source)):
            self._seen.add(datagram[-MAC_LENGTH:])
        else:
            self._counts[Count.DROPPED + Drop.NO_BUFFERS] += 1

    def _genuine(self, datagram: bytes) -> bool:
        if not self._key:
            return False
        if is_initiation(datagram) or is_response(datagram):
            return matches(self._key, datagram)
        return is_challenge(datagram) and any(
            datagram[1:4] == mac[:3] and matches(self._key, datagram, mac) for mac in self._initiations
        )

    def _explain(self, datagram: bytes, source: bytes) -> None:
        """Say what is probably wrong, now and then. The second hash is made once a second at most."""
        if not self._own_key or not (is_initiation(datagram) or is_response(datagram)):
            return
        if matches(self._own_key, datagram):
            kind = "reflected"
            line = "our own handshake came back: do both ends use the same key file, or does --remote lead back here?"
        else:
            kind, line = "stranger", "a handshake failed authentication: is the other key file of this cable there?"
        if self._lines.allows(clock.now(), kind):
            log.warning(line, source=from_raw(source))
