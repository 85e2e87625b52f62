"""The machine has slept: the peer is called at once, whatever the timers of before say."""

import socket
from pathlib import Path

import pytest

from tap2tap.demo.lab import Lab, wait_for
from tests.support import asleep
from tests.support.link import handshakes, wait_handshake
from tests.support.secured import Relay, make_keys, plugged_in, secure, wait_up
from tests.support.tunnel import LEFT, Tunnel, address, ping, wait_ping


def test_a_client_behind_a_nat_that_forgot_it_is_back_at_once(road: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    slept = tmp_path / "slept"
    client_command = asleep.command(slept)
    with (
        Relay(road["middle"], road.right.ipv4) as nat,
        secure(road.right, vps, "--keepalive", "0") as server,
        Tunnel(
            road.left, "--key", home, "--remote", road["middle"].ipv4, "--keepalive", "0", command=client_command
        ) as client,
    ):
        address(road.left, road.right)
        wait_ping(road.right, LEFT)
        before = handshakes(server)
        nat.rebind()  # what the server sends to the port of before is lost
        asleep.sleep(slept, 60)
        client.wait_said("woke up after a sleep of 60 s, calling the peer", 5)
        wait_handshake(server, before)
        wait_for(lambda: server.stats()["peer"] == f"{road['middle'].ipv4}:{nat.port}", 10, "new place")
        assert ping(road.right, LEFT)
        assert plugged_in(road.left)
        assert plugged_in(road.right)
        assert not any(tunnel.said("peer is down") for tunnel in (client, server))
        assert len([line for line in client.log if "woke up" in line]) == 1


def test_a_sleep_takes_nobody_down(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    slept = tmp_path / "slept"
    with (
        secure(lab.right, vps) as server,
        Tunnel(lab.left, "--key", home, "--remote", lab.right.ipv4, command=asleep.command(slept)) as client,
    ):
        wait_up(client, server)
        wait_for(lambda: plugged_in(lab.left), what="carrier")
        total = 0
        for seconds in (100, 3600):  # the session outlives it, and does not
            before, total = handshakes(server), total + seconds
            asleep.sleep(slept, total)
            client.wait_said(f"woke up after a sleep of {seconds} s, calling the peer", 5)
            wait_handshake(server, before)
            wait_up(client)
        assert not any(tunnel.said("peer is down") for tunnel in (client, server))


@pytest.mark.parametrize("keepalive", [25, 0])
def test_a_plain_client_says_where_it_is_although_it_did_so_just_before(
    lab: Lab, tmp_path: Path, keepalive: int
) -> None:
    slept = tmp_path / "slept"
    options = ["--remote", lab.right.ipv4, "--keepalive", str(keepalive)]
    with lab.right.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((lab.right.ipv4, 1234))
        peer.settimeout(10)
        lab.left.sysctl("net/ipv6/conf/default/disable_ipv6", "1")  # nothing but empty datagrams
        with Tunnel(lab.left, *options, command=asleep.command(slept)) as client:
            if keepalive:
                assert peer.recv(100) == b""
            total = 0
            for seconds in (5, 3600):  # a keepalive is due after the second one only
                total += seconds
                asleep.sleep(slept, total)
                assert peer.recv(100) == b""
                client.wait_said(f"woke up after a sleep of {seconds} s, calling the peer", 5)
