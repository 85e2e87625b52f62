"""Endpoints: the address and port of this end and of the peer, and all the forms in which they are written.

One socket (tap2tap.udp_socket) serves IPv4 and IPv6: where the host has IPv6 it is an IPv6 socket that also carries
IPv4 with mapped addresses (RFC 4291, 2.5.5.2). Only this file knows about mapped addresses.
"""

import contextlib
import ipaddress
import re
import socket
import struct
from typing import NamedTuple, TypeAlias

from tap2tap.errors import NoSuchNameError, StartError, UsageError
from tap2tap.numbers import whole_number

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
SockAddr = tuple[str, int] | tuple[str, int, int, int]  # what Python's AF_INET and AF_INET6 sockets take and give

_SOCKADDR_IN = struct.Struct("@H2s4s8x4s")  # family, port, address; local address
_SOCKADDR_IN6 = struct.Struct("@H2sI16sI16s")  # family, port, flow label, address, scope; local address
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.@-]+")
_WORDS = struct.Struct(">QQQQQ")
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)

HEADERS = {4: 20 + 8, 6: 40 + 8}  # bytes of IP and UDP around the payload of a datagram, by the version of IP

BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA)  # a name service has said so, or there is none to be asked

PACKED = 40  # bytes: address 16, port and scope 8, local address 16, big-endian
ENDPOINT_SLOTS = 6  # in the memory of a tunnel: those 40 bytes, and a check


class Endpoint(NamedTuple):
    """The address and port of one side. `scope` is the interface index of a link-local IPv6 address.

    `local` is our own address that datagrams to it leave from, as the peer has called us there, of the same version;
    None: the kernel chooses.
    """

    address: Address
    port: int
    scope: int = 0
    local: Address | None = None

    def __str__(self) -> str:
        """What `--remote` takes. An interface is named as it is now, or else has its index behind the %."""
        if self.address.version == 4:
            return f"{self.address}:{self.port}"
        zone = f"%{_interface(self.scope)}" if self.scope else ""
        return f"[{self.address}{zone}]:{self.port}"

    @property
    def headers(self) -> int:
        """Bytes of the IP and UDP headers of a datagram to it: what a path MTU is more than its payload."""
        return HEADERS[self.address.version]

    @property
    def from_anywhere(self) -> "Endpoint":
        """The same, whichever of our addresses is used."""
        return self._replace(local=None) if self.local else self

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
        """What the workers take and give: a `struct sockaddr_in` or `sockaddr_in6` (linux/in.h, linux/in6.h).

        Behind it is the local address, 4 bytes or 16, as `family` is; zeros: none.
        """
        if family == socket.AF_INET:
            local = self.local.packed if self.local else bytes(4)
            return _SOCKADDR_IN.pack(family, self.port.to_bytes(2), self.address.packed, local)
        local = _mapped(self.local) if self.local else bytes(16)
        return _SOCKADDR_IN6.pack(family, self.port.to_bytes(2), 0, _mapped(self.address), self.scope, local)


def _interface(index: int) -> str:
    """The name of an interface, if it has one that a hook may be told, or its index."""
    with contextlib.suppress(OSError, OverflowError):
        if _PLAIN_NAME.fullmatch(name := socket.if_indextoname(index)):
            return name
    return str(index)


SOCKADDR_LENGTH = {socket.AF_INET: 16, socket.AF_INET6: 28}  # of what `Endpoint.raw` gives, without the local address


def from_raw(raw: bytes) -> Endpoint:
    """Read what `Endpoint.raw` writes; a mapped IPv4 address becomes the one that it stands for."""
    if len(raw) == _SOCKADDR_IN.size:
        _, port, packed, local = _SOCKADDR_IN.unpack(raw)
        ours = ipaddress.IPv4Address(local) if any(local) else None
        return Endpoint(ipaddress.IPv4Address(packed), int.from_bytes(port), local=ours)
    _, port, _, packed, scope, local = _SOCKADDR_IN6.unpack(raw)
    return Endpoint(_unmapped(packed), int.from_bytes(port), scope, _unmapped(local) if any(local) else None)


