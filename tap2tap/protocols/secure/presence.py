"""Is the peer there, and where: what the link concludes from what was sent and heard, and when.

Keepalives: each end sends one when it has sent nothing for its own interval, or for the peer's if it has none. So as
soon as one end wants keepalives both send them, and silence means something to both. An end that hears frames and has
nothing to say answers with a keepalive after a while in any case, so that frames without any echo mean something too.
"""

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import NEVER, Action, PeerDown, PeerMoved, PeerUp, Traffic
from tap2tap.protocols.secure.limits import DEAD_GRACE, DEAD_INTERVALS, Timers

FOREVER = float("inf")


class Presence:
    """What is known about the peer. Times are of the link's clock; `keepalive` is our own interval, 0 for none."""

    __slots__ = (
        "_down_at",
        "_endpoint_at",
        "_keepalive",
        "_looked",
        "_peer_keepalive",
        "_sent",
        "_timers",
        "_unanswered_since",
        "endpoint",
        "heard",
        "traffic",
        "up",
    )

    def __init__(self, keepalive: int, timers: Timers) -> None:
        self._keepalive, self._timers = keepalive, timers
        self._peer_keepalive = 0
        self.traffic = Traffic()
        self.up = False
        self.endpoint: Endpoint | None = None  # where the newest datagram of the newest session came from
        self.heard = NEVER
        self._endpoint_at = self._down_at = NEVER
        self._sent = NEVER  # what we know of ourselves; the workers' account comes later
        self._looked = NEVER  # when `look` was last called
        self._unanswered_since = FOREVER

    def look(self, now: float, traffic: Traffic, has_session: bool) -> list[Action]:
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
        events: list[Action] = []
        if traffic.endpoint is not None and traffic.last_heard > self._endpoint_at:
            events += self.locate(traffic.last_heard, traffic.endpoint)
        if not self.up and has_session and traffic.last_heard > self._down_at:
            events += self.rise()
        return events

    def hear(self, now: float) -> None:
        """Something authentic came, from wherever."""
        self.heard = max(self.heard, now)

    def locate(self, at: float, endpoint: Endpoint) -> list[Action]:
        """The peer is here since `at`."""
        moved = self.endpoint is not None and endpoint != self.endpoint
        self.endpoint, self._endpoint_at = endpoint, at
        return [PeerMoved(endpoint)] if moved and self.up else []

    def settle(self, now: float, peer_keepalive: int) -> list[Action]:
        """A session is proved: the peer is there."""
        self._peer_keepalive = peer_keepalive
        self._sent = now  # the proof or the confirmation
        return [] if self.up else self.rise()

    def rise(self) -> list[Action]:
        """The peer is there."""
        if self.endpoint is None:
            return []
        self.up = True
        return [PeerUp(self.endpoint)]

    def judge(self, now: float, has_session: bool, trying_since: float | None) -> list[Action]:
        """Decide whether the peer is gone; `trying_since` is when the running series of handshakes began."""
        if not self.up:
            return []
        if not has_session:
            reason = "the session is over and no new one was to be had"
        elif self.interval and now - self.heard >= self.dead_after:
            reason = "nothing was heard from it"
        elif trying_since is not None and self.is_in_vain(now, trying_since, self._timers.give_up):
            reason = "it does not answer handshakes"
        else:
            return []
        self.up = False
        self._down_at = now
        return [PeerDown(reason)]

    def forget_endpoint(self, now: float) -> None:
        """Nobody is where the peer was last heard."""
        self.endpoint, self._endpoint_at = None, now

    def is_in_vain(self, now: float, trying_since: float, patience: float) -> bool:
        """Tell whether handshakes were tried for so long with nothing heard meanwhile."""
        return now - max(trying_since, self.heard) >= patience

    def needs_handshake(self, now: float) -> bool:
        """Tell whether silence suggests that the peer has lost the session."""
        if now - self._unanswered_since >= self._timers.unanswered:
            return True
        return bool(self.interval) and now - self.heard >= self.interval + self._timers.late_keepalive

    @property
    def interval(self) -> int:
        """The longest that either end may stay silent, in seconds; 0 if it may for ever."""
        return max(self._keepalive, self._peer_keepalive)

    @property
    def dead_after(self) -> float:
        """Seconds of silence that mean the peer is gone: two keepalives lost, and some."""
        return DEAD_INTERVALS * self.interval + DEAD_GRACE

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
