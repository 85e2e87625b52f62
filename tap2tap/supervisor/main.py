"""One tunnel from its options to its end; the order of the start is the order of the lines in `run`."""

import contextlib
import errno
import gc
import os
import signal
from collections.abc import Iterator, Mapping, Sequence

from tap2tap import clock, counters, cpus, device, endpoint, log, memory, privileges
from tap2tap.config import NOBODY, Config
from tap2tap.counters import Counts, Slot, State
from tap2tap.endpoint import Endpoint
from tap2tap.errors import FAILURE, OK, NoPermissionError, StartError, UsageError
from tap2tap.keys import CableKeys, read_keys
from tap2tap.protocols.secure.actions import Timers
from tap2tap.supervisor.aside import aside
from tap2tap.supervisor.child import Child, Loop
from tap2tap.supervisor.hooks import Hooks
from tap2tap.supervisor.keeper import Keeper
from tap2tap.supervisor.loop import Watch
from tap2tap.supervisor.publisher import Publisher, published
from tap2tap.supervisor.resolver import Lookups, Resolver
from tap2tap.supervisor.signals import Interrupted, Signals
from tap2tap.workers import udp
from tap2tap.workers.inbound import inbound
from tap2tap.workers.outbound import outbound
from tap2tap.workers.pin import Pin
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS
from tap2tap.workers.worker import Cable


