"""The two workers as children of the supervisor: where they run, what they may use, and their channels to the link."""

import contextlib
import signal
import socket
from collections.abc import Callable, Mapping, Set

from tap2tap import cpus, log
from tap2tap.config import Config
from tap2tap.counters import Count, Counts, Role
from tap2tap.errors import CANNOT_START, TAP_GONE, TapGoneError
from tap2tap.supervisor import process
from tap2tap.supervisor.child import Child
from tap2tap.supervisor.link_process import LinkProcess
from tap2tap.supervisor.process import Process
from tap2tap.workers.inbound import inbound
from tap2tap.workers.outbound import outbound
from tap2tap.workers.pin import Pin
from tap2tap.workers.worker import Cable, settle

FEW = 2  # CPUs where a worker has none of its own: see tap2tap.workers.pin

Loop = Callable[[Cable, Pin, socket.socket | None], int]  # which returns an exit code, or raises TapGoneError


def make_workers(cable: Cable, config: Config, link: LinkProcess | None) -> list[Child]:
    """Describe the two workers; nothing is forked yet."""
    allowed = cpus.allowed()
    if len(allowed) == 1:
        log.warning("only one CPU: both workers share it")
    own = config.cpus or own_cpus(allowed, cpus.topology())

    def worker(role: Role, loop: Loop, counts: Counts, cpu: int | None) -> Child:
        pin = Pin(cpu, {cpu} if config.cpus and cpu is not None else allowed)  # one that was asked for is never left
        return Child(role, counts, lambda: _begin(role, loop, cable, counts, pin, link))

    return [
        worker(Role.OUTBOUND, outbound, cable.memory.outbound, own[0]),
        worker(Role.INBOUND, inbound, cable.memory.inbound, own[1]),
    ]


def own_cpus(allowed: Set[int], cores: Mapping[int, cpus.Core]) -> tuple[int, int] | tuple[None, None]:
    """The CPUs of the outbound and of the inbound worker, none where there are but FEW to choose from."""
    return cpus.choose(allowed, cores) if len(allowed) > FEW else (None, None)


def _begin(role: Role, loop: Loop, cable: Cable, counts: Counts, pin: Pin, link: LinkProcess | None) -> Process:
    """Begin a life. The parent must have dropped its privileges: the worker has what the parent has. Raises OSError."""
    counts[Count.CPU] = 0 if pin.cpu is None else pin.cpu + 1  # until the worker knows better
    with (link.connect(role) if link else None) or contextlib.nullcontext() as channel:
        return process.start(
            role,
            lambda: _live(loop, cable, counts, pin, channel),
            [cable.tap, cable.sock.fileno(), *([channel.fileno()] if channel else [])],
            title=f"{role}:{cable.name}",
            kind="worker",
        )


def _live(loop: Loop, cable: Cable, counts: Counts, pin: Pin, channel: socket.socket | None) -> int:
    """Be the worker; return its exit code."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # of the stop signals, this one is never a terminal's
    try:
        if not pin.take():
            counts[Count.CPU] = 0
        settle()
    except Exception as error:
        log.error("worker cannot start", error=error)
        return CANNOT_START
    try:
        return loop(cable, pin, channel)
    except TapGoneError:
        return TAP_GONE
