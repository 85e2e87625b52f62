"""One tunnel from its options to its end; the order of the start is the order of the lines in `run`."""

import contextlib
import os

from tap2tap import log, memory, privileges
from tap2tap.config import NOBODY, Config
from tap2tap.errors import OK, NoPermissionError
from tap2tap.supervisor import signals
from tap2tap.supervisor.binding import Binding
from tap2tap.supervisor.cable import make_cable
from tap2tap.supervisor.candidates import make_candidates
from tap2tap.supervisor.hooks import Hooks
from tap2tap.supervisor.link_process import make_link_process
from tap2tap.supervisor.process import Identity
from tap2tap.supervisor.publisher import published
from tap2tap.supervisor.signals import Interrupted, Signals
from tap2tap.supervisor.tap_keeper import Keeper


def run(config: Config) -> int:
    """Run the tunnel until a signal ends it; return the exit code.

    Raises Tap2tapError when it cannot start, or not go on.
    """
    privileges.occupy_standard_descriptors()
    log.setup("tap2tap supervisor")
    privileges.name_process("tap2tap:super")
    stop = Signals()
    become = identity(config)
    with contextlib.ExitStack() as stack:
        stack.callback(signals.ignore)  # the interpreter takes a while to end, with the default dispositions else
        stack.enter_context(contextlib.suppress(Interrupted))  # a stop signal came before it was up
        hooks = stack.enter_context(contextlib.closing(Hooks(config.programs)))
        hooks.start()
        log.unblock()  # not before: programs have standard error as it was
        candidates = stack.enter_context(make_candidates(config, become))
        shared = memory.create()  # not before: neither of the two above is to have it
        link = stack.enter_context(make_link_process(config, shared, become))
        if link:
            link.start(stop)  # it reads the key file before there is anything to see of the tunnel
        candidates.await_first(stop)
        keeper = stack.enter_context(contextlib.closing(Keeper()))
        binding = stack.enter_context(contextlib.closing(Binding(config)))
        digest = link.key_digest if link else b""
        cable = stack.enter_context(make_cable(config, shared, candidates, keeper, binding, digest, stop))
        publisher = stack.enter_context(published(shared, become[0]))
        from tap2tap.supervisor.tunnel import Tunnel  # loaded while the tap was set up

        return Tunnel(config, cable, link, hooks, candidates, keeper, binding, publisher, stop).carry(become)
    return OK


def identity(config: Config) -> Identity:
    """The uid and gid to become. Raises NoPermissionError."""
    if os.geteuid() == 0:
        return (
            NOBODY if config.uid is None else config.uid,
            NOBODY if config.gid is None else config.gid,
        )
    if config.uid not in (None, os.geteuid()) or config.gid not in (None, os.getegid()):
        raise NoPermissionError("--uid and --gid need root")
    return os.geteuid(), os.getegid()
