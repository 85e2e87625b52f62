"""The mac at the end of every handshake datagram, and nothing heavier: an inbound worker checks it with one hash.

The worker gets `Identity.peer_mac_key` alone. With it nothing can be made but datagrams that pass this one check, and
no session follows from those.
"""

import hashlib
import hmac
from typing import Final

MAC_LENGTH: Final = 16


def mac(key: bytes, message: bytes | memoryview, context: bytes | memoryview = b"") -> bytes:
    """Hash a message (keyed BLAKE2s, RFC 7693; 16 bytes); `context` is hashed behind it but not sent."""
    digest = hashlib.blake2s(message, key=key, digest_size=MAC_LENGTH)
    digest.update(context)
    return digest.digest()


def matches(key: bytes, datagram: bytes | memoryview, context: bytes | memoryview = b"") -> bool:
    """Tell whether the datagram, of any length, ends in its mac by this key of 32 bytes.

    The context of a challenge is the mac of the initiation that it is about; others have none.
    """
    return hmac.compare_digest(mac(key, datagram[:-MAC_LENGTH], context), datagram[-MAC_LENGTH:])
