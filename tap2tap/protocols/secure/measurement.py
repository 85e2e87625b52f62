"""What is measured on the way to the peer, with control datagrams: the path MTU, and what arrives of what is sent.

This puts the machines together and gives them what they need to know. It exists while there is a session on which the
peer understands control datagrams; another session goes on where the one before was.
"""

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import FOREVER, NEVER, Action, SendControl, Traffic
from tap2tap.protocols.secure.control import Answer, Report, pack
from tap2tap.protocols.secure.limits import REPORT_INTERVAL, Timers
from tap2tap.protocols.secure.path_mtu import PathMtuSearch
from tap2tap.protocols.secure.wire import OVERHEAD

_ETHERNET = 14 + 2 * 4  # bytes of header, with two VLAN tags


class Measurement:
    """Times are of the link's clock. `mtu` is that of our own tap."""

    __slots__ = (
        "_at",
        "_busy",
        "_bytes",
        "_most",
        "_next_counter",
        "_report",
        "_running",
        "_ticked",
        "path_mtu",
        "reports",
        "trains",
    )

    def __init__(self, mtu: int, timers: Timers) -> None:
        self._most = mtu + _ETHERNET + OVERHEAD
        self.path_mtu, self.reports, self.trains = PathMtuSearch(timers), None, None
        self._at: Endpoint | None = None  # where the path that is measured leads
        self._report: tuple[float, Report] | None = None  # came, and is to be read when it is known what was sent
        self._running = False
        self._ticked, self._next_counter = NEVER, 0
        self._bytes, self._busy = 0, False  # frames went or came since the last look but one

    def begin(self, now: float) -> None:
        """Another session is sent on."""
        self._running, self._report, self._next_counter = True, None, 0
        self.path_mtu.rekeyed()

    def end(self) -> None:
        """There is no session any more on which anything could be measured."""
        self._running, self._report = False, None

    def lead_to(self, now: float, endpoint: Endpoint) -> list[Action]:
        """The path leads here, and whoever is here has answered, or is at the first place of all."""
        if not self._running or endpoint == self._at:
            return []
        self._at = endpoint
        version = endpoint.address.version
        return self.path_mtu.begin(now, version=version, most=self._most, counter=self._next_counter)

    def forget(self) -> None:
        """Nobody knows where the peer is: the next path is another one."""
        self._at = None
        self.end()

    def answered(self, now: float, answer: Answer) -> list[Action]:
        """A probe was answered."""
        return self.path_mtu.answered(now, answer) if self._running else []

    def reported(self, now: float, report: Report) -> None:
        """A report came on the session that is sent on; of several that wait for `tick` the last is enough."""
        if self._running:
            self._report = now, report

    def too_long(self, now: float, size: int) -> list[Action]:
        """The kernel does not send so much at once."""
        return self.path_mtu.too_long(now, size) if self._running else []

    def tick(self, now: float, traffic: Traffic) -> list[Action]:
        """Look at the clock and at what the workers did."""
        self._ticked = now
        if not self._running:
            return []
        todo: list[Action] = []
        self._next_counter = traffic.next_counter
        self._bytes, self._busy = traffic.bytes, traffic.bytes > self._bytes
        self._report = None
        return todo + self.path_mtu.tick(now)

    @property
    def due(self) -> float:
        """When `tick` is needed next."""
        if not self._running:
            return FOREVER
        if self._report:
            return self._ticked
        return min(self.path_mtu.due, self._ticked + REPORT_INTERVAL if self._busy else FOREVER)
