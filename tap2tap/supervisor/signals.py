"""Signals as something to poll for: the handler only notes what came and wakes the loop, the loop does the work."""

import select
import signal
import socket
from contextlib import suppress
from types import FrameType

from tap2tap.errors import StartError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
CAUGHT = (*STOP_SIGNALS, signal.SIGHUP)  # a closed terminal and logrotate send SIGHUP: no reason to end


class Interrupted(Exception):
    """A stop signal came while something else was waited for."""


class Signals:
    """Catches the stop signals, SIGHUP and SIGCHLD from its creation on. `fd` is readable when one has come.

    Raises StartError.
    """

    def __init__(self) -> None:
        self._stop: signal.Signals | None = None
        self._hang_up = False
        try:
            self._read, self._write = socket.socketpair()
        except OSError as error:
            raise StartError(f"cannot wait for signals: {error.strerror}") from error
        self._read.setblocking(False)
        self._write.setblocking(False)
        for number in (*CAUGHT, signal.SIGCHLD):
            signal.signal(number, self._note)  # unlike SIG_IGN it does not survive an exec
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (*CAUGHT, signal.SIGCHLD))  # whatever our parent had in mind

    @property
    def fd(self) -> int:
        """What to poll; ours."""
        return self._read.fileno()

    def stop(self) -> signal.Signals | None:
        """Take what has come; return the first stop signal among it."""
        with suppress(BlockingIOError):
            self._read.recv(4096)  # which only wakes: what came when it was full is not in it
        signal.pthread_sigmask(signal.SIG_BLOCK, ())  # Python calls the handlers now, for all whose bytes were taken
        came, self._stop = self._stop, None
        return came

    def hang_up(self) -> bool:
        """Whether SIGHUP has come since this was asked last."""
        came, self._hang_up = self._hang_up, False
        return came

    def wait(self, fd: int) -> None:
        """Wait until `fd` is readable or its other end is closed. Raises Interrupted when a stop signal came first."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(self.fd, select.POLLIN)
        while fd not in (ready for ready, _ in poll.poll()):
            if self.stop():
                raise Interrupted

    def _note(self, number: int, _: FrameType | None) -> None:
        """Be the handler."""
        if number in STOP_SIGNALS:
            self._stop = self._stop or signal.Signals(number)
        elif number == signal.SIGHUP:
            self._hang_up = True


def ignore() -> None:
    """Ignore the stop signals and SIGHUP from now on, as a forked child or in the end; wake no loop by them.

    They are let in again then: whoever forked the child has held them back.
    """
    signal.set_wakeup_fd(-1)
    for number in CAUGHT:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)


def decode(code: int) -> str:
    """Say why a process ended, from the exit code as `os.waitstatus_to_exitcode` gives it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
