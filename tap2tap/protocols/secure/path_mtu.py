"""How long a datagram may be: the path MTU, found by probing (docs/protocol.md, 3.4; RFC 8899).

A probe is a padded control datagram, and only its answer raises the size. Loss alone fails nothing: a size has failed
when its tries are unanswered *and a smaller probe that was sent after them* is answered. So an outage, a slow path and
a queue that fills do not look like a smaller path. These later, smaller probes are the guards. Each has a length of its
own, a few bytes below what is known to pass, so that an answer tells which of them it is for.

Sizes are bytes of UDP payload. Pure: no clock, no I/O.
"""

from tap2tap.endpoint import HEADERS
from tap2tap.protocols.secure.actions import FOREVER, NEVER, Action, PathMtu, SendControl
from tap2tap.protocols.secure.control import Answer, Probe, pack
from tap2tap.protocols.secure.limits import (
    BASE_MTU,
    CHECK_INTERVAL,
    COMMON_MTUS,
    DEAD_PATH_PAUSE,
    FIRST_PROBES,
    LEAST_MTU,
    PROBE_BURST,
    PROBE_PATIENCE,
    PROBE_TRIES,
    PROBES_PER_SECOND,
    SEARCH_AGAIN_SOON,
    Timers,
)
from tap2tap.protocols.secure.wire import OVERHEAD

LONGEST = 0xFFFF - HEADERS[4]  # UDP payload
SMALLEST = OVERHEAD + len(pack(Answer(0, 0)))  # as no answer is longer than its probe
_SPACING = 1 / PROBES_PER_SECOND
_GUARD_LENGTHS = 8  # then they repeat


