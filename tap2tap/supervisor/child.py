"""The worker of one direction through all its lives: starting it, telling why it died, replacing it."""

import contextlib
import signal
import socket
from collections.abc import Callable, Collection

from tap2tap import clock, log
from tap2tap.counters import SHOWN, Count, Counts
from tap2tap.errors import CANNOT_START, OK, TAP_GONE, StartError
from tap2tap.supervisor import process, signals
from tap2tap.supervisor.process import Process
from tap2tap.supervisor.restart import Heartbeat, Restarts
from tap2tap.workers.pin import Pin
from tap2tap.workers.worker import Cable, settle

Loop = Callable[[Cable, Pin, socket.socket | None], None]


class Child:
    """The worker of one direction, through all its lives.

    `keep` are the descriptors that it may use; `channel` makes it one more for each life, or None.
    """

    def __init__(
        self,
        role: str,
        loop: Loop,
        cable: Cable,
        counts: Counts,
        pin: Pin,
        keep: Collection[int],
        channel: Callable[[], socket.socket | None],
    ) -> None:
        self.role = role
        self.restart_at: float | None = None
        self._loop = loop
        self._cable = cable
        self._counts = counts
        self._pin = pin
        self._keep = keep
        self._channel = channel
        self._process: Process | None = None
        self._restarts = Restarts()
        self._lives = 0
        self._failing = False  # there was no room for the last life
        self._started = 0.0
        self._heartbeat = Heartbeat(0, 0.0)

    def start(self) -> None:
        """Begin the first life. The parent must have dropped its privileges: the worker has what the parent has.

        Raises StartError.
        """
        try:
            self._start()
        except OSError as error:
            raise StartError(
                f"cannot start the {self.role} worker: {error.strerror}: raise the limits of processes and open files"
            ) from error

    def _start(self) -> None:
        """Begin a life. Raises OSError when the machine has no room for a process or its channel."""
        now = clock.now()
        self.restart_at = None
        self._started = now
        self._heartbeat = Heartbeat(self._beats(), now)
        with self._channel() or contextlib.nullcontext() as channel:
            self._counts[Count.CPU] = self._pin.cpu + 1  # until the worker knows better
            self._process = process.start(
                self.role,
                lambda: self._live(channel),
                [*self._keep, *([channel.fileno()] if channel else [])],
                title=f"{self.role}:{self._cable.name}",
                kind="worker",
            )
        self._lives += 1
        self._counts[Count.PID] = self._process.pid

    def _live(self, channel: socket.socket | None) -> int:
        """Be the worker; return its exit code."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # of the stop signals, this one is never a terminal's
        try:
            if not self._pin.take():
                self._counts[Count.CPU] = 0
            settle()
        except Exception as error:
            log.error("worker cannot start", error=error)
            return CANNOT_START
        self._loop(self._cable, self._pin, channel)
        return OK

    def tend(self) -> None:
        """Collect the worker if it has died, and begin its next life when it is time.

        Raises StartError when no successor could do better.
        """
        code = self._process.poll() if self._process else None
        if code is not None:
            self._bury(code)
        if self.restart_at is None or clock.now() < self.restart_at:
            return
        try:
            self._start()
        except OSError as error:
            delay = self._plan()
            if not self._failing:  # told once, however often it is tried
                log.warning("worker cannot be started, trying again", worker=self.role, reason=error.strerror)
            log.debug("next try", worker=self.role, seconds=f"{delay:.2f}")
            self._failing = True
        else:
            if self._failing:
                log.info("worker runs again", worker=self.role)
            self._failing = False

    def _bury(self, code: int) -> None:
        self._process = None
        self._counts[Count.PID] = 0
        if code == TAP_GONE:
            raise StartError("the tap device was deleted: the tunnel has ended")
        if code == CANNOT_START and self._lives == 1:  # a tunnel that has run may well run again
            raise StartError(f"the {self.role} worker cannot start: see its message above")
        self._counts[Count.RESTARTS] += 1
        delay, reason = self._plan(), signals.decode(code)
        if delay:
            log.warning("worker keeps dying", worker=self.role, reason=reason, next_try_seconds=f"{delay:.2f}")
        else:
            log.warning("worker died, replacing it", worker=self.role, reason=reason)

    def _plan(self) -> float:
        """Choose the time of the next life; return the seconds until then."""
        now = clock.now()
        delay = self._restarts.delay(now - self._started)
        self.restart_at = now + delay
        return delay

    def hung(self) -> bool:
        """Whether the living worker has stopped beating."""
        return self._process is not None and self._heartbeat.hung(self._beats(), clock.now())

    def _beats(self) -> int:
        """A number that goes up with whatever the worker does."""
        return sum(self._counts[Count.BEAT : SHOWN])

    def kill(self) -> None:
        """Kill the worker: it holds nothing that a gentler end would save."""
        if self._process:
            self._process.kill()

    def end(self) -> None:
        """Kill the worker and wait until it is gone."""
        if self._process:
            self._process.end()
            self._process = None
            self._counts[Count.PID] = 0
