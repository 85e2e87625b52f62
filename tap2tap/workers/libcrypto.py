"""Finds the system's libcrypto at run time: there is nothing of OpenSSL to build against, and nothing to depend on."""

import ctypes
import sys
from functools import cache
from types import ModuleType
from typing import Any, Final

# The one that Python's own hashlib has loaded comes first, as it costs no memory; then names, by their versions (a
# search by ctypes.util.find_library would start other programs).
NAMES: Final = ("libcrypto.so.3", "libcrypto.so.4", "libcrypto.so.1.1", "libcrypto.so")
NEEDED: Final = (
    *("EVP_CIPHER_CTX_new", "EVP_CIPHER_CTX_free", "EVP_CIPHER_CTX_ctrl"),
    *("EVP_EncryptInit_ex", "EVP_EncryptUpdate", "EVP_EncryptFinal_ex"),
    *("EVP_DecryptInit_ex", "EVP_DecryptUpdate", "EVP_DecryptFinal_ex"),
)
# EVP_CTRL_AEAD_GET_TAG and EVP_CTRL_AEAD_SET_TAG are in openssl/evp.h.
_CIPHERS: Final = {  # by their numbers in the secure protocol: the name for EVP_CIPHER_fetch (3.0), the function (1.1)
    1: (b"AES-256-GCM", "EVP_aes_256_gcm"),
    2: (b"ChaCha20-Poly1305", "EVP_chacha20_poly1305"),
}


@cache
def library() -> ctypes.CDLL | None:
    """The library, with all functions in NEEDED; None where there is none."""
    for name in (*_loaded(), *NAMES):
        try:
            found = ctypes.CDLL(name)
        except OSError:
            continue
        if all(hasattr(found, function) for function in NEEDED):
            return found
    return None


def _loaded() -> list[str]:
    """The file of Python's module that hashlib works with: what it is linked with is found through it."""
    hashlib: ModuleType | None = sys.modules.get("_hashlib")
    name = getattr(hashlib, "__file__", None)
    return [name] if name else []


def version() -> str:
    """Its version, as in "3.0.19"; empty where there is none or it does not say."""
    try:
        tell = _function("OpenSSL_version", ctypes.c_char_p)
    except OSError:
        return ""
    words: list[str] = tell(0).decode(errors="replace").split()
    return words[1] if len(words) > 1 else ""


def address(name: str) -> int:
    """The address of a function in NEEDED. Raises OSError where there is no library."""
    return ctypes.cast(_function(name, ctypes.c_int), ctypes.c_void_p).value or 0


@cache
def evp_cipher(cipher: int) -> int:
    """The `EVP_CIPHER *` of a cipher, kept for ever. Raises OSError where there is none."""
    name, function = _CIPHERS[cipher]
    found: int | None
    try:
        fetch = _function("EVP_CIPHER_fetch", ctypes.c_void_p)
    except OSError:
        found = _function(function, ctypes.c_void_p)()
    else:
        found = fetch(None, name, None)
    if not found:
        raise OSError(f"libcrypto has no {name.decode()}")
    return found


def _function(name: str, result: type[Any]) -> Any:
    """A function of its own type, which nobody else changes. Raises OSError."""
    found = library()
    if found is None:
        raise OSError("there is no libcrypto")
    try:
        function = found[name]
    except AttributeError:
        raise OSError(f"libcrypto has no {name}") from None
    function.restype = result
    return function
