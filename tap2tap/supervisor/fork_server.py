"""A process that forks another one, of one kind, whenever it is asked; that one is a child of the supervisor.

What it loads beforehand every life of the other one has, and the supervisor has not: that stays small, and what it
forks itself, too. And it loads it before it gives up its privileges, as afterwards it may be somebody who may not read
the interpreter's files. It holds the descriptors that the other one is to have and reads none of them, does nothing
else, and ends when its supervisor does.
"""

import errno
import gc
import os
import select
import socket
import struct
from collections.abc import Callable, Collection
from contextlib import suppress

from tap2tap import clock, log, privileges
from tap2tap.errors import FAILURE, OK, StartError
from tap2tap.supervisor import process
from tap2tap.supervisor.process import Identity, Process

LOADING = 10.0  # seconds that it has to load what it must
GIVE_UP = 10.0  # seconds for which it is tried again where one that has served is followed by one that cannot load
PATIENCE = 2.0  # seconds that it has for an answer then, while its supervisor does nothing else

_FORK = b"F"  # to the server
_LOADED, _FORKED, _FAILED = b"L", b"P", b"N"  # from it, each with a number: nothing; a pid; an errno
_ANSWER = struct.Struct("=ci")

Life = Callable[[socket.socket], int]


class ForkServer:
    """The process that forks `role`s, from the creation of this to `close`; one that has died is replaced when needed.

    `load` is what it does with the privileges that it is created with, before it becomes `identity`. `life` is what
    each process is for, by its exit code; it has the descriptors `keep`, and a channel. Raises OSError.
    """

    def __init__(
        self, role: str, load: Callable[[], None], life: Life, keep: Collection[int], identity: Identity
    ) -> None:
        self._role, self._load, self._life, self._keep, self._identity = role, load, life, keep, identity
        self._served = False  # one has loaded what it must
        self._failing: float | None = None  # since when no other has
        self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        supervisor = os.getpid()
        try:
            with theirs:
                self._process = process.start(
                    f"{self._role} starter",
                    lambda: _serve(theirs, supervisor, self._role, self._life, self._keep),
                    [theirs.fileno(), *self._keep],
                    title="tap2tap:starter",
                    kind=f"the process that starts the {self._role} process",
                    prepare=self._load,
                    identity=self._identity,
                )
        except OSError:
            ours.close()
            raise
        self._channel, self._loaded = ours, False

    @property
    def fd(self) -> int:
        """Readable when it has loaded what it must."""
        return self._channel.fileno()

    def fork(self, channel: socket.socket) -> Process:
        """Fork a process, which gets `channel`, the caller's to close.

        Raises OSError when the machine has no room for it, StartError when the server died and a new one cannot load
        what it must, as it may not read the files any more.
        """
        if not (privileges.kernel_ends_orphans() and privileges.adopt(on=True)):
            return self._fork_here(channel)
        try:
            if self._process.poll() is not None:
                self._channel.close()
                self._start()
            with suppress(OSError):
                socket.send_fds(self._channel, [_FORK], [channel.fileno()])
            while True:
                kind, number = self._answer()
                if kind == _FORKED:
                    return Process(number, None)
                if kind == _FAILED:
                    raise OSError(number, os.strerror(number))
        finally:
            privileges.adopt(on=False)  # what a hook leaves behind is nobody of ours

    def _fork_here(self, channel: socket.socket) -> Process:
        """Fork it where the kernel, or a filter, refuses what its adoption needs: it loads all by itself then."""
        return process.start(
            self._role,
            lambda: self._life(channel),
            [channel.fileno(), *self._keep],
            kind=f"{self._role} process",
            prepare=self._load,
            identity=self._identity,
        )

    def _answer(self) -> tuple[bytes, int]:
        """Wait for one. Raises OSError or StartError when none comes, and ends the process that cannot give it."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.poll((PATIENCE if self._loaded else LOADING) * 1000)
        with suppress(OSError, struct.error):
            answer: tuple[bytes, int] = _ANSWER.unpack(self._channel.recv(_ANSWER.size))
            self._loaded = self._served = True
            self._failing = None
            return answer
        now = clock.now()
        if self._process.end() != FAILURE:
            self._failing = None
            raise OSError(errno.ESRCH, "the process that starts it is gone")
        self._failing = now if self._failing is None and self._served else self._failing
        if self._failing is not None and now < self._failing + GIVE_UP:  # what it lacks may be there again
            raise OSError(errno.EAGAIN, "the process that starts it cannot load what it must")
        raise StartError(f"the process that starts the {self._role} process has failed: see its message above")

    def close(self) -> None:
        """End it."""
        self._process.end()
        self._channel.close()


def _serve(channel: socket.socket, supervisor: int, role: str, life: Life, keep: Collection[int]) -> int:
    """Be the server, until the channel closes."""
    gc.freeze()
    channel.send(_ANSWER.pack(_LOADED, 0))
    while True:
        try:
            _, fds, _, _ = socket.recv_fds(channel, 1, 1)
        except ConnectionError:  # closed with something unread in it
            return OK
        if not fds:
            return OK
        with socket.socket(fileno=fds[0]) as end:
            answer = _fork(supervisor, role, life, end, keep)
        channel.send(_ANSWER.pack(*answer))


def _fork(supervisor: int, role: str, life: Life, channel: socket.socket, keep: Collection[int]) -> tuple[bytes, int]:
    """Fork one; the answer."""
    try:
        pid = process.start_for(
            supervisor, role, lambda: life(channel), [channel.fileno(), *keep], kind=f"{role} process"
        )
    except OSError as error:
        log.debug("cannot fork", error=error.strerror)
        return _FAILED, error.errno or errno.EAGAIN
    return _FORKED, pid
