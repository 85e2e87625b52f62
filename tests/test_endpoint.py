"""Endpoints: reading what a user writes, writing it back, and what the counter block keeps of them."""

import errno
import ipaddress
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.config import Config
from tap2tap.endpoint import Endpoint, from_sockaddr, literal, load, resolve, split_host_port, store
from tap2tap.errors import StartError, UsageError

ports = st.integers(1, 65535)
ipv4 = st.ip_addresses(v=4)
ipv6 = st.integers(1 << 48, (1 << 128) - 1).map(ipaddress.IPv6Address)  # beyond those that stand for IPv4
endpoints = st.builds(Endpoint, ipv4, ports, st.just(0), st.none() | ipv4.filter(int)) | st.builds(
    Endpoint, ipv6, ports, st.integers(0, 2**32 - 1), st.none() | ipv6
)
names = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,30}[a-z0-9])?", fullmatch=True)


def slots(count: int = 8) -> memoryview:
    """Empty slots of a counter block."""
    return memoryview(bytearray(8 * count)).cast("Q")


@given(endpoints)
def test_an_endpoint_is_written_as_it_is_read(endpoint: Endpoint) -> None:
    endpoint = endpoint._replace(scope=0)
    host, port = split_host_port(str(endpoint), 1)
    assert (ipaddress.ip_address(host), port) == (endpoint.address, endpoint.port)


@given(names | ipv4.map(str), ports, ports)
def test_a_name_or_an_ipv4_address_may_have_a_port(host: str, port: int, default: int) -> None:
    assert split_host_port(host, default) == (host, default)
    assert split_host_port(f"{host}:{port}", default) == (host, port)


@given(ipv6.map(str), ports, ports)
def test_an_ipv6_address_may_be_bare_and_takes_brackets_for_a_port(host: str, port: int, default: int) -> None:
    assert split_host_port(host, default) == (host, default)
    assert split_host_port(f"[{host}]", default) == (host, default)
    assert split_host_port(f"[{host}]:{port}", default) == (host, port)


@given(st.text())
def test_any_text_is_an_endpoint_or_a_mistake(text: str) -> None:
    try:
        host, port = split_host_port(text, 1234)
    except UsageError:
        return
    assert host
    assert 1 <= port <= 65535


@pytest.mark.parametrize(
    "text", ["", ":", ":1", "host:", "host:x", "host:0", "host:65536", "host:-1", "host:\N{SUPERSCRIPT TWO}"]
)
def test_what_names_no_host_or_no_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        split_host_port(text, 1234)


@pytest.mark.parametrize("text", ["[", "[]", "[::1", "[::1]1234", "[::1]:", "[::1]:x", "[]:1"])
def test_broken_brackets_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        split_host_port(text, 1234)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("0.0.0.0", "no host"),
        ("::", "no host"),
        ("::ffff:0.0.0.0", "no host"),
        ("224.0.0.1", "no host"),
        ("ff02::1%eth0", "no host"),
        ("255.255.255.255", "no host"),
        ("fe80::1", "needs its interface, as in --remote fe80::1%eth0$"),
        ("2001:db8::1%eth0", "only a link-local address"),
        ("::ffff:192.0.2.1%eth0", "only a link-local address"),
        ("fe80::1%", "--remote fe80::1%: neither an address nor a name"),
        ("fe80::1%%eth0", "neither an address nor a name"),
        ("fd09::g", "neither an address nor a name"),
        ("host%eth0", "neither an address nor a name"),
    ],
)
def test_what_no_host_has_is_no_remote(text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        literal(text, 1)
    with pytest.raises(UsageError, match=wrong):
        Config(remotes=((text, 1),)).check()


@pytest.mark.parametrize(
    ("text", "address", "zone"),
    [
        ("fe80::1%eth0", "fe80::1", "eth0"),
        ("fe80::1%2", "fe80::1", "2"),
        ("::ffff:192.0.2.1", "192.0.2.1", ""),
        ("169.254.1.1", "169.254.1.1", ""),
        ("2001:db8::1", "2001:db8::1", ""),
    ],
)
def test_an_address_may_have_a_zone(text: str, address: str, zone: str) -> None:
    assert literal(text, 7) == (Endpoint(ipaddress.ip_address(address), 7), zone)


@given(names)
def test_a_name_is_no_address(name: str) -> None:
    found = literal(name, 1) if name != "0.0.0.0" else None
    assert found is None or str(found[0].address) == name


@given(endpoints, st.integers(0, 2))
def test_what_is_stored_is_loaded(endpoint: Endpoint, at: int) -> None:
    block = slots()
    store(block, at, endpoint)
    assert load(block, at) == endpoint


@given(endpoints, endpoints, st.integers(0, 5))
def test_a_half_written_endpoint_is_nothing(old: Endpoint, new: Endpoint, written: int) -> None:
    before, after = slots(6), slots(6)
    store(before, 0, old)
    store(after, 0, new)
    for index in range(written):
        before[index] = after[index]
    assert load(before, 0) in (None, old, new)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
def test_rubbish_is_nothing_or_an_endpoint(rubbish: list[int]) -> None:
    block = slots(6)
    for index, value in enumerate(rubbish):
        block[index] = value
    found = load(block, 0)
    assert found is None or str(found)


def test_empty_slots_are_nothing() -> None:
    assert load(slots(), 0) is None


@given(endpoints.filter(lambda endpoint: not endpoint.scope).map(lambda endpoint: endpoint.from_anywhere))
def test_a_socket_address_stands_for_the_same_endpoint_in_either_family(endpoint: Endpoint) -> None:
    assert from_sockaddr(endpoint.sockaddr(socket.AF_INET6)) == endpoint
    if endpoint.address.version == 4:
        assert from_sockaddr(endpoint.sockaddr(socket.AF_INET)) == endpoint


def test_ipv4_in_an_ipv6_socket_is_written_as_ipv4() -> None:
    assert str(from_sockaddr(("::ffff:192.0.2.1", 9, 0, 0))) == "192.0.2.1:9"
    assert Endpoint(ipaddress.ip_address("192.0.2.1"), 9).sockaddr(socket.AF_INET6) == ("::ffff:192.0.2.1", 9, 0, 0)


def test_a_link_local_address_keeps_its_interface() -> None:
    index = socket.if_nametoindex("lo")
    endpoint = from_sockaddr(("fe80::1%lo", 9, 0, index))
    assert str(endpoint) == "[fe80::1%lo]:9"
    assert endpoint.sockaddr(socket.AF_INET6) == ("fe80::1%lo", 9, 0, index)


@pytest.mark.parametrize("name", [None, "a b", "a%b", "naïf"])
def test_an_interface_that_is_gone_or_named_oddly_is_told_by_its_index(
    monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    def named(_: int) -> str:
        if name is None:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return name

    monkeypatch.setattr(socket, "if_indextoname", named)
    assert str(Endpoint(ipaddress.ip_address("fe80::1"), 9, 7)) == "[fe80::1%7]:9"


def test_names_and_addresses_resolve() -> None:
    assert resolve("192.0.2.1", 9) == [Endpoint(ipaddress.ip_address("192.0.2.1"), 9)]
    assert resolve("2001:db8::1", 9) == [Endpoint(ipaddress.ip_address("2001:db8::1"), 9)]
    assert all(found.address.is_loopback for found in resolve("localhost", 9))


@pytest.mark.parametrize("host", ["two..dots", "\N{SNOWMAN}" * 70, "nul\0"])
def test_what_is_no_name_does_not_resolve(host: str) -> None:
    with pytest.raises(StartError, match="cannot resolve the remote"):
        resolve(host, 9)
