"""One tunnel from its options to its end; the order of the start is the order of the lines in `run` and `carry`."""

import contextlib
import gc
import os
from collections.abc import Callable, Iterator

from tap2tap import device, endpoint, log, memory, privileges, udp_socket
from tap2tap.config import NOBODY, Config
from tap2tap.counters import INTERPRETED, DataPlane, Slot, State
from tap2tap.endpoint import Endpoint
from tap2tap.errors import FAILURE, OK, NoPermissionError, StartError
from tap2tap.supervisor import state
from tap2tap.supervisor.bridges import Bridges
from tap2tap.supervisor.cable import describe, make_cable, set_up
from tap2tap.supervisor.hooks import Hooks
from tap2tap.supervisor.link_process import LinkProcess, make_link_process
from tap2tap.supervisor.loop import Part, Watch
from tap2tap.supervisor.publisher import Publisher, published
from tap2tap.supervisor.remotes import Remotes
from tap2tap.supervisor.resolver import Lookups, Resolver
from tap2tap.supervisor.route import Route
from tap2tap.supervisor.signals import Interrupted, Signals
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
        lookups = stack.enter_context(make_lookups(config, become))
        shared = memory.create()  # not before: neither of the two above is to have it
        link = stack.enter_context(make_link_process(config, shared, become))
        if link:
            link.start(stop)  # it reads the key file before there is anything to see of the tunnel
        cable = stack.enter_context(make_cable(config, shared, find_remotes(config, lookups, stop)))
        publisher = stack.enter_context(published(shared, become[0]))
        return carry(cable, config, become, link, hooks, lookups, publisher, stop)
    return OK


def carry(
    cable: Cable,
    config: Config,
    become: Identity,
    link: LinkProcess | None,
    hooks: Hooks,
    lookups: Lookups | None,
    publisher: Publisher,
    stop: Signals,
) -> int:
    """Set the cable up, give up all privileges, and keep the children running until a signal comes.

    Returns the exit code. Raises StartError, Interrupted when the signal comes before the cable is up.
    """
    hooks.introduce(cable.name)
    if link:  # the cable is not plugged in, not even for a moment, before the peer is there
        device.set_carrier(cable.tap, on=False)
    set_up(cable, config, link.identity if link else b"", stop)
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
        if link:
            link.on_peer_event = lambda event, peer: run_peer_hook(hooks, cable, facts, event, peer)
            remote = endpoint.load(cable.memory.slots, Slot.PEER)
            link.lend(cable, [remote] if remote else [])
        parts: list[Part] = [hooks, publisher, Bridges(cable.tap, parts=link is not None)]
        parts += [link] if link else [Route(cable)]
        on_hang_up: list[Callable[[], None]] = [lambda: state.tell(cable.memory)]
        if resolver := make_resolver(cable, lookups):
            remotes = Remotes(cable.memory, resolver, link)
            parts.append(remotes)
            on_hang_up.append(remotes.hang_up)
        if link:
            on_hang_up.append(link.call)
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


@contextlib.contextmanager
def make_lookups(config: Config, become: Identity) -> Iterator[Lookups | None]:
    """Make what looks the remote's name up, where it is a name, and see to its end. Raises StartError."""
    if not config.remotes or endpoint.is_address(config.remotes[0][0]):
        yield None
        return
    with contextlib.closing(Lookups(*config.remotes[0], become)) as lookups:
        yield lookups


def find_remotes(config: Config, lookups: Lookups | None, stop: Signals) -> list[Endpoint]:
    """Where the remote may be, the best first; empty in server mode. Raises StartError, Interrupted."""
    if lookups:
        return lookups.first(stop)
    return endpoint.resolve(*config.remotes[0]) if config.remotes else []


def make_resolver(cable: Cable, lookups: Lookups | None) -> Resolver | None:
    """Make what looks the remote's name up again, where it is a name."""
    remote = endpoint.load(cable.memory.slots, Slot.PEER)
    if lookups is None or remote is None:
        return None
    return Resolver(lookups, remote, lambda remote: udp_socket.reaches(cable.sock, remote))


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
        remote=remote or "any",
    )


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
