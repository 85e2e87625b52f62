"""The cable that the supervisor lends to its children: the tap, the UDP socket, the memory."""

import contextlib
import os
import re
from collections.abc import Iterator

from tap2tap import clock, counters, device, endpoint, log, udp_socket
from tap2tap.config import Config
from tap2tap.counters import Slot
from tap2tap.endpoint import Endpoint
from tap2tap.errors import StartError, UsageError
from tap2tap.memory import Memory
from tap2tap.supervisor import plain_path, tap_users
from tap2tap.supervisor.binding import Binding
from tap2tap.supervisor.candidates import Candidates
from tap2tap.supervisor.signals import Signals
from tap2tap.supervisor.tap_keeper import Keeper
from tap2tap.supervisor.tap_setup import set_up
from tap2tap.workers import udp
from tap2tap.workers.worker import Cable, data_plane


@contextlib.contextmanager
def make_cable(
    config: Config,
    memory: Memory,
    candidates: Candidates,
    keeper: Keeper,
    binding: Binding,
    key_digest: bytes,
    stop: Signals,
) -> Iterator[Cable]:
    """Make the tap and the socket, set the tap up, and see to their end; enter them into `memory`.

    `key_digest` is the link's. Raises Tap2tapError, Interrupted.
    """
    with contextlib.ExitStack() as stack:
        tap = tap_users.open_tap(config.interface, carrier=config.key is None)
        stack.callback(os.close, tap.fd)
        config.check_outside(tap.name)  # which the kernel may have chosen
        with memory.withheld():  # from the two processes that keep privileges
            if device.is_persistent(tap.fd):
                keeper.start(tap)  # before the socket is there, which it is not to have
            sock = stack.enter_context(binding.open())
        if call := udp.refused(sock):
            raise StartError(f"{call}(2) is refused by this kernel or container: tap2tap cannot do without, allow it")
        remotes, known = candidates.to_call(sock), candidates.known
        if candidates.fixed and known and not candidates.reached(sock):
            raise UsageError(
                f"--remote {known[0]} cannot be reached from --bind {config.bind}: one is IPv4, the other IPv6"
            )
        gro = binding.prepare(sock)
        trains = config.offload and config.segmentation and udp_socket.can_segment(sock)
        version = max(each.address.version for each in remotes) if remotes else udp_socket.version(sock, None)
        mtu, offloads = set_up(tap, config, config.tap_mtu(version), key_digest, keeper, stop)
        told = [name for name, there in (("segmentation", trains), ("gro", gro)) if there]
        log.debug("offloads", tap=",".join(offloads) or "none", socket=",".join(told) or "none")
        cable = Cable(
            name=tap.name,
            tap=tap.fd,
            sock=sock,
            memory=memory,
            mtu=mtu,
            client=config.client,
            keepalive=config.keepalive_seconds,
            offload=config.offload,
            trains=trains,
            join_udp="uso" in offloads and joins_udp(os.uname().release),
            clamp=config.clamp,
        )
        _enter(cable, remotes[0] if remotes else None, binding.local)
        yield cable


def joins_udp(release: str) -> bool:
    """Whether Linux of this release may be given UDP super-frames; not where nobody knows.

    Before 6.8.5 it lost those that ended in a tunnel of its own, such as VXLAN ("udp: do not accept non-tunnel GSO skbs
    landing in a tunnel").
    """
    found = re.match(r"([0-9]{1,9})\.([0-9]{1,9})(?:\.([0-9]{1,9}))?(?![0-9])", release)
    return found is not None and tuple(int(number or 0) for number in found.groups()) >= (6, 8, 5)


def _enter(cable: Cable, remote: Endpoint | None, local: Endpoint) -> None:
    """Write what `stats` says of the cable, and where the peer is to be found first."""
    slots = cable.memory.slots
    with contextlib.suppress(OSError):  # without /proc there is no `stats` either
        netns = os.stat("/proc/self/ns/net")
        slots[Slot.NETNS_DEVICE], slots[Slot.NETNS_INODE] = netns.st_dev, netns.st_ino
    slots[Slot.STARTED] = clock.now_ns()
    slots[Slot.MTU] = cable.mtu
    slots[Slot.DATA_PLANE] = data_plane()
    slots[Slot.PID] = os.getpid()
    counters.store_name(slots, cable.name)
    endpoint.store(slots, Slot.LOCAL, local)
    if remote is not None:
        endpoint.store(slots, Slot.PEER, remote)
    if not slots[Slot.LINK]:
        plain_path.measure(cable)


def describe(cable: Cable) -> dict[str, str]:
    """The facts that hooks find in their environment, beside the event and the interface."""
    slots = cable.memory.slots
    return {
        "TAP2TAP_MTU": str(cable.mtu),
        "TAP2TAP_LOCAL": str(endpoint.load(slots, Slot.LOCAL) or ""),
        "TAP2TAP_PEER": str(endpoint.load(slots, Slot.PEER) or ""),
        "TAP2TAP_PID": str(os.getpid()),
    }
