"""The UDP socket, and endpoints: the address and port of this end and of the peer.

One socket serves IPv4 and IPv6: where the host has IPv6 it is an IPv6 socket that also carries IPv4 with mapped
addresses (RFC 4291, 2.5.5.2). Only this file knows about mapped addresses.
"""

import contextlib
import errno
import ipaddress
import socket
import struct
from typing import NamedTuple

from tap2tap import log
from tap2tap.abi import force_options, set_timeout
from tap2tap.errors import NoPermissionError, StartError, UsageError
from tap2tap.numbers import whole_number

SockAddr = tuple[str, int] | tuple[str, int, int, int]  # what Python's AF_INET and AF_INET6 sockets take and give

SOL_UDP = socket.IPPROTO_UDP
UDP_SEGMENT = 103  # linux/udp.h
UDP_GRO = 104
IP_MTU_DISCOVER = 10  # linux/in.h
IP_PMTUDISC_DONT = 0
IP_PMTUDISC_PROBE = 3
IPV6_MTU_DISCOVER = 23  # linux/in6.h
IPV6_PMTUDISC_PROBE = 3
SO_SNDBUFFORCE, SO_RCVBUFFORCE = force_options()

BUFFER = 4 << 20  # bytes a direction: dozens of full trains may wait while a worker is replaced
RECEIVE_TIMEOUT = 1  # seconds that an idle inbound worker waits before it comes round its loop

_SOCKADDR_IN = struct.Struct("@H2s4s8x")  # family, port, address
_SOCKADDR_IN6 = struct.Struct("@H2sI16sI")  # family, port, flow label, address, scope

HEADERS = {4: 20 + 8, 6: 40 + 8}  # bytes of IP and UDP around the payload of a datagram, by the version of IP

ENDPOINT_SLOTS = 4  # in the memory of a tunnel: address (2, big-endian), port and scope, check


