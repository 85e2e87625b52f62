"""Where the peer was last: a record of fixed length in a file, which outlives the tunnel.

    magic         version    seconds since the epoch    endpoint                   CRC-32 of what is before
    8 bytes       4          8                          40 (tap2tap.endpoint)      4

Integers are big endian. Zeros, or nothing, say that the peer is nowhere. It holds no secret, and whoever could write it
could have us send a few initiations to an address: so it is checked like what comes from a stranger.

What it says may be of the past: our own address is used if we still have it (tap2tap.udp_socket.send), and the scope of
a link-local address is an interface's index, which after a reboot may be another one's. The few calls are in vain then.
"""

import os
import struct
import time
import zlib

from tap2tap import endpoint
from tap2tap.endpoint import Endpoint

LIFE = 7 * 24 * 3600.0  # seconds that it is worth a call

_MAGIC, _VERSION = b"T2TPEER\0", 2
_RECORD = struct.Struct(">8sIQ40s")
_CHECK = struct.Struct(">I")
LENGTH = _RECORD.size + _CHECK.size


def read(fd: int) -> Endpoint | None:
    """The endpoint in an opened file; None where there is none, or one that cannot be right or is too old."""
    try:
        packed = os.pread(fd, LENGTH + 1, 0)
    except OSError:
        return None
    return unpack(packed, time.time())


def write(fd: int, peer: Endpoint | None) -> None:
    """Put `peer`, or nothing, into an opened file, and nothing else. Raises OSError."""
    os.pwrite(fd, bytes(LENGTH) if peer is None else pack(peer, time.time()), 0)
    os.ftruncate(fd, LENGTH)  # whatever was there before


def pack(peer: Endpoint, now: float) -> bytes:
    """The record of `peer`, of `now`, seconds since the epoch."""
    packed = _RECORD.pack(_MAGIC, _VERSION, int(now), endpoint.pack(peer))
    return packed + _CHECK.pack(zlib.crc32(packed))


def unpack(packed: bytes, now: float) -> Endpoint | None:
    """Read what `pack` wrote; None for anything else, what is older than LIFE, and where nobody can be called.

    A clock may have been set back, or have stood still while the machine was off: so far in the future is as good.
    """
    if len(packed) != LENGTH:
        return None
    magic, version, written, where = _RECORD.unpack_from(packed)
    try:
        peer = endpoint.read(where)
    except ValueError:
        return None
    sound = (magic, version) == (_MAGIC, _VERSION) and abs(now - written) <= LIFE and pack(peer, written) == packed
    return peer if sound and _can_be_called(peer) else None


def _can_be_called(peer: Endpoint) -> bool:
    """Whether it is one host's address, and a port."""
    address = peer.address
    nowhere = address.is_multicast or address.is_unspecified
    if address.version == 4:
        nowhere = nowhere or address.packed[0] in (0, *range(240, 256))  # "this network" and class E (RFC 1122)
    return peer.port > 0 and not nowhere and (not peer.scope or address.is_link_local)
