"""What the kernel tells of network devices (rtnetlink(7)), by hand: pyroute2 is large, and this runs for ever.

Constants and layouts are those of linux/netlink.h, linux/rtnetlink.h and linux/if_link.h; all of it is in the byte
order of the host. A socket sees the network namespace in which it was made.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from tap2tap.endpoint import Address, Endpoint

NETLINK_ROUTE = 0
RTMGRP_LINK = 1
NLMSG_ERROR, NLMSG_DONE, RTM_NEWLINK, RTM_GETLINK = 2, 3, 16, 18
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 10, 18
IFLA_GSO_MAX_SEGS, IFLA_GSO_MAX_SIZE = 40, 41
IFLA_INFO_KIND, IFLA_INFO_DATA = 1, 2
IFLA_TUN_NUM_QUEUES, IFLA_TUN_NUM_DISABLED_QUEUES = 8, 9
IFF_UP = 0x1
RTA_DST, RTA_SRC, RTA_OIF, RTA_METRICS, RTA_MARK, RTA_UID = 1, 2, 4, 8, 16, 25
RTA_IP_PROTO, RTA_SPORT, RTA_DPORT = 27, 28, 29
RTAX_MTU = 2
RTN_BLACKHOLE, RTN_PROHIBIT = 6, 8  # and RTN_UNREACHABLE
NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, two lengths, tos, table, protocol, scope, type, flags
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ERROR = struct.Struct("=i")  # struct nlmsgerr: a negative errno, or 0
_BUFFER = 1 << 16  # bytes: the kernel fills at most 32 KiB
_FEW = 64  # messages: more than there is room for in the smallest buffer


class Link(NamedTuple):
    """A network device; `number` is its index, `master` that of the bridge, bond, ... that it is a port of, or 0."""

    number: int
    name: str
    address: bytes
    mtu: int
    master: int
    kind: str  # "bridge", "veth", ...; "" of hardware
    up: bool = False  # as its administrator wants it
    gso_max_segs: int = 0
    gso_max_size: int = 0
    queues: int = 0  # of a multi-queue tap or tun that programs are attached to


class Route(NamedTuple):
    """A route: the index of the device that it leads out of, and the MTU that is set for it, or was learnt; 0: none."""

    interface: int
    mtu: int


def changes() -> socket.socket:
    """A socket that becomes readable when a link changes; the caller closes it. Raises OSError."""
    sock = _socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the least: what was missed does not matter
        sock.bind((0, RTMGRP_LINK))
    except OSError:
        sock.close()
        raise
    return sock


def forget(sock: socket.socket) -> None:
    """Throw away what `changes` has told so far, which its small buffer bounds."""
    for _ in range(_FEW):
        try:
            sock.recv(1)
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: there were more
            continue


def link(index: int = 0, name: str = "") -> Link | None:
    """The link of that index, or of that name. Raises OSError."""
    attributes = _attribute(IFLA_IFNAME, name.encode() + b"\0") if name else b""
    found = _ask(NLM_F_REQUEST, index, attributes)
    return found[0] if found else None


def ports(master: int) -> list[Link]:
    """The links that have this master. Raises OSError."""
    found = _ask(NLM_F_REQUEST | NLM_F_DUMP, 0, _attribute(IFLA_MASTER, struct.pack("=I", master)))
    return [each for each in found if each.master == master]  # the kernel may have left out none


def set_link(index: int, kind: int, value: bytes) -> None:
    """Set an attribute of a link, IFLA_... Raises OSError."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + _attribute(kind, value)
    with _socket() as sock:
        _send(sock, RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, body)
        _receive(sock)


