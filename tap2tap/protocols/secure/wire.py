"""The layout of the secure protocol's datagrams (docs/protocol.md, 2): what workers and link share.

A data datagram is 8 bytes of header, the sealed Ethernet frame, 16 bytes of tag:

    byte 0        1..3                     4..7          8..              last 16
    type (4, 5)   the receiver's index     counter       ciphertext       tag

A part of a frame (type 6) and a control datagram (type 7; tap2tap.protocols.secure.control) have the same header and
tag. The sealed text of a part is 4 bytes of its own and then the piece of the frame:

    byte 0                                1            2..3
    number; bit 7: vouched (as type 5)    parts        bytes of the frame

All integers are little endian, so a header is one 64-bit word: type | index << 8 | counter << 32. It is the AEAD's
associated data.
"""

from enum import IntEnum
from typing import Final

TYPE_INITIATION: Final = 1
TYPE_RESPONSE: Final = 2
TYPE_CHALLENGE: Final = 3
TYPE_DATA: Final = 4
TYPE_DATA_VOUCHED: Final = 5  # the sender vouches for the transport checksum of the frame
TYPE_PART: Final = 6
TYPE_CONTROL: Final = 7
HANDSHAKE_TYPES: Final = frozenset({TYPE_INITIATION, TYPE_RESPONSE, TYPE_CHALLENGE})
INITIATION_LENGTH: Final = 100  # bytes
RESPONSE_LENGTH: Final = 84
CHALLENGE_LENGTH: Final = 36

HEADER_LENGTH: Final = 8
TAG_LENGTH: Final = 16
OVERHEAD: Final = HEADER_LENGTH + TAG_LENGTH
PART_HEADER_LENGTH: Final = 4
PART_VOUCHED: Final = 0x80  # in the first byte of a part, beside its number
MAX_PARTS: Final = 64  # of a frame
MAX_INDEX: Final = 2**24 - 1  # 0 is never an index


class Cipher(IntEnum):
    """The AEAD of a session, by its number on the wire."""

    AES_256_GCM = 1  # NIST SP 800-38D
    CHACHA20_POLY1305 = 2  # RFC 8439


def nonce(cipher: Cipher, counter: int) -> bytes:
    """Return the 12-byte nonce of one datagram (Noise, sections 12.3 and 12.4: each cipher has its byte order)."""
    return bytes(4) + counter.to_bytes(8, "big" if cipher is Cipher.AES_256_GCM else "little")


def is_initiation(datagram: bytes | memoryview) -> bool:
    """Tell whether type, reserved bytes and length are those of an initiation."""
    return len(datagram) == INITIATION_LENGTH and datagram[:4] == b"\x01\0\0\0"


def is_response(datagram: bytes | memoryview) -> bool:
    """Tell whether type and length are those of a response."""
    return len(datagram) == RESPONSE_LENGTH and datagram[0] == TYPE_RESPONSE


def is_challenge(datagram: bytes | memoryview) -> bool:
    """Tell whether type and length are those of a challenge."""
    return len(datagram) == CHALLENGE_LENGTH and datagram[0] == TYPE_CHALLENGE


def header(kind: int, index: int, counter: int) -> bytes:
    """Return the 8-byte header of one data datagram."""
    return (kind | index << 8 | counter << 32).to_bytes(HEADER_LENGTH, "little")
