"""The AEAD of the workers against `cryptography`, and which implementation is chosen."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.protocols.secure import sealing, wire
from tap2tap.protocols.secure.wire import Cipher
from tap2tap.workers import ciphers, libcrypto
from tap2tap.workers.aead import Aead
from tap2tap.workers.arena import Arena
from tap2tap.workers.ciphers import Portable

KEY = bytes(range(100, 132))
KINDS = pytest.mark.parametrize("kind", [Aead, Portable])
CIPHERS = pytest.mark.parametrize("cipher", Cipher)

texts = st.binary(max_size=100) | st.sampled_from((0, 15, 16, 17, 1434, 9000)).map(bytes)
counters = st.integers(0, 2**64 - 1) | st.sampled_from((0, 1, 255, 256, 2**31, 2**32))


@pytest.fixture(autouse=True)
def undecided() -> Iterator[None]:
    """No test finds what another has found."""
    for remembered in (ciphers.implementation, libcrypto.library, libcrypto.evp_cipher):
        remembered.cache_clear()
    yield
    for remembered in (ciphers.implementation, libcrypto.library, libcrypto.evp_cipher):
        remembered.cache_clear()


@KINDS
@CIPHERS
@settings(deadline=None, max_examples=60)
@given(header=st.binary(min_size=8, max_size=8), text=texts, counter=counters)
def test_a_datagram_is_what_cryptography_makes_of_it(
    kind: type[Aead], cipher: Cipher, header: bytes, text: bytes, counter: int
) -> None:
    arena, at, length = Arena(9100), 33, len(text)
    arena.put(at, header + text)
    made = kind(cipher, KEY)
    made.seal(arena, at, length, counter)
    sealed = sealing.aead(cipher, KEY).encrypt(wire.nonce(cipher, counter), text, header)
    assert arena.take(at, 8 + length + 16) == header + sealed
    assert not any(arena.take(0, at) + arena.take(at + 8 + length + 16, 20))
    assert made.open(arena, at, length, counter)
    assert arena.take(at, 8 + length) == header + text


@KINDS
@CIPHERS
def test_one_wrong_bit_anywhere_is_refused_and_leaves_no_plaintext(kind: type[Aead], cipher: Cipher) -> None:
    arena, text = Arena(64), b"twenty secret bytes!"
    made = kind(cipher, KEY)
    arena.put(0, b"headers " + text)
    made.seal(arena, 0, len(text), 5)
    sealed = arena.take(0, 8 + len(text) + 16)
    for bit in range(8 * len(sealed)):
        arena.put(0, (int.from_bytes(sealed, "little") ^ 1 << bit).to_bytes(len(sealed), "little"))
        assert not made.open(arena, 0, len(text), 5)
        assert arena.take(8, len(text)) == bytes(len(text))
    arena.put(0, sealed)
    assert not made.open(arena, 0, len(text), 6)
    arena.put(0, sealed)
    assert made.open(arena, 0, len(text), 5)  # a refusal has no effect on the next
    assert arena.take(8, len(text)) == text


@KINDS
@CIPHERS
@pytest.mark.parametrize(("at", "length"), [(-1, 8), (0, 41), (41, 0), (8, 2**31), (60, -50)])
def test_nothing_is_touched_outside_the_arena(kind: type[Aead], cipher: Cipher, at: int, length: int) -> None:
    arena, made = Arena(64), kind(cipher, KEY)
    with pytest.raises(IndexError):
        made.seal(arena, at, length, 0)
    with pytest.raises(IndexError):
        made.open(arena, at, length, 0)
    assert not any(arena.view)


@KINDS
def test_arenas_may_alternate(kind: type[Aead]) -> None:
    made, arenas = kind(1, KEY), (Arena(64), Arena(64))
    for counter in range(4):
        made.seal(arenas[counter % 2], 0, 20, counter)
    assert made.open(arenas[0], 0, 20, 2)
    assert made.open(arenas[1], 0, 20, 3)


def test_libcrypto_is_used_where_it_is_right() -> None:
    if not libcrypto.version():
        pytest.skip("this machine has no libcrypto")
    assert [ciphers.implementation(cipher) for cipher in Cipher] == [Aead, Aead]
    assert ciphers.library() == f"libcrypto {libcrypto.version()}"


@KINDS
@CIPHERS
def test_the_known_answer_is_known(kind: type[Aead], cipher: Cipher) -> None:
    assert ciphers.answers(kind, cipher)


def test_without_libcrypto_cryptography_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libcrypto, "NAMES", ("libcrypto.so.none",))
    monkeypatch.setattr(libcrypto, "_loaded", list)
    assert libcrypto.library() is None
    assert libcrypto.version() == ""
    for cipher in Cipher:
        assert isinstance(ciphers.aead(cipher, KEY), Portable)
    assert ciphers.library().startswith("cryptography ")


def test_what_is_no_libcrypto_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    found = libcrypto.library()
    monkeypatch.setattr(libcrypto, "NAMES", ("libc.so.6", *libcrypto.NAMES))
    libcrypto.library.cache_clear()
    again = libcrypto.library()
    assert (found and found._name) == (again and again._name)


def test_a_cipher_that_libcrypto_lacks_is_done_by_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(libcrypto._CIPHERS, Cipher.CHACHA20_POLY1305, (b"no such cipher", "EVP_none"))
    assert ciphers.implementation(Cipher.AES_256_GCM) is Aead
    assert ciphers.implementation(Cipher.CHACHA20_POLY1305) is Portable
    assert ", cryptography " in ciphers.library()


@CIPHERS
def test_a_wrong_answer_is_found_out(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], cipher: Cipher
) -> None:
    other = Cipher.AES_256_GCM if cipher is Cipher.CHACHA20_POLY1305 else Cipher.CHACHA20_POLY1305
    monkeypatch.setitem(libcrypto._CIPHERS, cipher, libcrypto._CIPHERS[other])
    assert ciphers.implementation(cipher) is Portable
    assert "cryptography is used in its place" in capfd.readouterr().err


class Lenient(Portable):
    """Opens whatever comes."""

    def open(self, arena: Arena, at: int, length: int, counter: int) -> bool:
        super().open(arena, at, length, counter)
        return True


class Leaky(Portable):
    """Leaves something behind where a forged datagram was."""

    def open(self, arena: Arena, at: int, length: int, counter: int) -> bool:
        right = super().open(arena, at, length, counter)
        if not right:
            arena.store8(at + 8, 1)
        return right


@pytest.mark.parametrize("wrong", [Lenient, Leaky])
def test_the_check_is_also_about_forgeries(wrong: type[Aead]) -> None:
    assert not ciphers.answers(wrong, Cipher.AES_256_GCM)


@KINDS
@CIPHERS
@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_has_32_bytes(kind: type[Aead], cipher: Cipher, length: int) -> None:
    with pytest.raises(ValueError):
        kind(cipher, bytes(length))


def test_no_worker_loads_cryptography_where_there_is_libcrypto() -> None:
    if not libcrypto.version():
        pytest.skip("this machine has no libcrypto")
    code = (
        "import sys, tap2tap.workers.stages\n"
        "from tap2tap.workers import ciphers\n"
        "assert ciphers.library().startswith('libcrypto ')\n"
        "[ciphers.aead(cipher, bytes(32)) for cipher in ciphers.Cipher]\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "tap2tap.workers.aead" in loaded
    assert not loaded & {"cryptography", "numpy"}
