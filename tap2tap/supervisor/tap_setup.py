"""Setting up the tap, in a process of its own: pyroute2 is the largest thing that the program ever loads.

What is right already is not set again: so a tap that was made for an ordinary user, and set up, takes no privilege.
"""

import errno
import json
import os
from contextlib import closing
from typing import NamedTuple

from tap2tap import device, endpoint, hardware_address, log
from tap2tap.config import Config
from tap2tap.device import Tap
from tap2tap.errors import NoPermissionError, StartError
from tap2tap.supervisor import netlink, plain_path
from tap2tap.supervisor.netlink import Link
from tap2tap.supervisor.run_in_child import run_in_child
from tap2tap.supervisor.signals import Signals
from tap2tap.supervisor.tap_keeper import Keeper, Memo, Settings, settings
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS

FEATURES = {  # of ethtool(8), by the names of device.OFFLOADS
    "checksum": "tx-checksum-ip-generic",
    "tso4": "tx-tcp-segmentation",
    "tso6": "tx-tcp6-segmentation",
    "tso-ecn": "tx-tcp-ecn-segmentation",
    "uso": "tx-udp-segmentation",
}


class SetUp(NamedTuple):
    """What has become of a tap; `offloads` are names of device.OFFLOADS."""

    mtu: int
    offloads: tuple[str, ...]


def set_up(tap: Tap, config: Config, mtu: int, key_digest: bytes, keeper: Keeper, stop: Signals) -> SetUp:
    """Set what there is to set of the tap, to `mtu` if it may be set at all, and bring it up.

    `key_digest` is the link's. The keeper of an existing tap learns how it was before anything is changed. Raises
    NoPermissionError for what this user may not set and cannot do without, StartError, Interrupted.
    """

    def work() -> bytes:
        try:
            return json.dumps(_set_up(tap, config, mtu, key_digest, keeper)).encode()
        except OSError as error:
            raise StartError(f"cannot set up {tap.name}: {error.strerror}") from error

    keep = [tap.fd, *([keeper.fd] if keeper.started else [])]
    found, offloads = json.loads(run_in_child("set-up", "setting up the interface", work, stop, keep, load_tunnel))
    return SetUp(found, tuple(offloads))


def load_tunnel() -> None:
    """Load what is wanted when the tap is set up: that takes as long as loading pyroute2, which another CPU does."""
    import tap2tap.supervisor.tunnel  # noqa: F401


def _set_up(tap: Tap, config: Config, mtu: int, key_digest: bytes, keeper: Keeper) -> SetUp:
    """Be the process. Raises NoPermissionError, StartError, OSError."""
    link = netlink.link(name=tap.name)
    if link is None:
        raise StartError(f"interface {tap.name} went away while it was set up")
    before = settings(link)
    after = Settings(before.mac, mtu, MAX_SEGMENTS, super_frame_size(config, mtu))
    if mac := config.mac if keeper.started else mac_of(tap.name, config, key_digest):
        after = after._replace(mac=mac)
    if keeper.started:
        keeper.remember(Memo(link.number, _offloads(tap.name), before, after))
    offloads = device.offer_offloads(tap.fd) if config.offload else device.no_offloads(tap.fd)
    return SetUp(apply(link, config, before, after), offloads)


def apply(link: Link, config: Config, before: Settings, after: Settings) -> int:
    """Turn one into the other, as far as this user may; return the MTU. Raises NoPermissionError, StartError."""
    from pyroute2 import IPRoute, NetlinkError  # the control plane's alone: the workers' memory stays free of it

    with IPRoute() as kernel:

        def refused(**attributes: str | int) -> bool:
            """Set this; whether the kernel does not let us. Raises StartError."""
            try:
                kernel.link("set", index=link.number, **attributes)
            except NetlinkError as error:
                if error.code in (errno.EPERM, errno.EACCES):
                    return True
                words = f"cannot set up {link.name} with mtu {after.mtu}: {os.strerror(error.code)}"
                raise StartError(words) from error
            return False

        missing, mtu = [], after.mtu
        if after.mac != before.mac and refused(address=after.mac) and config.mac:
            missing.append(f"address {after.mac}")
        if after.mtu != before.mtu and refused(mtu=after.mtu):
            mtu = before.mtu  # the administrator's choice, unless it does not do
            most = device.MAX_MTU - config.overhead
            if config.mtu or mtu > most:
                missing.append(f"mtu {config.mtu or most}")
        if (after.gso_max_segs, after.gso_max_size) != (before.gso_max_segs, before.gso_max_size):
            try:
                refused(gso_max_segs=after.gso_max_segs, gso_max_size=after.gso_max_size)
            except StartError as error:  # before Linux 4.16; the outbound worker copes with any size
                log.debug("super-frames of any size", reason=error)
        if not link.up and refused(state="up"):
            missing.append("up")
    if missing:
        raise NoPermissionError(
            f"no permission to set up {link.name}: run as root, or with CAP_NET_ADMIN, "
            f"or have root run 'ip link set {link.name} {' '.join(missing)}'"
        )
    return mtu


def _offloads(name: str) -> int | None:
    """What the tap offers now, TUN_F_...; None where the kernel does not say."""
    from pyroute2.ethtool.ioctl import IoctlEthtool, NotSupportedError

    try:
        with closing(IoctlEthtool(name)) as ethtool:
            features = ethtool.get_features()
    except (OSError, NotSupportedError) as error:
        log.debug("the offloads of the interface are not known", interface=name, error=repr(error))
        return None
    return sum(
        bits for label, bits in device.OFFLOADS.items() if FEATURES[label] in features and features[FEATURES[label]]
    )


def super_frame_size(config: Config, mtu: int) -> int:
    """The gso_max_size of the tap: TCP's largest super-frame is to fit one send.

    Its segments are as long as the tap's MTU allows, or as fits the usual path where the MSS is lowered for that.
    """
    fits = plain_path.UNKNOWN - endpoint.HEADERS[4] - config.overhead - device.ETHERNET_HEADER
    packet = min(mtu, fits) if config.clamp and mtu <= plain_path.UNKNOWN else mtu
    segments = MAX_PAYLOAD // (packet + config.overhead + device.ETHERNET_HEADER + device.VLAN_TAGS)
    return device.super_frame_size(packet, max(1, segments), MAX_SEGMENTS)


def mac_of(interface: str, config: Config, key_digest: bytes) -> str | None:
    """The hardware address of the tap; None: that which the kernel gave it, as nothing tells this machine from others.

    It is the same at each start: the far end, and whoever is behind it, remembers it for minutes. Both ends of a cable
    may be clones of one machine: their keys tell them apart, or which of them calls whom.
    """
    if config.mac:
        return config.mac
    if key_digest:
        return hardware_address.derive_mac(key_digest, interface)
    role = "{}:{}".format(*config.remotes[0]) if config.remotes else "server"
    machine = hardware_address.machine_id()
    return hardware_address.derive_mac(machine, role, str(config.port), interface) if machine else None
