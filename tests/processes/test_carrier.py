"""The carrier of a tap with a key, through the life of a tunnel: on from the first proof of the peer to its end."""

from pathlib import Path

from tap2tap.demo.lab import Host, Lab, wait_for
from tests.processes.test_failures import planted
from tests.support.link import DIRECTIONS, replace_link
from tests.support.nft import nft
from tests.support.secured import make_keys, plugged_in, secure, wait_up
from tests.support.tunnel import LEFT, RIGHT, Tunnel, address, wait_ping

# Sessions are short, and so is all patience.
SHORT = "rekey_after=2,reject_after=5,stop_before_reject=1,late_keepalive=1,give_up=2,unanswered=2,poll=0.2"


def carrier(host: Host) -> tuple[int, int]:
    """How often the carrier of tap0 came and went since it was made: no moment is missed, as it may be in events."""
    with host.netlink() as netlink:
        link = netlink.link("get", index=host.index("tap0"))[0]
    return link.get_attr("IFLA_CARRIER_UP_COUNT"), link.get_attr("IFLA_CARRIER_DOWN_COUNT")


def replace_all(tunnel: Tunnel) -> None:
    """Kill the link process and both workers, and wait for their successors."""
    replace_link(tunnel)
    for direction in DIRECTIONS:
        tunnel.wait_replaced(direction, tunnel.kill_worker(direction))


def test_a_bridged_tap_of_somebody_else_is_plugged_in_while_the_peer_is_there(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    lab.left.run(["ip", "tuntap", "add", "tap0", "mode", "tap"])
    lab.left.run(["ip", "link", "add", "br0", "type", "bridge"])
    lab.left.link("br0", state="up")
    lab.left.link("tap0", state="up", master=lab.left.index("br0"))
    ups, downs = carrier(lab.left)
    with secure(lab.left, home, "--remote", lab.right.ipv4) as client:
        replace_all(client)
        assert carrier(lab.left) == (ups, downs)
        with secure(lab.right, vps) as server:
            wait_up(client, server)
            wait_for(lambda: plugged_in(lab.left), 10, "carrier")
            lab.left.address("br0", f"{LEFT}/24")
            lab.right.address("tap0", f"{RIGHT}/24")
            wait_ping(lab.left, RIGHT)
            replace_all(client)
            wait_ping(lab.left, RIGHT)
            assert carrier(lab.left) == (ups + 1, downs)
        wait_for(lambda: not plugged_in(lab.left), 10, "end of the carrier")
        assert carrier(lab.left) == (ups + 1, downs + 1)
    with secure(lab.left, home, "--remote", lab.right.ipv4):
        assert carrier(lab.left) == (ups + 1, downs + 1)


def test_a_peer_that_only_starts_again_is_no_reason_to_pull_it(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    patient = planted("import tap2tap.link.driver as driver\ndriver.RESTART = 600.0")
    with Tunnel(lab.left, "--key", home, "--remote", lab.right.ipv4, command=patient) as client:
        seen = set()
        for _ in range(2):
            with secure(lab.right, vps) as server:
                wait_up(client, server)
                wait_for(lambda: plugged_in(lab.left), 10, "carrier")
                seen.add(carrier(lab.left))
            wait_for(lambda: client.stats()["session"]["state"] != "up", 10, "goodbye")
        assert seen == {carrier(lab.left)}


def test_a_path_that_leads_one_way_does_not_flap_it(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    with (
        secure(lab.right, vps, "--keepalive", "1", timers=SHORT) as server,
        secure(lab.left, home, "--remote", lab.right.ipv4, "--keepalive", "1", timers=SHORT) as client,
    ):
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        before = [carrier(host) for host in (lab.left, lab.right)]
        nft(
            lab.left,
            "add table inet cut",
            "add chain inet cut out { type filter hook output priority 0 ; }",
            "add rule inet cut out oifname eth0 udp dport 1234 drop",
        )
        client.wait_said("peer is down")
        wait_for(lambda: server.said("peer is down"), 30, f"end of the peer: {server.log}")
        assert [carrier(host) for host in (lab.left, lab.right)] == [(ups, downs + 1) for ups, downs in before]
        nft(lab.left, "delete table inet cut")
        wait_ping(lab.left, RIGHT)
        assert [carrier(host) for host in (lab.left, lab.right)] == [(ups + 1, downs + 1) for ups, downs in before]