def route(to: Endpoint, port: int, source: Address | None, mark: int, interface: int, uid: int) -> Route:
    """The route that a datagram takes, by what rules may go by (ip-rule(8)).

    It is one of UDP from `source` and `port`, with a mark (0: none), to leave by an interface (0: any), of a user.
    Raises OSError: ENETUNREACH, EHOSTUNREACH, EACCES or EINVAL where there is none (of type unreachable, prohibit,
    blackhole), ENODEV where there is no such interface.
    """
    family = socket.AF_INET if to.address.version == 4 else socket.AF_INET6
    bits = to.address.max_prefixlen
    body = _ROUTE.pack(family, bits, bits if source else 0, 0, 0, 0, 0, 0, 0) + _attribute(RTA_DST, to.address.packed)
    body += _attribute(RTA_SRC, source.packed) if source else b""
    body += b"".join(
        _attribute(kind, struct.pack("=I", number))
        for kind, number in ((RTA_OIF, interface), (RTA_MARK, mark), (RTA_UID, uid))
        if number or kind == RTA_UID
    )
    body += _attribute(RTA_IP_PROTO, bytes([socket.IPPROTO_UDP]))
    body += _attribute(RTA_SPORT, port.to_bytes(2)) + _attribute(RTA_DPORT, to.port.to_bytes(2))
    with _socket() as sock:
        _send(sock, RTM_GETROUTE, NLM_F_REQUEST, body)
        for kind, content in _receive(sock):
            if kind == RTM_NEWROUTE:
                return read_route(content)
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def read_route(content: bytes) -> Route:
    """Read a message that tells of a route, RTM_NEWROUTE. Raises OSError for a route to nowhere."""
    kind = _ROUTE.unpack_from(content.ljust(_ROUTE.size, b"\0"))[7]
    if RTN_BLACKHOLE <= kind <= RTN_PROHIBIT:
        raise OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
    found = _attributes(content[_ROUTE.size :])
    metrics = _attributes(found.get(RTA_METRICS, b""))
    return Route(_number(found.get(RTA_OIF, b"")), _number(metrics.get(RTAX_MTU, b"")))


def _socket() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_ROUTE)


def _send(sock: socket.socket, kind: int, flags: int, body: bytes) -> None:
    sock.sendto(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body, (0, 0))


def _receive(sock: socket.socket) -> list[tuple[int, bytes]]:
    """Take one answer, which is there. Raises the OSError that it tells of."""
    answer = list(messages(sock.recv(_BUFFER)))
    for kind, content in answer:
        if kind == NLMSG_ERROR and (number := -_ERROR.unpack_from(content.ljust(_ERROR.size, b"\0"))[0]):
            raise OSError(number, os.strerror(number))
    return answer


def _ask(flags: int, index: int, attributes: bytes) -> list[Link]:
    """Ask for links. The kernel answers at once: there is nothing to wait for."""
    found: list[Link] = []
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + attributes
    with _socket() as sock:
        _send(sock, RTM_GETLINK, flags, body)
        while True:
            try:
                answer = list(messages(sock.recv(_BUFFER)))
            except BlockingIOError:
                return found
            found += [read_link(content) for kind, content in answer if kind == RTM_NEWLINK]
            if not flags & NLM_F_DUMP or any(kind in (NLMSG_ERROR, NLMSG_DONE) for kind, _ in answer):
                return found


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each message in a datagram of the kernel."""
    while len(data) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            return
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def read_link(content: bytes) -> Link:
    """Read a message that tells of a link, RTM_NEWLINK; what is missing in it is 0 or empty."""
    _, _, index, flags, _ = _LINK.unpack_from(content.ljust(_LINK.size, b"\0"))
    found = _attributes(content[_LINK.size :])
    info = _attributes(found.get(IFLA_LINKINFO, b""))
    kind = _text(info.get(IFLA_INFO_KIND, b""))
    tun = _attributes(info.get(IFLA_INFO_DATA, b"")) if kind == "tun" else {}
    return Link(
        index,
        _text(found.get(IFLA_IFNAME, b"")),
        found.get(IFLA_ADDRESS, b""),
        _number(found.get(IFLA_MTU, b"")),
        _number(found.get(IFLA_MASTER, b"")),
        kind,
        bool(flags & IFF_UP),
        _number(found.get(IFLA_GSO_MAX_SEGS, b"")),
        _number(found.get(IFLA_GSO_MAX_SIZE, b"")),
        sum(_number(tun.get(each, b"")) for each in (IFLA_TUN_NUM_QUEUES, IFLA_TUN_NUM_DISABLED_QUEUES)),
    )


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        found[kind & NLA_TYPE_MASK] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return found


def _attribute(kind: int, content: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(content)
    return (_ATTRIBUTE.pack(length, kind) + content).ljust(_aligned(length), b"\0")


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _text(content: bytes) -> str:
    return os.fsdecode(content.split(b"\0", 1)[0])


def _number(content: bytes) -> int:
    return int(struct.unpack("=I", content)[0]) if len(content) == 4 else 0
