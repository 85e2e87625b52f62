"""The cable between two hosts: every kind of underlay and of frame, with and without offloads."""

import time
from pathlib import Path

import pytest

from tap2tap.demo.lab import Lab, wait_for
from tests.support import frames
from tests.support.traffic import Stream, Wire, bulk
from tests.support.tunnel import LEFT, LEFT6, RIGHT, RIGHT6, Tunnel, address, joined, ping, wait_ping

OFFLOADS = pytest.mark.parametrize("options", [(), ("--no-offload",)], ids=["offload", "frame-by-frame"])
UNDERLAYS = pytest.mark.parametrize("version", [4, 6])
EACH_ONCE = pytest.mark.parametrize(
    ("version", "options"), [(4, ()), (6, ("--no-offload",))], ids=["4-offload", "6-frame-by-frame"]
)
CROSSWISE = pytest.mark.parametrize(
    ("version", "options"), [(6, ()), (4, ("--no-offload",))], ids=["6-offload", "4-frame-by-frame"]
)
TAGS = ((), ((0x8100, 7),), ((0x88A8, 0x2007), (0x8100, 8)))


def far_end(lab: Lab, version: int) -> str:
    """The address of the right host on the underlay."""
    return lab.right.ipv4 if version == 4 else lab.right.ipv6


@EACH_ONCE
def test_ping_and_tcp_pass_both_ways(lab: Lab, version: int, options: tuple[str, ...]) -> None:
    with joined(lab.left, lab.right, *options, remote=far_end(lab, version)):
        for host, target in ((lab.left, RIGHT), (lab.left, RIGHT6), (lab.right, LEFT), (lab.right, LEFT6)):
            assert ping(host, target)
        bulk(lab.left, lab.right, RIGHT, RIGHT6)
        bulk(lab.right, lab.left, LEFT, LEFT6)


@UNDERLAYS
def test_the_remote_may_be_a_name(lab: Lab, tmp_path: Path, version: int) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{far_end(lab, version)} far-end.example\n")
    # /etc/hosts is another file in a mount namespace of the client's own.
    private = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)]
    with Tunnel(lab.right), Tunnel(lab.left, "--remote", "far-end.example", prefix=private) as client:
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        assert client.stats()["peer"] == (f"{lab.right.ipv4}:1234" if version == 4 else f"[{lab.right.ipv6}]:1234")


@OFFLOADS
def test_full_size_frames_pass_with_their_vlan_tags(lab: Lab, options: tuple[str, ...]) -> None:
    with joined(lab.left, lab.right, *options) as (client, server), Wire(lab.right) as right, Wire(lab.left) as left:
        lab.left.link("tap0", mtu=1458 + 8)  # or else the packet socket refuses to send two tags on top of the MTU
        for tags in TAGS:
            flow = frames.Flow(tags=tags, macs=bytes.fromhex("02000000000b 02000000000a"))
            segments = frames.segments(flow, frames.payload(30 * 1418), 1418)
            assert len(segments[0]) == 1458 + 14 + 4 * len(tags)
            odd = [frame[:12] + b"\x88\xb5" + frame[14:] for frame in segments[:3]]  # of an unknown protocol
            for sent in (odd, segments) if not tags else (segments,):
                left.send(*sent)
                got: list[bytes] = []
                deadline = time.monotonic() + 20
                while len(got) < len(sent) and time.monotonic() < deadline:
                    seen = right.seen()
                    if seen and seen.frame[:12] == flow.macs:
                        got += recut(seen.frame, 1418)
                assert got == sent
        assert not client.worker("outbound")["dropped"]
        assert not server.worker("inbound")["dropped"]


def recut(frame: bytes, mss: int) -> list[bytes]:
    """The frames of the wire that a frame of the tap stands for."""
    if frame[12:14] == b"\x88\xb5":
        return [frame]
    flow, payload = frames.dissect(frame)
    return frames.segments(flow, payload, mss) if len(payload) > mss else [frame]


