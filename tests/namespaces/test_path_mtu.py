"""The path MTU of a secure tunnel is found though nobody tells: a narrow path, one that shrinks, a small device."""

from pathlib import Path

from tap2tap.demo.lab import Lab, wait_for
from tests.conftest import lacking
from tests.processes.test_secure_presence import Diary
from tests.support.routed import Routed
from tests.support.secured import secured
from tests.support.traffic import Stream, bulk
from tests.support.tunnel import LEFT, RIGHT, Tunnel


def routed(mtu: int) -> Routed:
    """The routers, or the end of the test where there can be none."""
    try:
        return Routed(mtu)
    except PermissionError as error:
        lacking(str(error))


def told(tunnel: Tunnel) -> list[int]:
    """The path MTUs that a tunnel has told of."""
    return [int(line.split(" mtu=")[1].split()[0]) for line in tunnel.log if ": path mtu " in line]


def test_a_narrow_path_is_found_and_one_that_shrinks_is_noticed(tmp_path: Path) -> None:
    diary = Diary(tmp_path, "both", path=True)
    with routed(1400) as road:
        with secured(road.left, road.right, tmp_path, "--on-peer", diary.hook, remote=road.right.ipv4) as tunnels:
            for tunnel in tunnels:
                tunnel.wait_said(": path mtu mtu=1400 endpoint=")
            bulk(road.left, road.right, RIGHT, size=1 << 20)
            stream = Stream(road.left, road.right, RIGHT, 16 << 20).start()
            wait_for(lambda: stream.bytes, what="first bytes")
            road.narrow(1280)
            bulk(road.left, road.right, RIGHT, size=1 << 20)
            stream.check()
            assert tunnels[0].stats()["path_mtu"] == 1280
            bulk(road.right, road.left, LEFT, size=1 << 20)
            assert road.fragments() == 0
            for tunnel in tunnels:
                assert told(tunnel)[0] == 1400
        entries = [entry for entry in diary.entries if entry[0] == "path-mtu"]
    assert {entry[-1] for entry in entries if entry[1] == f"{road.right.ipv4}:1234"} >= {"1400"}
    assert {entry[-1] for entry in entries if entry[1] == f"{road.left.ipv4}:1234"} >= {"1400"}


def test_a_device_of_this_host_that_takes_less_is_noticed_at_once(lab: Lab, tmp_path: Path) -> None:
    with secured(lab.left, lab.right, tmp_path) as (client, server):
        client.wait_said(": path mtu mtu=1500")
        stream = Stream(lab.left, lab.right, RIGHT, 16 << 20).start()
        lab.left.link("eth0", mtu=1400)
        client.wait_said(": path mtu mtu=1400")
        stream.check()
        assert ping_of(lab, 1472)
        assert not client.said("peer is down")
        assert server.worker("inbound")["restarts"] == 0


def ping_of(lab: Lab, size: int) -> bool:
    """Whether an echo of a full-size packet comes back."""
    done = lab.left.run(["ping", "-n", "-c1", "-W5", "-M", "do", "-s", str(size), RIGHT], check=False)
    return done.returncode == 0