class Endpoint(NamedTuple):
    """The address and port of one side. `scope` is the interface index of a link-local IPv6 address."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    scope: int = 0

    def __str__(self) -> str:
        if self.address.version == 4:
            return f"{self.address}:{self.port}"
        zone = f"%{self.scope}" if self.scope else ""
        return f"[{self.address}{zone}]:{self.port}"

    @property
    def headers(self) -> int:
        """Bytes of the IP and UDP headers of a datagram to it: what a path MTU is more than its payload."""
        return HEADERS[self.address.version]

    def sockaddr(self, family: int) -> SockAddr:
        """The form that a socket of `family` takes, spelt exactly as the kernel gives it back."""
        if family == socket.AF_INET:
            return str(self.address), self.port
        if self.address.version == 4:
            return f"::ffff:{self.address}", self.port, 0, 0
        host = socket.inet_ntop(socket.AF_INET6, self.address.packed)
        if self.scope:
            with contextlib.suppress(OSError):
                host = f"{host}%{socket.if_indextoname(self.scope)}"
        return host, self.port, 0, self.scope

    def raw(self, family: int) -> bytes:
        """The `struct sockaddr_in` or `sockaddr_in6` of linux/in.h and linux/in6.h, for a socket of `family`."""
        if family == socket.AF_INET:
            return _SOCKADDR_IN.pack(family, self.port.to_bytes(2), self.address.packed)
        return _SOCKADDR_IN6.pack(family, self.port.to_bytes(2), 0, _mapped(self.address), self.scope)


def from_raw(raw: bytes) -> Endpoint:
    """Read what the kernel wrote, as `Endpoint.raw` does; a mapped IPv4 address becomes the one that it stands for."""
    if len(raw) == _SOCKADDR_IN.size:
        _, port, packed = _SOCKADDR_IN.unpack(raw)
        return Endpoint(ipaddress.IPv4Address(packed), int.from_bytes(port))
    _, port, _, packed, scope = _SOCKADDR_IN6.unpack(raw)
    address = ipaddress.IPv6Address(packed)
    return Endpoint(address.ipv4_mapped or address, int.from_bytes(port), scope)


def from_sockaddr(sockaddr: SockAddr) -> Endpoint:
    """Read an endpoint that a socket gave; a mapped IPv4 address becomes the IPv4 address that it stands for."""
    scope = sockaddr[3] if len(sockaddr) == 4 else 0
    address = ipaddress.ip_address(sockaddr[0].split("%", 1)[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Endpoint(address, sockaddr[1], scope)


def pack(endpoint: Endpoint) -> bytes:
    """Write `endpoint` as 24 bytes that `unpack` reads."""
    return _mapped(endpoint.address) + struct.pack(">Q", endpoint.port | endpoint.scope << 16)


def _mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed


def unpack(packed: bytes) -> Endpoint:
    """Read what `pack` wrote."""
    address = ipaddress.IPv6Address(packed[:16])
    (rest,) = struct.unpack(">Q", packed[16:])
    return Endpoint(address.ipv4_mapped or address, rest & 0xFFFF, rest >> 16 & 0xFFFFFFFF)


def store(slots: memoryview, at: int, endpoint: Endpoint) -> None:
    """Write `endpoint` to four slots. The check comes last: a reader that meets it half-written keeps what it had."""
    words = struct.unpack(">QQQ", pack(endpoint))
    slots[at], slots[at + 1], slots[at + 2] = words
    slots[at + 3] = _check(*words)


def load(slots: memoryview, at: int) -> Endpoint | None:
    """Read what `store` wrote; None while nothing is there or a write is under way."""
    high, low, rest, check = slots[at : at + 4]
    if not check or check != _check(high, low, rest):
        return None
    return unpack(struct.pack(">QQQ", high, low, rest))


def _check(high: int, low: int, rest: int) -> int:
    mixed = high * 0x9E3779B97F4A7C15 + low * 0xC2B2AE3D27D4EB4F + rest * 0x165667B19E3779F9
    return (mixed ^ mixed >> 32) & 0xFFFFFFFFFFFFFFFF | 1


def split_host_port(text: str, port: int) -> tuple[str, int]:
    """Read HOST, HOST:PORT, an IPv6 address bare or in brackets, `[IPv6]:PORT`. Raises UsageError."""
    host = text
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UsageError(f"{text!r} is no HOST[:PORT]: an IPv6 address with a port is written [address]:port")
        digits = rest[1:] if rest else str(port)
    elif text.count(":") == 1:
        host, _, digits = text.partition(":")
    else:
        digits = str(port)
    if not host:
        raise UsageError(f"{text!r} names no host")
    number = whole_number(digits, 65535)
    if not number:
        raise UsageError(f"the port in {text!r} must be a number from 1 to 65535")
    return host, number


def is_address(host: str) -> bool:
    """Whether `host` is an address, and not a name that may come to stand for another one."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def resolve(host: str, port: int) -> list[Endpoint]:
    """Look up the peer's addresses, the best first (RFC 6724). Raises StartError when the name does not resolve."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_ADDRCONFIG)
    except socket.gaierror:
        try:  # a host with loopback alone has no configured address family, but may well join two namespaces
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (socket.gaierror, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a valid name"
            raise StartError(
                f"cannot resolve the remote {host!r}: {reason}: check the name, or give an address"
            ) from error
    except UnicodeError as error:
        raise StartError(f"cannot resolve the remote {host!r}: not a valid name") from error
    return list(dict.fromkeys(from_sockaddr(each[4]) for each in found))  # type: ignore[arg-type]


def open_socket(bind: str | None, port: int, *, fragment: bool = True) -> socket.socket:
    """Bind the UDP socket; `bind` None is any address, IPv4 and IPv6. The caller closes it.

    `fragment`: what is longer than the path goes in IP fragments; else it does not go at all (EMSGSIZE), or is lost.
    Raises UsageError when `bind` is no address, NoPermissionError, StartError when it cannot be had.
    """
    family, host = socket.AF_INET6, "::"
    if bind is not None:
        try:
            address = ipaddress.ip_address(bind.strip("[]").split("%", 1)[0])
        except ValueError:
            raise UsageError(f"--bind {bind}: not an IPv4 or IPv6 address of this host") from None
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        host = bind.strip("[]")
    try:
        sock = _bound(family, host, port, any_family=bind is None)
    except OSError as error:
        if bind is not None or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise _explained(error, bind, port) from error
        try:  # a host without IPv6
            sock = _bound(socket.AF_INET, "0.0.0.0", port, any_family=False)  # noqa: S104  (a tunnel's purpose)
        except OSError as second:
            raise _explained(second, bind, port) from second
    _tune(sock, fragment=fragment)
    return sock


def reaches(sock: socket.socket, remote: Endpoint) -> bool:
    """Whether `sock` can send to an address of that version."""
    if sock.family == socket.AF_INET:
        return remote.address.version == 4
    return remote.address.version == 6 or not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def version(sock: socket.socket, remote: Endpoint | None) -> int:
    """The version of IP below the tunnel; 6, whose header is the longer one, where it may be either."""
    return remote.address.version if remote else 4 if sock.family == socket.AF_INET else 6


def _bound(family: int, host: str, port: int, *, any_family: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not any_family)
        found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        sock.bind(found[0][4])
    except BaseException:
        sock.close()
        raise
    return sock


def _tune(sock: socket.socket, *, fragment: bool) -> None:
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
        return StartError(f"--bind {bind}: this host has no such address")
    return StartError(f"cannot use UDP {where}: {error.strerror}")


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
