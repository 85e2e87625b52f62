"""What the first bytes of a datagram say, and headers and nonces."""

from hypothesis import given
from hypothesis import strategies as st

from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.wire import Cipher
from tests.support.datagrams import take_apart

KINDS = {wire.is_initiation: (1, 100), wire.is_response: (2, 84), wire.is_challenge: (3, 36)}


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


@given(st.integers(0, 255), st.integers(0, wire.MAX_INDEX), st.integers(0, 2**32 - 1))
def test_a_header_is_a_little_endian_word_of_type_index_and_counter(kind: int, index: int, counter: int) -> None:
    header = wire.header(kind, index, counter)
    assert header == bytes([kind]) + index.to_bytes(3, "little") + counter.to_bytes(4, "little")
    assert take_apart(header) == (kind, index, counter)


def test_each_cipher_has_its_byte_order_of_the_counter_in_the_nonce() -> None:
    assert wire.nonce(Cipher.AES_256_GCM, 0x01020304) == bytes.fromhex("00000000 00000000 01020304")
    assert wire.nonce(Cipher.CHACHA20_POLY1305, 0x01020304) == bytes.fromhex("00000000 04030201 00000000")
