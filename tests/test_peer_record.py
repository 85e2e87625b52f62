"""The record of where the peer was: what is written is read, and nothing else is, whatever stands in the file."""

import ipaddress
import os
import struct
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap import endpoint, peer_record
from tap2tap.endpoint import Endpoint
from tap2tap.peer_record import LENGTH, LIFE

HERE = Endpoint(ipaddress.ip_address("192.0.2.1"), 1234)
NOW = 1_700_000_000.0

times = st.integers(0, 2**40)


@given(times, st.floats(-LIFE, LIFE), st.binary(min_size=4, max_size=4).filter(lambda it: 0 < it[0] < 224))
def test_what_is_written_is_read_for_a_week(written: int, later: float, address: bytes) -> None:
    peer = Endpoint(ipaddress.IPv4Address(address), 4321)
    assert peer_record.unpack(peer_record.pack(peer, written), written + later) == peer
    for beyond in (-LIFE - 1, LIFE + 1):
        assert peer_record.unpack(peer_record.pack(peer, written), written + beyond) is None


@pytest.mark.parametrize(
    ("address", "port", "scope", "sound"),
    [
        ("2001:db8::1", 1, 0, True),
        ("fe80::1", 65535, 7, True),
        ("10.0.0.1", 1, 7, False),
        ("2001:db8::1", 1, 7, False),
        ("192.0.2.1", 0, 0, False),
        ("0.0.0.0", 1234, 0, False),
        ("0.1.2.3", 1234, 0, False),
        ("::", 1234, 0, False),
        ("224.0.0.1", 1234, 0, False),
        ("255.255.255.255", 1234, 0, False),
        ("ff02::1", 1234, 0, False),
    ],
)
def test_only_what_can_be_called_is_believed(address: str, port: int, scope: int, sound: bool) -> None:
    peer = Endpoint(ipaddress.ip_address(address), port, scope)
    assert peer_record.unpack(peer_record.pack(peer, NOW), NOW) == (peer if sound else None)


@given(st.binary(max_size=2 * LENGTH) | st.binary(min_size=LENGTH, max_size=LENGTH))
def test_anything_else_is_nobody(packed: bytes) -> None:
    assert peer_record.unpack(packed, NOW) is None


@given(st.integers(0, LENGTH - 1), st.integers(1, 255))
def test_no_byte_of_it_may_differ(at: int, difference: int) -> None:
    packed = bytearray(peer_record.pack(HERE, NOW))
    packed[at] ^= difference
    assert peer_record.unpack(bytes(packed), NOW) is None


def checked(layout: str, magic: bytes, version: int, where: bytes) -> bytes:
    """A record whose check is right."""
    packed = struct.pack(layout, magic, version, int(NOW), where)
    return packed + struct.pack(">I", zlib.crc32(packed))


@pytest.mark.parametrize(
    ("layout", "magic", "version", "sound"),
    [
        (">8sIQ40s", b"T2TPEER\0", 2, True),
        (">8sIQ40s", b"T2TPEER\0", 1, False),
        (">8sIQ40s", b"T2TPEER\1", 2, False),
        (">8sIQ24s", b"T2TPEER\0", 1, False),  # as it was before our own address belonged to it
    ],
)
def test_another_version_is_nobody_though_its_check_is_right(
    layout: str, magic: bytes, version: int, sound: bool
) -> None:
    packed = checked(layout, magic, version, endpoint.pack(HERE))
    assert peer_record.unpack(packed, NOW) == (HERE if sound else None)


@pytest.mark.parametrize(
    ("address", "local", "sound"),
    [
        ("192.0.2.1", "192.0.2.7", True),
        ("2001:db8::1", "2001:db8::7", True),
        ("192.0.2.1", "2001:db8::7", False),
        ("2001:db8::1", "192.0.2.7", False),
    ],
)
def test_our_own_address_is_part_of_it_and_of_the_same_kind(address: str, local: str, sound: bool) -> None:
    peer = Endpoint(ipaddress.ip_address(address), 1234, local=ipaddress.ip_address(local))
    assert peer_record.unpack(peer_record.pack(peer, NOW), NOW) == (peer if sound else None)


def test_a_file_says_what_was_written_last(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "record", os.O_RDWR | os.O_CREAT)
    try:
        assert peer_record.read(fd) is None
        peer_record.write(fd, HERE)
        assert peer_record.read(fd) == HERE
        assert abs(time.time() - (tmp_path / "record").stat().st_mtime) < 3600
        peer_record.write(fd, None)
        assert peer_record.read(fd) is None
        assert (tmp_path / "record").stat().st_size == LENGTH
        assert not any((tmp_path / "record").read_bytes())
        peer_record.write(fd, HERE)
        os.pwrite(fd, b"\0", LENGTH)  # longer than a record
        assert peer_record.read(fd) is None
        peer_record.write(fd, HERE._replace(port=9))  # which mends it
        assert peer_record.read(fd) == HERE._replace(port=9)
    finally:
        os.close(fd)
    with pytest.raises(OSError, match="Bad file"):
        peer_record.write(fd, HERE)
    assert peer_record.read(fd) is None
