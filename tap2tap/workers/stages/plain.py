"""The stages of the plain protocol: one Ethernet frame is one datagram, and nothing is done to it."""

import contextlib
import socket

from tap2tap import clock, udp_socket
from tap2tap.counters import Count, Counts, Drop
from tap2tap.endpoint import from_raw
from tap2tap.workers.path import Path
from tap2tap.workers.stages.lengths import LengthFilter
from tap2tap.workers.stages.peer import PeerFilter
from tap2tap.workers.train import Train

STRANGER = Count.DROPPED + Drop.STRANGER
KEEPALIVES, PARTS = Count.KEEPALIVES, Count.PARTS


class PlainSeal:
    """The outbound stage. A keepalive is an empty datagram, which C tap2tap and QuickTun ignore.

    What is too long for the path goes in IP fragments, which is counted. `room` is a place in the arena, `keepalive` in
    seconds, 0 is never.
    """

    def __init__(self, counts: Counts, path: Path, room: int, keepalive: int) -> None:
        self.front = self.overhead = 0
        self._counts = counts
        self._path = path
        self._room = room
        self._keepalive = Keepalive(keepalive)

    def seal(self, frames: Train, train: Train) -> bool:
        """Take all frames as they are; those that go out in IP fragments are counted as in parts."""
        if not frames.count:
            return False
        train.at, train.size, train.step, train.last = frames.at, frames.size, frames.step, frames.last
        train.count, train.vouched = frames.count, frames.vouched
        frames.count = 0
        room = self._path.room()
        if train.size > room:
            self._counts[PARTS] += train.count - (train.last <= room)
        return True

    def keepalive(self, train: Train) -> bool:
        """Make `train` an empty datagram when it is time to remind the peer of us."""
        if not self._keepalive.due(self._counts[Count.DATAGRAMS], clock.now()):
            return False
        train.at, train.count, train.vouched = self._room, 1, False
        train.size = train.step = train.last = 0
        return True

    def control(self, train: Train) -> bool:  # noqa: ARG002  (the contract)
        """Nothing: there is no link to order it."""
        return False

    def too_long(self, size: int) -> None:
        """Nothing: only a frame that no datagram can hold is refused for its length."""


class PlainOpen:
    """The inbound stage: who may come in is all there is to decide.

    An empty datagram of a client is answered with another, so that the client knows that somebody is there. `sock` is
    borrowed.
    """

    def __init__(self, counts: Counts, peers: PeerFilter, lengths: LengthFilter, sock: socket.socket) -> None:
        self._counts = counts
        self._peers = peers
        self._lengths = lengths
        self._sock = sock

    def open(self, train: Train, frames: Train, source: bytes) -> bool:
        """Take all frames of `train` when it comes from the peer."""
        count = train.count
        if not count:
            return False
        frames.at, frames.size, frames.step, frames.last = train.at, train.size, train.step, train.last
        frames.count, frames.vouched = count, False
        train.count = 0
        empty = not train.size
        if not empty and not self._lengths.keep(frames):
            return False
        now = clock.now_ns()
        if not self._peers.admits(source, now):
            self._counts[STRANGER] += frames.count
            return False
        if empty:
            self._counts[KEEPALIVES] += count
            if self._peers.answers(now):
                self._answer(source)
        return not empty

    def idle(self) -> None:
        """Let the peer's time go by."""
        self._peers.rest(clock.now_ns())

    def _answer(self, source: bytes) -> None:
        with contextlib.suppress(OSError):
            udp_socket.send(self._sock, b"", from_raw(source))


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
