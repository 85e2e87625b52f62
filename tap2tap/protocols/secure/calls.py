"""When a series of handshakes begins and ends, and where its initiations go (docs/protocol.md, 3.1, 3.8 and 3.9)."""

from collections.abc import Sequence

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import FOREVER, NEVER, Action, Note
from tap2tap.protocols.secure.attempts import Attempts
from tap2tap.protocols.secure.exchange import Exchange
from tap2tap.protocols.secure.home import Home
from tap2tap.protocols.secure.limits import CALLS_BACK, GOODBYE_WAIT, PATIENCE, TRUSTED, Timers
from tap2tap.protocols.secure.presence import Presence
from tap2tap.protocols.secure.recent import Sparingly
from tap2tap.protocols.secure.sessions import Session, Sessions


class Calls:
    """Times are of the link's clock. `home` is where the peer is configured to be.

    `last` is where it was before this end was started, if that is known.
    """

    __slots__ = (
        "_attempts",
        "_call_back",
        "_exchange",
        "_home",
        "_not_before",
        "_notes",
        "_presence",
        "_sessions",
        "_timers",
    )

    def __init__(
        self,
        attempts: Attempts,
        sessions: Sessions,
        presence: Presence,
        exchange: Exchange,
        home: Home,
        *,
        last: Endpoint | None,
        notes: Sparingly,
        timers: Timers,
    ) -> None:
        self._attempts, self._sessions, self._presence, self._exchange = attempts, sessions, presence, exchange
        self._home = home
        self._call_back = last  # until a session is proved, or CALLS_BACK were in vain
        self._notes, self._timers = notes, timers
        self._not_before = NEVER  # of the next series: the peer has just said goodbye

    def answered(self) -> None:
        """A session is proved that is sent on."""
        self._call_back = None
        self._attempts.end()

    def left(self, now: float) -> None:
        """The peer has said goodbye: it may be back soon, but is not there yet."""
        self._attempts.end()
        self._not_before = now + GOODBYE_WAIT

    def end(self) -> None:
        """There are no more calls."""
        self._attempts.end()
        self._call_back, self._not_before = None, FOREVER

    def call(self, now: float) -> None:
        """Make an attempt at once, whatever there is, if anybody can be called."""
        if self._knows_anybody() and self._not_before < FOREVER:
            self._not_before = NEVER
            self._attempts.call(now)

    def look(self, now: float) -> None:
        """If the peer is heard and may not hear us, see whether it does at another endpoint; before sessions expire."""
        if len(self._home) > 1 and self._sessions.is_unheard(now):
            self._attempts.soon(now)

    def moved(self, now: float, new: Sequence[Endpoint]) -> None:
        """The peer is configured to be at these endpoints, too."""
        if new and self._not_before < FOREVER:
            self._not_before = NEVER
            self._begin(now)
            self._attempts.insist(now, new)

    def run(self, now: float) -> list[Action]:
        """Begin a series, make an attempt, or end the series, if that is due."""
        attempts = self._attempts
        if self._knows_anybody() and now >= self._not_before:
            self._begin(now)
        if attempts.started is None:
            return []
        if self._call_back and now >= attempts.due and attempts.number >= CALLS_BACK:
            self._call_back = None
        todo: list[Action] = []
        unheard = self._presence.is_in_vain(now, attempts.started, self._timers.complain)
        if unheard and self._notes.allows(now, "silent"):
            todo.append(Note("no answer from the peer: is it running and reachable, with the other end's key file?"))
        lost = self._presence.is_in_vain(now, attempts.started, self._timers.forget_endpoint)
        if lost and not self._home and not self._presence.up:
            self._presence.forget_endpoint()
            todo += self._exchange.forget()
        if not self._knows_anybody():
            attempts.end()
        elif now >= attempts.due:
            leaders, others = self._targets()
            todo.append(attempts.attempt(now, leaders, others if self._is_in_doubt(now) else ()))
        return todo

    def due(self, after: float) -> float:
        """When `run` is needed next, after it was called then."""
        current = self._sessions.current
        if self._attempts.started is not None or not self._knows_anybody():
            return self._attempts.due
        if current:
            return self._rekey_at(current)
        return self._not_before if self._not_before > after else FOREVER

    def _knows_anybody(self) -> bool:
        return bool(self._home) or self._presence.endpoint is not None or self._call_back is not None

    def _targets(self) -> tuple[list[Endpoint], list[Endpoint]]:
        """Return where the peer is tried in each round, and where besides.

        That is where it is configured to be, and where it was heard last: one of them may be stale.
        """
        best, *others = self._home or (None,)
        leaders: dict[Endpoint, Endpoint] = {}
        for each in (best, self._presence.endpoint, self._call_back):
            if each is not None:
                leaders.setdefault(each.from_anywhere, each)
        return list(leaders.values()), [each for each in others if each not in leaders]

    def _is_in_doubt(self, now: float) -> bool:
        """Tell whether the peer may not be where it was: not if keys are to be renewed and little was lost of that."""
        attempts = self._attempts
        answers = self._presence.up and not self._presence.needs_handshake(now)
        return not answers or attempts.called or attempts.number >= TRUSTED

    def _begin(self, now: float) -> None:
        """Begin a series, or make the next attempt earlier, if there is reason."""
        if self._wanted(now):
            self._attempts.begin(now)
        if self._sessions.current and not self._presence.up and self._presence.heard > self._attempts.last:
            self._attempts.soon(now)  # the peer is there, but whether it hears us only a handshake tells

    def _wanted(self, now: float) -> bool:
        current = self._sessions.current
        if current is None or now >= self._rekey_at(current) or self._presence.needs_handshake(now):
            return True
        limit = self._timers.rekey_messages * (1 if current.initiator else 2)  # as with time, the initiator goes first
        return self._presence.traffic.next_counter >= limit

    def _rekey_at(self, current: Session) -> float:
        """When to renew the session: the responder is later than the initiator, in case that one does not.

        But it is earlier if it was told where the peer is and finds it elsewhere, as only then the configured address
        is tried, and a relay ends.
        """
        patience = self._timers.rekey_after * PATIENCE
        if current.initiator:
            return current.rekey_at
        here = self._presence.endpoint
        astray = bool(self._home) and (here is None or here not in self._home)
        return current.rekey_at - patience if astray else current.rekey_at + patience
