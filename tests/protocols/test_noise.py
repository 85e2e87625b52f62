"""Noise against published test vectors and against a library that others wrote."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from noise.connection import Keypair, NoiseConnection

from tap2tap.keys import public_key
from tap2tap.protocols.secure.noise import (
    PATTERNS,
    CipherState,
    HandshakeState,
    NoiseError,
    diffie_hellman,
)

CASES = json.loads((Path(__file__).parent / "data" / "noise.json").read_text())["cases"]
NAME = "Noise_KKpsk0_25519_ChaChaPoly_BLAKE2s"
PROLOGUE = b"a prologue"
LOW_ORDER = (  # RFC 7748, section 6.1, speaks of them; these are the points 0, 1, and one of order 8
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
)


def pair(name: str = NAME, **changes: Any) -> tuple[HandshakeState, HandshakeState]:
    """Two ends that fit; `changes` are for the responder."""
    one, other, psk = os.urandom(32), os.urandom(32), os.urandom(32) if "psk" in name else None
    shared: dict[str, Any] = {"prologue": PROLOGUE, "psk": psk}
    initiator = HandshakeState(name, initiator=True, private=one, peer=public_key(other), **shared)
    settings = {"initiator": False, "private": other, "peer": public_key(one), **shared, **changes}
    return initiator, HandshakeState(name, **settings)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_published_vectors(case: dict[str, Any]) -> None:
    keys = {role: {kind: bytes.fromhex(key) for kind, key in case[role].items()} for role in ("initiator", "responder")}
    ends = [
        HandshakeState(
            case["name"],
            initiator=role == "initiator",
            prologue=bytes.fromhex(case["prologue"]),
            private=keys[role]["static"],
            peer=public_key(keys[other]["static"]),
            psk=bytes.fromhex(case["psk"]),
        )
        for role, other in (("initiator", "responder"), ("responder", "initiator"))
    ]
    messages = [(bytes.fromhex(one["payload"]), bytes.fromhex(one["message"])) for one in case["messages"]]
    for number, role in enumerate(("initiator", "responder")):
        payload, message = messages[number]
        assert ends[number].write(payload, keys[role]["ephemeral"]) == message
        assert ends[1 - number].read(message) == payload
    assert ends[0].digest.hex() == ends[1].digest.hex() == case["digest"]

    splits = [end.split() for end in ends]
    assert splits[0] == splits[1][::-1]
    senders = [CipherState(split[0]) for split in splits]
    receivers = [CipherState(split[1]) for split in splits]
    for number, (payload, message) in enumerate(messages[2:]):
        assert senders[number % 2].seal(b"", payload) == message
        assert receivers[1 - number % 2].open(b"", message) == payload


def library_end(name: str, initiator: bool, private: bytes, peer: bytes, psk: bytes | None) -> Any:
    end = NoiseConnection.from_name(name.encode())
    end.set_as_initiator() if initiator else end.set_as_responder()
    end.set_prologue(PROLOGUE)
    if psk:
        end.set_psks(psks=[psk])
    end.set_keypair_from_private_bytes(Keypair.STATIC, private)
    end.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, peer)
    end.start_handshake()
    return end


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("digest", ["BLAKE2s", "SHA256"])
@pytest.mark.parametrize("we_start", [True, False])
def test_an_independent_library_understands_us(pattern: str, digest: str, we_start: bool) -> None:
    name = f"Noise_{pattern}_25519_ChaChaPoly_{digest}"
    private, theirs, psk = os.urandom(32), os.urandom(32), os.urandom(32) if "psk" in pattern else None
    ours = HandshakeState(
        name, initiator=we_start, prologue=PROLOGUE, private=private, peer=public_key(theirs), psk=psk
    )
    library = library_end(name, not we_start, theirs, public_key(private), psk)
    for writer in (we_start, not we_start):
        if writer:
            assert bytes(library.read_message(ours.write(b"from us", os.urandom(32)))) == b"from us"
        else:
            assert ours.read(bytes(library.write_message(b"from them"))) == b"from them"
    assert ours.digest == bytes(library.get_handshake_hash())
    send, receive = ours.split()
    assert bytes(library.decrypt(CipherState(send).seal(b"", b"there"))) == b"there"
    assert CipherState(receive).open(b"", bytes(library.encrypt(b"back"))) == b"back"


@pytest.mark.parametrize(
    "changes",
    [
        {"psk": bytes(32)},
        {"prologue": b"another prologue"},
        {"private": b"\x07" * 32},
        {"peer": public_key(b"\x07" * 32)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_whoever_differs_in_anything_reads_nothing(changes: dict[str, Any]) -> None:
    initiator, responder = pair(**changes)
    with pytest.raises(NoiseError):
        responder.read(initiator.write(b"", os.urandom(32)))


def test_every_flipped_bit_is_noticed_and_a_copy_keeps_the_state() -> None:
    initiator, responder = pair()
    message = initiator.write(b"offer", os.urandom(32))
    for bit in range(0, len(message) * 8, 7):
        forged = bytearray(message)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NoiseError):
            responder.copy().read(bytes(forged))
    assert responder.read(message) == b"offer"


@pytest.mark.parametrize("length", [0, 1, 31, 32, 47])
def test_short_messages_are_refused(length: int) -> None:
    initiator, responder = pair()
    with pytest.raises(NoiseError):
        responder.read(initiator.write(b"", os.urandom(32))[:length])


@pytest.mark.parametrize("point", LOW_ORDER)
def test_public_keys_of_low_order_are_refused(point: bytes) -> None:
    with pytest.raises(NoiseError):
        diffie_hellman(os.urandom(32), point)
    _, responder = pair()
    with pytest.raises(NoiseError):
        responder.read(point + bytes(16))


def test_a_psk_belongs_to_a_psk_pattern() -> None:
    with pytest.raises(ValueError):
        pair("Noise_KK_25519_ChaChaPoly_BLAKE2s", psk=bytes(32))
    with pytest.raises(ValueError):
        pair(NAME, psk=None)


def test_there_is_no_split_before_the_end() -> None:
    initiator, _ = pair()
    with pytest.raises(ValueError):
        initiator.split()
