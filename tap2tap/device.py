"""The tap device: opening it, its offloads, its carrier, and what it is called.

Constants are spelt as in linux/if_tun.h and linux/if.h.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
from typing import NamedTuple

from tap2tap.abi import READ, WRITE, ioctl_number
from tap2tap.errors import NoPermissionError, StartError, TapGoneError, UsageError
from tap2tap.vnet import VNET_LENGTH

_INT = struct.calcsize("i")
TUNSETIFF = ioctl_number(WRITE, "T", 202, _INT)
TUNGETFEATURES = ioctl_number(READ, "T", 207, _INT)
TUNGETIFF = ioctl_number(READ, "T", 210, _INT)
TUNSETOFFLOAD = ioctl_number(WRITE, "T", 208, _INT)
TUNSETTXFILTER = ioctl_number(WRITE, "T", 209, _INT)
TUNSETVNETHDRSZ = ioctl_number(WRITE, "T", 216, _INT)
TUNSETVNETLE = ioctl_number(WRITE, "T", 220, _INT)
TUNSETVNETBE = ioctl_number(WRITE, "T", 222, _INT)
TUNSETFILTEREBPF = ioctl_number(READ, "T", 225, _INT)
TUNSETCARRIER = ioctl_number(WRITE, "T", 226, _INT)

IFF_TAP = 0x0002
IFF_NO_CARRIER = 0x0040  # Linux 6.1
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_MULTI_QUEUE = 0x0100
IFF_PERSIST = 0x0800

TUN_F_CSUM = 0x01
TUN_F_TSO4 = 0x02
TUN_F_TSO6 = 0x04
TUN_F_TSO_ECN = 0x08
TUN_F_USO4 = 0x20  # Linux 6.2; the kernel takes USO4 and USO6 only together
TUN_F_USO6 = 0x40

OFFLOADS = {
    "checksum": TUN_F_CSUM,
    "tso4": TUN_F_TSO4,
    "tso6": TUN_F_TSO6,
    "tso-ecn": TUN_F_TSO_ECN,
    "uso": TUN_F_USO4 | TUN_F_USO6,
}

DEVICE = "/dev/net/tun"
NAME_MAX = 15  # IFNAMSIZ - 1
ETHERNET_HEADER = 14
VLAN_TAGS = 8  # two tags, as QinQ
GSO_LEGACY_MAX_SIZE = 65536  # linux/netdevice.h
MIN_MTU = 68  # ETH_MIN_MTU
MAX_MTU = 65507 - ETHERNET_HEADER - VLAN_TAGS  # what fits a UDP datagram over IPv4

SIOCGIFHWADDR = 0x8927  # linux/sockios.h; a tap's descriptor knows it too

_IFREQ = struct.Struct("16sH22x")
_IFREQ_HWADDR = struct.Struct("16sH6s16x")


class Tap(NamedTuple):
    """An open tap device. `fd` is non-blocking, the supervisor closes it."""

    fd: int
    name: str


class InUseError(StartError):
    """Another program is attached to the tap."""

    def __init__(self, interface: str, program: str = "another program") -> None:
        super().__init__(f"interface {interface} is in use by {program}: choose another name with --iface")


def check_name(name: str) -> None:
    """Raise UsageError when the kernel would not take `name` for an interface."""
    size = len(name.encode())
    if size > NAME_MAX:
        raise UsageError(f"interface name {name!r} is {size} bytes long: the kernel takes at most {NAME_MAX}")
    if not name or name in (".", "..") or not name.isprintable() or set(name) & set("/: "):
        raise UsageError(f"{name!r} is no interface name: letters, digits, '-', '_' and '.' are safe")


def open_tap(name: str | None, *, carrier: bool) -> Tap:
    """Create the tap `name` (None: the kernel picks tapN) or open an existing one. The caller closes `fd`.

    Without `carrier` there is none until `set_carrier`, and never was one (but for a moment where the kernel lacks
    IFF_NO_CARRIER). Every frame is preceded by a `virtio_net_hdr` (tap2tap.vnet). The descriptor is non-blocking: both
    workers use it, and reads drain until EAGAIN. Raises UsageError, NoPermissionError, InUseError, StartError.
    """
    if name is not None:
        check_name(name)
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _no_device(error) from error
    try:
        wanted = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (0 if carrier else IFF_NO_CARRIER & _features(fd))
        try:
            answer = _set_iff(fd, name, wanted)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            answer = _set_iff(fd, name, wanted | IFF_MULTI_QUEUE)  # made so by its administrator
        if not carrier and not wanted & IFF_NO_CARRIER:
            set_carrier(fd, on=False)
        _make_ours(fd)
        real = answer[:16].split(b"\0", 1)[0].decode()
    except OSError as error:
        os.close(fd)
        raise _refused(error, name) from error
    return Tap(fd, real)


def _set_iff(fd: int, name: str | None, flags: int) -> bytes:
    return fcntl.ioctl(fd, TUNSETIFF, _IFREQ.pack((name or "").encode(), flags))


def _make_ours(fd: int) -> None:
    """Undo what the last program may have left of its own in a persistent tap, and would have us lose frames.

    That is the length and the byte order of the headers, and filters of what is read. What else it may have set is
    gone with its descriptor: the size of the send buffer, IFF_NAPI; or is not for a tap with IFF_NO_PI: a filter of
    TUNATTACHFILTER. Raises OSError.
    """
    fcntl.ioctl(fd, TUNSETVNETHDRSZ, struct.pack("i", VNET_LENGTH))
    for request, none in ((TUNSETVNETLE, 0), (TUNSETVNETBE, 0), (TUNSETTXFILTER, 0), (TUNSETFILTEREBPF, -1)):
        with contextlib.suppress(OSError):  # of newer kernels, or of some machines
            fcntl.ioctl(fd, request, struct.pack("i", none))


def _features(fd: int) -> int:
    """The flags that TUNSETIFF knows here; none where the kernel, or who filters its calls, does not tell."""
    try:
        features: int = struct.unpack("i", fcntl.ioctl(fd, TUNGETFEATURES, bytes(_INT)))[0]
    except OSError:
        return 0
    return features


def _no_device(error: OSError) -> StartError:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return StartError(f"{DEVICE} is missing: load the driver with 'modprobe tun', or give the container the device")
    if error.errno in (errno.EACCES, errno.EPERM):
        return NoPermissionError(f"no permission to open {DEVICE}: run as root, or give this user access to it")
    return StartError(f"cannot open {DEVICE}: {error.strerror}")


def _refused(error: OSError, name: str | None) -> StartError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return NoPermissionError(_not_ours(name))
    if error.errno == errno.EBUSY:
        return InUseError(name or "")
    if error.errno in (errno.EINVAL, errno.EEXIST):
        return StartError(f"interface {name} exists and is no tap device: choose another name with --iface")
    return StartError(f"cannot make the tap device {name or ''}: {error.strerror}")


def _not_ours(name: str | None) -> str:
    exists = False
    with contextlib.suppress(OSError):
        exists = bool(name and socket.if_nametoindex(name))
    remedy = f"'ip tuntap add {'OTHER' if exists else name or 'tap0'} mode tap user {os.geteuid()}'"
    what = f"use {name}, which is not this user's" if exists else "make a tap device"
    return f"no permission to {what}: run as root, or with CAP_NET_ADMIN, or have root run {remedy}"


def is_persistent(fd: int) -> bool:
    """Whether a tap outlives us. Raises TapGoneError."""
    try:
        return bool(_flags(fd) & IFF_PERSIST)
    except OSError as error:
        raise TapGoneError from error


def is_multi_queue(fd: int) -> bool:
    """Whether other programs may attach to a tap as well. Raises OSError."""
    return bool(_flags(fd) & IFF_MULTI_QUEUE)


def _flags(fd: int) -> int:
    flags: int = _IFREQ.unpack(fcntl.ioctl(fd, TUNGETIFF, bytes(_IFREQ.size)))[1]
    return flags


def name_and_mac(fd: int) -> tuple[str, bytes]:
    """What a tap is called now, and its hardware address, in whatever network namespace it is. Raises OSError."""
    name = _IFREQ.unpack(fcntl.ioctl(fd, TUNGETIFF, bytes(_IFREQ.size)))[0]
    mac = _IFREQ_HWADDR.unpack(fcntl.ioctl(fd, SIOCGIFHWADDR, bytes(_IFREQ_HWADDR.size)))[2]
    return name.split(b"\0", 1)[0].decode(errors="replace"), mac


def super_frame_size(mtu: int, segments: int, most: int) -> int:
    """The gso_max_size, in bytes, with which TCP makes super-frames of at most `segments` packets of `mtu` bytes.

    TCP fills it but for MAX_TCP_HEADER + 1 (include/net/tcp.h, sk_dst_gso_max_size), 193 or more, with payload, of
    which a segment has least with IPv6 and time stamps. Were it the number of segments that is kept below `most` for
    the sake of TCP, UDP super-frames of more and smaller segments would not pass, and be cut up by the kernel.
    """
    return GSO_LEGACY_MAX_SIZE if segments >= most else min(GSO_LEGACY_MAX_SIZE, (segments + 1) * (mtu - 72) + 192)


def set_carrier(fd: int, *, on: bool) -> None:
    """Plug the cable in or out (TUNSETCARRIER, Linux 5.0); where the kernel cannot, the carrier stays on."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, TUNSETCARRIER, struct.pack("i", on))


def restore_offloads(fd: int, offloads: int) -> None:
    """Let a tap have these (TUN_F_...) and no others. Raises OSError."""
    fcntl.ioctl(fd, TUNSETOFFLOAD, offloads)


def offer_offloads(fd: int) -> tuple[str, ...]:
    """Offer what the kernel may leave to us, one by one; return the names of what it took.

    TUNSETOFFLOAD replaces the whole set, so each probe repeats what has been taken before it.
    """
    taken = 0
    names: list[str] = []
    for label, bits in OFFLOADS.items():
        try:
            fcntl.ioctl(fd, TUNSETOFFLOAD, taken | bits)
        except OSError:
            continue
        taken |= bits
        names.append(label)
    return tuple(names)


def no_offloads(fd: int) -> tuple[str, ...]:
    """Take back every offload: a persistent tap may still have some from its last owner. Return no names."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, TUNSETOFFLOAD, 0)
    return ()
