"""What the first bytes of a datagram say, and the headers and nonces of a train."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.limits import REJECT_AFTER_MESSAGES
from tap2tap.protocols.secure.wire import Cipher

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


def read_headers(rows: wire.Bytes) -> bytes:
    """The headers of datagrams that are the rows of an array, behind 5 bytes of something else."""
    flat = np.concatenate([np.zeros(5, np.uint8), rows.reshape(-1)])
    return wire.headers(flat, 5, rows.shape[1], len(rows)).tobytes()


@given(
    st.integers(0, 255), st.integers(0, wire.MAX_INDEX), st.integers(0, REJECT_AFTER_MESSAGES - 64), st.integers(1, 64)
)
def test_headers_of_a_train_are_those_of_its_datagrams(kind: int, index: int, first: int, count: int) -> None:
    rows = np.full((count, 40), 0xEE, np.uint8)
    wire.write_headers(rows.reshape(-1), 40, count, kind, index, first)
    for at in range(count):
        assert rows[at, :8].tobytes() == wire.header(kind, index, first + at)
    assert (rows[:, 8:] == 0xEE).all()
    headers = read_headers(rows)
    assert wire.is_run(headers)
    assert wire.word(headers) == wire.words(headers)[0]
    assert [wire.take_apart(word) for word in wire.words(headers)] == [(kind, index, first + at) for at in range(count)]
    if count > 1:
        assert not wire.is_run(read_headers(rows[::-1]))
        rows[-1, 1] ^= 1
        assert not wire.is_run(read_headers(rows))


@pytest.mark.parametrize("cipher", Cipher)
def test_nonces_of_a_train(cipher: Cipher) -> None:
    nonces = wire.Nonces(cipher)
    nonces.fill(0x01020304, 64)
    assert [bytes(view) for view in nonces.views] == [wire.nonce(cipher, 0x01020304 + at) for at in range(64)]
    nonces.fill(7, 1)
    order = "big" if cipher is Cipher.AES_256_GCM else "little"
    assert bytes(nonces.views[0]) == bytes(4) + (7).to_bytes(8, order)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        nonces.views[0][0] = 1


def test_the_aead_takes_nonce_views_and_rows_in_place() -> None:
    """What a worker does with a train: no copies of frames, headers as associated data."""
    cipher, key, size = Cipher.AES_256_GCM, bytes(32), 100
    rows = np.arange(3 * size, dtype=np.uint8).reshape(3, size)
    frames = rows[:, 8 : size - 16].copy()
    wire.write_headers(rows.reshape(-1), size, 3, wire.TYPE_DATA, 5, 16)
    nonces, aead, flat = wire.Nonces(cipher), wire.aead(cipher, key), memoryview(rows.data).cast("B")
    nonces.fill(16, 3)
    for at in range(3):
        row = flat[at * size : (at + 1) * size]
        aead.encrypt_into(nonces.views[at], row[8:-16], row[:8], row[8:])
    assert not (rows[:, 8:-16] == frames).all()
    for at in range(3):
        row = flat[at * size : (at + 1) * size]
        aead.decrypt_into(nonces.views[at], row[8:], row[:8], row[8:-16])
    assert (rows[:, 8:-16] == frames).all()
