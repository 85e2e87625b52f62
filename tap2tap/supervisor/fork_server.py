"""A process that forks another one, of one kind, whenever it is asked.

What it loads beforehand every life of the other one has, and the supervisor has not: that stays small, and what it
forks itself, too. And it loads it before it gives up its privileges, as afterwards it may be somebody who may not read
the interpreter's files. It holds nothing secret, does nothing else, and ends when its supervisor does.
"""

import errno
import gc
import os
import select
import socket
import struct
from collections.abc import Callable, Collection
from contextlib import suppress

from tap2tap import log
from tap2tap.errors import FAILURE, OK, StartError
from tap2tap.supervisor import process
from tap2tap.supervisor.process import Process
from tap2tap.supervisor.signals import Signals

PATIENCE = 10.0  # seconds that it has for an answer

_FORK, _KILL = b"F", b"K"  # to the server
_LOADED, _FORKED, _FAILED, _ENDED = b"L", b"P", b"N", b"E"  # from it, each with a number: ...
_ANSWER = struct.Struct("=ci")  # nothing; a pid; an errno; an exit code as os.waitstatus_to_exitcode gives it

Life = Callable[[socket.socket], int]


class ForkServer:
    """The process that forks `role`s, from the creation of this to `close`; one that has died is replaced when needed.

    `load` is what it does with the privileges that it is created with, before it becomes `identity`. `life` is what
    each process is for, by its exit code; it has the descriptors `keep`, and a channel. Raises OSError.
    """

    def __init__(
        self, role: str, load: Callable[[], None], life: Life, keep: Collection[int], identity: tuple[int, int]
    ) -> None:
        self._role, self._load, self._life, self._keep, self._identity = role, load, life, keep, identity
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        try:
            with theirs:
                self._process = process.start(
                    f"{self._role} starter",
                    lambda: _serve(theirs, self._role, self._life, self._keep),
                    [theirs.fileno(), *self._keep],
                    title="tap2tap:starter",
                    kind=f"the process that starts the {self._role} process",
                    prepare=self._load,
                    identity=self._identity,
                )
        except OSError:
            ours.close()
            raise
        self._channel = ours

    @property
    def fd(self) -> int:
        """Readable when it has loaded what it must, and when the process that it forked has ended."""
        return self._channel.fileno()

    def fork(self, channel: socket.socket) -> "Forked":
        """Fork a process, which gets `channel`, the caller's to close; the one before must have ended.

        Raises OSError when the machine has no room for it, StartError when the server died and a new one cannot load
        what it must, as it may not read the files any more.
        """
        if self._process.poll() is not None:
            self._channel.close()
            self._start()
        with suppress(OSError):
            socket.send_fds(self._channel, [_FORK], [channel.fileno()])
        while True:
            kind, number = self._answer()
            if kind == _FORKED:
                return Forked(number, self)
            if kind == _FAILED:
                raise OSError(number, os.strerror(number))

    def _answer(self) -> tuple[bytes, int]:
        """Wait for one. Raises OSError or StartError when none comes, and ends the process that cannot give it."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.poll(PATIENCE * 1000)
        answer = self.read()
        if answer is None:
            if self._process.end() == FAILURE:
                raise StartError(f"the process that starts the {self._role} process has failed: see its message above")
            raise OSError(errno.ESRCH, "the process that starts it is gone")
        return answer

    def read(self) -> tuple[bytes, int] | None:
        """Take an answer that is there; None when there is none."""
        with suppress(OSError, struct.error):
            return _ANSWER.unpack(self._channel.recv(_ANSWER.size))
        return None

    def kill_child(self) -> None:
        """Have the forked process killed, by its parent: so nobody else is meant by its pid."""
        with suppress(OSError):
            self._channel.send(_KILL)

    def kill(self) -> None:
        """Kill the server, and with it the process that it forked."""
        self._process.kill()

    def gone(self) -> bool:
        """Whether the server has ended, and with it the process that it forked."""
        return self._process.poll() is not None

    def wait(self) -> int:
        """Wait for the end of the forked process; return its exit code."""
        with suppress(OSError, StartError):
            while True:
                kind, number = self._answer()
                if kind == _ENDED:
                    return number
        return FAILURE

    def close(self) -> None:
        """End it, and what it has forked."""
        self._process.end()
        self._channel.close()


class Forked:
    """The process that a fork server forked last: what its supervisor may do with it, as with one of its own."""

    def __init__(self, pid: int, server: ForkServer) -> None:
        self.pid = pid
        self._server = server
        self._code: int | None = None
        self._killed = False

    def poll(self) -> int | None:
        """Its exit code; None while it lives."""
        while self._code is None and (answer := self._server.read()):
            if answer[0] == _ENDED:
                self._code = answer[1]
        if self._code is None and self._server.gone():  # it dies with its parent
            self._code = FAILURE
        return self._code

    def kill(self) -> None:
        """Have it killed; the second time its parent, too, which has not done it."""
        if self._code is None:
            (self._server.kill if self._killed else self._server.kill_child)()
            self._killed = True

    def end(self) -> int:
        """Kill it and wait until it is gone; return its exit code."""
        self.kill()
        if self._code is None:
            self._code = self._server.wait()
        return self._code


def _serve(channel: socket.socket, role: str, life: Life, keep: Collection[int]) -> int:
    """Be the server, until the channel closes."""
    gc.freeze()
    wake = Signals()
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(wake.fd, select.POLLIN)
    child: Process | None = None
    _send(channel, _LOADED, 0)
    while True:
        poll.poll()
        wake.stop()
        if child and (code := child.poll()) is not None:
            child = None
            _send(channel, _ENDED, code)
        try:
            request, fds, _, _ = socket.recv_fds(channel, 1, 1)
        except BlockingIOError:
            continue
        except ConnectionError:  # closed with something unread in it
            request = b""
        if request == _KILL and child:
            child.kill()
        elif request == _FORK and fds:
            with socket.socket(fileno=fds[0]) as end:
                try:
                    child = process.start(role, lambda: life(end), [end.fileno(), *keep], kind=f"{role} process")
                except OSError as error:
                    log.debug("cannot fork", error=error.strerror)
                    _send(channel, _FAILED, error.errno or errno.EAGAIN)
                else:
                    _send(channel, _FORKED, child.pid)
        elif not request:
            if child:
                child.end()
            return OK


def _send(channel: socket.socket, kind: bytes, number: int) -> None:
    channel.send(_ANSWER.pack(kind, number))
