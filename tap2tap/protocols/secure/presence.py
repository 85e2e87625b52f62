"""Is the peer there, and where: what the link concludes from what was sent and heard, and when.

Keepalives: each end sends one when it has sent nothing for its own interval, or for the peer's if it has none. So as
soon as one end wants keepalives both send them, and silence means something to both. An end that hears frames and has
nothing to say answers with a keepalive after a while in any case, so that frames without any echo mean something too.
"""

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import FOREVER, NEVER, Action, PeerDown, PeerMoved, PeerUp, Traffic
from tap2tap.protocols.secure.limits import DEAD_GRACE, DEAD_INTERVALS, Timers
from tap2tap.protocols.secure.path_check import is_same
from tap2tap.protocols.secure.states import PEER, PeerEvent, PeerState


class Presence:
    """What is known about the peer. Times are of the link's clock; `keepalive` is our own interval, 0 for none."""

    __slots__ = (
        "_keepalive",
        "_looked",
        "_peer_keepalive",
        "_sent",
        "_session_until",
        "_timers",
        "_unanswered_since",
        "endpoint",
        "heard",
        "last_endpoint",
        "state",
        "traffic",
    )

    def __init__(self, keepalive: int, timers: Timers) -> None:
        self._keepalive, self._timers = keepalive, timers
        self._peer_keepalive = 0
        self.traffic = Traffic()
        self.state = PeerState.UNKNOWN
        self.endpoint: Endpoint | None = None  # where the newest datagram of the newest session came from
        self.last_endpoint: Endpoint | None = None  # the same, also when the peer has said goodbye since
        self.heard = NEVER
        self._sent = NEVER  # what we know of ourselves; the workers' account comes later
        self._looked = NEVER  # when `look` was last called
        self._unanswered_since = FOREVER
        self._session_until = NEVER  # when the workers stop to use a session that our predecessor made

    def resume(self, endpoint: Endpoint, heard: float, until: float) -> None:
        """Go on where a predecessor was to whom the peer was up; the workers use its session `until` then."""
        self.endpoint = self.last_endpoint = endpoint
        self.heard = heard
        self._session_until = until
        self._advance(PeerEvent.RESUMED)  # everybody knows

    def look(self, now: float, traffic: Traffic) -> None:
        """Take in what the workers did."""
        self.traffic = traffic
        self.heard = max(self.heard, traffic.last_heard)
        # The times may be those of a look at the workers' counters, so what was sent and what was heard since the last
        # look have no order: then it is taken as answered. If it was not, the next frames will tell.
        if self.heard > self._looked:
            self._unanswered_since = FOREVER
        elif traffic.last_frame_sent > self._looked:
            self._unanswered_since = min(self._unanswered_since, now)
        self._looked = now

    def hear(self, now: float) -> None:
        """Something authentic came, from wherever."""
        self.heard = max(self.heard, now)

    def locate(self, endpoint: Endpoint) -> list[Action]:
        """The newest datagram came from here."""
        return self._move(endpoint, PeerEvent.LOCATED)

    def fall_back(self, endpoint: Endpoint) -> list[Action]:
        """The peer does not answer where its newest datagram came from, and did here."""
        return self._move(endpoint, PeerEvent.UNANSWERED)

    def _move(self, endpoint: Endpoint, event: PeerEvent) -> list[Action]:
        known, self.endpoint = self.endpoint, endpoint
        self.last_endpoint = endpoint
        return [] if is_same(endpoint, known) else self._advance(event)

    def settle(self, now: float, peer_keepalive: int) -> list[Action]:
        """A session is proved that is sent on: the peer is there."""
        self._peer_keepalive = peer_keepalive
        self._sent = now  # the proof or the confirmation
        return self._advance(PeerEvent.PROVED)

    def judge(self, now: float, has_session: bool, trying_since: float | None) -> list[Action]:
        """Decide whether the peer is gone; `trying_since` is when the running series of handshakes began.

        None of that is so in an outage of 30 seconds, wherever in the life of a session it begins.
        """
        if not self.up:
            return []
        tried = 0.0 if trying_since is None else now - trying_since
        # What interval the peer keeps is known with a session only, if a predecessor made the one before.
        if has_session and self._interval and now - self.heard >= self._longest_silence:
            return self._advance(PeerEvent.SILENT)
        if not has_session and now >= self._session_until and tried >= self._timers.give_up:
            return self._advance(PeerEvent.NO_SESSION)
        if trying_since is not None and self.is_in_vain(now, trying_since, self._timers.give_up):
            return self._advance(PeerEvent.NO_ANSWER)
        return []

    def forget_endpoint(self) -> None:
        """Nobody is where the peer was last heard."""
        self.endpoint = self.last_endpoint = None
        self._advance(PeerEvent.FORGOTTEN)

    def leave(self) -> list[Action]:
        """The peer said goodbye: it is nowhere."""
        self.endpoint = None
        self._unanswered_since = FOREVER
        return self._advance(PeerEvent.GOODBYE)

    def _advance(self, event: PeerEvent) -> list[Action]:
        """Go to the state that follows, and tell of it if that is, or was, UP."""
        was_up = self.up
        self.state = PEER[self.state, event]
        if was_up and not self.up:
            return [PeerDown(event.value)]
        if self.endpoint is None or not self.up:
            return []
        if not was_up:
            return [PeerUp(self.endpoint)]
        return [PeerMoved(self.endpoint)] if event in (PeerEvent.LOCATED, PeerEvent.UNANSWERED) else []

    def is_in_vain(self, now: float, trying_since: float, patience: float) -> bool:
        """Tell whether handshakes were tried for so long with nothing heard meanwhile."""
        return now - max(trying_since, self.heard) >= patience

    def needs_handshake(self, now: float) -> bool:
        """Tell whether silence suggests that the peer has lost the session."""
        if now - self._unanswered_since >= self._timers.unanswered:
            return True
        return bool(self._interval) and now - self.heard >= self._interval + self._timers.late_keepalive

    @property
    def up(self) -> bool:
        """Whether the peer is there."""
        return self.state is PeerState.UP

    @property
    def _interval(self) -> int:
        """The longest that either end may stay silent, in seconds; 0 if it may for ever."""
        return max(self._keepalive, self._peer_keepalive)

    @property
    def _longest_silence(self) -> float:
        """With keepalives, of a peer that is there."""
        return max(DEAD_INTERVALS * self._interval + DEAD_GRACE, self._interval + self._timers.outage)

    def keepalive_due(self) -> float:
        """Return when a keepalive is to be sent."""
        sent = max(self._sent, self.traffic.last_sent)
        interval = self._keepalive or self._peer_keepalive
        due = sent + interval if interval else FOREVER
        if self.traffic.last_frame_heard >= sent:  # at the same look: perhaps after what was sent
            due = min(due, sent + self._timers.passive_keepalive)
        return due

    def keepalive_sent(self, now: float) -> None:
        """A keepalive has been asked for."""
        self._sent = now
