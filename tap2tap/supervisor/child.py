"""One worker process: forking it, telling why it died, killing it."""

import contextlib
import os
import signal
import socket
import traceback
from collections.abc import Callable, Collection

from tap2tap import clock, log
from tap2tap.counters import SHOWN, Count, Counts
from tap2tap.errors import CANNOT_START, TAP_GONE
from tap2tap.privileges import die_with_parent, keep_descriptors, name_process
from tap2tap.supervisor import signals
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
        self.pid = 0
        self.restart_at: float | None = None
        self._loop = loop
        self._cable = cable
        self._counts = counts
        self._pin = pin
        self._keep = keep
        self._channel = channel
        self._restarts = Restarts()
        self._started = 0.0
        self._heartbeat = Heartbeat(0, 0.0)

    def start(self) -> None:
        """Fork the worker. The parent must have dropped its privileges: the worker has what the parent has."""
        now = clock.now()
        self.restart_at = None
        self._started = now
        self._heartbeat = Heartbeat(self._beats(), now)
        self._counts[Count.CPU] = self._pin.cpu + 1  # until the worker knows better
        parent = os.getpid()
        with self._channel() or contextlib.nullcontext() as channel:
            pid = signals.fork()
            if not pid:
                os._exit(self._live(parent, channel))
        self.pid = pid
        self._counts[Count.PID] = pid

    def _live(self, parent: int, channel: socket.socket | None) -> int:
        """Be the worker; return its exit code."""
        try:
            signals.forget()
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_IGN)  # a terminal sends them to all; the supervisor sees to our end
            signals.released()
            die_with_parent(parent)
            name_process(f"{self.role}:{self._cable.name}")
            log.setup(f"tap2tap {self.role}")
            keep_descriptors([*self._keep, *([channel.fileno()] if channel else [])])
            if not self._pin.take():
                self._counts[Count.CPU] = 0
            settle()
        except Exception as error:
            log.error("worker cannot start", error=error)
            return CANNOT_START
        try:
            self._loop(self._cable, self._pin, channel)
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            log.error("worker failed", error=repr(error))
            log.debug("where it failed", traceback="".join(traceback.format_exception(error)))
            return 1
        return 0

    def reap(self) -> str | None:
        """Collect the worker if it has died and plan its successor; return the reason, None while it lives.

        Raises SystemExit with CANNOT_START or TAP_GONE when the worker said that no successor could do better.
        """
        if not self.pid:
            return None
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        self.pid = self._counts[Count.PID] = 0
        code = os.waitstatus_to_exitcode(status)
        if code in (CANNOT_START, TAP_GONE):
            raise SystemExit(code)
        now = clock.now()
        self._counts[Count.RESTARTS] += 1
        delay = self._restarts.delay(now - self._started)
        self.restart_at = now + delay
        reason = signals.decode(code)
        if delay:
            log.warning("worker keeps dying", worker=self.role, reason=reason, next_try_seconds=f"{delay:.2f}")
        else:
            log.warning("worker died, replacing it", worker=self.role, reason=reason)
        return reason

    def hung(self) -> bool:
        """Whether the living worker has stopped beating."""
        return bool(self.pid) and self._heartbeat.hung(self._beats(), clock.now())

    def _beats(self) -> int:
        """A number that goes up with whatever the worker does."""
        return sum(self._counts[Count.BEAT : SHOWN])

    def kill(self) -> None:
        """Kill the worker: it holds nothing that a gentler end would save."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill the worker and wait until it is gone."""
        self.kill()
        if self.pid:
            os.waitpid(self.pid, 0)
            self.pid = self._counts[Count.PID] = 0
