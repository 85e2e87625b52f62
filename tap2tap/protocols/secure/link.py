"""The life of one cable: handshakes, rekeys, keepalives, the peer's coming, moving and going.

Pure: a method takes the time and what happened, and returns what to do. The theory of operation:

- Either end may start. An initiation is answered if it passes the rate limiter, and the answer opens a session for
  receiving, no more: it may have been a recording. The initiator proves the session with a keepalive, the responder
  confirms with another. *An end sends frames on a session only after something authentic came in on it*, so a
  session is used only when both ends have it, and until then the one before goes on undisturbed.
- If both start at once, two sessions come of it and both work; the ends need not agree which one to send on.
- The newest proved session is the current one. Older ones stay open for what is in flight, and for a peer that has
  not switched yet, until their time is over.
- The current session's initiator renews it; jitter ends the case that both ends think that is them.
- Where the peer is, only the newest datagram of the newest session tells: nothing that was held back, and no message
  of a handshake. Those are answered where they came from, and proofs go where the initiation went.
- A series of attempts begins where the peer is configured to be, so whoever once led us elsewhere does so until the
  next handshake, no longer.

All memory is bounded: the places of `Sessions`, the initiations of `Attempts`, the memories of the `RateLimiter`.
"""

from collections.abc import Callable

from tap2tap.endpoint import Endpoint
from tap2tap.keys import CableKeys
from tap2tap.protocols.secure.actions import NEVER, Action, Note, Send, SendKeepalive, Status, Traffic
from tap2tap.protocols.secure.attempts import Attempts
from tap2tap.protocols.secure.handshake import Identity, Offer
from tap2tap.protocols.secure.limits import PATIENCE, REKEY_JITTER, Timers
from tap2tap.protocols.secure.noise import NoiseError
from tap2tap.protocols.secure.presence import Presence
from tap2tap.protocols.secure.recent import Sparingly
from tap2tap.protocols.secure.responder import Responder
from tap2tap.protocols.secure.sessions import Session, Sessions
from tap2tap.protocols.secure.states import SessionState
from tap2tap.protocols.secure.wire import is_challenge, is_initiation, is_response


