"""The three messages of the handshake: what they carry, and that nothing else passes for them."""

import hashlib
import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from noise.connection import Keypair, NoiseConnection

from tap2tap.keys import CableKeys, public_key
from tap2tap.protocols.secure import handshake, sealing, wire
from tap2tap.protocols.secure.handshake import Answer, Identity, Initiation, Offer, Received
from tap2tap.protocols.secure.mac import matches
from tap2tap.protocols.secure.noise import NoiseError
from tap2tap.protocols.secure.wire import Cipher
from tests.support.simulated_ends import make_keys

OFFER = Offer(0x010203, True, 25, 1500, 1)
ANSWER = Answer(0x0A0B0C, Cipher.AES_256_GCM, 10, 9000, 1)


def make_ends() -> tuple[Identity, Identity]:
    one, other = make_keys()
    return Identity(one), Identity(other)


def initiate(identity: Identity, offer: Offer = OFFER, cookie: bytes = handshake.NO_COOKIE) -> Initiation:
    return Initiation(identity, offer, ephemeral=os.urandom(32), cookie=cookie)


def test_both_ends_learn_the_same_and_share_two_keys() -> None:
    home, vps = make_ends()
    initiation = initiate(home)
    received = Received(vps, initiation.datagram)
    assert received.offer == OFFER
    response, theirs = received.respond(ANSWER, ephemeral=os.urandom(32))
    answer, ours = initiation.finish(response)
    assert answer == ANSWER
    assert (ours.send, ours.receive) == (theirs.receive, theirs.send)
    assert ours.send != ours.receive


def test_lengths_and_layout_are_those_of_the_specification() -> None:
    home, vps = make_ends()
    cookie = os.urandom(16)
    first = initiate(home, cookie=cookie).datagram
    assert len(first) == wire.INITIATION_LENGTH == 100
    assert first[:20] == b"\x01\0\0\0" + cookie
    assert handshake.cookie_in(first) == cookie
    response, _ = Received(vps, first).respond(ANSWER, ephemeral=os.urandom(32))
    assert len(response) == wire.RESPONSE_LENGTH == 84
    assert response[:4] == b"\x02\x03\x02\x01"
    assert handshake.index_in(response) == OFFER.index
    challenge = handshake.challenge(vps, first, os.urandom(16))
    assert len(challenge) == wire.CHALLENGE_LENGTH == 36
    assert challenge[:4] == b"\x03" + first[-16:-13]
    assert wire.is_initiation(first)
    assert wire.is_response(response)
    assert wire.is_challenge(challenge)


def test_no_answer_is_larger_than_what_provoked_it() -> None:
    assert max(wire.RESPONSE_LENGTH, wire.CHALLENGE_LENGTH) <= wire.INITIATION_LENGTH


def test_someone_with_only_the_specification_can_answer_us() -> None:
    """The inner messages are plain Noise: an independent library is the responder."""
    home, vps = make_keys()
    initiation = initiate(Identity(home))
    library = NoiseConnection.from_name(b"Noise_KKpsk0_25519_ChaChaPoly_BLAKE2s")
    library.set_as_responder()
    library.set_prologue(b"tap2tap secure 1" + initiation.datagram[:20])
    library.set_psks(psks=[vps.psk])
    library.set_keypair_from_private_bytes(Keypair.STATIC, vps.private)
    library.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, vps.peer)
    library.start_handshake()
    payload = bytes(library.read_message(initiation.datagram[20:-16]))
    assert payload == b"\x03\x02\x01" + b"\x01" + (25).to_bytes(2, "little") + (1500).to_bytes(2, "little") + bytes(
        [1, 1]
    ) + bytes(6)
    message = bytes(library.write_message(b"\x0c\x0b\x0a" + b"\x02" + bytes(12)))
    response = Identity(vps).sign(b"\x02\x03\x02\x01" + message)
    answer, keys = initiation.finish(response)
    assert answer == Answer(0x0A0B0C, Cipher.CHACHA20_POLY1305, 0)
    sealed = sealing.aead(answer.cipher, keys.send).encrypt(wire.nonce(answer.cipher, 0), b"frame", None)
    assert bytes(library.decrypt(sealed)) == b"frame"


