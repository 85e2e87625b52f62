"""Whether the peer really is where its datagrams come from (docs/protocol.md, 3.7), and where frames go meanwhile.

Whoever can forge a source can make a datagram of the peer's come from anywhere. So a new address is followed at once,
as most moves are genuine, but is sent little until it has given back a token, which only the peer can do that was sent
it there. If it does not, frames go to the last address that did.
"""

from collections.abc import Callable, Collection

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import FOREVER, NEVER, Action, PeerAt, Remember, SendControl
from tap2tap.protocols.secure.control import TOKEN_LENGTH, PathCheck, pack
from tap2tap.protocols.secure.limits import (
    CHECK_AGAIN,
    CHECK_DELAYS,
    LEAST_ALLOWANCE,
    MOVE_LIMIT,
    MOVE_WINDOW,
    REFUSED,
    REMEMBER_INTERVAL,
)


def is_same(one: Endpoint, other: Endpoint | None) -> bool:
    """Tell whether the peer is at the same place, whichever of our addresses it called."""
    return other is not None and one.from_anywhere == other.from_anywhere


class PathChecker:
    """Times are of the link's clock. `random(n)` returns n unpredictable bytes.

    `home` is where the peer is configured to be, the best first, as it is at the time. `can_ask` tells whether there is
    a session on which the peer understands control datagrams.
    """

    __slots__ = (
        "_allowance",
        "_allowance_until",
        "_asked",
        "_checked",
        "_checked_at",
        "_home",
        "_random",
        "_refused",
        "_remember_at",
        "_remembered",
        "_token",
        "_tries",
        "_try_at",
        "endpoint",
        "limited",
    )

    def __init__(self, home: Collection[Endpoint], random: Callable[[int], bytes]) -> None:
        self._home, self._random = home, random
        self.endpoint: Endpoint | None = None  # where frames go, as far as that was learnt
        self.limited = False  # whether `endpoint` is sent little until it answers
        self._checked: Endpoint | None = None  # the last address that answered
        self._checked_at = NEVER
        self._token: bytes | None = None  # that was sent last, to `_asked`; also after that was given up
        self._asked: Endpoint | None = None
        self._tries, self._try_at = 0, FOREVER  # FOREVER: no check is running
        self._refused: dict[Endpoint, float] = {}  # addresses that did not answer, until when they are not followed
        self._allowance, self._allowance_until = 0, NEVER
        self._remembered: Endpoint | None = None
        self._remember_at = NEVER  # not before

    def refuses(self, now: float, endpoint: Endpoint) -> bool:
        """Tell whether the peer is not to be followed to this address."""
        if now < self._refused.get(endpoint.from_anywhere, NEVER):
            return True
        exhausted = now < self._allowance_until and self._allowance < 2 * LEAST_ALLOWANCE
        return exhausted and not is_same(endpoint, self.endpoint) and not self._is_good(endpoint)

    def pardon(self, endpoint: Endpoint) -> None:
        """A new session was proved from here, which is more than a datagram with another source."""
        self._refused.pop(endpoint.from_anywhere, None)

    def follow(self, now: float, endpoint: Endpoint, *, can_ask: bool) -> list[Action]:
        """The peer is here: because it moved, or because a new session begins here, which is a time to check again."""
        moved, known = not is_same(endpoint, self.endpoint), is_same(endpoint, self._checked)
        todo: list[Action] = [] if moved else self._leave_from(endpoint)
        if not moved and (self._try_at < FOREVER or (known and now < self._checked_at + CHECK_AGAIN)):
            return todo
        self.endpoint, self._token, self._try_at = endpoint, None, FOREVER
        self.limited = can_ask and not self._is_good(endpoint)
        if moved or self.limited:
            todo.append(PeerAt(endpoint, self._allow(now) if self.limited else None))
        if can_ask and (not known or not moved):
            self._token, self._asked, self._tries = self._random(TOKEN_LENGTH), endpoint, 0
            todo += self._ask(now)
        return todo

    def answered(self, now: float, token: bytes) -> list[Action]:
        """A token came back. If that was too late, as the path is slow, the peer is followed again."""
        if self._token is None or token != self._token or self._asked is None:
            return []
        todo: list[Action] = [PeerAt(self._asked)] if self.limited or self._asked != self.endpoint else []
        if now >= self._checked_at + CHECK_AGAIN:
            self._remembered = None  # what was written down gets old, too
        self.endpoint = self._checked = self._asked
        self._checked_at, self.limited = now, False
        self._token, self._try_at = None, FOREVER
        self._allowance_until = NEVER
        self._refused.pop(self.endpoint.from_anywhere, None)
        return todo + self._remember(now)

    def tick(self, now: float, *, can_ask: bool) -> list[Action]:
        """Ask again, or give the address up, if that is due. Then `endpoint` is another one."""
        todo = self._remember(now)
        if now < self._try_at:
            return todo
        if can_ask and self._tries < len(CHECK_DELAYS):
            return todo + self._ask(now)
        self._try_at = FOREVER
        if self.limited and self.endpoint and (back := self._checked or next(iter(self._home), None)):
            self._refused = {one: until for one, until in self._refused.items() if now < until}
            self._refused[self.endpoint.from_anywhere] = now + REFUSED
            self.endpoint, self.limited = back, False
            todo.append(PeerAt(back))
        return todo

    def forget(self) -> None:
        """Nobody knows where the peer is."""
        self.endpoint = self._checked = self._token = None
        self.limited = False
        self._checked_at, self._try_at = NEVER, FOREVER
        self._remembered, self._remember_at = None, NEVER

    @property
    def due(self) -> float:
        """When `tick` is needed next."""
        waits = self._checked is not None and not is_same(self._checked, self._remembered)
        return min(self._try_at, self._remember_at if waits else FOREVER)

    def _is_good(self, endpoint: Endpoint) -> bool:
        """Tell whether there is no better place than this one: none has answered, or was configured."""
        if self._checked:
            return is_same(endpoint, self._checked)
        return not self._home or endpoint.from_anywhere in self._home

    def _leave_from(self, endpoint: Endpoint) -> list[Action]:
        """The peer has called another address of ours, from where it was: answer from there.

        Not while it is sent little, as that would be granted anew; then the next datagram after the answer tells.
        """
        if endpoint == self.endpoint or self.limited:
            return []
        self._checked = endpoint if is_same(endpoint, self._checked) else self._checked
        self._asked = endpoint if is_same(endpoint, self._asked) else self._asked
        self.endpoint = endpoint
        return [PeerAt(endpoint)]

    def _ask(self, now: float) -> list[Action]:
        assert self._token is not None
        self._try_at = now + CHECK_DELAYS[self._tries]
        self._tries += 1
        return [SendControl(pack(PathCheck(self._token)))]

    def _allow(self, now: float) -> int:
        """Return the half of what is left: all addresses together get no more than MOVE_LIMIT in a while."""
        if now >= self._allowance_until:
            self._allowance, self._allowance_until = MOVE_LIMIT, now + MOVE_WINDOW
        self._allowance //= 2
        return self._allowance

    def _remember(self, now: float) -> list[Action]:
        checked = self._checked
        if checked is None or now < self._remember_at or is_same(checked, self._remembered):
            return []
        self._remembered, self._remember_at = checked, now + REMEMBER_INTERVAL
        return [Remember(checked)]
