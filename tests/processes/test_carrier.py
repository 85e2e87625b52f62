"""The carrier of a tap with a key, through the life of a tunnel: on from the first proof of the peer to its end."""

from pathlib import Path

from tap2tap.demo.lab import Host, Lab, wait_for
from tests.support.link import DIRECTIONS, replace_link
from tests.support.nft import nft
from tests.support.secured import IMPATIENT, make_keys, plugged_in, secure, wait_up
from tests.support.tunnel import LEFT, RIGHT, Tunnel, wait_ping


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


def test_a_path_that_leads_one_way_does_not_flap_it(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    with (
        secure(lab.right, vps, "--keepalive", "1", timers=IMPATIENT) as server,
        secure(lab.left, home, "--remote", lab.right.ipv4, "--keepalive", "1", timers=IMPATIENT) as client,
    ):
        wait_up(client, server)
        wait_for(lambda: plugged_in(lab.left) and plugged_in(lab.right), 10, "carrier")
        before = [carrier(host) for host in (lab.left, lab.right)]
        for host in (lab.left, lab.right):
            nft(
                host,
                "add table inet cut",
                "add chain inet cut out { type filter hook output priority 0 ; }",
                "add rule inet cut out oifname eth0 udp dport 1234 drop",
            )
        for tunnel in (client, server):
            tunnel.wait_said("peer is down")
        nft(lab.right, "delete table inet cut")
        heard = client.worker("inbound")["keepalives"]
        wait_for(lambda: client.worker("inbound")["keepalives"] >= heard + 2, 30, "something heard")
        assert [carrier(host) for host in (lab.left, lab.right)] == [(ups, downs + 1) for ups, downs in before]
        nft(lab.left, "delete table inet cut")
        wait_up(client, server)
        wait_for(lambda: plugged_in(lab.left) and plugged_in(lab.right), 10, "carrier")
        assert [carrier(host) for host in (lab.left, lab.right)] == [(ups + 1, downs + 1) for ups, downs in before]
