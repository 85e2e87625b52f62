"""The Noise protocol framework (revision 34), as much of it as a KK handshake needs.

Section 5 of the specification, name by name: CipherState, SymmetricState, HandshakeState. Only ChaChaPoly (RFC 8439)
and 25519 (RFC 7748); BLAKE2s or SHA-256; the patterns KK, KKpsk0 and KKpsk2, so that published test vectors apply.

No I/O and no randomness: ephemeral keys are arguments. Whoever passes one must never pass it twice.
"""

import hashlib
import hmac
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tap2tap.keys import public_key

KEY_LENGTH: Final = 32  # DHLEN of 25519, and of every symmetric key and pre-shared key
TAG_LENGTH: Final = 16
MAX_NONCE: Final = 2**64 - 1  # section 5.1: reserved, never used

# Section 7.5 and, for psk, section 9. Both static keys are known in advance: "-> s, <- s, ...".
PATTERNS: Final = {
    "KK": (("e", "es", "ss"), ("e", "ee", "se")),
    "KKpsk0": (("psk", "e", "es", "ss"), ("e", "ee", "se")),
    "KKpsk2": (("e", "es", "ss"), ("e", "ee", "se", "psk")),
}
HASHES: Final[dict[str, Callable[..., Any]]] = {"BLAKE2s": hashlib.blake2s, "SHA256": hashlib.sha256}


class NoiseError(Exception):
    """A message that is not what the other end would have sent; it never holds a key or a part of one."""


def diffie_hellman(private: bytes, public: bytes) -> bytes:
    """Compute the X25519 shared secret, 32 bytes.

    Raises NoiseError for a public key of low order: its secret is zero whoever asks (RFC 7748, section 6.1).
    """
    try:
        secret = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise NoiseError("a public key of low order") from None
    if not any(secret):  # `cryptography` refuses these itself; this protocol must not depend on that
        raise NoiseError("a public key of low order")
    return secret


class CipherState:
    """A key and the number of messages that it has sealed or opened (section 5.1)."""

    __slots__ = ("_aead", "_nonce")

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._nonce = 0

    def seal(self, associated: bytes, plaintext: bytes) -> bytes:
        """Encrypt and authenticate; the result is 16 bytes longer than the plaintext."""
        sealed = self._aead.encrypt(self._next_nonce(), plaintext, associated)
        self._nonce += 1
        return sealed

    def open(self, associated: bytes, ciphertext: bytes) -> bytes:
        """Return the plaintext; raises NoiseError, and counts nothing, when the tag is wrong."""
        try:
            plaintext = self._aead.decrypt(self._next_nonce(), ciphertext, associated)
        except InvalidTag:
            raise NoiseError("a message that fails authentication") from None
        self._nonce += 1
        return plaintext

    def copy(self) -> "CipherState":
        """Return an independent twin: opening with it does not count here."""
        twin = CipherState.__new__(CipherState)
        twin._aead, twin._nonce = self._aead, self._nonce
        return twin

    def _next_nonce(self) -> bytes:
        if self._nonce >= MAX_NONCE:
            raise NoiseError("a key that has sealed too much")
        return bytes(4) + self._nonce.to_bytes(8, "little")  # section 12.3


class SymmetricState:
    """The chaining key and the hash of all that was said so far (section 5.2)."""

    __slots__ = ("_chaining", "_cipher", "_hash", "digest")

    def __init__(self, name: str) -> None:
        self._hash = HASHES[name.rsplit("_", 1)[1]]
        label = name.encode("ascii")
        self.digest: bytes = label.ljust(32, b"\0") if len(label) <= 32 else self._hash(label).digest()
        self._chaining = self.digest
        self._cipher: CipherState | None = None

    def mix_key(self, material: bytes) -> None:
        """Take a shared secret into the chaining key, and begin a new cipher key."""
        self._chaining, key = self._hkdf(material, 2)
        self._cipher = CipherState(key)

    def mix_hash(self, data: bytes) -> None:
        """Take public data into the transcript."""
        self.digest = self._hash(self.digest + data).digest()

    def mix_key_and_hash(self, material: bytes) -> None:
        """Take a pre-shared key into both (section 9.1)."""
        self._chaining, temporary, key = self._hkdf(material, 3)
        self.mix_hash(temporary)
        self._cipher = CipherState(key)

    def seal_and_hash(self, plaintext: bytes) -> bytes:
        """Encrypt if there is a key yet; the transcript goes on with what goes over the wire."""
        sealed = self._cipher.seal(self.digest, plaintext) if self._cipher else plaintext
        self.mix_hash(sealed)
        return sealed

    def open_and_hash(self, data: bytes) -> bytes:
        """Undo seal_and_hash; raises NoiseError when the transcripts, keys or bytes differ."""
        plaintext = self._cipher.open(self.digest, data) if self._cipher else data
        self.mix_hash(data)
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        """Return the two 32-byte transport keys: initiator to responder, and responder to initiator."""
        first, second = self._hkdf(b"", 2)
        return first, second

    def copy(self) -> "SymmetricState":
        """Return an independent twin."""
        twin = SymmetricState.__new__(SymmetricState)
        twin._hash, twin._chaining, twin.digest = self._hash, self._chaining, self.digest
        twin._cipher = self._cipher.copy() if self._cipher else None
        return twin

    def _hkdf(self, material: bytes, outputs: int) -> list[bytes]:
        """Section 4.3: HKDF (RFC 5869) with the chaining key as salt and no info."""
        secret = hmac.digest(self._chaining, material, self._hash)
        keys: list[bytes] = []
        block = b""
        for number in range(1, outputs + 1):
            block = hmac.digest(secret, block + bytes([number]), self._hash)
            keys.append(block)
        return keys


