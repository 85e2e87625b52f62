"""The layout of the secure protocol's datagrams and the AEAD of its sessions: what workers and handshakes share.

A data datagram is 8 bytes of header, the sealed Ethernet frame, 16 bytes of tag:

    byte 0        1..3                     4..7          8..              last 16
    type (4, 5)   the receiver's index     counter       ciphertext       tag

All integers are little endian, so a header is one 64-bit word: type | index << 8 | counter << 32. The headers and
nonces of a whole train are written and read at once. The header is the AEAD's associated data.
"""

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from tap2tap.protocols.secure.limits import CONTROL_COUNTERS as CONTROL_COUNTERS
from tap2tap.protocols.secure.limits import REJECT_AFTER_MESSAGES as REJECT_AFTER_MESSAGES
from tap2tap.protocols.secure.limits import SAME_AGE as SAME_AGE

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

TYPE_INITIATION: Final = 1
TYPE_RESPONSE: Final = 2
TYPE_CHALLENGE: Final = 3
TYPE_DATA: Final = 4
TYPE_DATA_VOUCHED: Final = 5  # the sender vouches for the transport checksum of the frame
HANDSHAKE_TYPES: Final = frozenset({TYPE_INITIATION, TYPE_RESPONSE, TYPE_CHALLENGE})
INITIATION_LENGTH: Final = 100  # bytes
RESPONSE_LENGTH: Final = 84
CHALLENGE_LENGTH: Final = 36

HEADER_LENGTH: Final = 8
TAG_LENGTH: Final = 16
OVERHEAD: Final = HEADER_LENGTH + TAG_LENGTH
NONCE_LENGTH: Final = 12
MAX_INDEX: Final = 2**24 - 1  # 0 is never an index

COUNTER_ONE: Final = 1 << 32  # what the next header word has more
_STEPS: Final[Words] = np.arange(1024, dtype=np.uint64) * np.uint64(COUNTER_ONE)


class Cipher(IntEnum):
    """The AEAD of a session, by its number on the wire."""

    AES_256_GCM = 1  # NIST SP 800-38D
    CHACHA20_POLY1305 = 2  # RFC 8439


Aead = AESGCM | ChaCha20Poly1305


def aead(cipher: Cipher, key: bytes) -> Aead:
    """Prepare a session key of 32 bytes; the result has `encrypt_into` and `decrypt_into`."""
    return AESGCM(key) if cipher is Cipher.AES_256_GCM else ChaCha20Poly1305(key)


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


def keepalive(cipher: Cipher, key: bytes, index: int, counter: int) -> bytes:
    """Build a whole keepalive, 24 bytes: a data datagram with nothing in it.

    Whoever calls this owns `counter`: no other datagram of the same key may have it.
    """
    front = header(TYPE_DATA, index, counter)
    return front + aead(cipher, key).encrypt(nonce(cipher, counter), b"", front)


class Nonces:
    """The nonces of a train, in memory that is allocated once.

    `views[i]` is a 12-byte read-only view of the i-th nonce, to hand to the AEAD; `fill` changes what they show.
    """

    __slots__ = ("_counters", "_first", "views")

    def __init__(self, cipher: Cipher, capacity: int = 64) -> None:
        table = bytearray(capacity * NONCE_LENGTH)
        dtype = ">u8" if cipher is Cipher.AES_256_GCM else "<u8"
        # A 64-bit number 4 bytes into each row of 12: an unaligned, strided view that NumPy reads and writes well.
        self._counters = np.ndarray((capacity,), dtype, table, 4, (NONCE_LENGTH,))
        self._first = np.arange(capacity, dtype=np.int64)
        whole = memoryview(table).toreadonly()
        self.views = [whole[at : at + NONCE_LENGTH] for at in range(0, capacity * NONCE_LENGTH, NONCE_LENGTH)]

    def fill(self, first: int, count: int) -> None:
        """Set the first `count` nonces to the counters first, first + 1, ..."""
        np.add(self._first[:count], first, out=self._counters[:count], casting="unsafe")


def write_headers(array: Bytes, size: int, count: int, kind: int, index: int, first: int) -> None:
    """Write the headers of `count` <= 1024 datagrams, one every `size` bytes, with counters first, first + 1, ..."""
    words = _STEPS[:count] + np.uint64(kind | index << 8 | first << 32)
    np.ndarray((count,), "<u8", array, 0, (size,))[:] = words


def headers(array: Bytes, at: int, size: int, count: int) -> Bytes:
    """Return a view of the headers of datagrams, one every `size` bytes from `at` on: (count, 8) uint8."""
    return np.ndarray((count, HEADER_LENGTH), np.uint8, array, at, (size, 1))


def is_run(headers: bytes) -> bool:
    """Tell whether packed headers have one type and index and counters that count up by one: the common case."""
    count = len(headers) // HEADER_LENGTH
    if count > len(_STEPS):
        return False
    word = np.uint64(int.from_bytes(headers[:HEADER_LENGTH], "little"))
    return headers == (_STEPS[:count] + word).astype("<u8", copy=False).tobytes()


def words(headers: bytes) -> list[int]:
    """Return packed headers as 64-bit words."""
    numbers: list[int] = np.frombuffer(headers, "<u8").tolist()
    return numbers


def word(header: bytes | memoryview) -> int:
    """Return a header, the first 8 bytes of these, as a 64-bit word."""
    return int.from_bytes(header[:HEADER_LENGTH], "little")


def take_apart(word: int) -> tuple[int, int, int]:
    """Return (type, index, counter) of one header word."""
    return word & 0xFF, word >> 8 & MAX_INDEX, word >> 32
