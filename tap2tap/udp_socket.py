"""The UDP socket: how it is bound, and what it is asked to do."""

import contextlib
import errno
import fcntl
import ipaddress
import os
import socket
import struct
from pathlib import Path

from tap2tap import endpoint, log
from tap2tap.abi import force_options, set_timeout
from tap2tap.endpoint import SOCKADDR_LENGTH, Endpoint
from tap2tap.errors import NoPermissionError, StartError, UsageError
from tap2tap.numbers import whole_number

SOL_UDP = socket.IPPROTO_UDP
UDP_SEGMENT = 103  # linux/udp.h
UDP_GRO = 104
IP_MTU_DISCOVER = 10  # linux/in.h
IP_PMTUDISC_DONT = 0
IP_PMTUDISC_PROBE = 3
IPV6_MTU_DISCOVER = 23  # linux/in6.h
IPV6_PMTUDISC_PROBE = 3
IP_PKTINFO = 8
IPV6_RECVPKTINFO = 49
IPV6_PKTINFO = 50
SO_SNDBUFFORCE, SO_RCVBUFFORCE = force_options()
IFNAMSIZ = 16  # linux/if.h
SIOCGIFINDEX = 0x8933  # linux/sockios.h
IFA_F_DADFAILED = 0x08  # linux/if_addr.h

_IFREQ_INDEX = struct.Struct("@16si20x")
_IN_PKTINFO = struct.Struct("@i4s4x")  # interface, local address, destination in the header
_IN6_PKTINFO = struct.Struct("@16si")  # local address, interface
PKTINFO = {  # of a family: level and type of the control message, offset and length of the local address in it
    socket.AF_INET: (socket.IPPROTO_IP, IP_PKTINFO, 4, 4),
    socket.AF_INET6: (socket.IPPROTO_IPV6, IPV6_PKTINFO, 0, 16),
}
# What a send says, among others, that is to leave from an address that is not ours: in IPv6; in IPv4; as a socket does.
GONE = (errno.EINVAL, errno.ENETUNREACH, errno.EADDRNOTAVAIL)

BUFFER = 4 << 20  # bytes a direction: dozens of full trains may wait while a worker is replaced
RECEIVE_TIMEOUT = 1  # seconds that an idle inbound worker waits before it comes round its loop


class NotThereError(StartError):
    """What the socket is to be bound to is not there, or not yet."""


def open_socket(
    bind: str | None, port: int, *, fragment: bool = True, mark: int | None = None, device: str | None = None
) -> socket.socket:
    """Bind the UDP socket; `bind` None is any address, IPv4 and IPv6. The caller closes it.

    `fragment`: what is longer than the path goes in IP fragments; else it does not go at all (EMSGSIZE), or is lost.
    `mark` and `device` are those of `restrict`. Raises UsageError when `bind` is no address, NotThereError when the
    address or a device is not there, NoPermissionError, StartError when it cannot be had.
    """
    address, zone = parse_bind(bind, device)
    family = socket.AF_INET if isinstance(address, ipaddress.IPv4Address) else socket.AF_INET6
    try:
        try:
            sock = _bound(family, str(address or "::"), zone, port, bind, mark, device)
        except OSError as error:
            if bind is not None or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            sock = _bound(socket.AF_INET, "0.0.0.0", "", port, bind, mark, device)  # noqa: S104  (a host without IPv6)
    except OSError as error:
        raise _explained(error, bind, port) from error
    tune(sock, fragment=fragment)
    return sock


