"""Hardware addresses: which are read, and which are derived."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.errors import UsageError
from tap2tap.hardware_address import derive_mac, parse_mac

facts = st.lists(st.text(max_size=10).filter(lambda text: "\0" not in text), min_size=1, max_size=4)


@given(st.binary(min_size=6, max_size=6))
def test_a_hardware_address_is_read_if_a_device_may_have_it(packed: bytes) -> None:
    text = packed.hex(":")
    if packed[0] & 1 or not any(packed):
        with pytest.raises(UsageError, match=r"--mac .* let the first pair be 02"):
            parse_mac(text)
    else:
        assert parse_mac(text) == parse_mac(text.upper().replace(":", "-")) == text


@pytest.mark.parametrize(
    "text", ["", "02", "02:00:00:00:00", "02:00:00:00:00:00:01", "2:0:0:0:0:1", "02:00:00:00:00:0g", "020000000001"]
)
def test_other_words_for_a_hardware_address_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="as in --mac 02:00:00:00:00:01"):
        parse_mac(text)


@given(st.binary(min_size=1, max_size=32), facts, facts)
def test_a_derived_address_is_one_that_a_device_may_have_and_no_other_has(
    secret: bytes, one: list[str], other: list[str]
) -> None:
    derived = derive_mac(secret, *one)
    packed = bytes.fromhex(derived.replace(":", ""))
    assert len(packed) == 6
    assert packed[0] == 0xFE  # locally administered, of one device, and higher than a bridge's
    assert (derived == derive_mac(secret, *other)) == (one == other)
    assert derived != derive_mac(secret[:-1] + bytes([secret[-1] ^ 1]), *one)
