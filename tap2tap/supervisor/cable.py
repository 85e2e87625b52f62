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
from tap2tap.supervisor import route
from tap2tap.supervisor.candidates import Candidates
from tap2tap.supervisor.run_in_child import run_in_child
from tap2tap.supervisor.signals import Signals
from tap2tap.workers import udp
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS
from tap2tap.workers.worker import Cable, data_plane


@contextlib.contextmanager
def make_cable(config: Config, memory: Memory, candidates: Candidates) -> Iterator[Cable]:
    """Make the tap and the socket, and see to their end; enter them into `memory`. Raises Tap2tapError."""
    with contextlib.ExitStack() as stack:
        tap = device.open_tap(config.interface, carrier=config.key is None)
        stack.callback(os.close, tap.fd)
        offloads = device.offer_offloads(tap.fd) if config.offload else device.no_offloads(tap.fd)
        sock = stack.enter_context(udp_socket.open_socket(config.bind, config.port, fragment=config.key is None))
        if call := udp.refused(sock):
            raise StartError(f"{call}(2) is refused by this kernel or container: tap2tap cannot do without, allow it")
        remotes = [each for each in candidates.known if udp_socket.reaches(sock, each)]
        if candidates.fixed and candidates.known and not remotes:
            raise UsageError(
                f"--remote {candidates.known[0]} cannot be reached from --bind {config.bind}:"
                " one is IPv4, the other IPv6"
            )
        udp_socket.tell_local(sock)
        gro = config.offload and udp_socket.enable_gro(sock)
        trains = config.offload and config.segmentation and udp_socket.can_segment(sock)
        told = [name for name, there in (("segmentation", trains), ("gro", gro)) if there]
        log.debug("offloads", tap=",".join(offloads) or "none", socket=",".join(told) or "none")
        cable = Cable(
            name=tap.name,
            tap=tap.fd,
            sock=sock,
            memory=memory,
            mtu=config.tap_mtu(
                max(each.address.version for each in remotes) if remotes else udp_socket.version(sock, None)
            ),
            client=config.client,
            keepalive=config.keepalive_seconds,
            offload=config.offload,
            trains=trains,
            join_udp="uso" in offloads and joins_udp(os.uname().release),
            clamp=config.clamp,
        )
        _enter(cable, remotes[0] if remotes else None)
        yield cable


def joins_udp(release: str) -> bool:
    """Whether Linux of this release may be given UDP super-frames; not where nobody knows.

    Before 6.8.5 it lost those that ended in a tunnel of its own, such as VXLAN ("udp: do not accept non-tunnel GSO skbs
    landing in a tunnel").
    """
    found = re.match(r"([0-9]{1,9})\.([0-9]{1,9})(?:\.([0-9]{1,9}))?(?![0-9])", release)
    return found is not None and tuple(int(number or 0) for number in found.groups()) >= (6, 8, 5)


def _enter(cable: Cable, remote: Endpoint | None) -> None:
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
    endpoint.store(slots, Slot.LOCAL, endpoint.from_sockaddr(cable.sock.getsockname()))
    if remote is not None:
        endpoint.store(slots, Slot.PEER, remote)
    if not slots[Slot.LINK]:
        route.measure(cable)


def set_up(cable: Cable, config: Config, identity: bytes, stop: Signals) -> None:
    """Set what there is to set of the tap and bring it up; `identity` is the link's. Raises StartError, Interrupted."""
    size = super_frame_size(config, cable.mtu)
    keep_mac = device.is_persistent(cable.tap) and not config.mac

    def work() -> None:
        mac = None if keep_mac else mac_of(cable.name, config, identity)
        device.link_up(cable.name, cable.mtu, size, MAX_SEGMENTS, mac)

    run_in_child("set-up", "setting up the interface", work, stop)


def super_frame_size(config: Config, mtu: int) -> int:
    """The gso_max_size of the tap: TCP's largest super-frame is to fit one send.

    Its segments are as long as the tap's MTU allows, or as fits the usual path where the MSS is lowered for that.
    """
    fits = route.UNKNOWN - endpoint.HEADERS[4] - config.overhead - device.ETHERNET_HEADER
    packet = min(mtu, fits) if config.clamp and mtu <= route.UNKNOWN else mtu
    segments = MAX_PAYLOAD // (packet + config.overhead + device.ETHERNET_HEADER + device.VLAN_TAGS)
    return device.super_frame_size(packet, max(1, segments), MAX_SEGMENTS)


def mac_of(interface: str, config: Config, identity: bytes) -> str | None:
    """The hardware address of the tap; None: that which the kernel gave it, as nothing tells this machine from others.

    It is the same at each start: the far end, and whoever is behind it, remembers it for minutes. Both ends of a cable
    may be clones of one machine: their keys tell them apart, or which of them calls whom.
    """
    if config.mac:
        return config.mac
    if identity:
        return device.derive_mac(identity, interface)
    role = "{}:{}".format(*config.remotes[0]) if config.remotes else "server"
    machine = device.machine_id()
    return device.derive_mac(machine, role, str(config.port), interface) if machine else None


def describe(cable: Cable) -> dict[str, str]:
    """The facts that hooks find in their environment, beside the event and the interface."""
    slots = cable.memory.slots
    return {
        "TAP2TAP_MTU": str(cable.mtu),
        "TAP2TAP_LOCAL": str(endpoint.load(slots, Slot.LOCAL) or ""),
        "TAP2TAP_PEER": str(endpoint.load(slots, Slot.PEER) or ""),
        "TAP2TAP_PID": str(os.getpid()),
    }
