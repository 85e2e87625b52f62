"""Looking the remote's name up: at the start, and again when the peer has been silent (dynamic DNS changes addresses).

What answers is written by strangers and read by a large C library. So a lookup runs in a process of its own that has no
privileges and no descriptor but a pipe for its answer, and what comes through the pipe is believed to be endpoints only
when it has their form. It is started by another process that was forked before any key was read, so it has none of
those either, and nothing of the memory that the tunnel goes by. That one looks at no answer. It stays who started the
tunnel, for a user's limit of processes may have been reached when a name is to be looked up.
"""

import encodings.idna  # noqa: F401  (else loaded by the first lookup, as somebody who may not read the interpreter's files)
import os
import select
import socket
from collections.abc import Callable, Iterable
from contextlib import closing, suppress

from tap2tap import endpoint
from tap2tap.endpoint import PACKED, Endpoint
from tap2tap.errors import OK, NoSuchNameError, StartError
from tap2tap.protocols.secure.limits import CANDIDATES
from tap2tap.supervisor import process
from tap2tap.supervisor.process import Identity
from tap2tap.supervisor.run_in_child import ANSWER, Job, failure, outcome

LONGEST = 20.0  # seconds that a lookup may take
# Without, the C library takes 10 seconds to give up, and does not see what came meanwhile (resolv.conf(5)).
RES_OPTIONS = "timeout:1 attempts:2"
MOST = CANDIDATES  # endpoints of a name
PATIENCE = 2.0  # seconds that the process has to end

FOUND, NO_SUCH_NAME = b"F", b"N"  # how an answer begins

Find = Callable[[str, int], Iterable[Endpoint]]


class Lookups:
    """The process that has one name looked up whenever it is asked, from the creation of this to `close`.

    It must be made before any key is read. `identity` is whom a lookup becomes; `find` is what it does, in `most`
    seconds at the most. `fd` is readable when there is an answer to `take`. Raises StartError.
    """

    def __init__(
        self, host: str, port: int, identity: Identity | None = None, find: Find | None = None, most: float = LONGEST
    ) -> None:
        self._host, self._port = host, port
        what, work = f"looking up {host!r}", lambda: _found(find or endpoint.resolve, host, port)
        try:
            self._channel, self._process = process.companion(
                "names",
                lambda channel: _serve(channel, what, work, identity, most),
                kind="the process that has names looked up",
            )
        except OSError as error:
            raise StartError(f"{what} failed: {error.strerror}") from error
        self.fd = self._channel.fileno()
        self.asked = self.gone = False
        self.ask()

    def ask(self) -> None:
        """Begin a lookup, if none is under way and there is anybody to do it."""
        if not self.asked and not self.gone:
            with suppress(OSError):
                self._channel.send(b"?", socket.MSG_DONTWAIT)
            self.asked = True

    def take(self) -> list[Endpoint]:
        """Take the answer when it is there: the endpoints, the best first.

        Raises NoSuchNameError when the name does not exist, StartError when nobody can tell.
        """
        self.asked = False
        answer = b""
        with suppress(OSError):
            answer = self._channel.recv(ANSWER)
        if not answer:
            self.gone = True
            raise StartError(f"{self._host!r} is not looked up any more: the process that does so is gone")
        answer = outcome(f"looking up {self._host!r}", answer)
        if answer[:1] == NO_SUCH_NAME and (words := answer[1:].decode(errors="replace")).isprintable():
            raise NoSuchNameError(words)
        found = endpoints_in(answer[1:], self._port) if answer[:1] == FOUND else []
        if not found:
            raise StartError(f"cannot resolve the remote {self._host!r}: the answer makes no sense: give an address")
        return found

    def close(self) -> None:
        """End the process, and a lookup under way with it. It may be another user's by now: the channel tells."""
        self._channel.close()
        self._process.wait(PATIENCE)


def _serve(channel: socket.socket, what: str, work: Callable[[], bytes], identity: Identity | None, most: float) -> int:
    """Be the process, until the channel closes: it starts lookups, and gives up those that take longer than `most`."""
    os.environ.setdefault("RES_OPTIONS", RES_OPTIONS)
    while channel.recv(1):
        try:
            with closing(Job("lookup", what, work, identity)) as job:
                poll = select.poll()
                poll.register(job.fd, select.POLLIN)
                poll.register(channel, 0)  # POLLHUP alone: nobody waits any more
                ready = [fd for fd, _ in poll.poll(most * 1000)]
                answer = job.take_raw() if job.fd in ready else failure(f"{what} takes too long")
        except StartError as error:
            answer = failure(str(error))
        channel.send(answer)
    return OK


def _found(find: Find, host: str, port: int) -> bytes:
    """What `find` answers, or the words of the NoSuchNameError that it raises; the first byte tells which."""
    try:
        return FOUND + b"".join(map(endpoint.pack, find(host, port)))
    except NoSuchNameError as error:
        return NO_SUCH_NAME + str(error).encode(errors="replace")


def endpoints_in(answer: bytes, port: int) -> list[Endpoint]:
    """The endpoints, at most MOST, in what a lookup answered; empty unless every one is as it should be."""
    pieces = [answer[at : at + PACKED] for at in range(0, len(answer), PACKED)][:MOST]
    found = [endpoint.unpack(piece) for piece in pieces if len(piece) == PACKED]
    sound = [endpoint.pack(each) for each in found] == pieces and all(
        each.port == port and each.local is None for each in found
    )
    return found if sound else []