def run(config: Config) -> int:
    """Run the tunnel until a signal ends it; return the exit code.

    Raises Tap2tapError when it cannot start, or not go on.
    """
    privileges.occupy_standard_descriptors()
    log.setup("tap2tap supervisor")
    privileges.name_process("tap2tap:super")
    # Whoever starts it by nohup(1) does not want a hang-up to end it.
    stop = Signals([signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [])
    with contextlib.closing(Hooks(config.programs)) as hooks, contextlib.suppress(Interrupted), explain_limits():
        hooks.start()
        log.unblock()  # not before: programs have standard error as it was
        with make_lookups(config) as lookups:
            privileges.leave_no_core()  # from here on there may be keys; the children above were forked without
            keys = read_keys(config.key) if config.key else None
            remotes = lookups.first(stop) if lookups else endpoint.resolve(*config.remote) if config.remote else []
            with make_cable(config, remotes) as cable, published(cable.memory, identity(config)[0]) as publisher:
                return carry(cable, config, keys, hooks, lookups, publisher, stop)
    return OK  # a stop signal came before it was up


def carry(
    cable: Cable,
    config: Config,
    keys: CableKeys | None,
    hooks: Hooks,
    lookups: Lookups | None,
    publisher: Publisher,
    stop: Signals,
) -> int:
    """Set the cable up, give up all privileges, and keep the workers running until a signal comes.

    Returns the exit code. Raises StartError, Interrupted when the signal comes before the cable is up.
    """
    hooks.introduce(cable.name)
    if keys:  # the cable is not plugged in, not even for a moment, before the peer is there
        device.set_carrier(cable.tap, on=False)
    set_up(cable, config, stop)
    facts = describe(cable, config)
    hooks.run("up", cable.name, facts, stop)
    if keys is None:
        log.warning("no --key: frames are neither encrypted nor authenticated")
    if refused := privileges.drop(*identity(config)):
        log.warning("the kernel refuses some protection", refused=",".join(refused))
    keeper = make_keeper(cable, keys, hooks, facts)
    workers = hire(cable, config, keeper)
    try:
        for worker in workers:
            worker.start()
        cable.memory.slots[Slot.STATE] = State.UP
        publisher.publish()
        announce(cable)
        if keeper:
            keeper.start()
        Watch(cable, workers, stop, hooks, keeper, make_resolver(cable, lookups), publisher).run()
    finally:
        cable.memory.slots[Slot.STATE] = State.STOPPING
        publisher.publish()
        for worker in workers:
            worker.end()
        code = close(hooks, cable, facts, stop)
    return code


@contextlib.contextmanager
def explain_limits() -> Iterator[None]:
    """Raise StartError, which names what to do, for an OSError by which the machine says that it has no more."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        raise StartError(f"{error.strerror}: raise the limits of open files and of memory") from error


@contextlib.contextmanager
def make_cable(config: Config, remotes: Sequence[Endpoint]) -> Iterator[Cable]:
    """Make the tap, the socket and the memory, and see to their end. Raises Tap2tapError."""
    with contextlib.ExitStack() as stack:
        tap = device.open_tap(config.interface)
        stack.callback(os.close, tap.fd)
        offloads = device.offer_offloads(tap.fd) if config.offload else device.no_offloads(tap.fd)
        sock = stack.enter_context(endpoint.open_socket(config.bind, config.port))
        if call := udp.refused(sock):
            raise StartError(f"{call}(2) is refused by this kernel or container: tap2tap cannot do without, allow it")
        remote = next((each for each in remotes if endpoint.reaches(sock, each)), None)
        if remotes and remote is None:
            raise UsageError(
                f"--remote {remotes[0]} cannot be reached from --bind {config.bind}: one is IPv4, the other IPv6"
            )
        trains = config.offload and endpoint.enable_gro(sock) and endpoint.can_segment(sock)
        log.debug("offloads", tap=",".join(offloads) or "none", socket="trains" if trains else "none")
        shared = memory.create()
        slots = shared.slots
        with contextlib.suppress(OSError):  # without /proc there is no `stats` either
            netns = os.stat("/proc/self/ns/net")
            slots[Slot.NETNS_DEVICE], slots[Slot.NETNS_INODE] = netns.st_dev, netns.st_ino
        slots[Slot.STARTED] = clock.now_ns()
        slots[Slot.MTU] = config.tap_mtu
        slots[Slot.PID] = os.getpid()
        counters.store_name(slots, tap.name)
        endpoint.store(slots, Slot.LOCAL, endpoint.from_sockaddr(sock.getsockname()))
        if remote is not None:
            endpoint.store(slots, Slot.PEER, remote)
        yield Cable(
            name=tap.name,
            tap=tap.fd,
            sock=sock,
            memory=shared,
            mtu=config.tap_mtu,
            remote=remote,
            keepalive=config.keepalive_seconds,
            offload=config.offload,
            trains=trains,
            join_udp="uso" in offloads,
        )


def set_up(cable: Cable, config: Config, stop: Signals) -> None:
    """Set the MTU of the tap and bring it up. Raises StartError, Interrupted."""

    def work() -> None:
        device.link_up(cable.name, config.tap_mtu, segments(config), MAX_SEGMENTS)

    aside("set-up", "setting up the interface", work, stop)


def segments(config: Config) -> int:
    """How many frames of full size one send takes."""
    return max(1, MAX_PAYLOAD // (config.tap_mtu + config.overhead + device.ETHERNET_HEADER + device.VLAN_TAGS))


def identity(config: Config) -> tuple[int, int]:
    """The uid and gid to become. Raises NoPermissionError."""
    if os.geteuid() == 0:
        return (
            NOBODY if config.uid is None else config.uid,
            NOBODY if config.gid is None else config.gid,
        )
    if config.uid not in (None, os.geteuid()) or config.gid not in (None, os.getegid()):
        raise NoPermissionError("--uid and --gid need root")
    return os.geteuid(), os.getegid()


def make_keeper(cable: Cable, keys: CableKeys | None, hooks: Hooks, facts: Mapping[str, str]) -> Keeper | None:
    """Make what keeps the secure link, if there is to be one."""
    if keys is None:
        return None

    def told(event: str, peer: Endpoint | None) -> None:
        hooks.ask(f"peer-{event}", cable.name, {**facts, "TAP2TAP_PEER": str(peer or "")})

    return Keeper(cable, keys, Timers(), told)


@contextlib.contextmanager
def make_lookups(config: Config) -> Iterator[Lookups | None]:
    """Make what looks the remote's name up, where it is a name, and see to its end. Raises StartError."""
    if config.remote is None or endpoint.is_address(config.remote[0]):
        yield None
        return
    with contextlib.closing(Lookups(*config.remote, identity(config))) as lookups:
        yield lookups


def make_resolver(cable: Cable, lookups: Lookups | None) -> Resolver | None:
    """Make what looks the remote's name up again, where it is a name."""
    if lookups is None or cable.remote is None:
        return None
    return Resolver(lookups, cable.remote, lambda remote: endpoint.reaches(cable.sock, remote))


def hire(cable: Cable, config: Config, keeper: Keeper | None) -> list[Child]:
    """Describe the two workers; nothing is forked yet."""
    allowed = cpus.allowed()
    outward, inward = config.cpus or cpus.choose(allowed, cpus.topology())
    if len(allowed) == 1:
        log.warning("only one CPU: both workers share it", cpu=outward)
    descriptors = (cable.tap, cable.sock.fileno())

    def child(role: str, loop: Loop, counts: Counts, cpu: int) -> Child:
        pin = Pin(cpu, {cpu} if config.cpus else allowed)  # a CPU that was asked for is never left
        return Child(role, loop, cable, counts, pin, descriptors, lambda: keeper.hire(role) if keeper else None)

    return [
        child("outbound", outbound, cable.memory.outbound, outward),
        child("inbound", inbound, cable.memory.inbound, inward),
    ]


def announce(cable: Cable) -> None:
    """Say that the tunnel is up."""
    gc.freeze()
    if not cable.remote:
        log.info("waiting for the first peer to call")
    log.info(
        "tunnel is up",
        interface=cable.name,
        mtu=cable.mtu,
        local=endpoint.load(cable.memory.slots, Slot.LOCAL),
        remote=cable.remote or "any",
    )


def describe(cable: Cable, config: Config) -> dict[str, str]:
    """The facts that hooks find in their environment, beside the event and the interface."""
    return {
        "TAP2TAP_MTU": str(config.tap_mtu),
        "TAP2TAP_LOCAL": str(endpoint.load(cable.memory.slots, Slot.LOCAL) or ""),
        "TAP2TAP_PEER": str(endpoint.load(cable.memory.slots, Slot.PEER) or ""),
        "TAP2TAP_PID": str(os.getpid()),
    }


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
