"""The hardware address of the tap: read from --mac, or derived, so that it is the same at each start."""

import re
from pathlib import Path

from tap2tap.errors import UsageError

LENGTH = 6  # bytes, ETH_ALEN
MULTICAST = 0x01  # of the first byte: of a group, and so no device's own

_OURS = b"\xfe"
_MACHINE_ID = Path("/etc/machine-id")


def parse_mac(text: str) -> str:
    """Read the hardware address of a device, and return it with colons. Raises UsageError."""
    digits = text.replace("-", ":").lower().split(":")
    octets = [int(each, 16) for each in digits if re.fullmatch("[0-9a-f]{2}", each)]
    if len(octets) != len(digits) or len(octets) != LENGTH:
        raise UsageError(f"--mac {text}: six pairs of hexadecimal digits, as in --mac 02:00:00:00:00:01")
    if octets[0] & MULTICAST or not any(octets):
        raise UsageError(f"--mac {text}: no device may have this address: let the first pair be 02")
    return ":".join(digits)


def machine_id() -> bytes:
    """What tells this machine from others, machine-id(5), never to be shown as it is; empty where there is none."""
    try:
        return bytes.fromhex(_MACHINE_ID.read_text().strip())[:32]  # as much as a key of BLAKE2s has
    except (OSError, ValueError):  # "uninitialized", in the image of a machine
        return b""


def derive_mac(secret: bytes, *facts: str) -> str:
    """The hardware address, locally administered, of a tap that `facts` tell from others of `secret` (machine_id).

    It begins with fe: a bridge takes the lowest address of its ports for its own, and is to keep that which it has.
    """
    import hashlib  # loads OpenSSL, which not every process needs that imports this file

    digest = hashlib.blake2s("\0".join(facts).encode(), key=secret, digest_size=LENGTH - 1, person=b"tap MAC")
    return (_OURS + digest.digest()).hex(":")
