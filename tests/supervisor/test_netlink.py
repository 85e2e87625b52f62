"""What the kernel says of links, read by hand, and what is made of it."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap import device
from tap2tap.supervisor import netlink
from tap2tap.supervisor.bridges import Bridges
from tap2tap.supervisor.netlink import Link


def attribute(kind: int, content: bytes) -> bytes:
    """An attribute, with the padding behind it (netlink(7))."""
    return struct.pack("=HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


names = st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=15)


@given(st.integers(1, 2**31 - 1), names, st.binary(min_size=6, max_size=6), *[st.integers(0, 2**32 - 1)] * 2, names)
def test_a_link_is_read_whatever_stands_around_it(
    number: int, name: str, address: bytes, mtu: int, master: int, kind: str
) -> None:
    content = struct.pack("=BxHiII", 0, 1, number, 0, 0) + b"".join(
        (
            attribute(13, b"noqueue\0"),
            attribute(1, address),
            attribute(3, name.encode() + b"\0"),
            attribute(4, struct.pack("=I", mtu)),
            attribute(10, struct.pack("=I", master)),
            attribute(18 | 1 << 15, attribute(2, b"data") + attribute(1, kind.encode() + b"\0")),
            attribute(26, bytes(200)),
        )
    )
    message = struct.pack("=IHHII", 16 + len(content), netlink.RTM_NEWLINK, 0, 1, 0) + content
    ((which, inside),) = netlink.messages(message)
    assert which == netlink.RTM_NEWLINK
    assert netlink.read_link(inside) == Link(number, name, address, mtu, master, kind)


@pytest.mark.parametrize("kind", ["tun", "veth"])
def test_the_queues_of_a_tap_are_counted_whether_they_are_in_use_or_not(kind: str) -> None:
    data = b"".join(attribute(each, struct.pack("=I", number)) for each, number in ((7, 1), (8, 3), (9, 2)))
    info = attribute(1, kind.encode() + b"\0") + attribute(2, data)
    gso = attribute(40, struct.pack("=I", 64)) + attribute(41, struct.pack("=I", 65000))
    link = netlink.read_link(struct.pack("=BxHiII", 0, 1, 7, 0x1 | 0x1000, 0) + gso + attribute(18, info))
    assert (link.queues, link.gso_max_segs, link.gso_max_size, link.up) == (5 if kind == "tun" else 0, 64, 65000, True)


@given(*[st.integers(0, 2**32 - 1)] * 2, st.integers(0, 11))
def test_a_route_is_read_whatever_stands_around_it(interface: int, mtu: int, kind: int) -> None:
    content = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 0, 0, kind, 0) + b"".join(
        (
            attribute(1, bytes(4)),
            attribute(8, attribute(7, bytes(4)) + attribute(2, struct.pack("=I", mtu))),
            attribute(4, struct.pack("=I", interface)),
            attribute(12, bytes(32)),
        )
    )
    if 6 <= kind <= 8:
        with pytest.raises(OSError, match="No route"):
            netlink.read_route(content)
    else:
        assert netlink.read_route(content) == netlink.Route(interface, mtu)


@given(st.binary(max_size=200) | st.lists(st.integers(0, 40), max_size=60).map(bytes))
def test_whatever_comes_is_read_to_an_end(data: bytes) -> None:
    for _, content in netlink.messages(data):
        netlink.read_link(content)
    netlink.read_link(data)
    with suppress(OSError):
        netlink.read_route(data)


def test_where_the_kernel_refuses_netlink_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise PermissionError("refused")

    monkeypatch.setattr(netlink, "_socket", refused)
    monkeypatch.setattr(device, "name_and_mac", lambda _: ("tap0", bytes(6)))
    bridges = Bridges(-1, parts=True)
    assert bridges.waiting == {}
    bridges.look()
    assert (bridges.waiting, bridges.due) == ({}, float("inf"))
    bridges.close()


@pytest.mark.parametrize("kind", ["bridge", "bond", "vrf"])
def test_only_a_bridge_drops_what_is_too_long(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    tap, master = Link(7, "tap0", b"\xfe" * 6, 1458, 8, "tun"), Link(8, "over", bytes(6), 1500, 0, kind)
    ports = [tap, Link(9, "eth1", bytes(6), 1500, 8, "")]
    monkeypatch.setattr(device, "name_and_mac", lambda _: (tap.name, tap.address))
    monkeypatch.setattr(netlink, "link", lambda index=0, **_: master if index == master.number else tap)
    monkeypatch.setattr(netlink, "ports", lambda _: ports)
    bridges = Bridges(-1, parts=False)
    bridges.look()
    bridges.close()
    assert ("port=eth1" in capfd.readouterr().err) == (kind == "bridge")
