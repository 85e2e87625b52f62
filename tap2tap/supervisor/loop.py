"""The supervisor's loop: two workers, kept alive until a signal says that it is over."""

import select
import time
from collections.abc import Callable, Mapping, Sequence

from tap2tap import log
from tap2tap.errors import CANNOT_START, TAP_GONE, StartError
from tap2tap.supervisor.child import Child
from tap2tap.supervisor.hooks import Hooks
from tap2tap.supervisor.keeper import Keeper
from tap2tap.supervisor.signals import Signals

LOOK = 1.0  # seconds between two looks at the heartbeats


def watch(workers: Sequence[Child], stop: Signals, hooks: Hooks, keeper: Keeper | None) -> None:
    """Replace workers that die or hang and keep the link, where there is one, until a stop signal comes.

    Raises StartError when a worker says that no successor could do better.
    """
    next_look = time.monotonic() + LOOK
    while True:
        now = time.monotonic()
        due = [next_look, *(worker.restart_at for worker in workers if worker.restart_at is not None)]
        waiting = {stop.fd: lambda: None, **hooks.waiting}
        if keeper:
            due.append(keeper.deadline())
            waiting[keeper.fd] = keeper.read
        _turn(waiting, max(0.0, min(due) - now))
        if number := stop.stop():
            log.info("stopping", signal=number.name)
            return
        for worker in workers:
            _mend(worker)
        now = time.monotonic()
        if keeper and (now >= keeper.deadline() or now >= next_look):
            keeper.tick()
        if now >= next_look:
            next_look = now + LOOK
            for worker in workers:
                if worker.hung():
                    log.warning("worker hangs, killing it", worker=worker.role)
                    worker.kill()


def _turn(waiting: Mapping[int, Callable[[], None]], seconds: float) -> None:
    """Wait until a descriptor becomes readable, at most so long, and do what waits for it."""
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    for fd, _ in poll.poll(seconds * 1000 + 1):
        waiting[fd]()


def _mend(worker: Child) -> None:
    try:
        worker.reap()
    except SystemExit as end:
        if end.code == TAP_GONE:
            raise StartError("the tap device was deleted: the tunnel has ended") from None
        if end.code == CANNOT_START:
            raise StartError(f"the {worker.role} worker cannot start: see its message above") from None
        raise
    if worker.restart_at is not None and time.monotonic() >= worker.restart_at:
        worker.start()
