"""Key files: one file is one end of one cable.

    # tap2tap key file: one end of a cable. ...
    private = <base64 of 32 bytes>     this end's X25519 private key
    peer = <base64 of 32 bytes>        the far end's public key
    psk = <base64 of 32 bytes>         a secret that both ends share; optional, absent means 32 zero bytes

Nothing that is raised or represented here contains a value from the file, for it may be the secret one.
"""

import base64
import binascii
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cryptography.hazmat.backends.openssl.backend  # noqa: F401  it is loaded now and not when privileges are gone
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tap2tap.errors import UsageError
from tap2tap.keyfile import open_key_file, read_key_file

KEY_LENGTH: Final = 32  # bytes, of each of the three
NO_PSK: Final = bytes(KEY_LENGTH)  # as WireGuard has it: no pre-shared key is the zero key
PRIME: Final = 2**255 - 19  # a public key is a number below it (RFC 7748, section 5)

_FIELDS: Final = ("private", "peer", "psk")


@dataclass(frozen=True, slots=True)
class CableKeys:
    """What one end knows: its private key, the far end's public key, the pre-shared key; 32 bytes each."""

    private: bytes = field(repr=False)
    peer: bytes
    psk: bytes = field(repr=False, default=NO_PSK)

    @property
    def public(self) -> bytes:
        """The public key of this end, 32 bytes."""
        return public_key(self.private)


def public_key(private: bytes) -> bytes:
    """Compute the X25519 public key of a private key, both 32 bytes (RFC 7748)."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def encode(key: bytes) -> str:
    """Return a key as the 44 characters that stand in key files and that `wg` prints."""
    return base64.b64encode(key).decode("ascii")


def decode(text: str, where: str) -> bytes:
    """Return the 32 bytes of a key in base64; `where` names its place in the message of the UsageError."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_LENGTH or encode(key) != text:  # one key has one spelling
        raise UsageError(f"{where}: not a key; a key is 32 bytes in base64, 44 characters that end in '='")
    return key


def decode_private(text: str, where: str) -> bytes:
    """Return a private key in base64 as `decode` does; raises UsageError for 32 zeros too, which nobody drew by lot."""
    key = decode(text, where)
    if not any(key):
        raise UsageError(f"{where}: 32 zeros are no key; 'tap2tap genkey' makes one")
    return key


def read_keys(path: str | os.PathLike[str]) -> CableKeys:
    """Read a key file, all of it or not at all.

    Raises UsageError, with a line that says what to do, for a file that is absent, that others can read, or whose
    contents cannot be one end of a cable; NoPermissionError for one that may not be opened.
    """
    return parse_keys(_read_private_file(path), os.fspath(path))


def read_private_key(path: str | os.PathLike[str]) -> bytes:
    """Read only the private key of a key file whose `peer` need not be filled in yet; raises UsageError."""
    return private_key_of(_read_private_file(path), os.fspath(path))


def private_key_of(text: str, name: str) -> bytes:
    """Find the private key in the text of a key file; raises UsageError."""
    fields = _parse_fields(text, name)
    if "private" not in fields:
        raise UsageError(f"{name}: no 'private = ' line; is it a key file of 'tap2tap genkey'?")
    return decode_private(fields["private"], f"{name}: private")


def parse_keys(text: str, name: str) -> CableKeys:
    """Make sense of the text of a key file; `name` is the file's, for the message of the UsageError."""
    private = private_key_of(text, name)
    fields = _parse_fields(text, name)
    if "peer" not in fields:
        raise UsageError(
            f"{name}: no 'peer = ' line; add what 'tap2tap pubkey' prints for the key file at the other end"
        )
    peer = decode(fields["peer"], f"{name}: peer")
    psk = decode(fields["psk"], f"{name}: psk") if "psk" in fields else NO_PSK
    # RFC 7748 lets an end read 2**255 and more, and PRIME and more, as another key. One key has one spelling here: its
    # owner spells it in this one, and both ends put it into the transcript.
    if int.from_bytes(peer, "little") >= PRIME:
        raise UsageError(f"{name}: peer is no key that 'tap2tap pubkey' prints; copy it again from the other end")
    if peer == public_key(private):
        raise UsageError(
            f"{name}: peer is this end's own public key; the two ends of a cable need two key files, "
            "each with the public key of the other"
        )
    try:
        X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError:  # a point of low order: every secret made with it would be zero
        raise UsageError(f"{name}: peer is not a usable public key; copy it again from the other end") from None
    return CableKeys(private, peer, psk)


def write_private_file(path: str | os.PathLike[str], text: str) -> None:
    """Create a file that only its owner can read, and see it on the disk before returning.

    Never overwrites: raises UsageError when the path exists or cannot be created.
    """
    name = os.fspath(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise UsageError(f"{name}: exists already, and keys are never overwritten; move it away first") from None
    except OSError as error:
        raise UsageError(f"{name}: cannot be created: {error.strerror}") from None
    try:
        with open(descriptor, "w", encoding="ascii") as file:  # closes the descriptor
            os.fchmod(descriptor, 0o600)  # whatever the umask took away
            file.write(text)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        Path(path).unlink(missing_ok=True)  # half a key file is worse than none
        raise UsageError(f"{name}: cannot be written: {error.strerror}") from None


def _read_private_file(path: str | os.PathLike[str]) -> str:
    descriptor = open_key_file(path)
    try:
        return read_key_file(descriptor, os.fspath(path))
    finally:
        os.close(descriptor)


def _parse_fields(text: str, name: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or key not in _FIELDS:
            # A line that is no field may be a bare private key: only what looks like a word may be shown.
            shown = f"unknown field {key!r}" if equals and re.fullmatch("[a-z_]{1,16}", key) else "not a field"
            raise UsageError(f"{name}: line {number}: {shown}; a key file has private, peer and psk")
        if key in fields:
            raise UsageError(f"{name}: line {number}: {key} stands there twice")
        fields[key] = value
    return fields
