"""A bridge whose other ports are longer than the tap drops frames in silence: the log says so, once, and what to do."""

import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from tap2tap import clock, device, log
from tap2tap.demo.lab import Host, Lab
from tap2tap.supervisor import netlink
from tap2tap.supervisor.bridges import PAUSE, Bridges
from tests.support.secured import make_keys
from tests.support.tunnel import Tunnel

LINE = "the bridge drops frames that are too long for this tap"


def bridge(host: Host, *ports: str, mtu: int = 1500) -> None:
    """A bridge br0 on a host with these ports, each of which is made unless it is there."""
    host.run(["ip", "link", "add", "br0", "type", "bridge"])
    for port in ports:
        if not host.has_link(port):
            other(host, port, mtu)
        host.run(["ip", "link", "set", port, "master", "br0", "up"])


def other(host: Host, name: str, mtu: int) -> None:
    """Another device."""
    host.run(["ip", "link", "add", name, "mtu", str(mtu), "type", "veth", "peer", "name", f"{name}-end"])


class Seen:
    """What a supervisor sees of the bridges of the left host, which tap0 may be a port of, and what it says."""

    def __init__(self, lab: Lab, capfd: pytest.CaptureFixture[str], *, parts: bool = False) -> None:
        self._capfd = capfd
        log.setup("test")
        with lab.left.inside():
            self.tap = device.open_tap("tap0", carrier=True).fd
            self.bridges = Bridges(self.tap, parts=parts)
        self._host = lab.left

    def said(self) -> list[str]:
        """What is said at a look of now."""
        with self._host.inside():
            self.bridges.look()
        return self._capfd.readouterr().err.splitlines()

    def close(self) -> None:
        """The end of it."""
        self.bridges.close()
        os.close(self.tap)


@pytest.fixture
def seen(lab: Lab, capfd: pytest.CaptureFixture[str]) -> Iterator[Seen]:
    """What a supervisor of the plain protocol sees."""
    made = Seen(lab, capfd)
    yield made
    made.close()


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "key"])
def test_a_tunnel_whose_tap_becomes_port_of_a_bridge_says_what_mends_it(
    lab: Lab, tmp_path: Path, *, keyed: bool
) -> None:
    options = ["--key", make_keys(tmp_path)[0]] if keyed else []
    with Tunnel(lab.left, *options) as tunnel:
        bridge(lab.left, "tap0", "lan0", mtu=1500)
        if keyed:
            lab.left.link("lan0", mtu=9000)  # the ports change later still
        tunnel.wait_said(LINE)
        (line,) = [line for line in tunnel.log if LINE in line]
        assert f"start both ends with --{'mtu 9000' if keyed else 'key, or with --mtu 1500'}" in line
        assert line.endswith(f"interface=tap0 mtu={1500 if keyed else 1438}")


def test_what_is_known_is_not_told_again(lab: Lab, seen: Seen) -> None:
    lab.left.link("tap0", mtu=1400)
    assert seen.said() == []
    bridge(lab.left, "tap0", "lan0")
    (line,) = seen.said()
    assert line.endswith("bridge=br0 port=lan0 port_mtu=1500 interface=tap0 mtu=1400")
    assert seen.said() == []
    lab.left.link("lan0", mtu=1400)
    assert seen.said() == []
    lab.left.link("lan0", mtu=1500)
    assert seen.said() == []
    lab.left.link("lan0", mtu=9000)
    (line,) = seen.said()
    assert "port_mtu=9000" in line


def test_a_tap_that_fits_its_bridge_is_nothing_to_tell(lab: Lab, seen: Seen) -> None:
    bridge(lab.left, "tap0", "lan0", mtu=1500)
    assert seen.said() == []


def test_the_option_that_is_named_is_one_that_there_is(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    keyed = Seen(lab, capfd, parts=True)
    bridge(lab.left, "tap0", "lan0", mtu=65535)
    (line,) = keyed.said()
    assert "start both ends with --mtu 65461 " in line
    keyed.close()


def test_another_device_of_that_name_is_not_taken_for_a_tap_that_has_moved_away(lab: Lab, seen: Seen) -> None:
    lab.left.run(["ip", "link", "set", "tap0", "netns", str(lab.right.pid)])
    other(lab.left, "tap0", 1000)
    bridge(lab.left, "tap0", "lan0", mtu=1500)
    assert seen.said() == []
    lab.left.delete_link("tap0")
    assert seen.said() == []
    lab.right.run(["ip", "link", "set", "tap0", "mtu", "1000", "netns", str(lab.left.pid)])
    lab.left.run(["ip", "link", "set", "tap0", "name", "tap1", "master", "br0"])
    (line,) = seen.said()
    assert line.endswith("interface=tap1 mtu=1000")


def test_a_storm_of_changes_is_one_look(lab: Lab, seen: Seen) -> None:
    other(lab.left, "lan0", 1500)
    seen.said()
    assert seen.bridges.due == float("inf")
    ((fd, changed),) = seen.bridges.waiting.items()
    assert not select.select([fd], [], [], 0)[0]
    for mtu in range(1300, 1400):
        lab.left.link("lan0", mtu=mtu)
    assert select.select([fd], [], [], 30)[0]
    changed()
    assert not seen.bridges.waiting  # whatever else changes until then
    assert seen.bridges.due <= clock.now() + PAUSE
    seen.said()
    assert not select.select([fd], [], [], 0)[0]
    assert seen.bridges.waiting


def test_the_bridge_keeps_its_address_when_the_tap_joins(lab: Lab) -> None:
    def mac() -> bytes:
        with lab.left.inside():
            found = netlink.link(name="br0")
        assert found
        return found.address

    with Tunnel(lab.left):
        bridge(lab.left, "lan0")
        lab.left.link("lan0", address="fa:ff:ff:ff:ff:ff")  # lower than fe alone: a bridge takes the lowest
        before = mac()
        lab.left.run(["ip", "link", "set", "tap0", "master", "br0"])
        assert mac() == before


def test_what_the_kernel_says_of_links_is_what_ip_says(lab: Lab) -> None:
    bridge(lab.left, *[f"lan{number}" for number in range(20)], mtu=1300)  # more than one answer holds
    with lab.left.inside():
        br0, lan0 = netlink.link(name="br0"), netlink.link(lab.left.index("lan0"))
        assert br0
        assert lan0
        assert (br0.kind, br0.master, br0.name) == ("bridge", 0, "br0")
        assert (lan0.kind, lan0.master, lan0.name, lan0.mtu) == ("veth", br0.number, "lan0", 1300)
        assert lan0.address.hex(":") in lab.left.run(["ip", "link", "show", "lan0"]).stdout
        assert {port.name for port in netlink.ports(br0.number)} == {f"lan{number}" for number in range(20)}
        assert netlink.link(name="none") is None
        assert netlink.link(9999) is None


def test_a_tap_knows_its_name_and_address_wherever_it_is(lab: Lab) -> None:
    with lab.left.inside():
        tap = device.open_tap("tap7", carrier=True)
    with open(tap.fd, "rb", buffering=0):
        lab.left.link("tap7", address="02:00:00:00:00:07")
        lab.left.run(["ip", "link", "set", "tap7", "netns", str(lab.right.pid)])
        lab.right.link("tap7", ifname="tap8")
        assert device.name_and_mac(tap.fd) == ("tap8", bytes.fromhex("020000000007"))
        assert not device.is_persistent(tap.fd)