def from_sockaddr(sockaddr: SockAddr) -> Endpoint:
    """Read an endpoint that a socket gave; a mapped IPv4 address becomes the IPv4 address that it stands for."""
    scope = sockaddr[3] if len(sockaddr) == 4 else 0
    address = ipaddress.ip_address(sockaddr[0].split("%", 1)[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Endpoint(address, sockaddr[1], scope)


def pack(endpoint: Endpoint) -> bytes:
    """Write `endpoint` as PACKED bytes that `unpack` reads."""
    local = _mapped(endpoint.local) if endpoint.local else bytes(16)
    return _mapped(endpoint.address) + struct.pack(">Q", endpoint.port | endpoint.scope << 16) + local


def _mapped(address: Address) -> bytes:
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed


def _unmapped(packed: bytes) -> Address:
    address = ipaddress.IPv6Address(packed)
    return address.ipv4_mapped or address


def unpack(packed: bytes) -> Endpoint:
    """Read what `pack` wrote."""
    (rest,) = struct.unpack(">Q", packed[16:24])
    local = _unmapped(packed[24:]) if any(packed[24:]) else None
    return Endpoint(_unmapped(packed[:16]), rest & 0xFFFF, rest >> 16 & 0xFFFFFFFF, local)


def read(packed: bytes) -> Endpoint:
    """Read an endpoint that somebody else wrote, which has one spelling. Raises ValueError for anything else."""
    if len(packed) != PACKED or pack(found := unpack(packed)) != packed:
        raise ValueError("not an endpoint")
    if found.local and found.local.version != found.address.version:
        raise ValueError("not an endpoint")
    return found


def store(slots: memoryview, at: int, endpoint: Endpoint) -> None:
    """Write `endpoint` to its slots. The check comes last: a reader that meets it half-written keeps what it had."""
    words = _WORDS.unpack(pack(endpoint))
    for number, word in enumerate(words):
        slots[at + number] = word
    slots[at + len(words)] = _check(*words)


def load(slots: memoryview, at: int) -> Endpoint | None:
    """Read what `store` wrote; None while nothing is there or a write is under way."""
    *words, check = slots[at : at + ENDPOINT_SLOTS]
    if not check or check != _check(*words):
        return None
    return unpack(_WORDS.pack(*words))


def _check(*words: int) -> int:
    mixed = sum(word * factor for word, factor in zip(words, _FACTORS, strict=True))
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


def literal(host: str, port: int) -> tuple[Endpoint, str] | None:
    """Read an address, and the name of its zone, empty without one; None for what is a name, which is looked up.

    The zone of a link-local address is the interface that it is on (RFC 4007, 11), by its name: the index is another
    one when the interface is made anew. Raises UsageError for what is no address of a host.
    """
    try:
        address: Address = ipaddress.ip_address(host)
    except ValueError:
        if set(host) & {":", "%"}:
            raise UsageError(f"--remote {host}: neither an address nor a name") from None
        return None
    zone = (address.scope_id if isinstance(address, ipaddress.IPv6Address) else None) or ""
    address = _unmapped(address.packed) if address.version == 6 else address
    if not _is_of_a_host(address):
        raise UsageError(f"--remote {host}: no host has this address")
    if _is_link_local(address) and not zone:
        raise UsageError(f"--remote {host}: a link-local address needs its interface, as in --remote {host}%eth0")
    if zone and not _is_link_local(address):
        raise UsageError(f"--remote {host}: only a link-local address (fe80::...) has an interface behind it")
    return Endpoint(address, port), zone


def _is_of_a_host(address: Address) -> bool:
    return not (address.is_unspecified or address.is_multicast or address == BROADCAST)


def _is_link_local(address: Address) -> bool:
    return address.version == 6 and address.is_link_local


def resolve(host: str, port: int) -> list[Endpoint]:
    """Look up the peer's addresses, the best first (RFC 6724).

    Raises NoSuchNameError for a name that certainly does not exist, StartError when it does not resolve now.
    """
    try:
        found = _look_up(host, port)
    except UnicodeError as error:
        raise NoSuchNameError(f"cannot resolve the remote {host!r}: not a valid name") from error
    except socket.gaierror as error:
        words = f"cannot resolve the remote {host!r}: {error.strerror}: check the name, or give an address"
        # In the domain local there is nobody to ask but the host itself, which may be off (RFC 6762, 3).
        certain = error.errno in _NO_SUCH_NAME and not host.rstrip(".").lower().endswith(".local")
        raise (NoSuchNameError if certain else StartError)(words) from error
    usable = [
        each for each in found if _is_of_a_host(each.address) and (each.scope or not _is_link_local(each.address))
    ]
    if not usable:
        raise StartError(f"cannot resolve the remote {host!r}: it stands for {found[0].address}, which no host has")
    return usable


def _look_up(host: str, port: int) -> list[Endpoint]:
    """Look up the addresses of the families that this host has; of all when there are none. Raises gaierror."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_ADDRCONFIG)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise
        # A host with loopback alone has no configured address family, but may well join two namespaces.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys(from_sockaddr(each[4]) for each in found))  # type: ignore[arg-type]
