"""What a data datagram says of itself."""

import struct


def take_apart(datagram: bytes) -> tuple[int, int, int]:
    """Return (type, index, counter) of a data datagram (docs/protocol.md, 2.5)."""
    word, counter = struct.unpack_from("<II", datagram)
    return word & 0xFF, word >> 8, counter