@EACH_ONCE
def test_jumbo_frames_arrive_over_a_path_that_is_too_small_for_them(
    lab: Lab, version: int, options: tuple[str, ...]
) -> None:
    with joined(lab.left, lab.right, "--mtu", "9000", *options, remote=far_end(lab, version)) as (client, server):
        assert ping(lab.left, RIGHT, "-M", "do", "-s", "8972")
        bulk(lab.left, lab.right, RIGHT, RIGHT6)
        bulk(lab.right, lab.left, LEFT, LEFT6)
        for tunnel in (client, server):
            assert not {"too_long", "other"} & tunnel.worker("outbound")["dropped"].keys()
            assert not tunnel.worker("inbound")["dropped"]


@CROSSWISE
def test_a_path_smaller_than_expected_costs_speed_and_nothing_else(
    lab: Lab, version: int, options: tuple[str, ...]
) -> None:
    with joined(lab.left, lab.right, *options, remote=far_end(lab, version)) as (client, server):
        for mtu in (1500, 1400, 1500):  # it changes while the tunnel runs
            # Connected before, so that their MSS is of the path that was.
            streams = [Stream(lab.left, lab.right, target, 1 << 19) for target in (RIGHT, RIGHT6)]
            streams += [Stream(lab.right, lab.left, target, 1 << 19) for target in (LEFT, LEFT6)]
            lab.set_underlay_mtu(mtu)
            for stream in streams:
                stream.start()
            for stream in streams:
                stream.check()
        for tunnel in (client, server):
            assert not {"too_long", "other"} & tunnel.worker("outbound")["dropped"].keys()
            assert (tunnel.worker("outbound")["fallbacks"] > 0) == (not options)


@OFFLOADS
def test_route_mtu_alone_may_be_smaller(lab: Lab, options: tuple[str, ...]) -> None:
    lab.left.run(["ip", "route", "add", f"{lab.right.ipv4}/32", "dev", "eth0", "mtu", "1300"])
    with joined(lab.left, lab.right, *options):
        bulk(lab.left, lab.right, RIGHT, RIGHT6)
        bulk(lab.right, lab.left, LEFT, LEFT6)


def test_two_tunnels_of_one_host_do_not_mix(lab: Lab) -> None:
    with (
        joined(lab.left, lab.right) as (first, _),
        Tunnel(lab.right, "--port", "4321", interface="tap1"),
        Tunnel(lab.left, "--remote", f"{lab.right.ipv4}:4321", "--port", "4321", interface="tap1") as second,
    ):
        lab.left.address("tap1", "10.10.0.1/24")
        lab.right.address("tap1", "10.10.0.2/24")
        wait_ping(lab.left, "10.10.0.2")
        wait_ping(lab.left, RIGHT)
        assert {first.stats()["peer"], second.stats()["peer"]} == {f"{lab.right.ipv4}:{port}" for port in (1234, 4321)}


def test_the_server_learns_its_client_without_any_frame(lab: Lab) -> None:
    with Tunnel(lab.right) as server:
        # No address, and no IPv6 whose autoconfiguration would speak first.
        lab.left.sysctl("net/ipv6/conf/default/disable_ipv6", "1")
        lab.right.sysctl("net/ipv6/conf/tap0/disable_ipv6", "1")
        with Tunnel(lab.left, "--remote", lab.right.ipv4):
            wait_for(lambda: server.stats()["peer"] == f"{lab.left.ipv4}:1234", what="client")
            assert not server.worker("inbound")["frames"]


def test_a_tunnel_may_be_bound_to_one_address(lab: Lab) -> None:
    lab.right.address("eth0", "10.213.0.99/24")
    with (
        Tunnel(lab.right, "--bind", "10.213.0.99") as server,
        Tunnel(lab.left, "--remote", "10.213.0.99", "--bind", lab.left.ipv4),
    ):
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        assert server.stats()["local"] == "10.213.0.99:1234"
        bulk(lab.right, lab.left, LEFT, LEFT6)
