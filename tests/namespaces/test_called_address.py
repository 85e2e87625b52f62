"""Hosts with several addresses: each end goes on from the one that the other knows it by."""

from pathlib import Path

from tap2tap.demo.lab import Host, Lab
from tests.support.nft import nft
from tests.support.secured import secured
from tests.support.tunnel import RIGHT, joined, ping, wait_ping


def deprecate(host: Host, address: str) -> None:
    """Have the kernel choose another address, though this one goes on to serve."""
    host.run(["ip", "address", "change", f"{address}/64", "dev", "eth0", "preferred_lft", "0"])


def test_a_plain_server_answers_from_the_address_that_was_called(lab: Lab) -> None:
    second = f"{lab.right.ipv4}6"
    lab.right.address("eth0", f"{second}/24")  # the kernel chooses the first one
    with joined(lab.left, lab.right, remote=second) as (client, server):
        server.wait_replaced("outbound", server.kill_worker("outbound"))
        wait_ping(lab.left, RIGHT)
        assert not client.worker("inbound")["dropped"].get("stranger", 0)


def test_a_server_with_a_key_answers_from_the_address_that_was_called(lab: Lab, tmp_path: Path) -> None:
    second = f"{lab.right.ipv6}6"
    lab.right.address("eth0", f"{second}/64")
    deprecate(lab.right, second)
    nft(
        lab.left,
        "add table inet t",
        "add chain inet t c { type filter hook input priority 0 ; }",
        f"add rule inet t c ip6 saddr {lab.right.ipv6} udp sport 1234 drop",
    )
    with secured(lab.left, lab.right, tmp_path, remote=second) as (_, server):
        server.wait_replaced("outbound", server.kill_worker("outbound"))
        wait_ping(lab.left, RIGHT)


def test_a_plain_client_whose_address_is_rotated_goes_on_from_the_one_that_the_server_knows(lab: Lab) -> None:
    with joined(lab.left, lab.right, remote=f"[{lab.right.ipv6}]:1234") as (client, server):
        known = server.stats()["peer"]
        lab.left.address("eth0", "fd00:d213::aaaa/64")
        deprecate(lab.left, lab.left.ipv6)
        assert ping(lab.left, RIGHT, "-c12", "-i0.2")  # for longer than until the supervisor looks
        assert server.stats()["peer"] == known
        assert not server.worker("inbound")["dropped"].get("stranger", 0)
        assert not client.worker("outbound")["dropped"]
