"""One tunnel from its options to its end; the order of the start is the order of the lines in `run` and `carry`."""

import contextlib
import gc
import os
from collections.abc import Callable, Sequence
from functools import partial

from tap2tap import device, endpoint, log, memory, privileges
from tap2tap.config import NOBODY, Config
from tap2tap.counters import INTERPRETED, DataPlane, Slot, State
from tap2tap.endpoint import Endpoint
from tap2tap.errors import FAILURE, OK, NoPermissionError, StartError
from tap2tap.supervisor import state
from tap2tap.supervisor.binding import Binding
from tap2tap.supervisor.bridges import Bridges
from tap2tap.supervisor.cable import describe, make_cable
from tap2tap.supervisor.candidates import Candidates, make_candidates
from tap2tap.supervisor.child import Child
from tap2tap.supervisor.hooks import Hooks
from tap2tap.supervisor.link_process import LinkProcess, make_link_process
from tap2tap.supervisor.loop import Part, Watch
from tap2tap.supervisor.publisher import Publisher, published
from tap2tap.supervisor.remotes import Remotes
from tap2tap.supervisor.route import Route
from tap2tap.supervisor.signals import Interrupted, Signals
from tap2tap.supervisor.tap_users import Queues
from tap2tap.supervisor.wake_ups import Sleep
from tap2tap.supervisor.ways import Ways
from tap2tap.supervisor.workers import make_workers
from tap2tap.workers import ciphers
from tap2tap.workers.worker import Cable, data_plane

Identity = tuple[int, int]  # uid and gid


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
        binding = stack.enter_context(contextlib.closing(Binding(config)))
        own = link.identity if link else b""
        cable = stack.enter_context(make_cable(config, shared, candidates, binding, own, stop))
        publisher = stack.enter_context(published(shared, become[0]))
        return carry(cable, config, become, link, hooks, candidates, binding, publisher, stop)
    return OK


def carry(
    cable: Cable,
    config: Config,
    become: Identity,
    link: LinkProcess | None,
    hooks: Hooks,
    candidates: Candidates,
    binding: Binding,
    publisher: Publisher,
    stop: Signals,
) -> int:
    """Give up all privileges, and keep the children running until a signal comes.

    Returns the exit code. Raises StartError, Interrupted when the signal comes before the cable is up.
    """
    hooks.introduce(cable.name)
    facts = describe(cable)
    hooks.run("up", cable.name, facts, stop)
    if not link:
        log.warning("no --key: frames are neither encrypted nor authenticated")
    else:
        library = ciphers.library()  # loads it, for all workers, before the privileges go
        log.debug("sealing", library=library)
    if data_plane() is DataPlane.INTERPRETED:
        log.warning(f"data plane: {INTERPRETED}")
    if refused := privileges.drop(*become):
        log.warning("the kernel refuses some protection", refused=",".join(refused))
    workers = make_workers(cable, config, link)
    try:
        for worker in workers:
            worker.start()
        cable.memory.slots[Slot.STATE] = State.UP
        publisher.look()
        announce(cable, link.last_peer() if link else None)
        remotes = Remotes(cable, candidates, link)
        if link:
            link.on_peer_event = lambda event, peer: run_peer_hook(hooks, cable, facts, event, peer)
            link.lend(cable, remotes.known)
        binding.on_renewed = lambda: use_socket(cable, binding, workers, link, remotes, facts)
        parts: list[Part] = [hooks, publisher, binding, Bridges(cable.tap, parts=link is not None)]
        parts += [link] if link else [Route(cable)]
        parts += [remotes, Ways(cable, lambda: remotes.known, remotes.wake)]
        parts.append(Sleep(cable, remotes.wake))
        if device.is_multi_queue(cable.tap):
            parts.append(Queues(cable.tap))
        on_hang_up: list[Callable[[], None]] = [partial(state.tell, cable.memory), remotes.hang_up, remotes.wake]
        Watch([*workers, *([link.child] if link else [])], stop, parts, on_hang_up).run()
    finally:
        cable.memory.slots[Slot.STATE] = State.STOPPING
        publisher.look()
        for worker in workers:
            worker.end()
        if link:
            link.say_goodbye()
        code = close(hooks, cable, facts, stop)
    return code


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


def announce(cable: Cable, last: Endpoint | None) -> None:
    """Say that the tunnel is up; `last` is where a server's peer was before a restart."""
    gc.freeze()
    remote = endpoint.load(cable.memory.slots, Slot.PEER)
    if last:
        log.info("calling the peer where it was last", endpoint=last)
    elif not cable.client:
        log.info("waiting for the first peer to call")
    log.info(
        "tunnel is up",
        interface=cable.name,
        mtu=cable.mtu,
        local=endpoint.load(cable.memory.slots, Slot.LOCAL),
        remote=remote or ("not known yet" if cable.client else "any"),
    )


def use_socket(
    cable: Cable,
    binding: Binding,
    workers: Sequence[Child],
    link: LinkProcess | None,
    remotes: Remotes,
    facts: dict[str, str],
) -> None:
    """Have all use the socket that is bound now, tell where that is, and call the peer by it."""
    endpoint.store(cable.memory.slots, Slot.LOCAL, binding.local)
    facts["TAP2TAP_LOCAL"] = str(binding.local)
    if link:
        link.renew_socket()
    for worker in workers:
        worker.renew()
    remotes.wake()


def run_peer_hook(hooks: Hooks, cable: Cable, facts: dict[str, str], event: str, peer: Endpoint) -> None:
    """Have the hook of an event of the peer run; `peer` is where it is, or was last."""
    payload = cable.memory.slots[Slot.PATH]
    path_mtu = str(payload + peer.headers) if payload else ""
    hooks.ask(event, cable.name, {**facts, "TAP2TAP_PEER": str(peer), "TAP2TAP_PATH_MTU": path_mtu})


def close(hooks: Hooks, cable: Cable, facts: dict[str, str], stop: Signals) -> int:
    """Run the down hook; return the exit code."""
    try:
        hooks.run("down", cable.name, facts, stop)
    except StartError as error:
        log.error(str(error))
        return FAILURE
    except Interrupted:
        log.warning("not waiting for --down any longer")
        return FAILURE
    return OK
