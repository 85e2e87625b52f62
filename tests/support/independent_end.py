"""Another end of a cable, written along docs/protocol.md alone: it imports nothing of the product.

Its Noise is that of the Noise specification (revision 34), of its curve and ciphers only what `cryptography` gives.
It knows no time: whoever uses it says when to call, to prove again, to forget.
"""

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

LABEL = b"tap2tap secure 1"
NAME = b"Noise_KKpsk0_25519_ChaChaPoly_BLAKE2s"
AES, CHACHA = 1, 2
CONTROL = 1  # a feature


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def x25519(private: bytes, other: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(other))


class Noise:
    """A handshake of KKpsk0: the names are those of the specification."""

    def __init__(self, prologue: bytes, initiator: bytes, responder: bytes, psk: bytes) -> None:
        self.h = self.ck = hashlib.blake2s(NAME).digest()
        for data in (prologue, initiator, responder):
            self.mix_hash(data)
        self.ck, data, self.k = self.hkdf(psk, 3)
        self.mix_hash(data)
        self.n = 0

    def mix_hash(self, data: bytes) -> None:
        self.h = hashlib.blake2s(self.h + data).digest()

    def hkdf(self, material: bytes, count: int) -> list[bytes]:
        secret, outputs = hmac.digest(self.ck, material, "blake2s"), [b""]
        for number in range(1, count + 1):
            outputs.append(hmac.digest(secret, outputs[-1] + bytes([number]), "blake2s"))
        return outputs[1:]

    def mix_key(self, material: bytes) -> None:
        (self.ck, self.k), self.n = self.hkdf(material, 2), 0

    def e(self, key: bytes) -> bytes:
        self.mix_hash(key)
        self.mix_key(key)
        return key

    def payload(self, data: bytes, *, seal: bool) -> bytes:
        nonce = bytes(4) + self.n.to_bytes(8, "little")
        aead = ChaCha20Poly1305(self.k)
        result = aead.encrypt(nonce, data, self.h) if seal else aead.decrypt(nonce, data, self.h)
        self.mix_hash(result if seal else data)
        self.n += 1
        return result


@dataclass(eq=False)
class Session:
    """A session. `sent` is the next counter of frames, `control` that of proofs and confirmations."""

    initiator: bool
    index: int  # the other's
    cipher: int
    send: bytes
    receive: bytes
    features: int = 0
    peer_mtu: int = 0
    control: int = 0
    sent: int = 16
    seen: set[int] = field(default_factory=set)
    parts: dict[int, dict[int, bytes]] = field(default_factory=dict)  # by the counter of the first, by number

    def aead(self, key: bytes) -> Any:
        return AESGCM(key) if self.cipher == AES else ChaCha20Poly1305(key)

    def nonce(self, counter: int) -> bytes:
        return bytes(4) + counter.to_bytes(8, "big" if self.cipher == AES else "little")

    def seal(self, kind: int, counter: int, frame: bytes) -> bytes:
        header = bytes([kind]) + self.index.to_bytes(3, "little") + counter.to_bytes(4, "little")
        return header + bytes(self.aead(self.send).encrypt(self.nonce(counter), frame, header))


