"""The replay window against a set of all that was ever accepted, and the headers and nonces that go with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.replay import ReplayWindow
from tap2tap.protocols.secure.wire import REJECT_AFTER_MESSAGES, Cipher

SIZE = 64


class Naive:
    """The same, with a set that remembers everything."""

    def __init__(self, start: int) -> None:
        self.next = start
        self.start = start
        self.seen: set[int] = set()

    def fresh(self, counter: int) -> bool:
        in_window = max(self.start, self.next - SIZE) <= counter < REJECT_AFTER_MESSAGES
        return in_window and counter not in self.seen

    def accept(self, counter: int) -> None:
        self.seen.add(counter)
        self.next = max(self.next, counter + 1)


# Runs, most of them near the newest counter, and whether they are authentic.
RUNS = st.tuples(st.integers(-SIZE - 10, SIZE * 3), st.integers(1, SIZE * 2), st.booleans())


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([0, 5, 1000, REJECT_AFTER_MESSAGES - 50]), st.lists(RUNS, max_size=30))
def test_window_against_a_naive_model(start: int, runs: list[tuple[int, int, bool]]) -> None:
    window, naive = ReplayWindow(SIZE, start), Naive(start)
    for offset, count, authentic in runs:
        first = max(0, naive.next + offset)
        counters = range(first, first + count)
        expected = [naive.fresh(counter) for counter in counters]
        assert [window.fresh(counter) for counter in counters] == expected
        assert window.fresh(first, count) == all(expected)
        if not authentic:
            continue  # a forgery marks nothing
        if all(expected):
            window.accept(first, count)
            for counter in counters:
                naive.accept(counter)
        else:
            for counter in counters:
                if naive.fresh(counter):  # accepting one may put others out of the window
                    window.accept(counter)
                    naive.accept(counter)
        assert window.next == naive.next
        assert not any(window.fresh(counter) for counter in counters)


def test_a_successor_takes_nothing_from_before() -> None:
    window = ReplayWindow(SIZE, start=500)
    assert not any(window.fresh(counter) for counter in range(400, 500))
    assert window.fresh(500, 64)


def test_a_run_longer_than_the_window() -> None:
    window = ReplayWindow(SIZE)
    window.accept(10, 5 * SIZE)
    assert window.next == 10 + 5 * SIZE
    assert not any(window.fresh(counter) for counter in range(10 + 5 * SIZE))


def test_a_window_is_a_power_of_two() -> None:
    with pytest.raises(ValueError):
        ReplayWindow(100)


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


@pytest.mark.parametrize("cipher", Cipher)
def test_a_keepalive_is_a_data_datagram_with_nothing_in_it(cipher: Cipher) -> None:
    key = bytes(range(32))
    datagram = wire.keepalive(cipher, key, 0x123456, 9)
    assert len(datagram) == wire.OVERHEAD
    assert datagram[:8] == wire.header(wire.TYPE_DATA, 0x123456, 9)
    assert wire.aead(cipher, key).decrypt(wire.nonce(cipher, 9), datagram[8:], datagram[:8]) == b""


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
