"""What the supervisor and the link process say to each other, over a channel that belongs to one life of the latter.

A message is one packet (SOCK_SEQPACKET): a letter and what belongs to it; descriptors travel beside it (SCM_RIGHTS).
The link process takes apart what strangers write, so the supervisor believes nothing of it but these few forms.
"""

import os
import socket
import struct
from typing import NamedTuple, TypeAlias

from tap2tap import endpoint
from tap2tap.counters import Role
from tap2tap.endpoint import PACKED, Endpoint

MOST = 8192  # bytes of a message
FDS = 3  # descriptors beside a message to the link process, at most; none are taken from it
IDENTITY = 16  # bytes
_CABLE = struct.Struct("=HHB")  # keepalive, mtu, client; and then the candidates


class Cable(NamedTuple):
    """To the link process: begin, with these descriptors (the receiver's to close) and options."""

    tap: int
    sock: int
    record: int | None  # where to keep where the peer is (tap2tap.peer_record)
    keepalive: int  # seconds, 0 is off
    mtu: int  # of the tap
    client: bool  # it calls, though perhaps it is not known where yet
    candidates: tuple[Endpoint, ...]  # the best first


class Channel(NamedTuple):
    """To the link process: its end (its own to close) of the channel to a new life of a worker."""

    role: Role
    fd: int


class Socket(NamedTuple):
    """To the link process: the UDP socket is another one now (the receiver's to close), bound elsewhere."""

    fd: int


class Candidates(NamedTuple):
    """To the link process: the configured remotes have these addresses now, the best first."""

    endpoints: tuple[Endpoint, ...]


class Call(NamedTuple):
    """To the link process: call the peer now, whatever is known of it, and let the carrier be what it is to be.

    The network may be another one.
    """


class Goodbye(NamedTuple):
    """To the link process: the workers are gone; tell the peer that this is the end, and end."""


class Ready(NamedTuple):
    """To the supervisor: the key file is sound. `identity` stands for its public key: IDENTITY bytes, not secret."""

    identity: bytes


class BadKeyFile(NamedTuple):
    """To the supervisor: the user's mistake in the key file, in one line."""

    words: str


class PeerUp(NamedTuple):
    """To the supervisor: the peer is there."""

    endpoint: Endpoint


class PeerDown(NamedTuple):
    """To the supervisor: the peer is gone; where it was last."""

    endpoint: Endpoint


class PeerMoved(NamedTuple):
    """To the supervisor: the peer is somewhere else."""

    endpoint: Endpoint


class PathMtu(NamedTuple):
    """To the supervisor: another path MTU to the peer, which is here, stands in Slot.PATH."""

    endpoint: Endpoint


PeerEvent: TypeAlias = PeerUp | PeerDown | PeerMoved | PathMtu
ToLink: TypeAlias = Cable | Channel | Socket | Candidates | Call | Goodbye
ToSupervisor: TypeAlias = Ready | BadKeyFile | PeerEvent

_LETTERS: dict[bytes, type[PeerEvent]] = {
    b"U": PeerUp,
    b"D": PeerDown,
    b"M": PeerMoved,
    b"P": PathMtu,
}
_ROLES = {b"O": Role.OUTBOUND, b"I": Role.INBOUND}


def make() -> tuple[socket.socket, socket.socket]:
    """Make a channel, neither end of which ever blocks. Raises OSError."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)  # recv_fds and send_fds of Python heed no flag
    return ends


def send(sock: socket.socket, message: ToLink | ToSupervisor) -> None:
    """Send a message. Raises OSError when there is no room, or nobody to read it."""
    fds: list[int] = []
    match message:
        case Cable(tap, udp, record, keepalive, mtu, client, candidates):
            fds = [tap, udp, *([] if record is None else [record])]
            packed = b"C" + _CABLE.pack(keepalive, mtu, client) + b"".join(map(endpoint.pack, candidates))
        case Channel(role, fd):
            fds = [fd]
            packed = next(letter for letter, each in _ROLES.items() if each is role)
        case Socket(fd):
            fds, packed = [fd], b"S"
        case Candidates(endpoints):
            packed = b"A" + b"".join(map(endpoint.pack, endpoints))
        case Call():
            packed = b"N"
        case Goodbye():
            packed = b"G"
        case Ready(identity):
            packed = b"R" + identity
        case BadKeyFile(words):
            shown = "".join(
                letter if letter.isprintable() else "?" for letter in words
            )  # a path may have anything in it
            packed = b"K" + shown.encode(errors="replace")[: MOST - 1]
        case _:
            kind = next(letter for letter, each in _LETTERS.items() if isinstance(message, each))
            packed = kind + endpoint.pack(message.endpoint)
    socket.send_fds(sock, [packed], fds)


def receive(sock: socket.socket, fds: int = 0) -> ToLink | ToSupervisor | None:
    """Take one message, and so many descriptors at the most; None when the other end is closed.

    Raises BlockingIOError when there is none, ValueError for what is no message, whose descriptors are closed.
    """
    try:
        packed, taken, _, _ = socket.recv_fds(sock, MOST, fds)
    except ConnectionError:  # closed with something unread in it
        return None
    if not packed and not taken:
        return None
    try:
        return _parse(packed, taken)
    except (ValueError, struct.error):
        for fd in taken:
            os.close(fd)
        raise ValueError("not a message") from None


def _parse(packed: bytes, fds: list[int]) -> ToLink | ToSupervisor:
    letter, rest = packed[:1], packed[1:]
    if letter == b"C" and len(fds) in (2, 3):
        keepalive, mtu, client = _CABLE.unpack(rest[: _CABLE.size])
        record = fds[2] if len(fds) == 3 else None
        return Cable(fds[0], fds[1], record, keepalive, mtu, bool(client), _endpoints(rest[_CABLE.size :]))
    if letter in _ROLES and not rest and len(fds) == 1:
        return Channel(_ROLES[letter], *fds)
    if letter == b"S" and not rest and len(fds) == 1:
        return Socket(*fds)
    if fds:
        raise ValueError
    if letter in _LETTERS:
        return _LETTERS[letter](endpoint.read(rest))
    if letter == b"A":
        return Candidates(_endpoints(rest))
    if letter == b"N" and not rest:
        return Call()
    if letter == b"G" and not rest:
        return Goodbye()
    if letter == b"R" and len(rest) == IDENTITY:
        return Ready(rest)
    if letter == b"K" and (words := rest.decode(errors="replace")).isprintable():
        return BadKeyFile(words)
    raise ValueError


def _endpoints(packed: bytes) -> tuple[Endpoint, ...]:
    return tuple(endpoint.read(packed[at : at + PACKED]) for at in range(0, len(packed), PACKED))