def test_every_byte_is_as_it_was_when_the_protocol_was_written_down() -> None:
    """Peers of other versions of this program must understand us; the mac keys are computed here by the book."""
    known = json.loads((Path(__file__).parent / "data" / "handshake.json").read_text())
    one, other = (known[role] for role in ("initiator", "responder"))
    psk, cookie = bytes.fromhex(known["psk"]), bytes.fromhex(known["cookie"])
    private, public = bytes.fromhex(one["private"]), bytes.fromhex(one["public"])
    shared = X25519PrivateKey.from_private_bytes(private).exchange(
        X25519PublicKey.from_public_bytes(bytes.fromhex(other["public"]))
    )
    text = b"tap2tap secure 1 mac" + psk + public + bytes.fromhex(other["public"])
    mac_key = hashlib.blake2s(text, key=shared, digest_size=32).digest()
    assert mac_key.hex() == one["mac_key"]

    home = Identity(CableKeys(private, bytes.fromhex(other["public"]), psk))
    vps = Identity(CableKeys(bytes.fromhex(other["private"]), public, psk))
    initiations = []
    for name, carried in (("first_initiation", handshake.NO_COOKIE), ("second_initiation", cookie)):
        case = known[name]
        offer = Offer(case["index"], case["hardware_aes"], case["keepalive"], case["mtu"], case["features"])
        initiation = Initiation(home, offer, ephemeral=bytes.fromhex(case["ephemeral"]), cookie=carried)
        assert initiation.datagram.hex() == case["datagram"]
        mac = hashlib.blake2s(initiation.datagram[:-16], key=mac_key, digest_size=16).digest()
        assert initiation.datagram[-16:] == mac
        initiations.append(initiation)
    assert handshake.challenge(vps, initiations[0].datagram, cookie).hex() == known["challenge"]
    case = known["response"]
    answer = Answer(case["index"], Cipher(case["cipher"]), case["keepalive"], case["mtu"], case["features"])
    received = Received(vps, initiations[1].datagram)
    response, keys = received.respond(answer, ephemeral=bytes.fromhex(case["ephemeral"]))
    assert response.hex() == case["datagram"]
    assert keys.send.hex() == known["responder_sends_with"]
    assert keys.receive.hex() == known["initiator_sends_with"]
    assert initiations[1].finish(response)[0] == answer
    assert sealing.keepalive(answer.cipher, keys.receive, answer.index, 0).hex() == known["proof"]
    assert sealing.keepalive(answer.cipher, keys.send, received.offer.index, 0).hex() == known["confirmation"]


def genuine(identity: Identity, datagram: bytes) -> bool:
    return identity.is_from_peer(datagram)


def test_every_changed_byte_fails_the_mac() -> None:
    home, vps = make_ends()
    first = initiate(home).datagram
    response, _ = Received(vps, first).respond(ANSWER, ephemeral=os.urandom(32))
    for message, reader in ((first, vps), (response, home)):
        assert genuine(reader, message)
        for at in range(len(message)):
            assert not genuine(reader, message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :])
        assert not genuine(reader, message[:-1])
        assert not genuine(reader, b"")


def test_every_changed_byte_would_fail_without_the_mac_too() -> None:
    """The mac saves work; what authenticates is Noise, header included."""
    home, vps = make_ends()
    initiation = initiate(home)
    first = initiation.datagram
    for at in range(len(first) - 16):
        with pytest.raises(NoiseError):
            Received(vps, first[:at] + bytes([first[at] ^ 1]) + first[at + 1 :])
    response, keys = Received(vps, first).respond(ANSWER, ephemeral=os.urandom(32))
    for at in range(1, len(response) - 16):  # byte 0 is a constant that is_response checks
        with pytest.raises(NoiseError):
            initiation.finish(response[:at] + bytes([response[at] ^ 1]) + response[at + 1 :])
    assert initiation.finish(response)[1].send == keys.receive  # the forgeries left no trace


