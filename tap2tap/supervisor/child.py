"""A child of the supervisor through all its lives: starting it, telling why it died, replacing it."""

from collections.abc import Callable

from tap2tap import clock, log
from tap2tap.counters import SHOWN, Count, Counts, Role
from tap2tap.errors import CANNOT_START, TAP_GONE, StartError, TapGoneError
from tap2tap.supervisor import process, signals
from tap2tap.supervisor.process import Process
from tap2tap.supervisor.restart import Heartbeat, Restarts


class Child:
    """A worker or the link process, through all its lives.

    `counts` is its group of the memory. `begin` starts a life, and raises OSError when the machine has no room for it.
    """

    def __init__(self, role: Role, counts: Counts, begin: Callable[[], Process]) -> None:
        self.restart_at: float | None = None
        self._kind = "link process" if role is Role.LINK else "worker"
        self._name = self._kind if role is Role.LINK else f"{role} worker"
        self._facts = {} if role is Role.LINK else {"worker": role}
        self._counts = counts
        self._begin = begin
        self._life: Process | None = None
        self._restarts = Restarts()
        self._lives = 0
        self._failing = False  # there was no room for the last life
        self._started = 0.0
        self._heartbeat = Heartbeat(0, 0.0)

    def start(self) -> None:
        """Begin the first life. Raises StartError."""
        try:
            self._start()
        except OSError as error:
            raise process.no_room(self._name, error) from error

    def _start(self) -> None:
        """Begin a life. Raises OSError when the machine has no room for it."""
        now = clock.now()
        self.restart_at = None
        self._started = now
        self._heartbeat = Heartbeat(self._beats(), now)
        self._life = self._begin()
        self._lives += 1
        self._counts[Count.PID] = self._life.pid

    def tend(self) -> None:
        """Collect it if it has died, and begin its next life when it is time.

        Raises StartError when no successor could do better.
        """
        code = self._life.poll() if self._life else None
        if code is not None:
            self._bury(code)
        if self.restart_at is not None and clock.now() >= self.restart_at:
            self._start_again()

    def renew(self) -> None:
        """Begin its next life at once, as what it was lent is another one now: no death, and no restart to be counted.

        One that has none just now gets what there is when it is time. Raises StartError when no successor could do
        better.
        """
        if self._life:
            self.end()
            self._start_again()

    def _start_again(self) -> None:
        """Begin another life, or plan it where there is no room for it."""
        try:
            self._start()
        except OSError as error:
            delay = self._plan()
            if not self._failing:  # told once, however often it is tried
                log.warning(f"{self._kind} cannot be started, trying again", **self._facts, reason=error.strerror)
            log.debug("next try", **self._facts, seconds=f"{delay:.2f}")
            self._failing = True
        else:
            if self._failing:
                log.info(f"{self._kind} runs again", **self._facts)
            self._failing = False

    def _bury(self, code: int) -> None:
        self._life = None
        self._counts[Count.PID] = 0
        if code == TAP_GONE:
            raise TapGoneError
        if code == CANNOT_START and self._lives == 1:  # a tunnel that has run may well run again
            raise StartError(f"the {self._name} cannot start: see its message above")
        self._counts[Count.RESTARTS] += 1
        delay, reason = self._plan(), signals.decode(code)
        if delay:
            seconds = f"{delay:.2f}"
            log.warning(f"{self._kind} keeps dying", **self._facts, reason=reason, next_try_seconds=seconds)
        else:
            log.warning(f"{self._kind} died, replacing it", **self._facts, reason=reason)

    def _plan(self) -> float:
        """Choose the time of the next life; return the seconds until then."""
        now = clock.now()
        delay = self._restarts.delay(now - self._started)
        self.restart_at = now + delay
        return delay

    def look(self) -> None:
        """Kill it if it lives and has stopped beating."""
        if self._life is not None and self._heartbeat.hung(self._beats(), clock.now()):
            log.warning(f"{self._kind} hangs, killing it", **self._facts)
            self.kill()

    def _beats(self) -> int:
        """A number that goes up with whatever it does."""
        return sum(self._counts[Count.BEAT : SHOWN])

    def kill(self) -> None:
        """Kill it: it holds nothing that a gentler end would save."""
        if self._life:
            self._life.kill()

    def finish(self, patience: float) -> None:
        """Wait for its own end, for so many seconds only, and see to it then."""
        if self._life:
            self._life.wait(patience)
        self.end()

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        if self._life:
            self._life.end()
            self._life = None
            self._counts[Count.PID] = 0