class End:
    """One end. `send(datagram, where)` sends; what comes in goes to `receive`. `frames` came, each with its type.

    `version` 1 has zeros where version 2 says what its tap's MTU is, which features it has, and how many lanes.
    """

    def __init__(
        self,
        private: bytes,
        peer: bytes,
        psk: bytes,
        *,
        aes: bool,
        send: Callable[[bytes, Any], None],
        version: int = 2,
    ) -> None:
        self.s, self.S, self.peer_S, self.psk, self.has_aes, self.send = private, public(private), peer, psk, aes, send
        self.own_mac, self.peer_mac = (
            hashlib.blake2s(LABEL + b" mac" + psk + one + other, key=x25519(private, peer)).digest()
            for one, other in ((self.S, peer), (peer, self.S))
        )
        self.waiting: dict[int, tuple[Noise, bytes, bytes, Any]] = {}  # by index: Noise, e, the mac, where it went
        self.sessions: dict[int, Session] = {}
        self.current: Session | None = None
        self.peer: Any = None
        self.frames: list[tuple[int, bytes]] = []
        self.told: list[bytes] = []  # control texts that came and are no question
        self.facts = (1400).to_bytes(2, "little") + bytes([CONTROL, 1]) + bytes(6) if version == 2 else bytes(10)
        self.cookie = bytes(16)  # to put into initiations
        self.demands: bytes | None = None  # the cookie without which no initiation is answered

    def mac(self, key: bytes, text: bytes) -> bytes:
        return hashlib.blake2s(text, key=key, digest_size=16).digest()

    def initiation(self, where: Any) -> bytes:
        front, index, e = b"\1\0\0\0" + self.cookie, int.from_bytes(os.urandom(2) + b"\1", "little"), os.urandom(32)
        noise = Noise(LABEL + front, self.S, self.peer_S, self.psk)
        message = noise.e(public(e))
        noise.mix_key(x25519(e, self.peer_S))
        noise.mix_key(x25519(self.s, self.peer_S))
        message += noise.payload(index.to_bytes(3, "little") + bytes([self.has_aes, 0, 0]) + self.facts, seal=True)
        mac = self.mac(self.own_mac, front + message)
        self.waiting[index] = noise, e, mac, where
        return front + message + mac

    def initiate(self, where: Any) -> None:
        self.send(self.initiation(where), where)

    def receive(self, datagram: bytes, source: Any) -> None:
        kind, text, mac = datagram[0], datagram[:-16], datagram[-16:]
        if kind >= 4:
            self.data(datagram, source)
        elif kind == 3 and len(datagram) == 36:
            for index, (_, _, about, where) in list(self.waiting.items()):
                if mac == self.mac(self.peer_mac, text + about):
                    del self.waiting[index]
                    self.cookie = datagram[4:20]
                    self.initiate(where)
        elif mac == self.mac(self.peer_mac, text):
            if kind == 1 and len(datagram) == 100:
                self.respond(datagram, source)
            elif kind == 2 and len(datagram) == 84:
                self.finish(datagram)

    def respond(self, initiation: bytes, source: Any) -> None:
        if self.demands not in (None, initiation[4:20]):
            text = b"\3" + initiation[-16:-13] + (self.demands or b"")
            self.send(text + self.mac(self.own_mac, text + initiation[-16:]), source)
            return
        noise = Noise(LABEL + initiation[:20], self.peer_S, self.S, self.psk)
        theirs, e = noise.e(initiation[20:52]), os.urandom(32)
        noise.mix_key(x25519(self.s, theirs))
        noise.mix_key(x25519(self.s, self.peer_S))
        offer = noise.payload(initiation[52:84], seal=False)
        cipher, index = AES if offer[3] & 1 and self.has_aes else CHACHA, os.urandom(2) + b"\1"
        text = b"\2" + offer[:3] + noise.e(public(e))
        noise.mix_key(x25519(e, theirs))
        noise.mix_key(x25519(e, self.peer_S))
        text += noise.payload(index + bytes([cipher, 0, 0]) + self.facts, seal=True)
        to_responder, to_initiator = noise.hkdf(b"", 2)
        self.sessions[int.from_bytes(index, "little")] = Session(
            False, int.from_bytes(offer[:3], "little"), cipher, to_initiator, to_responder, *self.agreed(offer)
        )
        self.send(text + self.mac(self.own_mac, text), source)

    def finish(self, response: bytes) -> None:
        index = int.from_bytes(response[1:4], "little")
        if index in self.waiting:
            noise, e, _, where = self.waiting[index]
            ephemeral = noise.e(response[4:36])
            noise.mix_key(x25519(e, ephemeral))
            noise.mix_key(x25519(self.s, ephemeral))
            answer = noise.payload(response[36:68], seal=False)
            to_responder, to_initiator = noise.hkdf(b"", 2)
            theirs = int.from_bytes(answer[:3], "little")
            session = Session(True, theirs, answer[3], to_responder, to_initiator, *self.agreed(answer))
            self.waiting.clear()
            self.sessions[index] = session
            self.control(session, where)

    def agreed(self, payload: bytes) -> tuple[int, int]:
        """The features of both ends, and the MTU of the other's tap."""
        return payload[8] & self.facts[2], int.from_bytes(payload[6:8], "little")

    def control(self, session: Session, where: Any) -> None:
        """Send a proof, or a confirmation."""
        if session.control < 16:
            session.control += 1
            self.send(session.seal(4, session.control - 1, b""), where)

    def data(self, datagram: bytes, source: Any) -> None:
        index, counter = int.from_bytes(datagram[1:4], "little"), int.from_bytes(datagram[4:8], "little")
        session = self.sessions.get(index)
        if session is None or counter >= 2**31 or counter in session.seen:
            return
        newest = max(session.seen, default=-1)
        if counter <= newest - 8192:
            return
        try:
            text = session.aead(session.receive).decrypt(session.nonce(counter), datagram[8:], datagram[:8])
        except InvalidTag:
            return
        order = list(self.sessions.values())
        if not session.seen and (self.current is None or order.index(session) > order.index(self.current)):
            self.current = session
        if counter > newest and session is self.current:
            self.peer = source
        session.seen.add(counter)
        if counter < 16 and not session.initiator:
            self.control(session, source)
        if datagram[0] == 7:
            assert session.features & CONTROL
            self.listen(index, text, len(datagram), counter)
        elif datagram[0] == 6:
            assert session.features & CONTROL
            self.put_together(session, counter, text)
        elif text:
            self.frames.append((datagram[0], text))

    def put_together(self, session: Session, counter: int, part: bytes) -> None:
        number, count, length = part[0] & 127, part[1], int.from_bytes(part[2:4], "little")
        parts = session.parts.setdefault(counter - number, {})
        parts[number] = part[4:]
        if len(parts) == count:
            size = (length - len(parts[count - 1])) // (count - 1)
            assert all(len(parts[each]) == size for each in range(count - 1))
            assert size * (count - 1) < length <= size * count
            self.frames.append((5 if part[0] & 128 else 4, b"".join(parts[each] for each in range(count))))

    def listen(self, index: int, text: bytes, size: int, counter: int) -> None:
        """Take a control text: answer a probe and a path check, obey a goodbye, keep the rest."""
        if text[0] == 1 and size >= 32:
            self.tell(b"\2\0" + size.to_bytes(2, "little") + counter.to_bytes(4, "little"))
        elif text[0] == 5:
            self.tell(b"\6\0\0\0" + text[4:12])
        else:
            self.told.append(text)
        if text[0] == 4:
            order = list(self.sessions)
            for each in order[: order.index(index) + 1]:
                if self.sessions.pop(each) is self.current:
                    self.current = None

    def tell(self, text: bytes) -> None:
        """Send a control datagram."""
        assert self.current is not None
        assert self.current.features & CONTROL
        self.send_frame(text, 7)

    def send_frame(self, frame: bytes, kind: int = 4) -> None:
        """Send a frame, or a keepalive if it is empty, on a session that is proved."""
        assert self.current is not None
        self.current.sent += 1
        self.send(self.current.seal(kind, self.current.sent - 1, frame), self.peer)

    def send_parts(self, frame: bytes, payload: int, kind: int = 4, order: int = 1) -> None:
        """Send a frame in datagrams of no more than `payload` bytes; `order` -1: the last part first."""
        assert self.current is not None
        session, count = self.current, -(-len(frame) // (payload - 28))
        size, first = -(-len(frame) // count), session.sent
        session.sent += count
        for number in list(range(count))[::order]:
            front = bytes([number | (128 if kind == 5 else 0), count]) + len(frame).to_bytes(2, "little")
            part = front + frame[number * size : (number + 1) * size]
            self.send(session.seal(6, first + number, part), self.peer)
