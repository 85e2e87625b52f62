"""The mac of handshake datagrams as an inbound worker checks it, before anything crosses to the supervisor."""

import hashlib
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.protocols.secure import handshake, mac, wire
from tap2tap.protocols.secure.handshake import Answer, Identity, Initiation, Offer, Received
from tap2tap.protocols.secure.wire import Cipher
from tests.support.simulated import make_keys

KINDS = {wire.is_initiation: (1, 100), wire.is_response: (2, 84), wire.is_challenge: (3, 36)}


def test_a_worker_tells_the_peers_datagrams_from_all_others() -> None:
    home, vps = (Identity(keys) for keys in make_keys())
    initiation = Initiation(home, Offer(7, True, 25), ephemeral=os.urandom(32)).datagram
    response, _ = Received(vps, initiation).respond(Answer(8, Cipher.AES_256_GCM, 0), ephemeral=os.urandom(32))
    challenge = handshake.challenge(vps, initiation, os.urandom(16))
    about = initiation[-mac.MAC_LENGTH :]
    for datagram, sender, receiver, context in (
        (initiation, home, vps, b""),
        (response, vps, home, b""),
        (challenge, vps, home, about),
    ):
        assert mac.matches(receiver.peer_mac_key, datagram, context)
        assert mac.matches(receiver.peer_mac_key, memoryview(bytearray(datagram)), memoryview(context))
        assert not mac.matches(sender.peer_mac_key, datagram, context)  # reflected
        assert not mac.matches(receiver.peer_mac_key, datagram, context + b"?")
        assert not mac.matches(os.urandom(32), datagram, context)
        for at in range(len(datagram)):
            forged = datagram[:at] + bytes([datagram[at] ^ 1]) + datagram[at + 1 :]
            assert not mac.matches(receiver.peer_mac_key, forged, context)


@given(key=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200), context=st.binary(max_size=16))
def test_it_is_keyed_blake2s_of_all_before_it_at_any_length(key: bytes, message: bytes, context: bytes) -> None:
    by_the_book = hashlib.blake2s(message + context, key=key, digest_size=16).digest()
    assert mac.matches(key, message + by_the_book, context)
    assert not mac.matches(key, message, context)
    assert not mac.matches(key, by_the_book[:15])


@given(datagram=st.sampled_from([36, 84, 100]).flatmap(lambda size: st.binary(min_size=size, max_size=size)))
def test_a_datagram_is_of_the_one_kind_that_its_first_bytes_and_length_say(datagram: bytes) -> None:
    for is_kind, (number, length) in KINDS.items():
        for first in range(6):
            for reserved in (bytes(3), datagram[1:4]):
                typed = bytes([first]) + reserved + datagram[4:]
                right = first == number and len(typed) == length and (number != 1 or not any(reserved))
                assert is_kind(typed) == is_kind(memoryview(typed)) == right
                assert not is_kind(typed + b"?")
                assert not is_kind(typed[:-1])
    assert not any(is_kind(b"") for is_kind in KINDS)


@pytest.mark.parametrize("module", ["mac", "wire", "replay"])
def test_what_workers_import_brings_no_handshake_with_it(module: str) -> None:
    line = f"import sys, tap2tap.protocols.secure.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert f"tap2tap.protocols.secure.{module}" in loaded
    heavy = {"noise", "handshake", "link", "attempts", "limits", "actions"}
    assert not loaded & {f"tap2tap.protocols.secure.{name}" for name in heavy}
    assert "cryptography.hazmat.primitives.asymmetric.x25519" not in loaded
