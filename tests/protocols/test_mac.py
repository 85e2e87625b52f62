"""The mac of handshake datagrams as an inbound worker checks it, before anything crosses to the link."""

import hashlib
import os

from hypothesis import given
from hypothesis import strategies as st

from tap2tap.protocols.secure import handshake, mac
from tap2tap.protocols.secure.handshake import Answer, Identity, Initiation, Offer, Received
from tap2tap.protocols.secure.wire import Cipher
from tests.support.simulated_ends import make_keys


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