class HandshakeState:
    """One end of one handshake (section 5.3); two messages, then `split`.

    `name` is the full protocol name, `private` and `peer` this end's private and the other end's public static key,
    `psk` the pre-shared key for patterns that have one; each 32 bytes.
    """

    __slots__ = ("_ephemeral", "_initiator", "_patterns", "_peer", "_peer_ephemeral", "_private", "_psk", "_state")

    def __init__(
        self, name: str, *, initiator: bool, prologue: bytes, private: bytes, peer: bytes, psk: bytes | None = None
    ) -> None:
        pattern = name.split("_")[1]
        if ("psk" in pattern) != (psk is not None):
            raise ValueError("a pre-shared key belongs to a psk pattern, and to no other")
        self._patterns = list(PATTERNS[pattern])
        self._initiator = initiator
        self._private, self._peer, self._psk = private, peer, psk
        self._ephemeral = self._peer_ephemeral = b""
        self._state = SymmetricState(name)
        self._state.mix_hash(prologue)
        own = public_key(private)
        for static in (own, peer) if initiator else (peer, own):
            self._state.mix_hash(static)

    @property
    def digest(self) -> bytes:
        """The transcript hash `h`; after the last message both ends have the same."""
        return self._state.digest

    def write(self, payload: bytes, ephemeral: bytes) -> bytes:
        """Build the next message; `ephemeral` is a fresh random private key of 32 bytes.

        Raises NoiseError when the peer's ephemeral key is of low order.
        """
        message = b""
        for word in self._patterns.pop(0):
            if word == "e":
                self._ephemeral = ephemeral
                message += self._mix_ephemeral(public_key(ephemeral))
            else:
                self._mix(word)
        return message + self._state.seal_and_hash(payload)

    def read(self, message: bytes) -> bytes:
        """Take the next message apart and return its payload.

        Raises NoiseError for anything that the peer did not write; this state is then spoilt (keep a `copy`).
        """
        rest = message
        for word in self._patterns.pop(0):
            if word == "e":
                if len(rest) < KEY_LENGTH:
                    raise NoiseError("a message that is too short")
                self._peer_ephemeral = self._mix_ephemeral(rest[:KEY_LENGTH])
                rest = rest[KEY_LENGTH:]
            else:
                self._mix(word)
        return self._state.open_and_hash(rest)

    def split(self) -> tuple[bytes, bytes]:
        """Return the transport keys (to send with, to receive with), each 32 bytes."""
        if self._patterns:
            raise ValueError("the handshake is not over")
        first, second = self._state.split()
        return (first, second) if self._initiator else (second, first)

    def copy(self) -> "HandshakeState":
        """Return an independent twin, to read a message with that may be a forgery."""
        twin = HandshakeState.__new__(HandshakeState)
        for name in HandshakeState.__slots__:
            setattr(twin, name, getattr(self, name))
        twin._patterns = list(self._patterns)
        twin._state = self._state.copy()
        return twin

    def _mix_ephemeral(self, public: bytes) -> bytes:
        self._state.mix_hash(public)
        if self._psk is not None:  # section 9.2: with a psk, "e" also randomizes the key
            self._state.mix_key(public)
        return public

    def _mix(self, word: str) -> None:
        if word == "psk":
            self._state.mix_key_and_hash(self._psk or b"")
            return
        # The letters name the initiator's key, then the responder's.
        own, theirs = (word[0], word[1]) if self._initiator else (word[1], word[0])
        private = self._ephemeral if own == "e" else self._private
        public = self._peer_ephemeral if theirs == "e" else self._peer
        self._state.mix_key(diffie_hellman(private, public))
