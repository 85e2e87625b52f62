"""The AEAD of a session, through the system's libcrypto: a datagram is sealed and opened where it lies in the arena.

This is one of two implementations: aead.pyx is the compiled one, and does the same. A key's schedule is made once for
each direction; a datagram sets the nonce only.

    at            at + 8               at + 8 + length
    header        text                 tag
    8 bytes       `length` bytes       16 bytes
"""

import ctypes
from typing import Final

from tap2tap.workers import libcrypto
from tap2tap.workers.arena import Arena

HEADER_LENGTH: Final = 8
TAG_LENGTH: Final = 16
EVP_CTRL_AEAD_GET_TAG: Final = 0x10  # openssl/evp.h
EVP_CTRL_AEAD_SET_TAG: Final = 0x11

_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
_NEW = ctypes.PYFUNCTYPE(_POINTER)  # PYFUNCTYPE: called with the GIL held, which is sooner done
_FREE = ctypes.PYFUNCTYPE(None, _POINTER)
_INIT = ctypes.PYFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, ctypes.c_char_p, ctypes.c_char_p)
_UPDATE = ctypes.PYFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _POINTER, _INT)
_FINAL = ctypes.PYFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER)
_CTRL = ctypes.PYFUNCTYPE(_INT, _POINTER, _INT, _INT, _POINTER)


class Aead:
    """The AEAD `cipher`, a number of the secure protocol, with a key of 32 bytes.

    Raises OSError where libcrypto does not have it. The nonce is 4 zeros and the counter as 64 bits, in the byte order
    of the cipher (Noise, 12.3 and 12.4); whoever seals never uses a counter twice. Associated data is the header.
    """

    def __init__(self, cipher: int, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError("a key has 32 bytes")
        evp_cipher = libcrypto.evp_cipher(cipher)
        self._order: Final = "big" if cipher == 1 else "little"
        self._free = _FREE(libcrypto.address("EVP_CIPHER_CTX_free"))
        self._ctrl = _CTRL(libcrypto.address("EVP_CIPHER_CTX_ctrl"))
        names = ("EVP_EncryptInit_ex", "EVP_DecryptInit_ex")
        self._encrypt_init, self._decrypt_init = (_INIT(libcrypto.address(name)) for name in names)
        self._encrypt_update = _UPDATE(libcrypto.address("EVP_EncryptUpdate"))
        self._decrypt_update = _UPDATE(libcrypto.address("EVP_DecryptUpdate"))
        self._encrypt_final = _FINAL(libcrypto.address("EVP_EncryptFinal_ex"))
        self._decrypt_final = _FINAL(libcrypto.address("EVP_DecryptFinal_ex"))
        self._done = ctypes.create_string_buffer(ctypes.sizeof(_INT))  # how much was written: what we know
        self._done_at = ctypes.addressof(self._done)
        self._arena: Arena | None = None  # the last one,
        self._start = 0  # where its memory begins,
        self._held: object = None  # and what keeps it there
        new = _NEW(libcrypto.address("EVP_CIPHER_CTX_new"))
        self._sealing, self._opening = new(), new()
        if not (
            self._sealing
            and self._opening
            and self._encrypt_init(self._sealing, evp_cipher, None, key, None) == 1
            and self._decrypt_init(self._opening, evp_cipher, None, key, None) == 1
        ):
            raise OSError("libcrypto does not take the key")

    def __del__(self) -> None:
        for context in (getattr(self, "_sealing", None), getattr(self, "_opening", None)):
            if context:
                self._free(context)  # which overwrites the key

    def seal(self, arena: Arena, at: int, length: int, counter: int) -> int:
        """Encrypt the text behind the header, write the tag behind it, return 0. Raises RuntimeError, IndexError."""
        header = self._address(arena, at, length)
        text, end = header + HEADER_LENGTH, header + HEADER_LENGTH + length
        context, update, done = self._sealing, self._encrypt_update, self._done_at
        if not (
            self._encrypt_init(context, None, None, None, self._nonce(counter)) == 1
            and update(context, None, done, header, HEADER_LENGTH) == 1
            and (not length or update(context, text, done, text, length) == 1)
            and self._encrypt_final(context, end, done) == 1
            and self._ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_LENGTH, end) == 1
        ):
            raise RuntimeError("libcrypto cannot seal")
        return 0

    def open(self, arena: Arena, at: int, length: int, counter: int) -> bool:
        """Decrypt the text between header and tag; zero it and return False when it is not authentic.

        Raises RuntimeError, IndexError.
        """
        header = self._address(arena, at, length)
        text, end = header + HEADER_LENGTH, header + HEADER_LENGTH + length
        context, update, done = self._opening, self._decrypt_update, self._done_at
        if not (
            self._decrypt_init(context, None, None, None, self._nonce(counter)) == 1
            and update(context, None, done, header, HEADER_LENGTH) == 1
            and self._ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_LENGTH, end) == 1
            and (not length or update(context, text, done, text, length) == 1)
        ):
            arena.zero(at + HEADER_LENGTH, length)
            raise RuntimeError("libcrypto cannot open")
        if self._decrypt_final(context, end, done) != 1:
            arena.zero(at + HEADER_LENGTH, length)
            return False
        return True

    def _address(self, arena: Arena, at: int, length: int) -> int:
        """The address of the header of a datagram with `length` bytes of text. Raises IndexError."""
        if at < 0 or length < 0 or at + HEADER_LENGTH + length + TAG_LENGTH > arena.size:
            raise IndexError(f"a datagram with {length} bytes at {at} of {arena.size}")
        if arena is not self._arena:
            held = ctypes.c_char.from_buffer(arena.view)
            self._arena, self._held, self._start = arena, held, ctypes.addressof(held)
        return self._start + at

    def _nonce(self, counter: int) -> bytes:
        return bytes(4) + counter.to_bytes(8, "big" if self._order == "big" else "little")
