"""What the link seals: a proof or a confirmation is a data datagram with nothing in it."""

import pytest

from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.sealing import aead, keepalive
from tap2tap.protocols.secure.wire import Cipher


@pytest.mark.parametrize("cipher", Cipher)
def test_a_keepalive_is_a_data_datagram_with_nothing_in_it(cipher: Cipher) -> None:
    key = bytes(range(32))
    datagram = keepalive(cipher, key, 0x123456, 9)
    assert len(datagram) == wire.OVERHEAD
    assert datagram[:8] == wire.header(wire.TYPE_DATA, 0x123456, 9)
    assert aead(cipher, key).decrypt(wire.nonce(cipher, 9), datagram[8:], datagram[:8]) == b""
