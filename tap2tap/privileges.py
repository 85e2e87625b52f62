"""Giving up power: users, groups, capabilities, descriptors; and dying with one's parent.

The calls that Python lacks are made through libc: prctl(2), capset(2). Constants are spelt as in linux/prctl.h.
"""

import contextlib
import ctypes
import grp
import os
import pwd
import resource
import signal
import struct
from collections.abc import Iterable
from pathlib import Path

from tap2tap.errors import NoPermissionError, UsageError
from tap2tap.numbers import whole_number

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
MAX_ID = 2**32 - 2  # of users and groups: the one above means "unchanged" to setresuid(2)

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | bytes) -> None:
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if _libc.prctl(option, value, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def name_process(name: str) -> None:
    """Show `name`, cut to 15 bytes, in ps and top."""
    _prctl(PR_SET_NAME, name.encode())


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which must be the caller's parent now, dies however it may."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def find_user(text: str) -> int:
    """Read a uid or a user name. Raises UsageError."""
    number = whole_number(text, MAX_ID)
    if number is not None:
        return number
    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError):
        raise UsageError(f"--uid {text}: there is no such user") from None


def find_group(text: str) -> int:
    """Read a gid or a group name. Raises UsageError."""
    number = whole_number(text, MAX_ID)
    if number is not None:
        return number
    try:
        return grp.getgrnam(text).gr_gid
    except (KeyError, ValueError):
        raise UsageError(f"--gid {text}: there is no such group") from None


def drop(uid: int, gid: int) -> None:
    """Become `uid` and `gid` with no supplementary group and no capability, for good; leave no core dump.

    Raises NoPermissionError.
    """
    try:
        if os.geteuid() == 0:
            _drop_groups()
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
    except OSError as error:
        raise NoPermissionError(
            f"cannot become uid {uid} and gid {gid}: {error.strerror}: choose others with --uid and --gid"
        ) from error
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    leave_no_core()  # a change of the uid has undone it
    header = struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    _libc.capset(header, bytes(24))


def leave_no_core() -> None:
    """Never write the memory of this process, with the keys in it, to a file; nor let equals look into it."""
    _prctl(PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _drop_groups() -> None:
    # A user namespace that an ordinary user made denies setgroups(2) for good; its groups are not ours to drop.
    with contextlib.suppress(OSError):
        if Path("/proc/self/setgroups").read_text().strip() == "deny":
            return
    os.setgroups([])


def keep_descriptors(keep: Iterable[int]) -> None:
    """Close every descriptor but those in `keep`."""
    low = 0
    for fd in sorted(set(keep)):
        if low < fd:  # an empty range would close everything
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 30)
