"""The messages of the handshake: build them, take them apart. docs/protocol.md has the layouts and the reasons.

    initiation  100 bytes  type 1, zeros(3), cookie(16) | Noise message 1: e(32), sealed payload(32)  | mac(16)
    response     84 bytes  type 2, the initiator's index(3) | Noise message 2: e(32), sealed payload(32) | mac(16)
    challenge    36 bytes  type 3, the initiation's mac[:3] | cookie(16) | mac(16)

Every message ends in a keyed hash of all before it. Its key comes from what only the two ends know, so a stranger's
message costs one hash; and it differs by direction, so a message that is sent back to its sender fails the same way.
"""

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Final

from tap2tap.keys import CableKeys, public_key
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.mac import MAC_LENGTH, mac, matches
from tap2tap.protocols.secure.noise import HandshakeState, NoiseError, diffie_hellman
from tap2tap.protocols.secure.wire import Cipher

NOISE_NAME: Final = "Noise_KKpsk0_25519_ChaChaPoly_BLAKE2s"
LABEL: Final = b"tap2tap secure 1"  # the protocol and its version; another version shares no transcript with this one
MAC_LABEL: Final = LABEL + b" mac"

COOKIE_LENGTH: Final = 16
NO_COOKIE: Final = bytes(COOKIE_LENGTH)

_FRONT: Final = struct.Struct("<B3s16s")  # type, zeros, cookie
# index, flags or cipher, keepalive, MTU of the tap, features, lanes; the rest is zero, and ignored when read
_PAYLOAD: Final = struct.Struct("<3sBHHBB6x")

FLAG_HARDWARE_AES: Final = 1
FEATURE_CONTROL: Final = 1  # datagrams of types 6 and 7
LANES: Final = 1  # that we offer: there is no more than one yet


@dataclass(frozen=True, slots=True)
class Offer:
    """The payload of an initiation: what the initiator is and wants."""

    index: int  # which the initiator will receive by, 1 .. 2**24 - 1
    hardware_aes: bool
    keepalive: int  # seconds between the keepalives that it sends, 0 .. 65535; 0 is none
    mtu: int = 0  # of its tap; 0: not known
    features: int = 0  # FEATURE_CONTROL; other bits are to be ignored


