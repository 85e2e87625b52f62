"""Which implementation of an AEAD is used: libcrypto's where it gives a known answer, else that of `cryptography`.

That is decided once in a process and its forks, by the first call. `library` is called before the privileges go: the
user to whom they go may not be allowed to read what is to be loaded.
"""

from functools import cache
from typing import Any, Final

from tap2tap import log
from tap2tap.protocols.secure.wire import HEADER_LENGTH, TAG_LENGTH, Cipher, nonce
from tap2tap.workers import libcrypto
from tap2tap.workers.aead import Aead
from tap2tap.workers.arena import Arena

# What each makes of these, by two independent implementations.
_KEY: Final = bytes(range(32))
_HEADER: Final = b"@ABCDEFG"
_TEXT: Final = bytes(range(0x80, 0x94))
_COUNTER: Final = 0x0102030405060708
_SEALED: Final = {
    Cipher.AES_256_GCM: "84d0e78d59648f198b16776492eab77fea68ce51bec7c60537d940aacc8aede997080bf4",
    Cipher.CHACHA20_POLY1305: "70c82f672fbc6c9fec22a047fff5ef37709760574e9e4f57193da6d8046a4a63af39a1f8",
}


class Portable(Aead):
    """An AEAD of the package `cryptography`, any version: each datagram is copied out of the arena and back.

    Raises ImportError where it is not installed, its UnsupportedAlgorithm where it lacks the cipher.
    """

    def __init__(self, cipher: int, key: bytes) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

        if len(key) != 32:
            raise ValueError("a key has 32 bytes")
        self._invalid = InvalidTag
        self._cipher = Cipher(cipher)
        self._aead: Any = AESGCM(key) if self._cipher is Cipher.AES_256_GCM else ChaCha20Poly1305(key)

    def seal(self, arena: Arena, at: int, length: int, counter: int) -> int:
        """See Aead."""
        header, text = arena.take(at, HEADER_LENGTH), arena.take(at + HEADER_LENGTH, length)
        arena.put(at + HEADER_LENGTH, self._aead.encrypt(nonce(self._cipher, counter), text, header))
        return 0

    def open(self, arena: Arena, at: int, length: int, counter: int) -> bool:
        """See Aead."""
        header, sealed = arena.take(at, HEADER_LENGTH), arena.take(at + HEADER_LENGTH, length + TAG_LENGTH)
        try:
            arena.put(at + HEADER_LENGTH, self._aead.decrypt(nonce(self._cipher, counter), sealed, header))
        except self._invalid:
            arena.zero(at + HEADER_LENGTH, length)
            return False
        return True


def aead(cipher: Cipher, key: bytes) -> Aead:
    """Prepare a key of 32 bytes. Raises what `implementation` does."""
    return implementation(cipher)(cipher, key)


@cache
def implementation(cipher: Cipher) -> type[Aead]:
    """The class that does this cipher: the first that gives the known answer.

    Raises ImportError where there is neither, RuntimeError where neither is right.
    """
    try:
        if answers(Aead, cipher):
            return Aead
        log.warning("libcrypto gives wrong answers, cryptography is used in its place", cipher=cipher.name)
    except (OSError, RuntimeError):
        pass  # there is none, or it lacks the cipher, as where FIPS 140 rules
    if not answers(Portable, cipher):
        raise RuntimeError(f"cryptography gives wrong answers: {cipher.name}")
    return Portable


def library() -> str:
    """What does the work, for people to read: as in "libcrypto 3.0.19"."""
    if all(implementation(cipher) is Aead for cipher in Cipher):
        return f"libcrypto {libcrypto.version()}".rstrip()
    from cryptography import __version__

    portable = f"cryptography {__version__}"
    if all(implementation(cipher) is Portable for cipher in Cipher):
        return portable
    return f"libcrypto {libcrypto.version()}, {portable}"


def answers(kind: type[Aead], cipher: Cipher) -> bool:
    """Whether it seals and opens as it should, and opens nothing that is not authentic. Raises what it raises."""
    sealed = bytes.fromhex(_SEALED[cipher])
    arena, length = Arena(64), len(_TEXT)
    made = kind(cipher, _KEY)
    arena.put(0, _HEADER + _TEXT)
    made.seal(arena, 0, length, _COUNTER)
    right = arena.take(HEADER_LENGTH, len(sealed)) == sealed
    right = right and made.open(arena, 0, length, _COUNTER) and arena.take(HEADER_LENGTH, length) == _TEXT
    arena.put(0, _HEADER + sealed)
    return right and not made.open(arena, 0, length, _COUNTER + 1) and not any(arena.take(HEADER_LENGTH, length))