class Link:
    """One end of the control plane of a cable.

    `remote` is the configured endpoint of the peer, if any; assign it again when its name resolves to another
    address. `keepalive` is in seconds, 0 for none. `random(n)` returns n unpredictable bytes, such as os.urandom.
    """

    def __init__(
        self,
        keys: CableKeys,
        *,
        remote: Endpoint | None,
        keepalive: int,
        hardware_aes: bool,
        random: Callable[[int], bytes],
        timers: Timers | None = None,
    ) -> None:
        self.remote = remote
        self._keepalive, self._hardware_aes, self._random = keepalive, hardware_aes, random
        self._timers = timers or Timers()
        self._identity = Identity(keys)
        self._notes = Sparingly()
        self._responder = Responder(
            self._identity, keepalive=keepalive, hardware_aes=hardware_aes, new_index=self._new_index, random=random
        )
        self._attempts = Attempts(self._identity, self._offer, random, self._timers)
        self._sessions = Sessions(self._timers)
        self._presence = Presence(keepalive, self._timers)
        self._ticked = NEVER
        self._last_handshake: float | None = None
        self._todo: list[Action] = []

    @property
    def identity(self) -> Identity:
        """The keys of this end."""
        return self._identity

    # What the link process calls.

    def resume(self, endpoint: Endpoint, *, heard: float, until: float) -> None:
        """Before `start`: a predecessor was killed to whom the peer was up at `endpoint`, and last heard then.

        Its session serves `until` then, unless one that is made anew takes its place.
        """
        self._presence.resume(endpoint, heard, until)

    def start(self, now: float) -> list[Action]:
        """Begin: with a first handshake, if it is known where the peer is."""
        return self.tick(now, Traffic())

    def tick(self, now: float, traffic: Traffic) -> list[Action]:
        """Look at the clock and at what the workers did; call it at `next_deadline()`, or at any other time."""
        self._ticked = now
        self._todo += self._presence.look(now, traffic, self._sessions.current is not None)
        self._todo += self._sessions.expire(now)
        self._todo += self._presence.judge(now, self._sessions.current is not None, self._attempts.started)
        self._run_attempts(now)
        for session in self._sessions:
            if now >= session.next_proof:
                self._prove(now, session)
        if self._sessions.current and now >= self._presence.keepalive_due():
            self._presence.keepalive_sent(now)
            self._todo.append(SendKeepalive())
        return self._done()

    def received(self, now: float, datagram: bytes, source: Endpoint) -> list[Action]:
        """Take a datagram of a handshake type, from anyone; whatever is wrong with it, it is silently dropped."""
        if is_challenge(datagram):
            if retry := self._attempts.challenged(now, datagram):
                self._todo.append(retry)
        elif (is_initiation(datagram) or is_response(datagram)) and self._identity.is_from_peer(datagram):
            try:
                if is_initiation(datagram):
                    self._answer(now, datagram, source)
                else:
                    self._finish(now, datagram)
            except NoiseError:
                if self._notes.allows(now, "noise"):
                    self._note("a handshake makes no sense: is the same version of tap2tap there?", source=source)
        return self._done()

    def proved(self, now: float, index: int, source: Endpoint, *, newest: bool) -> list[Action]:
        """Hear from the inbound worker that an authentic, fresh datagram came in on a session.

        Wanted for the first on each session, and for each whose counter is below CONTROL_COUNTERS; more do no harm.
        `source` is where it came from, and says where the peer is if it was the `newest` datagram of its session, and
        no other session began more than SAME_AGE later: what was held back or overtaken says nothing about that.
        """
        session = self._sessions.get(index)
        if session is not None:
            self._presence.hear(now)
            if not session.initiator and (confirmation := session.control_keepalive()):
                self._todo.append(Send(confirmation, source))
            first = not session.proved
            if first:
                self._todo += self._sessions.prove(session)
            if newest and self._sessions.is_in_use(session):
                self._todo += self._presence.locate(now, source)
            if first and session is self._sessions.current:
                self._last_handshake = now
                self._attempts.end()
                self._todo += self._presence.settle(now, session.peer_keepalive)
        return self._done()

    def next_deadline(self) -> float:
        """Return when `tick` is next needed, by the link's clock; infinity: not before something comes in."""
        deadlines = [self._attempts.due, self._sessions.deadline()]
        if self._sessions.current:
            # What depends on traffic, which we hear of only in `tick`, is looked at as often as `poll` says.
            deadlines += [self._ticked + self._timers.poll, self._presence.keepalive_due()]
            if self._attempts.started is None and self._targets():
                deadlines.append(self._rekey_at(self._sessions.current))
        return min(deadlines)

    def status(self) -> Status:
        """Return the state for `tap2tap stats`."""
        trying = self._attempts.started is not None
        return Status(
            state="up" if self._presence.up else "handshake" if trying else "down",
            endpoint=self._presence.endpoint,
            cipher=self._sessions.current.cipher if self._sessions.current else None,
            last_handshake=self._last_handshake,
            rekeys=self._sessions.replaced,
        )

    # Handshakes.

    def _run_attempts(self, now: float) -> None:
        attempts, targets = self._attempts, self._targets()
        if targets and self._wants_handshake(now):
            attempts.begin(now)
        if attempts.started is None:
            return
        if self._presence.is_in_vain(now, attempts.started, self._timers.give_up) and self._notes.allows(now, "silent"):
            self._note("no answer from the peer: is it running and reachable, with the other key file of this cable?")
        lost = self._presence.is_in_vain(now, attempts.started, self._timers.forget_endpoint)
        if lost and self.remote is None and not self._presence.up:
            self._presence.forget_endpoint(now)
            targets = []
        if not targets:
            attempts.end()
        elif now >= attempts.due:
            # By turns where the peer is configured to be and where it was heard last: one of them may be stale.
            target = targets[attempts.number % len(targets)]
            self._todo.append(attempts.attempt(now, target))

    def _wants_handshake(self, now: float) -> bool:
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
        astray = self.remote is not None and self._presence.endpoint != self.remote
        return current.rekey_at - patience if astray else current.rekey_at + patience

    def _answer(self, now: float, initiation: bytes, source: Endpoint) -> None:
        room = self._sessions.has_room(SessionState.ANSWERED)
        reply, session = self._responder.answer(now, initiation, room=room)
        if session:
            self._open(now, session)
        if reply:
            self._todo.append(Send(reply, source))

    def _finish(self, now: float, response: bytes) -> None:
        if session := self._attempts.answered(now, response):
            self._presence.hear(now)
            self._open(now, session)
            self._prove(now, session)

    def _open(self, now: float, session: Session) -> None:
        session.rekey_at = now + self._timers.rekey_after * (1 + REKEY_JITTER * self._random(1)[0] / 256)
        self._todo += self._sessions.open(session)

    # Small things.

    def _prove(self, now: float, session: Session) -> None:
        proof = session.make_proof(now)
        if proof and session.target:
            self._todo.append(Send(proof, session.target))

    def _targets(self) -> list[Endpoint]:
        known = (self.remote, self._presence.endpoint)
        return list(dict.fromkeys(endpoint for endpoint in known if endpoint is not None))

    def _offer(self) -> Offer:
        return Offer(self._new_index(), self._hardware_aes, self._keepalive)

    def _new_index(self) -> int:
        while True:
            index = int.from_bytes(self._random(3), "little")
            if index and not self._sessions.get(index) and not self._attempts.uses(index):
                return index

    def _note(self, message: str, **facts: object) -> None:
        self._todo.append(Note(message, facts))

    def _done(self) -> list[Action]:
        todo, self._todo = self._todo, []
        return todo
