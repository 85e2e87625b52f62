"""The sessions of one cable that are open for receiving, and the one among them to send on.

Each state (tap2tap.protocols.secure.states) has a few places of its own, so that none can push another out: least of
all may recordings of old initiations, which an attacker can play back, cost a session that the peer is about to prove,
or one that is in use. Nor do recordings push out one another, as the peer's own initiation may be among them: while
their places are taken (see `has_room`), whoever comes is asked for a fresh one, which has another.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import FOREVER, Action, CloseReceive, OpenReceive, StopSending, UseForSending
from tap2tap.protocols.secure.control import Goodbye, pack
from tap2tap.protocols.secure.handshake import SessionKeys
from tap2tap.protocols.secure.limits import (
    CONTROL_COUNTERS,
    GOODBYES,
    PROOF_DELAYS,
    REJECT_AFTER_MESSAGES,
    ROOM_ANSWERED,
    ROOM_ANSWERED_FRESH,
    ROOM_PROVED,
    ROOM_STARTED,
    SAME_AGE,
    Timers,
)
from tap2tap.protocols.secure.sealing import control, keepalive
from tap2tap.protocols.secure.states import SESSION, UNPROVED, SessionEvent, SessionState
from tap2tap.protocols.secure.wire import Cipher

ROOM: Final = {
    SessionState.ANSWERED: ROOM_ANSWERED,
    SessionState.ANSWERED_FRESH: ROOM_ANSWERED_FRESH,
    SessionState.STARTED: ROOM_STARTED,
    SessionState.PROVED: ROOM_PROVED - 1,  # the current one has a place, too
}


@dataclass(slots=True, eq=False)
class Session:
    """One pair of keys and what we know of it. Times are of the link's clock."""

    index: int
    peer_index: int
    cipher: Cipher
    keys: SessionKeys = field(repr=False)
    initiator: bool
    peer_keepalive: int
    established: float  # when the handshake was, for this end
    peer_mtu: int = 0  # of the far tap; 0: not known
    control: bool = False  # both ends take parts and control datagrams on it
    state: SessionState = SessionState.NEW
    target: Endpoint | None = None  # where the initiation went, and the proofs go; the initiator's alone
    rekey_at: float = FOREVER
    next_proof: float = FOREVER
    _proofs: int = 0
    _own: int = 0  # the next counter below CONTROL_COUNTERS

    def advance(self, event: SessionEvent) -> None:
        """Go to the state that follows."""
        self.state = SESSION[self.state, event]

    @property
    def proved(self) -> bool:
        """Whether anything authentic came in on it."""
        return self.state not in UNPROVED

    def control_keepalive(self) -> bytes | None:
        """Seal a keepalive with one of the link's own counters; None when they are used up."""
        counter = self.take_counter()
        return None if counter is None else keepalive(self.cipher, self.keys.send, self.peer_index, counter)

    def take_counter(self) -> int | None:
        """Take one of the link's own counters: it is never used again, whatever happens next. None: there are none."""
        counter = self._own
        self._own = min(counter + 1, CONTROL_COUNTERS)
        return counter if counter < CONTROL_COUNTERS else None

    def goodbye(self, counter: int | None) -> list[bytes]:
        """Seal a goodbye with a counter, if that is one and the peer takes it; the caller owns it."""
        if counter is None or counter >= REJECT_AFTER_MESSAGES or not self.control:
            return []
        return [control(self.cipher, self.keys.send, self.peer_index, counter, pack(Goodbye()))]

    def make_proof(self, now: float) -> bytes | None:
        """Seal the next proof, if the session still needs one, and set the time of the one after it."""
        self.next_proof = FOREVER
        if self.state is not SessionState.STARTED:
            return None
        if self._proofs < len(PROOF_DELAYS):
            self.next_proof = now + PROOF_DELAYS[self._proofs]
        self._proofs += 1
        return self.control_keepalive()


