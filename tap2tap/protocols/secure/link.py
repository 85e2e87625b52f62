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
  of a handshake. Those are answered where they came from, and proofs go where the initiation went. A new place is
  followed at once, and asked whether the peer is really there (`path_check`).
- A series of attempts begins where the peer is configured to be, so whoever once led us elsewhere does so until the
  next handshake, no longer. Of several such endpoints the one that answered last is the first that is tried.
- Who is called answers from the address that was called. Who calls leaves the choice of its own to the kernel.

All memory is bounded: the places of `Sessions`, the initiations of `Attempts`, the memories of the `RateLimiter`.
"""

from collections.abc import Callable, Sequence

from tap2tap.endpoint import Endpoint
from tap2tap.keys import CableKeys
from tap2tap.protocols.secure.actions import NEVER, Action, Note, Remember, Send, SendKeepalive, Status, Traffic
from tap2tap.protocols.secure.attempts import Attempts
from tap2tap.protocols.secure.calls import Calls
from tap2tap.protocols.secure.control import Goodbye, unpack
from tap2tap.protocols.secure.exchange import Exchange
from tap2tap.protocols.secure.handshake import FEATURE_CONTROL, Identity, Offer
from tap2tap.protocols.secure.home import Home
from tap2tap.protocols.secure.limits import REKEY_JITTER, Timers
from tap2tap.protocols.secure.mailbox import Received
from tap2tap.protocols.secure.noise import NoiseError
from tap2tap.protocols.secure.path_check import is_same
from tap2tap.protocols.secure.presence import Presence
from tap2tap.protocols.secure.recent import Sparingly
from tap2tap.protocols.secure.responder import Responder
from tap2tap.protocols.secure.sessions import Session, Sessions
from tap2tap.protocols.secure.states import SessionState
from tap2tap.protocols.secure.wire import is_challenge, is_initiation, is_response


class Link:
    """One end of the control plane of a cable.

    `client`: it is configured whom to call. `candidates` are the endpoints, the best first, as far as they are known.
    `last` is where the peer was before this end was started, if that is known: it is called there, but for a
    client. `keepalive` is in seconds, 0 for none; `mtu` is that of our own tap. `random(n)` returns n unpredictable
    bytes, such as os.urandom.
    """

    def __init__(
        self,
        keys: CableKeys,
        *,
        client: bool,
        candidates: Sequence[Endpoint],
        keepalive: int,
        hardware_aes: bool,
        random: Callable[[int], bytes],
        mtu: int,
        last: Endpoint | None = None,
        timers: Timers | None = None,
    ) -> None:
        self._keepalive, self._mtu, self._hardware_aes, self._random = keepalive, mtu, hardware_aes, random
        self._timers = timers or Timers()
        self._identity = Identity(keys)
        self._responder = Responder(
            self._identity,
            keepalive=keepalive,
            mtu=mtu,
            hardware_aes=hardware_aes,
            new_index=self._new_index,
            random=random,
        )
        self._attempts = Attempts(self._identity, self._offer, random, self._timers)
        self._sessions = Sessions(self._timers)
        self._presence = Presence(keepalive, self._timers)
        self._client, self._home, self._notes = client, Home(candidates), Sparingly()
        self._exchange = Exchange(self._presence, self._home, mtu=mtu, random=random, timers=self._timers)
        self._calls = Calls(
            self._attempts,
            self._sessions,
            self._presence,
            self._exchange,
            self._home,
            last=None if client else last,
            notes=self._notes,
            timers=self._timers,
        )
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
        self._home.keep(endpoint)
        self._presence.resume(self._place(endpoint), heard, until)

    def start(self, now: float) -> list[Action]:
        """Begin: with a first handshake, if it is known where the peer is."""
        return self.tick(now, Traffic())

    def tick(self, now: float, traffic: Traffic) -> list[Action]:
        """Look at the clock and at what the workers did; call it at `next_deadline()`, or at any other time."""
        self._ticked = now
        self._presence.look(now, traffic)
        self._calls.look(now)
        self._todo += self._sessions.expire(now)
        self._todo += self._exchange.tick(now, traffic, self._sessions.current)
        self._todo += self._presence.judge(now, self._sessions.current is not None, self._attempts.started)
        self._todo += self._calls.run(now)
        for session in self._sessions:
            if now >= session.next_proof:
                self._prove(now, session)
        if self._sessions.current and now >= self._presence.keepalive_due():
            self._presence.keepalive_sent(now)
            self._todo.append(SendKeepalive())
        return self._done()

    def move(self, now: float, candidates: Sequence[Endpoint]) -> list[Action]:
        """The peer is configured to be at these endpoints now, the best first. A series tries the new ones next."""
        self._calls.moved(now, self._home.replace(candidates))
        return self.tick(now, self._presence.traffic)

    def call(self, now: float) -> list[Action]:
        """Call the peer now, if it is known where: a session may be in vain, as the network may be another one.

        However often that is wanted, a responder's budget has room for it.
        """
        self._calls.call(now)
        return self.tick(now, self._presence.traffic)

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
                    message = "a handshake makes no sense: is the same version of tap2tap there?"
                    self._todo.append(Note(message, {"source": source}))
        return self._done()

    def proved(self, now: float, index: int, source: Endpoint, *, newest: bool) -> list[Action]:
        """Hear from the inbound worker that an authentic, fresh datagram came in on a session.

        Wanted for the first on each session, for each whose counter is below CONTROL_COUNTERS, and for a newest one
        from elsewhere than where the peer was; more do no harm. `source` is where it came from, and says where the peer
        is if it was the `newest` datagram of its session, and no other session began more than SAME_AGE later: what was
        held back or overtaken says nothing about that.
        """
        session = self._sessions.get(index)
        if session is not None:
            self._presence.hear(now)
            first = not session.proved
            moves = newest and self._sessions.is_in_use(session)
            # Whether the counter was one of the first is not said, so what moves the peer may be a frame.
            confirms = not session.initiator and (first or not moves or is_same(source, self._presence.endpoint))
            if confirms and (confirmation := session.control_keepalive()):
                self._todo.append(Send(confirmation, source))
            if first:
                self._todo += self._sessions.prove(session)
            settled = first and session is self._sessions.current
            if settled:
                self._todo += self._exchange.begin(now, session)
            if moves:
                self._todo += self._exchange.locate(now, self._place(source), new_session=first)
            if settled:
                self._last_handshake = now
                self._home.keep(session.target or self._presence.endpoint)
                self._calls.answered()
                self._todo += self._presence.settle(now, session.peer_keepalive)
                self._todo += self._exchange.check_again(now)
            self._todo += self._exchange.lead(now)
        return self._done()

    def control(self, now: float, received: Received) -> list[Action]:
        """Take a control datagram, which is authentic and fresh, and whose session was told of by `proved`."""
        session = self._sessions.get(received.index)
        if session is not None and session.proved and session.control:
            if isinstance(unpack(received.text), Goodbye):
                self._leave(now, session)
            else:
                self._todo += self._exchange.hear(now, received)
        return self._done()

    def too_long(self, now: float, size: int) -> list[Action]:
        """The kernel did not send a datagram of `size` bytes to the peer: it is longer than the way out allows."""
        return self._exchange.too_long(now, size)

    def goodbye(self, now: float, next_counter: int) -> list[Action]:
        """Say that this is the end: send these, the last one after a pause. The link knows nothing any more then.

        `next_counter` is the first that the outbound worker, which is dead, has not used; it is the link's now.
        """
        self._sessions.expire(now)
        target = self._exchange.endpoint or self._home.best
        datagrams = self._sessions.goodbyes(next_counter) if target else []
        self._sessions.clear()
        self._presence.leave()
        self._exchange.forget()
        self._calls.end()
        return [Send(datagram, target) for datagram in datagrams if target]

    def next_deadline(self) -> float:
        """Return when `tick` is next needed, by the link's clock; infinity: not before something comes in."""
        deadlines = [self._calls.due(self._ticked), self._sessions.deadline()]
        if self._sessions.current or self._presence.up:
            # What depends on traffic, which we hear of only in `tick`, is looked at as often as `poll` says.
            deadlines.append(self._ticked + (self._timers.poll if self._presence.up else self._timers.poll_down))
        if self._sessions.current:
            deadlines += [self._presence.keepalive_due(), self._exchange.due]
        return min(deadlines)

    def status(self) -> Status:
        """Return the state for `tap2tap stats`."""
        trying, current = self._attempts.started is not None, self._sessions.current
        reports = self._exchange.measurement.reports
        return Status(
            state="up" if self._presence.up else "handshake" if trying else "down",
            endpoint=self._presence.last_endpoint,
            cipher=current.cipher if current else None,
            last_handshake=self._last_handshake,
            rekeys=self._sessions.replaced,
            peer_mtu=current.peer_mtu if current else 0,
            round_trip=reports.round_trip,
            jitter=reports.jitter,
            loss_out=reports.loss_out,
            loss_in=reports.loss_in,
        )

    # Handshakes.

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

    def _place(self, source: Endpoint) -> Endpoint:
        """Where frames to the peer go and leave from: a client's own address may change, and the peer follows it."""
        return source.from_anywhere if self._client else source

    def _leave(self, now: float, session: Session) -> None:
        """The peer has said goodbye on this session, which may be an old one of a peer that lives again."""
        self._todo += self._sessions.leave(session)
        if not any(one.proved for one in self._sessions):
            self._todo += self._exchange.forget()
            self._calls.left(now)
            self._todo += [*self._presence.leave(), Remember(None)]

    def _prove(self, now: float, session: Session) -> None:
        proof = session.make_proof(now)
        if proof and session.target:
            self._todo.append(Send(proof, session.target))

    def _offer(self) -> Offer:
        return Offer(self._new_index(), self._hardware_aes, self._keepalive, self._mtu, FEATURE_CONTROL)

    def _new_index(self) -> int:
        while True:
            index = int.from_bytes(self._random(3), "little")
            if index and not self._sessions.get(index) and not self._attempts.uses(index):
                return index

    def _done(self) -> list[Action]:
        todo, self._todo = self._todo, []
        return todo
