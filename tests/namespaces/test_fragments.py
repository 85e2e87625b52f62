"""IP fragments: by default there are none, and where the plain protocol needs them, that is said and counted."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from tap2tap.demo.lab import Host, Lab, wait_for
from tap2tap.endpoint import Endpoint
from tap2tap.supervisor import plain_path
from tap2tap.udp_socket import open_socket
from tests.support import frames
from tests.support.secured import secured
from tests.support.traffic import Wire, bulk
from tests.support.tunnel import LEFT, LEFT6, RIGHT, RIGHT6, Tunnel, joined, ping

UNDERLAYS = pytest.mark.parametrize("version", [4, 6])
LINE = "frames are too long for the path and go in IP fragments"


def far_end(lab: Lab, version: int) -> str:
    """The address of the right host on the underlay."""
    return lab.right.ipv4 if version == 4 else lab.right.ipv6


def fragments(*hosts: Host) -> int:
    """The IP fragments, of either version, that hosts have made."""
    found = 0
    for host in hosts:
        with host.inside():
            lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
            names, numbers = [line.split() for line in lines if line.startswith("Ip:")]
            found += int(numbers[names.index("FragCreates")])
            six = dict(line.split() for line in Path("/proc/thread-self/net/snmp6").read_text().splitlines())
            found += int(six["Ip6FragCreates"])
    return found


def largest(mtu: int) -> tuple[str, ...]:
    """Options of ping(8) for the largest packet of IPv4 that an interface of that MTU takes whole."""
    return "-M", "do", "-s", str(mtu - 28)


@UNDERLAYS
def test_by_default_nothing_goes_in_fragments(lab: Lab, version: int) -> None:
    with joined(lab.left, lab.right, remote=far_end(lab, version)) as (client, server):
        client_mtu, server_mtu = client.stats()["mtu"], server.stats()["mtu"]
        assert (client_mtu, server_mtu) == (1458 if version == 4 else 1438, 1438)
        assert ping(lab.left, RIGHT, *largest(min(client_mtu, server_mtu)))
        assert ping(lab.right, LEFT, *largest(server_mtu))
        bulk(lab.left, lab.right, RIGHT, RIGHT6, size=1 << 18)
        bulk(lab.right, lab.left, LEFT, LEFT6, size=1 << 18)
        assert not fragments(lab.left, lab.right)
        assert not client.said(LINE)
        for end in (client, server):
            wait_for(lambda end=end: end.stats()["path_mtu"] == 1500, what="path")  # type: ignore[misc]
            assert not end.worker("outbound")["parts"]


@pytest.mark.parametrize("version", [6])  # the bridged LANs do the same over IPv4
def test_with_a_key_frames_of_1500_bytes_pass_any_path_without_fragments(
    lab: Lab, tmp_path: Path, version: int
) -> None:
    lab.set_underlay_mtu(1400)
    with secured(lab.left, lab.right, tmp_path, remote=far_end(lab, version)) as (client, server):
        assert client.stats()["mtu"] == server.stats()["mtu"] == 1500
        assert ping(lab.left, RIGHT, *largest(1500))
        bulk(lab.left, lab.right, RIGHT, RIGHT6, size=1 << 18)
        bulk(lab.right, lab.left, LEFT, LEFT6, size=1 << 18)
        assert not fragments(lab.left, lab.right)
        for end in (client, server):
            assert end.worker("outbound")["parts"]
            wait_for(lambda end=end: end.stats()["path_mtu"] == 1400, what="path")  # type: ignore[misc]
            wait_for(lambda end=end: end.stats()["session"]["peer_mtu"] == 1500, what="news")  # type: ignore[misc]

        def measured() -> bool:
            bulk(lab.left, lab.right, RIGHT, size=1 << 18)  # the ends report while there is traffic, once a second
            return all(end.stats()["session"]["round_trip_seconds"] for end in (client, server))

        wait_for(measured, what="round trip")


@pytest.mark.parametrize(("options", "mtu"), [([], 1438), (["--bind", "10.213.0.1"], 1458), (["--bind", "::"], 1438)])
def test_a_server_has_the_mtu_that_fits_whoever_can_call(lab: Lab, options: list[str], mtu: int) -> None:
    assert lab.left.ipv4 == "10.213.0.1"
    with Tunnel(lab.left, *options) as tunnel:
        assert tunnel.stats()["mtu"] == mtu


@UNDERLAYS
def test_frames_in_fragments_arrive_and_are_told_once_with_the_mtu_that_fits(lab: Lab, version: int) -> None:
    with joined(lab.left, lab.right, "--mtu", "1500", remote=far_end(lab, version)) as (client, server):
        bulk(lab.left, lab.right, RIGHT, RIGHT6, size=1 << 18)
        bulk(lab.right, lab.left, LEFT, LEFT6, size=1 << 18)
        assert not fragments(lab.left, lab.right)  # TCP never pays
        assert not client.said(LINE)
        assert ping(lab.left, RIGHT, *largest(1500))
        assert fragments(lab.left)
        for end, count in ((client, 1), (server, 1)):
            end.wait_said(LINE)
            (line,) = [line for line in end.log if LINE in line]
            assert f"--mtu {1458 if version == 4 else 1438} avoids that, and --key does" in line
            assert line.endswith("interface=tap0 mtu=1500 path_mtu=1500")
            assert end.worker("outbound")["parts"] >= count
        assert ping(lab.left, RIGHT, *largest(1500))
        lab.left.link("eth0", mtu=1400)
        wait_for(lambda: client.stats()["path_mtu"] == 1400, what="look at the route")  # and so at the frames
        assert len([line for line in client.log if LINE in line]) == 1


def test_tags_that_make_frames_too_long_are_told_of_with_an_mtu_that_leaves_room_for_them(lab: Lab) -> None:
    tags = ((0x8100, 7),)
    flow = frames.Flow(tags=tags, macs=bytes.fromhex("02000000000b 02000000000a"))
    (frame,) = frames.segments(flow, frames.payload(1418), 1418)
    with Tunnel(lab.left, "--remote", lab.right.ipv4) as client, Wire(lab.left) as wire:
        wire.send(frame)
        client.wait_said("--mtu 1450 avoids that")


def test_the_path_is_the_routes_and_follows_it(lab: Lab) -> None:
    with Tunnel(lab.left, "--remote", lab.right.ipv4) as client:
        assert client.stats()["path_mtu"] == 1500  # from the start
        lab.left.route("add", f"{lab.right.ipv4}/32", metrics={"mtu": 1300})
        wait_for(lambda: client.stats()["path_mtu"] == 1300, what="news of the route")


def test_each_version_and_source_has_a_route_of_its_own(lab: Lab) -> None:
    there = {version: Endpoint(ip_address(far_end(lab, version)), 1234) for version in (4, 6)}
    nowhere = Endpoint(ip_address("203.0.113.1"), 1234)
    lab.left.route("add", f"{lab.right.ipv6}/128", metrics={"mtu": 1290})
    lab.left.run(["ip", "rule", "add", "from", "10.213.0.77", "table", "77"])
    lab.left.run(["ip", "route", "add", "default", "dev", "eth0", "mtu", "1277", "table", "77"])
    lab.left.address("eth0", "10.213.0.77/24")
    with lab.left.inside():
        with open_socket(None, 1) as anywhere:
            assert plain_path.path_mtu(there[4], anywhere) == 1500
            assert plain_path.path_mtu(there[6], anywhere) == 1290
            assert plain_path.path_mtu(nowhere, anywhere) == plain_path.UNKNOWN
        with open_socket("10.213.0.77", 2) as bound:
            assert plain_path.path_mtu(there[4], bound) == 1277
