"""The one way to start a child process, and what its parent may do with it.

A fork inherits more than it should have: its parent's descriptors and handlers, its `finally` blocks and functions for
the exit, what its buffers have not written yet. So a child has a few things set right first, does what it is for, and
leaves by os._exit whatever happens.
"""

import errno
import os
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NoReturn

from tap2tap import log, privileges
from tap2tap.errors import FAILURE, OK, StartError
from tap2tap.supervisor import signals

ADOPTION = 10.0  # seconds that it may take

_PID = struct.Struct("=i")  # a pid, or a negative errno

Identity = tuple[int, int]  # the uid and the gid that a process becomes


class Process:
    """A child of this process, until it has been waited for."""

    def __init__(self, pid: int, lifeline: int | None) -> None:
        self.pid = pid
        self._lifeline = lifeline
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, as os.waitstatus_to_exitcode gives it; None while it lives."""
        return self._reap(os.WNOHANG)

    def kill(self) -> None:
        """End it; it holds nothing that a gentler end would save."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)

    def end(self) -> int:
        """Kill it and wait until it is gone; return its exit code, which is its own if it had ended already."""
        self.kill()
        code = self._reap(0)
        assert code is not None
        return code

    def wait(self, patience: float) -> None:
        """Wait, but for so many seconds only, until it has ended by itself, as one of another user must."""
        deadline = time.monotonic() + patience
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)

    def _reap(self, options: int) -> int | None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # somebody else has waited for it
                pid, status = self.pid, FAILURE << 8
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                if self._lifeline is not None:
                    os.close(self._lifeline)
        return self._code


def start(
    role: str,
    life: Callable[[], int],
    keep: Collection[int] = (),
    *,
    kind: str = "process",
    title: str = "",
    prepare: Callable[[], None] | None = None,
    identity: Identity | None = None,
    farewell: signal.Signals = signal.SIGKILL,
    adopter: int | None = None,
) -> Process:
    """Fork a child that does `life` and ends with the exit code that it returns.

    It has the descriptors `keep` beside the first three and no other, does `prepare` with its parent's privileges,
    becomes `identity` (uid and gid) for good where one is given, does not mind the stop signals and SIGHUP (its parent
    sees to its end), and gets the signal `farewell` when its parent dies. `role` begins its log lines, `title` is its
    name in ps, if not tap2tap:ROLE, and `kind` its name in the line that tells of an exception. With `adopter`, it
    waits until that process is its parent. Raises OSError when the machine has no room for it.
    """
    parent = adopter or os.getpid()
    theirs, ours = (None, None) if adopter or privileges.kernel_ends_orphans() else os.pipe()
    held = signal.pthread_sigmask(signal.SIG_BLOCK, signals.CAUGHT)  # until the child has its own dispositions
    try:
        pid = os.fork()
    except OSError:
        for fd in (theirs, ours):
            if fd is not None:
                os.close(fd)
        raise
    else:
        if not pid:
            patience = ADOPTION if adopter else 0.0
            name = title or f"tap2tap:{role}"
            _live(role, life, {*keep}, name, kind, prepare, identity, farewell, parent, patience, theirs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    if theirs is not None:
        os.close(theirs)
    return Process(pid, ours)


def no_room(kind: str, error: OSError) -> StartError:
    """What is said when the machine has no room for a process of a kind."""
    return StartError(f"cannot start the {kind}: {error.strerror}: raise the limits of processes and open files")


def start_for(adopter: int, role: str, life: Callable[[], int], keep: Collection[int], *, kind: str) -> int:
    """Start a child for `adopter`, the parent of this process, which adopts it (privileges.adopt); return its pid.

    So it has what this process has loaded, and who watches over it is its parent. Raises OSError like `start`.
    """
    read, write = os.pipe()
    try:
        between = start(role, lambda: _start_for(adopter, role, life, keep, kind, write), [write, *keep], kind=kind)
    except OSError:
        os.close(read)
        raise
    finally:
        os.close(write)
    with open(read, "rb", buffering=0) as pipe:
        answer = pipe.read(_PID.size) or _PID.pack(-errno.EAGAIN)
    between.end()
    (pid,) = _PID.unpack(answer)
    if pid < 0:
        raise OSError(-pid, os.strerror(-pid))
    return int(pid)


def _start_for(adopter: int, role: str, life: Callable[[], int], keep: Collection[int], kind: str, write: int) -> int:
    """Be the process between the two, whose end makes the other an orphan."""
    try:
        pid = start(role, life, keep, kind=kind, adopter=adopter).pid
    except OSError as error:
        pid = -(error.errno or errno.EAGAIN)
    os.write(write, _PID.pack(pid))
    return OK


def companion(
    role: str,
    serve: Callable[[socket.socket], int],
    keep: Collection[int] = (),
    *,
    kind: str,
    capabilities: Collection[int] | None = None,
) -> tuple[socket.socket, Process]:
    """Start a child that serves requests over a channel until it is closed; return it, the caller's to close.

    It has the descriptors `keep`, too, and of its parent's privileges `capabilities` alone; None: all. The channel
    keeps messages apart (SOCK_SEQPACKET). Raises OSError like `start`.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def life() -> int:
        if capabilities is not None and (refused := privileges.keep_only(*capabilities)):
            log.warning("the kernel refuses some protection", refused=",".join(refused))
        with suppress(ConnectionError):  # the other end was closed with something unread in it
            return serve(theirs)
        return OK

    with theirs:
        try:
            # It keeps the privileges that its parent gives up, who then may not kill it, nor may the kernel in its
            # name (kill(2)): but the closed channel tells it, once SIGCONT, which is permitted, has woken it.
            return ours, start(role, life, [theirs.fileno(), *keep], kind=kind, farewell=signal.SIGCONT)
        except OSError:
            ours.close()
            raise


def _live(
    role: str,
    life: Callable[[], int],
    keep: set[int],
    title: str,
    kind: str,
    prepare: Callable[[], None] | None,
    identity: Identity | None,
    farewell: signal.Signals,
    parent: int,
    patience: float,
    lifeline: int | None,
) -> NoReturn:
    """Be the child. `parent` is its parent within `patience` seconds, or it ends."""
    code = FAILURE
    try:
        signals.ignore()
        log.setup(f"tap2tap {role}")
        log.skip()
        privileges.name_process(title)
        privileges.close_others({0, 1, 2, *keep, *([] if lifeline is None else [lifeline])})
        if prepare:
            prepare()
        if identity:
            privileges.drop(*identity)
        deadline = time.monotonic() + patience
        while os.getppid() != parent and time.monotonic() < deadline:
            time.sleep(0.001)
        try:
            privileges.die_with_parent(parent, lifeline, farewell)
        except OSError as error:
            log.warning("the kernel would not end this process with its parent", error=error.strerror)
        code = life()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else FAILURE
    except BaseException as error:
        log.error(f"{kind} failed", error=repr(error))
        log.debug("where it failed", traceback="".join(traceback.format_exception(error)))
    finally:
        os._exit(code & 0xFF if isinstance(code, int) else FAILURE)
