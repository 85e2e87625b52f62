"""Signals as something to poll for: the handler only wakes the loop, the loop does the work."""

import os
import signal
import socket
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Signals:
    """Catches the stop signals and SIGCHLD from its creation on. `fd` is readable when one has come."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            signal.signal(number, _ignore)
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)

    @property
    def fd(self) -> int:
        """What to poll; ours."""
        return self._read.fileno()

    def stop(self) -> signal.Signals | None:
        """Take what has come; return the first stop signal among it."""
        try:
            numbers = self._read.recv(4096)
        except BlockingIOError:
            return None
        return next((signal.Signals(number) for number in numbers if number in STOP_SIGNALS), None)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: set_wakeup_fd has told the loop. Unlike SIG_IGN it does not survive an exec."""


def forget() -> None:
    """Give a forked child the default dispositions, and its parent's wakeup descriptor no bytes."""
    signal.set_wakeup_fd(-1)
    for number in (*STOP_SIGNALS, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def outlive() -> None:
    """Make a forked child deaf to the stop signals, which a terminal sends to the whole group."""
    forget()
    for number in STOP_SIGNALS:
        signal.signal(number, _ignore)


def fork() -> int:
    """Fork with the stop signals held back until the child has chosen its own dispositions; see `released`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        pid = os.fork()
    except OSError:
        released()
        raise
    if pid:
        released()
    return pid


def released() -> None:
    """Let the signals in again that `fork` held back in the child."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def decode(code: int) -> str:
    """Say why a process ended, from the exit code as `os.waitstatus_to_exitcode` gives it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