@dataclass(frozen=True, slots=True)
class Answer:
    """The payload of a response: what the responder settled."""

    index: int  # which the responder will receive by
    cipher: Cipher
    keepalive: int  # as in Offer, of the responder; so are the rest
    mtu: int = 0
    features: int = 0


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The two keys of a session, 32 bytes each, as this end uses them."""

    send: bytes = field(repr=False)
    receive: bytes = field(repr=False)


class Identity:
    """One end of a cable: its keys, and all that can be computed from them once.

    Raises NoiseError for a peer key of low order (read_keys refuses those before).
    """

    __slots__ = ("_peer", "_private", "_psk", "own_mac_key", "peer_mac_key")

    def __init__(self, keys: CableKeys) -> None:
        self._private, self._peer, self._psk = keys.private, keys.peer, keys.psk
        secret = diffie_hellman(keys.private, keys.peer)
        own = public_key(keys.private)
        self.own_mac_key: bytes = hashlib.blake2s(MAC_LABEL + keys.psk + own + keys.peer, key=secret).digest()
        # They may be given to whoever sorts datagrams: no session can be made with them.
        self.peer_mac_key: bytes = hashlib.blake2s(MAC_LABEL + keys.psk + keys.peer + own, key=secret).digest()

    def sign(self, message: bytes, context: bytes = b"") -> bytes:
        """Return the message with its mac; `context` is hashed too but not sent."""
        return message + mac(self.own_mac_key, message, context)

    def is_from_peer(self, datagram: bytes, context: bytes = b"") -> bool:
        """Tell whether the mac at the end is one that only the peer can make."""
        return matches(self.peer_mac_key, datagram, context)

    def noise(self, *, initiator: bool, front: bytes) -> HandshakeState:
        """Begin a Noise handshake; the bytes in front of the first Noise message belong to its prologue."""
        return HandshakeState(
            NOISE_NAME,
            initiator=initiator,
            prologue=LABEL + front,
            private=self._private,
            peer=self._peer,
            psk=self._psk,
        )


class Initiation:
    """An initiation of ours that waits for its response."""

    __slots__ = ("_identity", "_state", "datagram", "offer")

    def __init__(self, identity: Identity, offer: Offer, *, ephemeral: bytes, cookie: bytes = NO_COOKIE) -> None:
        """Build it; `ephemeral` is 32 fresh random bytes, which nothing else may ever use."""
        front = _FRONT.pack(wire.TYPE_INITIATION, b"", cookie)
        self._identity = identity
        self._state = identity.noise(initiator=True, front=front)
        flags = FLAG_HARDWARE_AES if offer.hardware_aes else 0
        payload = _payload(offer, flags)
        self.offer = offer
        self.datagram = identity.sign(front + self._state.write(payload, ephemeral))

    def finish(self, response: bytes) -> tuple[Answer, SessionKeys]:
        """Read the response to this initiation, whose length and mac have been checked.

        Raises NoiseError for anything else; the initiation then waits on, as if nothing had come.
        """
        if response[1:4] != self.offer.index.to_bytes(3, "little"):
            raise NoiseError("a response to another initiation")
        state = self._state.copy()
        raw_index, number, *facts, _lanes = _PAYLOAD.unpack(state.read(response[4:-MAC_LENGTH]))
        index = int.from_bytes(raw_index, "little")
        if number not in list(Cipher) or not index:
            raise NoiseError("a response that makes no sense")
        if number == Cipher.AES_256_GCM and not self.offer.hardware_aes:
            raise NoiseError("a response with a cipher that was not offered")
        return Answer(index, Cipher(number), *facts), SessionKeys(*state.split())

    def cookie_from(self, challenge: bytes) -> bytes | None:
        """Return the cookie of a challenge, if the peer made it for exactly this initiation."""
        own = self.datagram[-MAC_LENGTH:]
        if challenge[1:4] != own[:3] or not self._identity.is_from_peer(challenge, own):
            return None
        return challenge[4 : 4 + COOKIE_LENGTH]


class Received:
    """An initiation of the peer's, which the responder may answer once."""

    __slots__ = ("_identity", "_state", "offer")

    def __init__(self, identity: Identity, initiation: bytes) -> None:
        """Read it, after its length and mac have been checked; raises NoiseError for what the peer did not write."""
        self._identity = identity
        self._state = identity.noise(initiator=False, front=initiation[: _FRONT.size])
        raw_index, flags, *facts, _lanes = _PAYLOAD.unpack(self._state.read(initiation[_FRONT.size : -MAC_LENGTH]))
        index = int.from_bytes(raw_index, "little")
        if not index:
            raise NoiseError("an initiation that makes no sense")
        self.offer = Offer(index, bool(flags & FLAG_HARDWARE_AES), *facts)

    def respond(self, answer: Answer, *, ephemeral: bytes) -> tuple[bytes, SessionKeys]:
        """Build the response; `ephemeral` as for Initiation."""
        front = bytes([wire.TYPE_RESPONSE]) + self.offer.index.to_bytes(3, "little")
        datagram = self._identity.sign(front + self._state.write(_payload(answer, answer.cipher), ephemeral))
        return datagram, SessionKeys(*self._state.split())


def _payload(what: Offer | Answer, flags_or_cipher: int) -> bytes:
    index = what.index.to_bytes(3, "little")
    return _PAYLOAD.pack(index, flags_or_cipher, what.keepalive, what.mtu, what.features, LANES)


def cookie_in(initiation: bytes) -> bytes:
    """Return the cookie field of an initiation, NO_COOKIE if it has none."""
    return initiation[4 : 4 + COOKIE_LENGTH]


def index_in(response: bytes) -> int:
    """Return the index of the initiation that a response claims to answer."""
    return int.from_bytes(response[1:4], "little")


def challenge(identity: Identity, initiation: bytes, cookie: bytes) -> bytes:
    """Build the challenge to an initiation: `try again, with this cookie`."""
    about = initiation[-MAC_LENGTH:]
    return identity.sign(bytes([wire.TYPE_CHALLENGE]) + about[:3] + cookie, about)


def choose_cipher(ours: bool, theirs: bool) -> Cipher:
    """Settle the cipher: AES-256-GCM only where both ends have hardware for it."""
    return Cipher.AES_256_GCM if ours and theirs else Cipher.CHACHA20_POLY1305
