"""The AEAD of a session as the link uses it: for proofs, confirmations and goodbyes alone, a datagram now and then.

Workers seal and open with code of their own, so that they need not load `cryptography`.
"""

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from tap2tap.protocols.secure.wire import TYPE_CONTROL, TYPE_DATA, Cipher, header, nonce


def aead(cipher: Cipher, key: bytes) -> AESGCM | ChaCha20Poly1305:
    """Prepare a session key of 32 bytes."""
    return AESGCM(key) if cipher is Cipher.AES_256_GCM else ChaCha20Poly1305(key)


def keepalive(cipher: Cipher, key: bytes, index: int, counter: int) -> bytes:
    """Build a whole keepalive, 24 bytes: a data datagram with nothing in it.

    Whoever calls this owns `counter`: no other datagram of the same key may have it.
    """
    return _seal(TYPE_DATA, cipher, key, index, counter, b"")


def control(cipher: Cipher, key: bytes, index: int, counter: int, text: bytes) -> bytes:
    """Build a whole control datagram. As with `keepalive`, the counter is the caller's."""
    return _seal(TYPE_CONTROL, cipher, key, index, counter, text)


def _seal(kind: int, cipher: Cipher, key: bytes, index: int, counter: int, text: bytes) -> bytes:
    front = header(kind, index, counter)
    return front + aead(cipher, key).encrypt(nonce(cipher, counter), text, front)
