"""Log lines on standard error: a constant message and `key=value` facts, each process prefixed by its role.

A line is one write(2), so that the lines of three processes never mix.
"""

import contextlib
import os

DEBUG, INFO, WARNING = 10, 20, 30

_level = INFO
_role = "tap2tap"


def setup(role: str, level: int | None = None) -> None:
    """Name this process in its lines and choose the least level that is shown."""
    global _level, _role
    _role = role
    if level is not None:
        _level = level


def debug(message: str, **facts: object) -> None:
    """Tell what only `-v` shows."""
    _write(DEBUG, "", message, facts)


def info(message: str, **facts: object) -> None:
    """Tell what an administrator wants to find in the journal."""
    _write(INFO, "", message, facts)


def warning(message: str, **facts: object) -> None:
    """Tell what works less well than it could, and why."""
    _write(WARNING, "warning: ", message, facts)


def error(message: str, **facts: object) -> None:
    """Tell why the program ends."""
    _write(WARNING, "error: ", message, facts)


def _write(level: int, prefix: str, message: str, facts: dict[str, object]) -> None:
    if level < _level:
        return
    words = [f"{_role}: {prefix}{message}", *(f"{key}={_value(value)}" for key, value in facts.items())]
    with contextlib.suppress(OSError):  # a log that nobody can read must not stop the cable
        os.write(2, (" ".join(words) + "\n").encode())


def _value(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else repr(text)
