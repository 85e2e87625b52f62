"""The AEAD of a session as the link uses it: for proofs and confirmations alone, one datagram now and then.

Workers seal and open with code of their own, so that they need not load `cryptography`.
"""

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from tap2tap.protocols.secure.wire import TYPE_DATA, Cipher, header, nonce


def aead(cipher: Cipher, key: bytes) -> AESGCM | ChaCha20Poly1305:
    """Prepare a session key of 32 bytes."""
    return AESGCM(key) if cipher is Cipher.AES_256_GCM else ChaCha20Poly1305(key)


def keepalive(cipher: Cipher, key: bytes, index: int, counter: int) -> bytes:
    """Build a whole keepalive, 24 bytes: a data datagram with nothing in it.

    Whoever calls this owns `counter`: no other datagram of the same key may have it.
    """
    front = header(TYPE_DATA, index, counter)
    return front + aead(cipher, key).encrypt(nonce(cipher, counter), b"", front)