def parse_bind(bind: str | None, device: str | None) -> tuple[endpoint.Address | None, str]:
    """Read --bind, as it can be right together with --device: an address (None: any, of both versions), and its zone.

    Raises UsageError.
    """
    if bind is None:
        return None, ""
    bracketed = bind.startswith("[") and bind.endswith("]")
    text, percent, zone = (bind[1:-1] if bracketed else bind).partition("%")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise UsageError(f"--bind {bind}: not an IPv4 or IPv6 address of this host") from None
    if address.is_multicast or str(address) == "255.255.255.255":
        raise UsageError(f"--bind {bind}: no host has a multicast or broadcast address")
    if address.version == 6 and address.ipv4_mapped:
        raise UsageError(f"--bind {bind}: an IPv4 address is written as such: --bind {address.ipv4_mapped}")
    if percent and (not zone or "%" in zone):
        raise UsageError(f"--bind {bind}: behind % is the name of one network device, as in --bind {text}%eth0")
    if address.version == 4 or not address.is_link_local:
        if percent:
            raise UsageError(f"--bind {bind}: only a link-local address has a zone: leave %{zone} out")
    elif not zone and not device:
        raise UsageError(f"--bind {bind}: a link-local address needs its network device, as in --bind {text}%eth0")
    elif zone and device not in (None, zone):
        raise UsageError(f"--bind {bind} and --device {device} name two network devices")
    return address, zone


def device_index(name: str) -> int:
    """The index of a network device by its name, or by that number. Raises OSError: ENODEV where there is none."""
    if len(encoded := os.fsencode(name)) < IFNAMSIZ:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:  # if_nametoindex would not tell why it fails
            try:
                return int(_IFREQ_INDEX.unpack(fcntl.ioctl(sock, SIOCGIFINDEX, _IFREQ_INDEX.pack(encoded, 0)))[1])
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
    if number := whole_number(name, 2**31 - 1):
        return number
    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


def bound_device(sock: socket.socket) -> str:
    """The name, now, of the network device that a socket is bound to; empty: none. Raises OSError: it is gone."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, IFNAMSIZ).rstrip(b"\0").decode(errors="replace")


def mark_of(sock: socket.socket) -> int:
    """The mark of a socket; 0: none."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) & 0xFFFFFFFF  # Python takes it for signed


def restrict(sock: socket.socket, mark: int | None, device: str | None) -> None:
    """Give a socket the mark that rules of routes and firewalls go by, and bind it to a network device or a VRF.

    Raises OSError: ENODEV where there is no such device, EPERM without CAP_NET_ADMIN.
    """
    if mark is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("@I", mark))
    if device is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")


def tell_local(sock: socket.socket) -> None:
    """Have the kernel tell to which of our addresses a datagram came, where there may be several.

    An IPv6 socket hears it of IPv4, too, as a mapped address. Where the kernel cannot tell, it chooses, as ever.
    """
    if endpoint.from_sockaddr(sock.getsockname()).address.is_unspecified:
        with contextlib.suppress(OSError):
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)


def send(sock: socket.socket, data: bytes, to: Endpoint) -> None:
    """Send one datagram from `to.local`, or, where that is no address of ours any more, from another one.

    It waits for nothing. Raises OSError.
    """
    family = sock.family
    name, local = to.sockaddr(family), to.raw(family)[SOCKADDR_LENGTH[family] :]
    try:
        sock.sendmsg([data], [from_address(local)] if any(local) else [], socket.MSG_DONTWAIT, name)
    except OSError as error:
        if error.errno not in GONE or not any(local):
            raise
        sock.sendto(data, socket.MSG_DONTWAIT, name)


def from_address(local: bytes) -> tuple[int, int, bytes]:
    """The control message with which a datagram leaves from this address of ours, 4 bytes or 16 as for the socket.

    It names no interface: the routes choose that (ip(7), ipv6(7)).
    """
    if len(local) == 4:
        return socket.IPPROTO_IP, IP_PKTINFO, _IN_PKTINFO.pack(0, local)
    return socket.IPPROTO_IPV6, IPV6_PKTINFO, _IN6_PKTINFO.pack(local, 0)


def reaches(sock: socket.socket, remote: Endpoint) -> bool:
    """Whether `sock` can send to an address of that version."""
    if sock.family == socket.AF_INET:
        return remote.address.version == 4
    return remote.address.version == 6 or not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def version(sock: socket.socket, remote: Endpoint | None) -> int:
    """The version of IP below the tunnel; 6, whose header is the longer one, where it may be either."""
    return remote.address.version if remote else 4 if sock.family == socket.AF_INET else 6


