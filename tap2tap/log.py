"""Log lines on standard error: a constant message and `key=value` facts, each process prefixed by its role.

A line is one write(2), so that the lines of several processes never mix. A tunnel must not stop because nobody reads
what it says (a pipe to a program that hangs, a terminal after Ctrl-S): from `unblock` on, a line that finds no room is
lost, and the next one that finds room says how many were.
"""

import contextlib
import os
import select
import socket
import stat

DEBUG, INFO, WARNING = 10, 20, 30

_FD = 2
_LINE = select.PIPE_BUF  # bytes: so much goes into a pipe whole or not at all (pipe(7))

_level = INFO
_role = "tap2tap"
_waits = True  # for room, as any program does
_lost = 0  # lines
_torn = False  # the last line was not written to its end


def setup(role: str, level: int | None = None) -> None:
    """Name this process in its lines and choose the least level that is shown."""
    global _level, _role
    _role = role
    if level is not None:
        _level = level


def skip() -> None:
    """Lose lines from now on rather than wait for room."""
    global _waits
    _waits = False


def unblock() -> None:
    """Do as `skip` does, and make standard error of this process and its children one that never blocks.

    Where it is a pipe or a terminal it becomes a file description of our own: O_NONBLOCK is a property of the
    description, and the old one belongs to the user's shell and its programs as well. To be called before the
    privileges go: another user's pipe cannot be opened again.
    """
    skip()
    if not _may_fill(_mode()):
        return
    with contextlib.suppress(OSError):  # there is still the look before each write
        fd = os.open(f"/proc/self/fd/{_FD}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        os.dup2(fd, _FD)
        os.close(fd)


def debug(message: str, **facts: object) -> None:
    """Tell what only `-v` shows."""
    _log(DEBUG, "", message, facts)


def info(message: str, **facts: object) -> None:
    """Tell what an administrator wants to find in the journal."""
    _log(INFO, "", message, facts)


def warning(message: str, **facts: object) -> None:
    """Tell what works less well than it could, and why."""
    _log(WARNING, "warning: ", message, facts)


def error(message: str, **facts: object) -> None:
    """Tell why the program ends."""
    _log(WARNING, "error: ", message, facts)


def line(text: str) -> None:
    """Write a line as it is."""
    global _lost
    if _lost and _write(f"{_role}: warning: lines were lost, as nobody read them lines={_lost}"):
        _lost = 0
    if not _write(text):
        _lost += 1


def _log(level: int, prefix: str, message: str, facts: dict[str, object]) -> None:
    if level >= _level:
        line(" ".join([f"{_role}: {prefix}{message}", *(f"{key}={_value(value)}" for key, value in facts.items())]))


def _value(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else repr(text)


def _write(text: str) -> bool:
    """Write a line; False when there was no room for all of it."""
    global _torn
    data = b"\n" * _torn + text.encode(errors="backslashreplace")[: _LINE - 2] + b"\n"
    try:
        written = _put(data)
    except BlockingIOError:
        return False
    except OSError:  # a log that nobody can read must not stop the cable
        return True
    _torn = written < len(data)
    return not _torn


def _put(data: bytes) -> int:
    """Write as much of `data` as there is room for. Raises BlockingIOError when there is none, OSError."""
    if _waits:
        return os.write(_FD, data)
    mode = _mode()
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=_FD)
        try:
            return sock.send(data, socket.MSG_DONTWAIT)
        finally:
            sock.detach()
    if _may_fill(mode) and not select.select((), (_FD,), (), 0)[1]:
        raise BlockingIOError
    return os.write(_FD, data)


def _mode() -> int:
    """The kind of file that standard error is; 0 where it is closed."""
    try:
        return os.fstat(_FD).st_mode
    except OSError:
        return 0


def _may_fill(mode: int) -> bool:
    """Whether a write may wait for somebody to read."""
    return stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and os.isatty(_FD))
