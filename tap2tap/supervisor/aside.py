"""Doing something in a process of its own, for its errors but not for its memory.

pyroute2 is the largest thing that the program ever loads, and is needed once: set up the link in a fork, and the
supervisor and its workers stay small.
"""

import os
import pickle
from collections.abc import Callable

from tap2tap.errors import StartError
from tap2tap.supervisor import signals


def aside(work: Callable[[], None]) -> None:
    """Run `work` in a fork and wait for it. Raises the Tap2tapError that it raised, StartError when it died."""
    read, write = os.pipe()
    pid = signals.fork()
    if not pid:
        os.close(read)
        os._exit(_report(work, write))
    os.close(write)
    with open(read, "rb") as pipe:
        report = pipe.read()
    _, status = os.waitpid(pid, 0)
    if report:
        raise pickle.loads(report)  # noqa: S301  (our own fork wrote it)
    if status:
        raise StartError(f"setting up the interface failed: {signals.decode(os.waitstatus_to_exitcode(status))}")


def _report(work: Callable[[], None], write: int) -> int:
    try:
        signals.forget()
        signals.released()
        work()
    except Exception as error:
        failure = error if isinstance(error, StartError) else StartError(f"setting up the interface failed: {error!r}")
        failure.__cause__ = failure.__context__ = None
        os.write(write, pickle.dumps(failure))
        return 1
    return 0