def _bound(
    family: int, host: str, zone: str, port: int, bind: str | None, mark: int | None, device: str | None
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        _restrict(sock, mark, device)
        name: endpoint.SockAddr = (host, port)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bind is not None)
            name = (host, port, 0, _scope(bind, zone))
        sock.bind(name)
    except BaseException:
        sock.close()
        raise
    return sock


def _restrict(sock: socket.socket, mark: int | None, device: str | None) -> None:
    """Do as `restrict`, and explain what goes wrong. Raises NotThereError, NoPermissionError, StartError."""
    try:
        option, capability = f"--mark {mark}", "CAP_NET_ADMIN"
        restrict(sock, mark, None)
        option, capability = f"--device {device}", "CAP_NET_RAW"
        restrict(sock, None, device)
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise NotThereError(f"{option}: there is no such network device") from error
        if error.errno == errno.EPERM:
            raise NoPermissionError(f"no permission for {option}: run as root, or with {capability}") from error
        raise StartError(f"{option} cannot be set: {error.strerror}") from error


def _scope(bind: str | None, zone: str) -> int:
    """The index of the network device that is the zone. Raises NotThereError, OSError."""
    try:
        return device_index(zone) if zone else 0
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        raise NotThereError(f"--bind {bind}: there is no network device {zone}") from error


def tune(sock: socket.socket, *, fragment: bool) -> None:
    """Set buffers and timeout, and what becomes of datagrams that are longer than the path."""
    for force, plain in ((SO_SNDBUFFORCE, socket.SO_SNDBUF), (SO_RCVBUFFORCE, socket.SO_RCVBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, BUFFER)
        except OSError:  # without CAP_NET_ADMIN: as much as net.core.*mem_max allows
            sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER)
    set_timeout(sock, socket.SO_RCVTIMEO, RECEIVE_TIMEOUT)
    # In fragments: never set Don't Fragment (IPv6 has no such bit: the kernel fragments to the path MTU that it has
    # learnt). Without: always set it, and leave what the kernel has learnt of the path aside: anyone may have told it.
    discover = IP_PMTUDISC_DONT if fragment else IP_PMTUDISC_PROBE
    try:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, discover)
        if sock.family == socket.AF_INET6 and not fragment:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
    except OSError as error:
        log.warning("the kernel decides about IP fragments, as it refuses to be told", error=error.strerror)


def _explained(error: OSError, bind: str | None, port: int) -> StartError | UsageError:
    where = f"{bind} port {port}" if bind else f"port {port}"
    if error.errno == errno.EADDRINUSE:
        return StartError(
            f"UDP {where} is in use: another program has it, perhaps another tunnel; choose another with --port"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return NoPermissionError(f"no permission to use UDP {where}: run as root, or choose a --port above 1023")
    if error.errno == errno.EADDRNOTAVAIL:
        return NotThereError(f"--bind {bind}: {_why_not(bind)}")
    if error.errno == errno.ENODEV:  # the zone
        return NotThereError(f"--bind {bind}: there is no such network device")
    return StartError(f"cannot use UDP {where}: {error.strerror}")


def _why_not(bind: str | None) -> str:
    """Why an address cannot be bound: it may be there, and of no use (/proc/net/if_inet6)."""
    text, _, zone = str(bind).strip("[]").partition("%")
    with contextlib.suppress(OSError, ValueError):
        index, wanted = _scope(bind, zone), ipaddress.ip_address(text).packed.hex()
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            found, number, _, _, flags, _ = line.split()
            if found == wanted and index in (0, int(number, 16)) and int(flags, 16) & IFA_F_DADFAILED:
                return "another host on the network has it, too (duplicate address detection)"
    return "this host has no such address, or it is tentative"


def enable_gro(sock: socket.socket) -> bool:
    """Ask the kernel to hand received trains over whole (UDP_GRO, Linux 5.0); False where it cannot."""
    try:
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:
        return False
    return True


def can_segment(sock: socket.socket) -> bool:
    """Whether the kernel cuts a train into datagrams (UDP_SEGMENT, Linux 4.18)."""
    try:
        sock.getsockopt(SOL_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True
