"""The sessions of one cable that are open for receiving, and the one among them to send on.

They are of four kinds, each with a small room of its own, so that no kind can push another out: least of all may
recordings of old initiations, which an attacker can play back, cost a session that the peer is about to prove, or one
that is in use. Nor do recordings push out one another, as the peer's own initiation may be among them: while their
room is full (see `has_room`), whoever comes is asked for a fresh one, which has another room.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import Action, CloseReceive, OpenReceive, StopSending, UseForSending
from tap2tap.protocols.secure.handshake import SessionKeys
from tap2tap.protocols.secure.limits import (
    CONTROL_COUNTERS,
    PROOF_DELAYS,
    ROOM_ANSWERED,
    ROOM_ANSWERED_FRESH,
    ROOM_PROVED,
    ROOM_STARTED,
    SAME_AGE,
    Timers,
)
from tap2tap.protocols.secure.sealing import keepalive
from tap2tap.protocols.secure.wire import Cipher


class Kind(Enum):
    """How far a session has come."""

    ANSWERED = "we answered an initiation that may be a recording"
    ANSWERED_FRESH = "we answered an initiation that cannot be one"
    STARTED = "the peer answered ours, and we wait for its confirmation"
    PROVED = "something authentic came in on it"


ROOM: Final = {
    Kind.ANSWERED: ROOM_ANSWERED,
    Kind.ANSWERED_FRESH: ROOM_ANSWERED_FRESH,
    Kind.STARTED: ROOM_STARTED,
    Kind.PROVED: ROOM_PROVED,
}
FOREVER: Final = float("inf")


@dataclass(slots=True, eq=False)
class Session:
    """One pair of keys and what we know of it. Times are of the link's clock."""

    index: int
    peer_index: int
    cipher: Cipher
    keys: SessionKeys = field(repr=False)
    initiator: bool
    peer_keepalive: int
    established: float
    rekey_at: float
    kind: Kind
    target: Endpoint | None = None  # where the initiation went, and the proofs go; the initiator's alone
    next_proof: float = FOREVER
    _proofs: int = 0
    _control: int = 0  # the next counter below CONTROL_COUNTERS

    def control_keepalive(self) -> bytes | None:
        """Seal a keepalive with one of the supervisor's own counters; None when they are used up."""
        if self._control >= CONTROL_COUNTERS:
            return None
        counter = self._control
        self._control += 1  # before sealing: a counter is never used twice, whatever happens next
        return keepalive(self.cipher, self.keys.send, self.peer_index, counter)

    def make_proof(self, now: float) -> bytes | None:
        """Seal the next proof, if the session still needs one, and set the time of the one after it."""
        self.next_proof = FOREVER
        if self.kind is not Kind.STARTED:
            return None
        if self._proofs < len(PROOF_DELAYS):
            self.next_proof = now + PROOF_DELAYS[self._proofs]
        self._proofs += 1
        return self.control_keepalive()


class Sessions:
    """All open sessions by our index; `current` is the one to send on."""

    __slots__ = ("_open", "_timers", "current", "replaced")

    def __init__(self, timers: Timers) -> None:
        self._open: dict[int, Session] = {}
        self._timers = timers
        self.current: Session | None = None
        self.replaced = 0  # sessions that were current and living when another took their place

    def get(self, index: int) -> Session | None:
        """Find a session by the index that we receive by."""
        return self._open.get(index)

    def has_room(self, kind: Kind) -> bool:
        """Tell whether one more of this kind pushes none out."""
        return sum(session.kind is kind for session in self) < ROOM[kind]

    def is_in_use(self, session: Session) -> bool:
        """Tell whether the peer may take this session for the newest, as far as we know."""
        return self.current is None or session.established >= self.current.established - SAME_AGE

    def open(self, session: Session) -> list[Action]:
        """Begin to receive on a new session."""
        self._open[session.index] = session
        return [
            *self._make_room(session.kind, session),
            OpenReceive(session.index, session.cipher, session.keys.receive, until=self._reject_at(session)),
        ]

    def prove(self, session: Session) -> list[Action]:
        """Something authentic came in on it: it works in both directions. If it is the newest, send on it from now on.

        Proofs may overtake one another, so a session that is older than the current one is only kept for receiving.
        """
        session.kind, session.next_proof = Kind.PROVED, FOREVER
        current = self.current
        if current and session.established < current.established:
            return self._make_room(Kind.PROVED, current)
        self.replaced += current is not None
        self.current = session
        return [
            UseForSending(session.peer_index, session.cipher, session.keys.send, until=self._stop_at(session)),
            *self._make_room(Kind.PROVED, session),
        ]

    def expire(self, now: float) -> list[Action]:
        """Forget all whose time is over."""
        todo: list[Action] = []
        if self.current and now >= self._stop_at(self.current):
            self.current = None
            todo.append(StopSending())
        over = [session for session in self if now >= self._end(session)]
        todo += [self._close(session) for session in over]
        return todo

    def deadline(self) -> float:
        """Return when `expire`, or a proof, is next due; infinity if never."""
        times = [min(self._end(session), session.next_proof) for session in self]
        if self.current:
            times.append(self._stop_at(self.current))
        return min(times, default=FOREVER)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._open.values())

    def __len__(self) -> int:
        return len(self._open)

    def _end(self, session: Session) -> float:
        if session.kind is Kind.PROVED:
            return self._reject_at(session)
        return session.established + self._timers.unproved_life

    def _reject_at(self, session: Session) -> float:
        return session.established + self._timers.reject_after

    def _stop_at(self, session: Session) -> float:
        return self._reject_at(session) - self._timers.stop_before_reject

    def _make_room(self, kind: Kind, keep: Session) -> list[Action]:
        room = [session for session in self if session.kind is kind]
        if len(room) <= ROOM[kind]:
            return []
        return [self._close(min((one for one in room if one is not keep), key=lambda one: one.established))]

    def _close(self, session: Session) -> Action:
        del self._open[session.index]
        return CloseReceive(session.index)
