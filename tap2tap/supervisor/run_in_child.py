"""Having something worked out in a process of its own, and its answer over a pipe.

The link is set up so because pyroute2 is the largest thing that the program ever loads: the supervisor and its workers
stay small. Names are looked up so because it takes as long as it likes and reads what strangers wrote: the answer is
nothing but bytes here, of a bounded length, whoever may have come to write them.
"""

import os
from collections.abc import Callable, Collection
from contextlib import closing

from tap2tap import log
from tap2tap.errors import FAILURE, NO_PERMISSION, OK, NoPermissionError, StartError, Tap2tapError
from tap2tap.supervisor import process, signals
from tap2tap.supervisor.process import Identity

ANSWER = 4096  # bytes, PIPE_BUF: so much goes through a pipe in one piece (pipe(7))


class Job:
    """One such process, from its creation to `take` or `close`. `fd` is readable when it has answered or died.

    `what` it does stands in the messages; `identity` is the uid and gid that it becomes before; it has the descriptors
    `keep`. Raises StartError.
    """

    def __init__(
        self,
        role: str,
        what: str,
        work: Callable[[], bytes],
        identity: Identity | None = None,
        keep: Collection[int] = (),
    ) -> None:
        self._what = what
        try:
            self.fd, write = os.pipe()
        except OSError as error:
            raise StartError(f"{what} failed: {error.strerror}") from error
        try:
            self._process = process.start(
                role, lambda: _answer(write, what, work), [write, *keep], kind=what, identity=identity
            )
        except OSError as error:
            os.close(self.fd)
            raise StartError(f"{what} failed: {error.strerror}") from error
        finally:
            os.close(write)

    def take(self) -> bytes:
        """End it and return what it worked out, which must be there. Raises the StartError that it raised."""
        return outcome(self._what, self.take_raw())

    def take_raw(self) -> bytes:
        """End it and return its answer, which must be there, for `outcome`. Raises StartError when it died instead."""
        answer = os.read(self.fd, ANSWER)
        code = self._end()
        if not answer:
            raise StartError(f"{self._what} failed: {signals.decode(code)}")
        return answer

    def close(self) -> None:
        """Give it up, if it has not been taken yet."""
        if self.fd >= 0:
            self._end()

    def _end(self) -> int:
        os.close(self.fd)
        self.fd = -1
        return self._process.end()


def run_in_child(
    role: str,
    what: str,
    work: Callable[[], bytes],
    stop: signals.Signals,
    keep: Collection[int] = (),
    meanwhile: Callable[[], None] = lambda: None,
) -> bytes:
    """Do `work` in a process of its own, which has the descriptors `keep`, wait for it and return the answer.

    `meanwhile` is done here. Raises the StartError that it raised or that it died of, Interrupted when a stop signal
    came meanwhile.
    """
    with closing(Job(role, what, work, keep=keep)) as job:
        meanwhile()
        stop.wait(job.fd)
        return job.take()


def outcome(what: str, answer: bytes) -> bytes:
    """What was worked out, by the answer; raises the StartError that it tells of."""
    if answer[0] == OK:
        return answer[1:]
    words = answer[1:].decode(errors="replace")
    error = NoPermissionError if answer[0] == NO_PERMISSION else StartError
    raise error(words if words.isprintable() else f"{what} failed")


def failure(words: str, code: int = FAILURE) -> bytes:
    """The answer that tells of a failure."""
    return (bytes([code]) + words.encode(errors="replace"))[:ANSWER]


def _answer(write: int, what: str, work: Callable[[], bytes]) -> int:
    """Be the process: write an exit code and, behind it, the outcome or the words of the error."""
    try:
        answer = bytes([OK]) + work()
    except Tap2tapError as error:
        answer = failure(str(error), error.exit_code)
    except Exception as error:
        log.debug("what failed", error=repr(error))
        answer = failure(f"{what} failed: {error!r}")
    os.write(write, answer[:ANSWER])
    return OK