def test_a_reflected_message_is_refused() -> None:
    home, vps = make_ends()
    first = initiate(home).datagram
    response, _ = Received(vps, first).respond(ANSWER, ephemeral=os.urandom(32))
    challenge = handshake.challenge(vps, first, os.urandom(16))
    for sender, message in ((home, first), (vps, response)):
        assert not genuine(sender, message)
        assert matches(sender.own_mac_key, message)
    assert not vps.is_from_peer(challenge, first[-16:])


def test_ends_with_equal_or_swapped_keys_do_not_understand_each_other() -> None:
    home, vps = make_keys()
    same, twin = Identity(home), Identity(home)
    message = initiate(same).datagram
    assert not genuine(twin, message)
    assert matches(twin.own_mac_key, message)
    with pytest.raises(NoiseError):
        Received(twin, message)
    for wrong in (
        CableKeys(home.private, home.peer, os.urandom(32)),
        CableKeys(os.urandom(32), home.peer, home.psk),
        CableKeys(home.private, public_key(os.urandom(32)), home.psk),
    ):
        assert not genuine(Identity(vps), initiate(Identity(wrong)).datagram)
        assert not matches(Identity(vps).own_mac_key, initiate(Identity(wrong)).datagram)


def test_a_response_belongs_to_one_initiation() -> None:
    home, vps = make_ends()
    one, other = initiate(home), initiate(home)
    response, _ = Received(vps, one.datagram).respond(ANSWER, ephemeral=os.urandom(32))
    with pytest.raises(NoiseError):
        other.finish(response)


@pytest.mark.parametrize(("ours", "theirs"), list(itertools.product((False, True), repeat=2)))
def test_aes_only_where_both_have_hardware(ours: bool, theirs: bool) -> None:
    assert (handshake.choose_cipher(ours, theirs) is Cipher.AES_256_GCM) == (ours and theirs)


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (Offer(1, False, 0), Answer(1, Cipher.AES_256_GCM, 0)),
        (OFFER, Answer(0, Cipher.AES_256_GCM, 0)),
        (Offer(0, True, 0), ANSWER),
    ],
    ids=["a cipher that was not offered", "responder's index 0", "initiator's index 0"],
)
def test_a_peer_gone_mad_is_refused(offer: Offer, answer: Answer) -> None:
    home, vps = make_ends()
    initiation = initiate(home, offer)
    with pytest.raises(NoiseError):
        initiation.finish(Received(vps, initiation.datagram).respond(answer, ephemeral=os.urandom(32))[0])


def test_a_challenge_is_good_for_one_initiation_only() -> None:
    home, vps = make_ends()
    one, other = initiate(home), initiate(home)
    cookie = os.urandom(16)
    challenge = handshake.challenge(vps, one.datagram, cookie)
    assert one.cookie_from(challenge) == cookie
    assert other.cookie_from(challenge) is None
    assert other.cookie_from(b"\x03" + other.datagram[-16:-13] + challenge[4:]) is None
    for at in range(1, len(challenge)):
        assert one.cookie_from(challenge[:at] + bytes([challenge[at] ^ 1]) + challenge[at + 1 :]) is None


def test_no_key_shows_in_any_representation() -> None:
    keys, _ = make_keys()
    home, vps = Identity(keys), Identity(make_keys()[1])
    initiation = initiate(home)
    things: list[Any] = [keys, home, vps, initiation, handshake.SessionKeys(keys.private, keys.psk)]
    for thing in things:
        for secret in (keys.private, keys.psk):
            assert repr(secret)[2:-1] not in repr(thing)
            assert secret.hex() not in repr(thing)
