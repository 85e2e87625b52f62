"""Opening and reading a key file, without a thought for what is in it.

Apart from tap2tap.keys, which understands the contents, because the supervisor opens the file and never looks into it:
it needs nothing of what computes with keys.
"""

import os
import stat
from typing import Final

from tap2tap.errors import NoPermissionError, UsageError
from tap2tap.numbers import whole_number
from tap2tap.privileges import MAX_ID

MAX_FILE: Final = 4096  # bytes; a key file has a few hundred


def open_key_file(path: str | os.PathLike[str]) -> int:
    """Return a descriptor of a key file that nobody but its owner can get at, the caller's to close.

    Raises UsageError, with a line that says what to do, NoPermissionError where it may not be opened.
    """
    name = os.fspath(path)
    try:
        # O_NONBLOCK: a FIFO must not hang us before we can refuse it. Links are followed: what counts is the file.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise UsageError(f"{name}: no such key file; 'tap2tap genkey' makes one") from None
    except PermissionError as error:
        raise NoPermissionError(f"{name}: cannot be opened: {error.strerror}") from None
    except OSError as error:
        raise UsageError(f"{name}: cannot be opened: {error.strerror}") from None
    try:
        _check(os.fstat(fd), name)
    except (OSError, UsageError):
        os.close(fd)
        raise
    return fd


def _check(status: os.stat_result, name: str) -> None:
    """Raise UsageError for what is not a file, or not its owner's alone."""
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"{name}: not a regular file, so not a key file")
    if status.st_uid not in (0, os.geteuid(), _sudo_uid()):
        raise UsageError(f"{name}: belongs to another user, who could change it; chown it to yourself or to root")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"{name}: others can get at it; if it is a key file, run 'chmod 600 {name}'")


def read_key_file(fd: int, name: str) -> str:
    """Return the text of an opened key file from its beginning, wherever the descriptor stands. Raises UsageError."""
    try:
        data = os.pread(fd, MAX_FILE + 1, 0)  # of a regular file, so not less than there is
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise UsageError(f"{name}: too long for a key file")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{name}: not a text file, so not a key file") from None


def _sudo_uid() -> int:
    """Who runs this by sudo, as 'tap2tap genkey' as oneself and 'sudo tap2tap' is the common way; 0 if nobody does.

    It is the environment that says so. Whoever sets that of a process of root decides about more than key files.
    """
    if os.geteuid() != 0:
        return 0
    return whole_number(os.environ.get("SUDO_UID", ""), MAX_ID) or 0