class Sessions:
    """All open sessions by our index."""

    __slots__ = ("_open", "_timers", "replaced")

    def __init__(self, timers: Timers) -> None:
        self._open: dict[int, Session] = {}
        self._timers = timers
        self.replaced = 0  # sessions that were current and living when another took their place

    @property
    def current(self) -> Session | None:
        """The session to send on."""
        return next((session for session in self if session.state is SessionState.CURRENT), None)

    def get(self, index: int) -> Session | None:
        """Find a session by the index that we receive by."""
        return self._open.get(index)

    def has_room(self, state: SessionState) -> bool:
        """Tell whether one more in this state pushes none out."""
        return sum(session.state is state for session in self) < ROOM[state]

    def is_in_use(self, session: Session) -> bool:
        """Tell whether the peer may take this session for the newest, as far as we know."""
        current = self.current
        return current is None or session.established >= current.established - SAME_AGE

    def is_unheard(self, now: float) -> bool:
        """Tell whether the peer has asked for a session long after the current one, and does not take our answer."""
        current = self.current
        return current is not None and any(
            one.state in (SessionState.ANSWERED, SessionState.ANSWERED_FRESH)
            and one.established > current.established + SAME_AGE
            and now >= self._end(one)
            for one in self
        )

    def open(self, session: Session) -> list[Action]:
        """Begin to receive on a new session."""
        self._open[session.index] = session
        return [
            *self._make_room(session.state),
            OpenReceive(session.index, session.cipher, session.keys.receive, until=self._reject_at(session)),
        ]

    def prove(self, session: Session) -> list[Action]:
        """Something authentic came in on it: it works in both directions. If it is the newest, send on it from now on.

        Proofs may overtake one another, so a session that is older than the current one is only kept for receiving.
        """
        session.next_proof = FOREVER
        current = self.current
        if current and session.established < current.established:
            session.advance(SessionEvent.LATE_PROOF)
            return self._make_room(SessionState.PROVED)
        if current:
            current.advance(SessionEvent.REPLACED)
            self.replaced += 1
        session.advance(SessionEvent.PROOF)
        until = self._stop_at(session)
        return [
            UseForSending(session.peer_index, session.cipher, session.keys.send, until=until, parts=session.control),
            *self._make_room(SessionState.PROVED),
        ]

    def expire(self, now: float) -> list[Action]:
        """Forget all whose time is over."""
        todo: list[Action] = []
        current = self.current
        if current and now >= self._stop_at(current):
            current.advance(SessionEvent.TOO_OLD_TO_SEND)
            todo.append(StopSending())
        over = [session for session in self if now >= self._end(session)]
        todo += [self._close(one, SessionEvent.TOO_OLD if one.proved else SessionEvent.NOT_PROVED) for one in over]
        return todo

    def leave(self, session: Session) -> list[Action]:
        """The peer said goodbye on it: forget it and all older ones. A newer one may belong to the peer's next life."""
        todo: list[Action] = []
        for one in [each for each in self if each.established <= session.established]:
            todo += [StopSending()] if one.state is SessionState.CURRENT else []
            todo.append(self._close(one, SessionEvent.GOODBYE))
        return todo

    def goodbyes(self, next_counter: int) -> list[bytes]:
        """Seal goodbyes: on the current session, whose next counter this is, and once on others that the peer may take
        for the newest: those of the same age, and those that it has answered and we are still to hear on.

        On these nothing was ever sent but what the link sealed, so a counter of the link's is still a fresh one there.
        """
        current = self.current
        first, *again = [current.goodbye(next_counter + number) if current else [] for number in range(GOODBYES)]
        others = [
            one.goodbye(one.take_counter())
            for one in self
            if one.state in (SessionState.PROVED, SessionState.STARTED) and self.is_in_use(one)
        ]
        return list(itertools.chain(first, *others, *again))

    def clear(self) -> None:
        """Forget them all, when nobody is left to be told."""
        self._open.clear()

    def deadline(self) -> float:
        """Return when `expire`, or a proof, is next due; infinity if never."""
        return min((min(self._end(session), session.next_proof) for session in self), default=FOREVER)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._open.values())

    def __len__(self) -> int:
        return len(self._open)

    def _end(self, session: Session) -> float:
        """When a session can no longer be what it is."""
        if session.state is SessionState.CURRENT:
            return self._stop_at(session)
        return self._reject_at(session) if session.proved else session.established + self._timers.unproved_life

    def _reject_at(self, session: Session) -> float:
        return session.established + self._timers.reject_after

    def _stop_at(self, session: Session) -> float:
        return self._reject_at(session) - self._timers.stop_before_reject

    def _make_room(self, state: SessionState) -> list[Action]:
        group = [session for session in self if session.state is state]
        if len(group) <= ROOM[state]:
            return []
        return [self._close(min(group, key=lambda session: session.established), SessionEvent.CROWDED)]

    def _close(self, session: Session, event: SessionEvent) -> Action:
        session.advance(event)
        del self._open[session.index]
        return CloseReceive(session.index)
