"""Is the peer there, and where: it moves, dies and comes back; carrier, hooks, log and stats follow it."""

from pathlib import Path

from tap2tap.demo.lab import Lab, wait_for
from tap2tap.protocols.secure.wire import TYPE_CONTROL
from tests.processes.test_ends import script
from tests.support.secured import (
    IMPATIENT,
    Relay,
    Sniffer,
    is_up,
    make_keys,
    plugged_in,
    secure,
    secured,
    wait_up,
)
from tests.support.traffic import Stream, bulk
from tests.support.tunnel import LEFT, RIGHT, Tunnel, address, ping, wait_ping


class Diary:
    """What an --on-peer hook was told of the peer: (event, peer, interface) one after the other.

    With `path`, of the path MTU too, which is the last of each entry then.
    """

    def __init__(self, folder: Path, name: str, *, path: bool = False) -> None:
        self.file = folder / f"{name}.diary"
        note = '"$TAP2TAP_EVENT $TAP2TAP_PEER $1' + (' $TAP2TAP_PATH_MTU"' if path else '"')
        only = "" if path else '[ "$TAP2TAP_EVENT" = path-mtu ] || '
        self.hook = script(folder / name, f"{only}echo {note} >> {self.file}")

    @property
    def entries(self) -> list[tuple[str, ...]]:
        """All so far."""
        return [tuple(line.split(" ")) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def wait(self, *entries: tuple[str, str]) -> None:
        """Wait until exactly these, of tap0, have been written since the beginning."""
        expected = [(*entry, "tap0") for entry in entries]
        wait_for(lambda: len(self.entries) >= len(expected), 30, f"hook: {self.entries}")
        assert self.entries == expected


def wait_peer(tunnel: Tunnel, endpoint: str) -> None:
    """Wait until a tunnel says that its peer is there."""
    wait_for(lambda: tunnel.stats()["peer"] == endpoint, 30, f"peer at {endpoint}")


def test_the_carrier_and_the_hooks_follow_the_peer(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    ours, theirs = Diary(tmp_path, "ours"), Diary(tmp_path, "theirs")
    left, right = f"{lab.left.ipv4}:1234", f"{lab.right.ipv4}:1234"
    options = ("--keepalive", "1", "--remote", lab.right.ipv4, "--on-peer", ours.hook)

    def server() -> Tunnel:
        return secure(lab.right, vps, "--on-peer", theirs.hook, timers=IMPATIENT)

    with secure(lab.left, home, *options, timers=IMPATIENT) as client:
        assert not plugged_in(lab.left)
        assert not ours.entries
        with server() as first:
            wait_up(client, first)
            wait_for(lambda: plugged_in(lab.left) and plugged_in(lab.right), 10, "carrier")
            ours.wait(("peer-up", right))
            theirs.wait(("peer-up", left))
            first.process.kill()
            wait_for(lambda: not plugged_in(lab.left), 30, "end of the carrier")
            client.wait_said("peer is down")
            ours.wait(("peer-up", right), ("peer-down", right))
            assert client.stats()["session"]["state"] == "handshake"
        with server() as second:
            wait_up(client, second)
            wait_for(lambda: plugged_in(lab.left), 10, "carrier")
            ours.wait(("peer-up", right), ("peer-down", right), ("peer-up", right))
            address(lab.left, lab.right)
            wait_ping(lab.left, RIGHT)
            assert client.stop() == 0
            wait_for(lambda: not plugged_in(lab.right), 30, "end of the carrier")
            theirs.wait(("peer-up", left), ("peer-up", left), ("peer-down", left))


def test_a_server_that_came_back_is_found_by_traffic_without_keepalives(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    with secure(lab.left, home, "--remote", lab.right.ipv4, "--keepalive", "0", timers=IMPATIENT):
        for _ in range(2):
            with secure(lab.right, vps, timers=IMPATIENT) as server:
                lab.left.address("tap0", f"{LEFT}/24", "replace")
                lab.right.address("tap0", f"{RIGHT}/24")
                lab.left.run(["ip", "neighbour", "flush", "dev", "tap0"])  # another MAC address
                wait_ping(lab.left, RIGHT)
                assert is_up(server)


def test_keepalives_alone_keep_the_peer_up(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    for host in (lab.left, lab.right):  # nothing on the taps but what a test sends: no IPv6 that says hello
        host.sysctl("net/ipv6/conf/default/disable_ipv6", "1")
    with (
        Sniffer(lab.right) as wire,
        secure(lab.right, vps) as server,
        secure(lab.left, home, "--remote", lab.right.ipv4, "--keepalive", "1") as client,
    ):
        wait_up(client, server)
        for tunnel in (client, server):
            wait_for(lambda it=tunnel: it.worker("inbound")["keepalives"] >= 4, 30, "keepalives")  # type: ignore[misc]
            assert tunnel.worker("inbound")["frames"] == 0
            assert is_up(tunnel)
        assert not any(tunnel.said("peer is down") for tunnel in (client, server))
    sent = [each.payload for each in wire.stop()]
    assert {len(payload) for payload in sent if payload[0] != TYPE_CONTROL} == {100, 84, 24}


def test_the_tunnel_follows_a_client_whose_address_changes(lab: Lab, tmp_path: Path) -> None:
    diary = Diary(tmp_path, "moves")
    home, vps = make_keys(tmp_path)
    with (
        secure(lab.right, vps, "--on-peer", diary.hook) as server,
        secure(lab.left, home, "--remote", lab.right.ipv4) as client,
    ):
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        stream = Stream(lab.right, lab.left, LEFT, 8 << 20).start()
        lab.left.address("eth0", f"{lab.left.ipv4}/24", "del")
        lab.left.address("eth0", "10.213.0.77/24")
        stream.check()
        wait_peer(server, "10.213.0.77:1234")
        server.wait_said("peer moved endpoint=10.213.0.77:1234")
        diary.wait(("peer-up", f"{lab.left.ipv4}:1234"), ("peer-moved", "10.213.0.77:1234"))
        bulk(lab.left, lab.right, RIGHT)
        assert client.stats()["session"]["rekeys"] == server.stats()["session"]["rekeys"] == 0


def test_the_tunnel_survives_a_nat_that_forgets(road: Lab, tmp_path: Path) -> None:
    with (
        Relay(road["middle"], road.right.ipv4) as nat,
        secured(road.left, road.right, tmp_path, "--keepalive", "1", remote=road["middle"].ipv4) as (
            client,
            server,
        ),
    ):
        wait_peer(server, f"{road['middle'].ipv4}:{nat.port}")
        for _ in range(2):
            endpoint = f"{road['middle'].ipv4}:{nat.rebind()}"
            server.wait_said(f"peer moved endpoint={endpoint}")  # a keepalive is enough
            wait_peer(server, endpoint)
            assert ping(road.right, LEFT)
        bulk(road.left, road.right, RIGHT, size=1 << 20)
        assert not client.said("peer moved")
        assert not any(tunnel.said("peer is down") for tunnel in (client, server))
        assert client.stats()["session"]["rekeys"] == server.stats()["session"]["rekeys"] == 0


def test_both_ends_may_call_at_once_and_either_may_be_found_again(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    with (
        secure(lab.right, vps, "--remote", lab.left.ipv4, "--port", "4321") as right,
        secure(lab.left, home, "--remote", f"{lab.right.ipv4}:4321") as left,
    ):
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        bulk(lab.left, lab.right, RIGHT, size=1 << 20)
        bulk(lab.right, lab.left, LEFT, size=1 << 20)
        for tunnel in (left, right):
            assert len([line for line in tunnel.log if "peer is up" in line]) == 1
