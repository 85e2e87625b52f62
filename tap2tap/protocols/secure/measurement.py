"""What is measured on the way to the peer, with control datagrams: the path MTU, and what arrives of what is sent.

This puts the machines together and gives them what they need to know. It exists while there is a session on which the
peer understands control datagrams; another session goes on where the one before was.
"""

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import FOREVER, NEVER, Action, SendControl, Traffic
from tap2tap.protocols.secure.control import Answer, Report, pack
from tap2tap.protocols.secure.limits import REPORT_INTERVAL, Timers
from tap2tap.protocols.secure.path_mtu import PathMtuSearch
from tap2tap.protocols.secure.reports import Reports
from tap2tap.protocols.secure.segmentation import Segmentation
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
        "_paused",
        "_report",
        "_running",
        "_ticked",
        "path_mtu",
        "reports",
        "trains",
    )

    def __init__(self, mtu: int, timers: Timers) -> None:
        self._most = mtu + _ETHERNET + OVERHEAD
        self.path_mtu, self.reports, self.trains = PathMtuSearch(timers), Reports(), Segmentation()
        self._at: Endpoint | None = None  # where the path that is measured leads
        self._report: tuple[float, Report] | None = None  # came, and is to be read when it is known what was sent
        self._running = self._paused = False
        self._ticked, self._next_counter = NEVER, 0
        self._bytes, self._busy = 0, False  # frames went or came since the last look but one

    def begin(self, now: float, index: int) -> None:
        """Another session is sent on, on which we receive by this index."""
        self._running, self._report, self._next_counter = True, None, 0
        self.reports.begin(now, index)
        self.path_mtu.rekeyed()
        self.trains.rekeyed()

    def end(self) -> list[Action]:
        """There is no session any more on which anything could be measured, nor whether trains arrive again."""
        self._running, self._report = False, None
        return self.trains.path_changed()

    def lead_to(self, now: float, endpoint: Endpoint) -> list[Action]:
        """The path leads here, and whoever is here has answered, or is at the first place of all."""
        if not self._running or endpoint == self._at:
            return []
        self._at = endpoint
        begin = self.path_mtu.begin(now, version=endpoint.address.version, most=self._most, counter=self._next_counter)
        return begin + self.trains.path_changed()

    def forget(self) -> list[Action]:
        """Nobody knows where the peer is: the next path is another one."""
        self._at = None
        return self.end()

    def answered(self, now: float, answer: Answer) -> list[Action]:
        """A probe was answered."""
        return self._fallen(self.path_mtu.payload, self.path_mtu.answered(now, answer)) if self._running else []

    def reported(self, now: float, report: Report) -> None:
        """A report came about the session that is sent on; of several that wait for `tick` the last is enough."""
        if self._running:
            self._report = now, report

    def too_long(self, now: float, size: int) -> list[Action]:
        """The kernel does not send so much at once."""
        return self._fallen(self.path_mtu.payload, self.path_mtu.too_long(now, size)) if self._running else []

    def tick(self, now: float, traffic: Traffic, *, certain: bool) -> list[Action]:
        """Look at the clock and at what the workers did.

        `certain`: frames go to where the path is known to lead. If not, what is lost is no word about that path.
        """
        self._ticked, self._paused = now, not certain
        if not self._running:
            return []
        self._next_counter, payload = traffic.next_counter, self.path_mtu.payload
        self._bytes, self._busy = traffic.bytes, traffic.bytes > self._bytes
        todo: list[Action] = []
        heard, self._report = self._report, None
        interval = self.reports.heard(*heard, traffic, self.path_mtu.overlong) if heard else None
        if report := self.reports.look(now, traffic):
            todo.append(SendControl(pack(report)))
        interval = interval or self.reports.overdue(now, traffic)
        if self._paused:
            return todo
        if interval:
            todo += self.path_mtu.suspect(now) if interval.lost else []
            todo += self.trains.reported(now, interval)
        return self._fallen(payload, todo + self.path_mtu.tick(now))

    def _fallen(self, payload: int, todo: list[Action]) -> list[Action]:
        """See whether the path takes less than before: then what was lost is no word about trains."""
        return todo + (self.trains.path_changed() if self.path_mtu.payload < payload else [])

    @property
    def due(self) -> float:
        """When `tick` is needed next."""
        if not self._running:
            return FOREVER
        if self._report:
            return self._ticked
        look = self._ticked + REPORT_INTERVAL if self._busy else FOREVER
        return look if self._paused else min(look, self.path_mtu.due)
