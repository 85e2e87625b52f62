"""The UDP socket: what it can be bound to, what it is then, and what is said of what cannot be."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.demo.lab import Host
from tap2tap.endpoint import Endpoint, from_sockaddr
from tap2tap.errors import NoPermissionError, StartError, Tap2tapError, UsageError
from tap2tap.udp_socket import NotThereError, bound_device, device_index, open_socket, parse_bind, reaches


@pytest.mark.parametrize(("bind", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1")])
def test_socket_addresses_are_spelt_as_the_kernel_gives_them(bind: str, address: str) -> None:
    with open_socket(bind, 0) as one, open_socket(None, 0) as other:
        other.sendto(b"x", Endpoint(ipaddress.ip_address(address), one.getsockname()[1]).sockaddr(other.family))
        _, source = one.recvfrom(9)
        assert from_sockaddr(source).sockaddr(one.family) == source
        assert from_sockaddr(source).address == ipaddress.ip_address(address)


def test_one_socket_serves_ipv4_and_ipv6() -> None:
    with open_socket(None, 0) as sock:
        port = sock.getsockname()[1]
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family, socket.SOCK_DGRAM) as caller:
                caller.connect((host, port))
                caller.send(b"x")
                assert from_sockaddr(sock.recvfrom(9)[1]) == from_sockaddr(caller.getsockname())


@pytest.mark.parametrize(
    ("bind", "remote", "expected"),
    [
        (None, "127.0.0.1", True),
        (None, "::1", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "::1", False),
        ("::1", "127.0.0.1", False),
        ("::1", "::1", True),
    ],
)
def test_a_bound_socket_reaches_its_own_family(bind: str | None, remote: str, *, expected: bool) -> None:
    with open_socket(bind, 0) as sock:
        assert reaches(sock, Endpoint(ipaddress.ip_address(remote), 9)) == expected


@pytest.mark.parametrize(
    ("bind", "kind", "words"),
    [
        ("nonsense", UsageError, "not an IPv4 or IPv6 address"),
        ("", UsageError, "not an IPv4 or IPv6 address"),
        ("::1%no-such-device", UsageError, "only a link-local address has a zone: leave %no-such-device out"),
        ("fe80::1", UsageError, "--bind fe80::1: a link-local address needs .*, as in --bind fe80::1%eth0"),
        ("[fd09::1", UsageError, r"--bind \[fd09::1: not an IPv4 or IPv6 address"),
        ("fd09::1]", UsageError, "not an IPv4 or IPv6 address"),
        ("::ffff:10.9.9.1", UsageError, "--bind ::ffff:10.9.9.1: an IPv4 address is written as such: --bind 10.9.9.1"),
        ("fe80::1%%v0", UsageError, "--bind fe80::1%%v0: .* as in --bind fe80::1%eth0"),
        ("fe80::1%v0%v0", UsageError, "--bind fe80::1%v0%v0: .* as in --bind fe80::1%eth0"),
        ("fe80::1%", UsageError, "--bind fe80::1%: .* as in --bind fe80::1%eth0"),
        ("224.0.0.1", UsageError, "no host has a multicast or broadcast address"),
        ("ff02::1%lo", UsageError, "no host has a multicast or broadcast address"),
        ("255.255.255.255", UsageError, "no host has a multicast or broadcast address"),
        ("fe80::1%no-device", NotThereError, "--bind fe80::1%no-device: there is no network device no-device"),
        ("fe80::1%2147483647", NotThereError, "--bind fe80::1%2147483647: there is no such network device"),
        ("192.0.2.1", NotThereError, "this host has no such address"),
    ],
)
def test_what_cannot_be_bound_is_a_mistake(bind: str, kind: type[Tap2tapError], words: str) -> None:
    with pytest.raises(kind, match=words):
        open_socket(bind, 0)


def test_a_port_in_use_is_told() -> None:
    with open_socket("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(StartError, match=f"UDP 127.0.0.1 port {port} is in use: .*--port") as caught:
            open_socket("127.0.0.1", port)
        assert not isinstance(caught.value, NoPermissionError)


addresses = st.ip_addresses() | st.ip_addresses(network="fe80::/10")


@given(addresses, st.sampled_from(["", "%eth0", "%3"]), st.none() | st.sampled_from(["eth0", "eth1"]))
def test_an_address_is_read_with_its_zone_or_refused(address: ipaddress.IPv6Address, zone: str, device: str) -> None:
    """A zone goes with a link-local address, which needs one, or the device."""
    link_local = address.version == 6 and address.is_link_local
    possible = zone in ("", f"%{device}") or device is None
    right = possible and bool(zone or device) if link_local else not zone and not address.is_multicast
    if right and str(address) != "255.255.255.255":
        assert parse_bind(f"{address}{zone}", device) == (address, zone[1:])
    else:
        with pytest.raises(UsageError, match=r"--bind [^\n]*"):
            parse_bind(f"{address}{zone}", device)


@given(st.text())
def test_any_text_is_an_address_or_a_mistake(text: str) -> None:
    try:
        parse_bind(text, None)
    except UsageError:
        return
    assert ipaddress.ip_address(text.strip("[]").split("%")[0])


@pytest.mark.parametrize("mark", [0, 1, 2**31, 2**32 - 1])
@pytest.mark.usefixtures("root")
def test_a_socket_has_the_mark_that_it_was_given(mark: int) -> None:
    with open_socket(None, 0, mark=mark) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) & 0xFFFFFFFF == mark


@pytest.mark.parametrize("bind", [None, "127.0.0.1", "::", "0.0.0.0"])
def test_a_socket_is_bound_to_the_device_that_it_was_given(bind: str | None) -> None:
    with open_socket(bind, 0, device="lo") as sock:
        assert bound_device(sock) == "lo"
        assert device_index("lo") == device_index(str(device_index("lo"))) == socket.if_nametoindex("lo")
    with pytest.raises(NotThereError, match="--device no-device: there is no such network device"):
        open_socket(bind, 0, device="no-device")


def test_a_zone_is_the_device_of_the_socket(alone: Host) -> None:
    alone.run(["ip", "link", "add", "eth7", "type", "veth", "peer", "name", "eth8"])
    for name in ("eth7", "eth8"):
        alone.link(name, state="up")
        alone.address(name, "fe80::7/64")
    with alone.inside():
        for bind, device in (("fe80::7%eth8", None), ("[fe80::7%eth8]", "eth8"), ("fe80::7", "eth8")):
            with open_socket(bind, 0, device=device) as sock:
                assert bound_device(sock) == "eth8"
