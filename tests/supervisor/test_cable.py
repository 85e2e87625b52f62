"""What the supervisor makes of the kernel that it finds."""

import ipaddress
import os
import socket

import pytest

from tap2tap import endpoint, memory
from tap2tap.config import Config
from tap2tap.counters import Slot
from tap2tap.endpoint import Endpoint
from tap2tap.supervisor import plain_path
from tap2tap.supervisor.cable import joins_udp
from tap2tap.supervisor.tap_setup import super_frame_size
from tap2tap.workers.train import MAX_PAYLOAD
from tap2tap.workers.worker import Cable

NEW = ["6.8.5", "6.8.5-arch1-1", "6.8.10-300.fc40.x86_64", "6.9", "6.9.0", "6.10.0-rc3", "6.18.44+", "7.0-rc1"]
NEW += ["10.0.0", "6.18.20.1-microsoft-standard-WSL2"]
OLD = ["6.8.4", "6.8.0-31-generic", "6.8", "6.8-rc5", "6.7.12", "6.6.87.2-microsoft-standard-WSL2", "6.2.16-3-pve"]
OLD += ["4.19", "2.6.78"]
ODD = [
    "",
    "6",
    "v6.9",
    "6.",
    "6.x",
    "6..9",
    "Linux",
    "9.",
    "-6.9",
    "6 .9",
    "\u0667.1.2",
    " 6.9",
    "9" * 64,
    "7." + "9" * 64,
]


@pytest.mark.parametrize(("releases", "joined"), [(NEW, True), (OLD, False), (ODD, False)])
def test_udp_is_joined_where_the_kernel_is_known_to_take_it(releases: list[str], joined: bool) -> None:
    assert [release for release in releases if joins_udp(release) is not joined] == []


def test_the_kernel_of_this_machine_is_taken_apart() -> None:
    major, minor = (int(number) for number in os.uname().release.split(".")[:2])
    if (major, minor) != (6, 8):
        assert joins_udp(os.uname().release) is ((major, minor) > (6, 8))


@pytest.mark.parametrize("reserved", [193, 257, 321])  # MAX_TCP_HEADER + 1, by how the kernel is configured
@pytest.mark.parametrize("headers", [52, 72])  # of IPv4 and of IPv6, and TCP's with time stamps
@pytest.mark.parametrize(("key", "overhead", "mtu"), [(None, 0, 1458), (None, 0, 1438), ("key", 24, 1500)])
def test_a_super_frame_of_tcp_is_one_train_on_a_path_of_1500(
    key: str | None, overhead: int, mtu: int, headers: int, reserved: int
) -> None:
    """And as few super-frames are made as can be."""
    packet = min(mtu, 1500 - 28 - overhead - 14)
    segments = (super_frame_size(Config(key=key), mtu) - reserved) // (packet - headers)
    datagram = overhead + 14 + packet
    assert segments * datagram <= MAX_PAYLOAD
    assert segments >= 43


@pytest.mark.parametrize("mtu", [68, 1280, 8934, 65461])
def test_a_super_frame_may_always_be_as_long_as_a_packet(mtu: int) -> None:
    assert min(mtu + 14, 65536) <= super_frame_size(Config(mtu=mtu), mtu) <= 65536


@pytest.mark.parametrize(("mtu", "payload"), [(1500, 1472), (20, 0), (28, 0), (1 << 20, 65507)])
def test_a_route_says_what_a_datagram_holds_however_odd_its_mtu(
    mtu: int, payload: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_path, "path_mtu", lambda *_: mtu)
    shared = memory.create()
    endpoint.store(shared.slots, Slot.PEER, Endpoint(ipaddress.ip_address("192.0.2.1"), 1234))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        cable = Cable("tap0", -1, sock, shared, 1458, False, 0, True, True, True, True)
        assert plain_path.measure(cable) == (payload, 28)
    assert shared.slots[Slot.PATH] == payload