class PathMtuSearch:
    """Searches upwards, checks what holds, and says what to send and what has changed.

    `payload` is what holds now, 0 before `begin`. `due` is when `tick` is needed next. A search looks for the border
    between `_low`, which passes, and the least size that has failed; a check has a `_target`, the one size in question.
    """

    def __init__(self, timers: Timers) -> None:
        self.payload = 0
        self.overlong = 0  # probes that were sent to see whether they are too long, and not answered, ever,
        self._overlong: dict[int, int] = {}  # and how many of each size
        self._timers = timers
        self._version, self._most, self._floor, self._counter = 4, 0, 0, 0
        self._told = 0  # what people know
        self._searching = False
        self._again = FOREVER  # when to search again, or to go on; long ago while a search has not ended
        self._checked = NEVER
        self._quiet, self._settled = 0, 0  # searches in a row that found the same, and what they found
        self._next_token = NEVER  # when PROBE_BURST probes may go out at once
        self._last_sent = NEVER
        # Of one search or check.
        self._low, self._target, self._began = 0, 0, 0
        self._proven = False  # `_low` was answered
        self._sent: dict[int, float] = {}  # by size: when its last probe was sent
        self._tries: dict[int, int] = {}
        self._failed: set[int] = set()
        self._guards, self._unanswered = 0, 0  # in all, and since the last answer

    @property
    def due(self) -> float:
        """When `tick` is needed."""
        if not self.payload:
            return FOREVER
        return self._next()[0] if self._searching else self._again

    def begin(self, now: float, *, version: int, most: int, counter: int) -> list[Action]:
        """The peer is at a new place, which is reached by this version of IP: begin with what every path carries.

        `most` is the longest size of use; answers to probes before `counter` are about another path.
        """
        self._version, self._counter = version, counter
        self._most = min(most, LONGEST)
        self._floor = min(BASE_MTU - HEADERS[version], self._most)
        self._quiet, self._settled, self._checked = 0, 0, NEVER
        self._told = 0
        self.payload = self._floor
        self._start_search()
        return [PathMtu(self.payload, told=False), *self._go_on(now)]

    def rekeyed(self) -> None:
        """The datagrams of another session are counted from now on."""
        self._counter = 0

    def tick(self, now: float) -> list[Action]:
        """Send the probes that are due, end what is over."""
        if not self.payload:
            return []
        if not self._searching and now >= self._again:
            self._start_search()
        return self._go_on(now)

    def answered(self, now: float, answer: Answer) -> list[Action]:
        """Take an answer; one about a size that was not asked for, or from before the peer moved, says nothing."""
        size = answer.size
        if self._overlong.get(size):
            self._overlong[size] -= 1
            self.overlong -= 1
        if not self._searching or answer.counter < self._counter or size not in self._sent:
            return []
        self._proven = self._proven or size >= self._low
        self._unanswered = 0
        if size > self._low and self._target in (0, size):
            self._low = size
            self._failed.difference_update([failed for failed in self._failed if failed <= size])
        before = self._sent[size]
        tried = [each for each, tries in self._tries.items() if tries >= PROBE_TRIES and each > self._low]
        self._failed.update(each for each in tried if self._sent[each] < before and size < each)
        return self._go_on(now)

    def too_long(self, now: float, size: int) -> list[Action]:
        """The kernel refused to send so much (EMSGSIZE): nobody need be asked."""
        if not self.payload or size > LONGEST:
            return []
        if size > self.payload:
            if self._searching:
                self._failed.add(size)
            return self._go_on(now)
        if size <= self._floor:
            return self._step_below(now, size) if size > self._least() else []
        return self._fall(now, size)

    def suspect(self, now: float) -> list[Action]:
        """Datagrams were lost, or nothing is heard of them: see whether the present size still passes."""
        if not self.payload or self._searching or now < self._checked + CHECK_INTERVAL:
            return []
        self._start_check(now)
        return self._go_on(now)

    # Beginnings and ends.

    def _start_search(self) -> None:
        self._again = NEVER  # until it has ended, whatever checks come between
        self._start()

    def _start(self) -> None:
        self._searching, self._proven = True, False
        self._low = self._began = self.payload
        self._target = 0  # none
        self._guards, self._unanswered = 0, 0
        for memory in (self._sent, self._tries, self._failed):
            memory.clear()

    def _start_check(self, now: float, target: int = 0) -> None:
        """Is it the path or the size? `target` is the present one, or the floor."""
        self._start()
        self._checked = now
        self._target = target or self.payload
        self._low = self._floor if self._target > self._floor else SMALLEST

    def _go_on(self, now: float) -> list[Action]:
        """Conclude what can be concluded, and send what may be sent."""
        actions: list[Action] = []
        while self._searching:
            if self._target:
                if self._low == self._target:
                    self._check_passed(now)
                    continue
                if self._target in self._failed:
                    below = self._target <= self._floor
                    return actions + (self._step_below(now) if below else self._fall(now))
            else:
                if self._low > self.payload:
                    self.payload = self._low
                    actions.append(PathMtu(self.payload, told=False))
                if self._low >= self._most or self._low + 1 in self._failed:
                    return actions + self._end(now)
            when, size = self._next()
            if now < when:
                break
            if size:
                actions.append(self._probe(now, size))
            else:
                self._give_up(now)
        return actions

    def _check_passed(self, now: float) -> None:
        if self._target != self.payload:  # the floor, while the size itself is still in question
            self._start_check(now)
        elif now >= self._again:
            self._start_search()
        else:
            self._searching = False

    def _give_up(self, now: float) -> None:
        """Not even the guards are answered: perhaps they are too long as well, perhaps nothing passes."""
        if self._low > self._floor:
            self._start_check(now)
        elif self._low > SMALLEST:
            self._start_check(now, self._floor)
        else:
            self._searching = False
            self._again = now + DEAD_PATH_PAUSE

    def _least(self) -> int:
        return min(self._floor, LEAST_MTU - HEADERS[4]) if self._version == 4 else self._floor

    def _step_below(self, now: float, known: int = 0) -> list[Action]:
        """The floor itself is too long."""
        if self._floor > self._least():
            self._floor = self._least()
            return self._fall(now, known)
        self._searching = False  # there is nothing shorter to try
        self._again = now + DEAD_PATH_PAUSE
        return []

    def _fall(self, now: float, known: int = 0) -> list[Action]:
        """Go down at once, and search from there. `known` is too long for certain, lost may be chance."""
        self.payload = self._floor
        self._start_search()
        if known:
            self._failed.add(known)
        return [PathMtu(self.payload, told=False), *self._go_on(now)]

    def _end(self, now: float) -> list[Action]:
        """The search has found the border."""
        self._searching = False
        self._quiet = self._quiet + 1 if self.payload == self._settled else 0
        self._settled = self.payload
        self._floor = max(self._floor, min(self.payload, BASE_MTU - HEADERS[self._version]))
        delays = (*SEARCH_AGAIN_SOON, FOREVER)
        delay = min(delays[min(self._quiet, len(delays) - 1)], self._timers.search_again)
        self._again = now + delay if self.payload < self._most else FOREVER
        if self.payload == self._told:
            return []
        self._told = self.payload
        return [PathMtu(self.payload, told=True)]

    # Probes.

    def _probe(self, now: float, size: int) -> SendControl:
        self._next_token = max(self._next_token, now - _SPACING * (PROBE_BURST - 1)) + _SPACING
        self._last_sent = self._sent[size] = now
        if size > self.payload:
            self._overlong[size] = self._overlong.get(size, 0) + 1
            self.overlong += 1
        if size in self._sizes():
            self._tries[size] = self._tries.get(size, 0) + 1
        else:
            self._guards += 1
            self._unanswered += 1
        return SendControl(pack(Probe()), size)

    def _next(self) -> tuple[float, int]:
        """Return when the next probe is due, and of what size; size 0: when to give up waiting for an answer.

        Until `_low` is answered each size is tried once, then come guards: so a dead path is told soon.
        """
        for size in self._sizes():
            if self._tries.get(size, 0) < (PROBE_TRIES if self._proven else 1):
                return max(self._next_token, self._sent.get(size, NEVER) + _SPACING), size
        if self._unanswered >= PROBE_TRIES:
            return self._last_sent + PROBE_PATIENCE, 0
        number = 1 + self._guards % _GUARD_LENGTHS if self._proven else 0
        guard = SMALLEST + number if self._low == SMALLEST else self._low - number
        return max(self._next_token, self._last_sent + _SPACING), guard

    def _sizes(self) -> list[int]:
        """What to try now, all greater than `_low` and less than what has failed.

        Where paths often end, and where this one ended before, the next byte first: if that fails, the search is over.
        """
        if self._target:
            return [self._target]
        high = min(self._failed, default=self._most + 1)
        common = [mtu - HEADERS[self._version] for mtu in COMMON_MTUS]
        steps = [size for size in dict.fromkeys([*common, self._most]) if self._low < size < high]
        if not self._proven and self._low == self._floor:
            return steps[:FIRST_PROBES]
        if self._low in common or self._low == self._began:
            return [self._low + 1]
        steps.sort()
        return [steps[(len(steps) - 1) // 2] if steps else (self._low + high) // 2]
