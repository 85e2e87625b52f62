"""Giving up power: users, groups, capabilities, descriptors; and dying with one's parent.

The calls that Python lacks are made through libc: prctl(2), capget(2), capset(2). Constants are spelt as in
linux/prctl.h. Old kernels lack some of these calls and containers refuse some: each has its way round, or is reported
by what calls it.
"""

import contextlib
import ctypes
import fcntl
import functools
import grp
import os
import pwd
import resource
import signal
import struct
from collections.abc import Collection
from pathlib import Path

from tap2tap.errors import NoPermissionError, UsageError
from tap2tap.numbers import whole_number

PR_SET_PDEATHSIG = 1
PR_GET_PDEATHSIG = 2
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW = 10, 12, 13  # linux/capability.h
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_SETS = struct.Struct("=6I")  # of capset: effective, permitted, inheritable of the lower 32; and of the higher ones
NR_OPEN = 1 << 20  # no descriptor is higher, unless fs.nr_open was raised (linux/fs.h)
MAX_ID = 2**32 - 2  # of users and groups: the one above means "unchanged" to setresuid(2)

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: ctypes.c_ulong | ctypes.c_char_p | ctypes.Array[ctypes.c_int]) -> None:
    if _libc.prctl(option, argument, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def name_process(name: str) -> None:
    """Show `name`, cut to 15 bytes, in ps and top, where the kernel lets us."""
    with contextlib.suppress(OSError):
        _prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()))


@functools.cache
def kernel_ends_orphans() -> bool:
    """Whether `die_with_parent` works without a lifeline."""
    now = (ctypes.c_int * 1)()
    try:
        _prctl(PR_GET_PDEATHSIG, now)
        _prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(now[0]))
    except OSError:
        return False
    return True


def die_with_parent(parent: int, lifeline: int | None = None, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `number` to this process when `parent`, which must be its parent now, dies however it may.

    A later change of the uid would undo it. `lifeline` is the read end of a pipe that only the parent can write to, for
    kernels that refuse PR_SET_PDEATHSIG: its closing is a signal as well. Raises OSError.
    """
    if lifeline is None:
        _prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(number))
    else:
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, number)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    if os.getppid() != parent:  # it died before the call
        os._exit(1)


def adopt(*, on: bool) -> bool:
    """Have this process become the parent of descendants whose own one ends (prctl(2)); False where it cannot."""
    try:
        _prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(on))
    except OSError:
        return False
    return True


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


def drop(uid: int, gid: int) -> tuple[str, ...]:
    """Become `uid` and `gid` with no supplementary group and no capability, for good; leave no core dump.

    Return what the kernel refuses of the protection beyond that. Raises NoPermissionError when a power stays.
    """
    if os.geteuid() == 0:
        _drop_groups(gid)
        try:
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
        except OSError as error:
            raise NoPermissionError(
                f"cannot become uid {uid} and gid {gid}: {error.strerror}: choose others with --uid and --gid"
            ) from error
    refused = [*_gain_nothing(), *leave_no_core()]  # a change of the uid has undone that
    _drop_capabilities()
    return tuple(refused)


def keep_only(*capabilities: int) -> tuple[str, ...]:
    """Keep these, CAP_..., as far as they are there, and no other capability, nor any way to get one; leave no core.

    The user stays. Return what the kernel refuses of that.
    """
    refused = [*_gain_nothing(), *leave_no_core()]
    with contextlib.suppress(OSError):  # EINVAL: there are no more; EPERM: who may not drop them has none to get
        for number in range(64):
            if number not in capabilities:
                _prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number))
    header, held = struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0), ctypes.create_string_buffer(_SETS.size)
    wanted = sum(1 << each for each in capabilities)
    if _libc.capget(header, held) == 0:
        wanted &= _SETS.unpack(held.raw)[1]
    if _libc.capset(header, _SETS.pack(wanted, wanted, 0, 0, 0, 0)) != 0:
        refused.append("capset")
    return tuple(refused)


def _gain_nothing() -> list[str]:
    """Get no power from programs that are run (prctl(2)); return what the kernel refuses of that."""
    try:
        _prctl(PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1))
    except OSError:
        return ["PR_SET_NO_NEW_PRIVS"]
    return []


def leave_no_core() -> list[str]:
    """Never write the memory of this process, with the keys in it, to a file; nor let equals look into it.

    Return what the kernel refuses of that.
    """
    refused = []
    try:
        _prctl(PR_SET_DUMPABLE, ctypes.c_ulong(0))
    except OSError:
        refused.append("PR_SET_DUMPABLE")
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):  # ValueError is what Python makes of EPERM
        refused.append("RLIMIT_CORE")
    return refused


def _drop_groups(gid: int) -> None:
    # A user namespace that an ordinary user made denies setgroups(2) for good; its groups are not ours to drop.
    with contextlib.suppress(OSError):
        if Path("/proc/self/setgroups").read_text().strip() == "deny":
            return
    try:
        os.setgroups([])
    except OSError as error:
        if set(os.getgroups()) - {gid}:
            raise NoPermissionError(
                f"cannot give up the supplementary groups: setgroups(2): {error.strerror}"
            ) from error


def _drop_capabilities() -> None:
    header = struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    reason = os.strerror(ctypes.get_errno()) if _libc.capset(header, bytes(24)) else None
    held = _capabilities(header)
    if held or (held is None and reason):
        raise NoPermissionError(f"cannot give up the capabilities: capset(2): {reason or 'without effect'}")


def _capabilities(header: bytes) -> int | None:
    """Not 0 when this process has a capability in any of its sets; None when the kernel does not tell."""
    sets = ctypes.create_string_buffer(24)
    if _libc.capget(header, sets) == 0:
        return int.from_bytes(sets.raw)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return sum(int(line.split()[1], 16) for line in lines if line.startswith(("CapInh", "CapPrm", "CapEff", "CapAmb")))


def close_others(keep: Collection[int]) -> None:
    """Close every descriptor but those in `keep`."""
    try:
        found = [int(link.name) for link in Path("/proc/self/fd").iterdir()]
    except OSError:  # no /proc, or no descriptor left to read it with
        low = 0
        for fd in sorted({*keep, NR_OPEN}):
            if low < fd:  # an empty range would close everything
                os.closerange(low, fd)  # one by one where the kernel has no close_range(2): hence the bound
            low = fd + 1
        return
    for fd in set(found).difference(keep):
        with contextlib.suppress(OSError):  # that of the folder itself
            os.close(fd)


def occupy_standard_descriptors() -> None:
    """Open /dev/null in place of standard input, output and error where they are closed.

    Else the next to be opened, maybe the tap, would be what log lines and programs write to.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
