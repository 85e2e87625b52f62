"""Hosts with several addresses: each end goes on from the one that the other knows it by."""

import pytest

from tap2tap.demo.lab import Host, Lab
from tests.support.tunnel import RIGHT, joined, ping, wait_ping


def another(host: Host, version: int) -> str:
    """Give the host an address that the kernel does not choose for what goes out."""
    address = f"{host.ipv4}6" if version == 4 else f"{host.ipv6}6"
    host.address("eth0", f"{address}/{24 if version == 4 else 64}")
    if version == 6:
        deprecate(host, address)
    return address


def deprecate(host: Host, address: str) -> None:
    """Have the kernel choose another address, though this one goes on to serve."""
    host.run(["ip", "address", "change", f"{address}/64", "dev", "eth0", "preferred_lft", "0"])


@pytest.mark.parametrize("version", [4, 6])
def test_a_plain_server_answers_from_the_address_that_was_called(lab: Lab, version: int) -> None:
    with joined(lab.left, lab.right, remote=another(lab.right, version)) as (client, server):
        server.wait_replaced("outbound", server.kill_worker("outbound"))
        wait_ping(lab.left, RIGHT)
        assert not client.worker("inbound")["dropped"].get("stranger", 0)


def test_a_plain_client_whose_address_is_rotated_goes_on_from_the_one_that_the_server_knows(lab: Lab) -> None:
    with joined(lab.left, lab.right, remote=f"[{lab.right.ipv6}]:1234") as (client, server):
        known = server.stats()["peer"]
        lab.left.address("eth0", "fd00:d213::aaaa/64")
        deprecate(lab.left, lab.left.ipv6)
        assert ping(lab.left, RIGHT, "-c12", "-i0.2")  # for longer than until the supervisor looks
        assert server.stats()["peer"] == known
        assert not server.worker("inbound")["dropped"].get("stranger", 0)
        assert not client.worker("outbound")["dropped"]
