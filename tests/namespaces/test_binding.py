"""The socket is bound to what comes later, or is made anew; its mark and its device lead all datagrams past the tunnel.

One end has what is bound specially, as a rule the server: both directions depend on it.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tap2tap.demo.lab import Host, Lab, wait_for
from tap2tap.privileges import CAP_NET_ADMIN, CAP_NET_BIND_SERVICE, CAP_NET_RAW
from tests.processes.test_ends import script
from tests.processes.test_privileges import limited_to, shares_memory
from tests.support.command import mistake, tap2tap
from tests.support.secured import make_keys, plugged_in
from tests.support.traffic import bulk
from tests.support.tunnel import LEFT, RIGHT, Tunnel, address, wait_ping

PROTOCOLS = pytest.mark.parametrize("keyed", [False, True], ids=["plain", "key"])
LATER, LATER6 = "10.213.0.77", "fd00:d213::77"
OTHER = "10.215.0"  # the network between two more devices, eth1
MARK = 0x80000001
COMPANION = "tap2tap:binding"


@contextmanager
def ends(lab: Lab, folder: Path, left: list[str], right: list[str], *, keyed: bool) -> Iterator[tuple[Tunnel, Tunnel]]:
    """A tunnel on the left and one on the right, with these options; their taps have addresses."""
    keys = [["--key", key] for key in make_keys(folder)] if keyed else [[], []]
    with Tunnel(lab.left, *keys[0], *left) as one, Tunnel(lab.right, *keys[1], *right) as other:
        address(lab.left, lab.right)
        yield one, other


def wire(lab: Lab) -> None:
    """Join both hosts by another pair of devices, eth1, with addresses."""
    lab._veth(lab.left, "eth1", lab.right, "eth1")
    lab.left.address("eth1", f"{OTHER}.1/24")
    lab.right.address("eth1", f"{OTHER}.2/24")


def lines(tunnel: Tunnel, words: str) -> int:
    """How often its log says so."""
    return sum(words in line for line in tunnel.log)


def wait_lines(tunnel: Tunnel, words: str, times: int) -> None:
    """Wait until it has said so, this often."""
    wait_for(lambda: lines(tunnel, words) >= times, what=f"{words!r}: {tunnel.log}")
    assert lines(tunnel, words) == times


def unprivileged(tunnel: Tunnel) -> None:
    """The process that binds the socket can do nothing else."""
    (companion,) = companions(tunnel)
    assert limited_to(companion.pid, CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW)
    assert shares_memory(tunnel.pid)
    assert not shares_memory(companion.pid)


def companions(tunnel: Tunnel) -> list[psutil.Process]:
    """The process that binds the socket, if there is one."""
    found = []
    for each in tunnel.descendants():
        with suppress(psutil.NoSuchProcess):
            found += [each] if each.name() == COMPANION else []
    return found


def unharmed(tunnel: Tunnel) -> None:
    """Nothing has died, nor seemed to, and the peer was there all the time."""
    facts = tunnel.stats()
    children = [*facts["workers"].values(), *([facts["link"]] if facts["link"] else [])]
    assert [child["restarts"] for child in children] == [0] * len(children)
    assert lines(tunnel, "peer is down") == lines(tunnel, "worker") == 0


def test_an_address_is_waited_for_and_may_go_and_come_back(lab: Lab, tmp_path: Path) -> None:
    hook = script(tmp_path / "up", f"echo $TAP2TAP_LOCAL > {tmp_path}/local")
    bind = ["--bind", LATER, "--up", hook]
    with ends(lab, tmp_path, ["--remote", LATER], bind, keyed=True) as (client, server):
        assert (tmp_path / "local").read_text() == f"{LATER}:1234\n"
        assert server.stats()["local"] == f"{LATER}:1234"
        assert not plugged_in(lab.right)
        lab.right.address("eth0", f"{LATER}/32")
        server.wait_said("the socket is bound now")
        wait_ping(lab.left, RIGHT)
        lab.right.address("eth0", f"{LATER}/32", verb="del")
        lab.right.address("eth0", f"{LATER}/32")
        wait_ping(lab.left, RIGHT)
        bulk(lab.left, lab.right, RIGHT, size=1 << 20)
        bulk(lab.right, lab.left, LEFT, size=1 << 20)
        assert lines(server, f"--bind {LATER}: this host has no such address, or it is tentative; waiting for it") == 1
        unharmed(server)
        unharmed(client)
        wait_for(lambda: not companions(server), what="end of the companion")


def test_a_duplicate_address_is_told_and_waited_for(lab: Lab, tmp_path: Path) -> None:
    """And so is one that is tentative, as it then is for a while; it is the client's, and all that is bound."""
    lab.left.sysctl("net/ipv6/conf/eth0/accept_dad", "1")
    lab.right.address("eth0", f"{LATER6}/64")
    lab.left.run(["ip", "addr", "add", f"{LATER6}/64", "dev", "eth0"])
    with ends(lab, tmp_path, ["--remote", lab.right.ipv6, "--bind", LATER6], [], keyed=False) as (client, server):
        client.wait_said(f"--bind {LATER6}: another host on the network has it, too")
        lab.right.address("eth0", f"{LATER6}/64", verb="del")
        lab.left.address("eth0", f"{LATER6}/64", verb="del")
        client.wait_said(f"--bind {LATER6}: this host has no such address, or it is tentative; waiting for it")
        lab.left.run(["ip", "addr", "add", f"{LATER6}/64", "dev", "eth0"])
        client.wait_said("the socket is bound now")
        wait_ping(lab.left, RIGHT)
        assert server.stats()["peer"] == f"[{LATER6}]:1234"
        unharmed(client)


@PROTOCOLS
def test_a_device_is_waited_for_and_followed_when_it_is_made_anew(lab: Lab, tmp_path: Path, keyed: bool) -> None:
    options = ["--device", "eth1", "--mark", str(MARK), "--port", "99"]  # which nobody may who is not root
    remote = ["--remote", f"{OTHER}.2:99"]
    with ends(lab, tmp_path, remote, options, keyed=keyed) as (client, server):
        unprivileged(server)
        wire(lab)
        server.wait_said("the socket is bound now")
        wait_ping(lab.left, RIGHT)
        lab.right.delete_link("eth1")
        wait_lines(server, "--device eth1: there is no such network device", 2)
        wire(lab)
        wait_lines(server, "the socket is bound now", 2)
        wait_ping(lab.left, RIGHT)
        bulk(lab.left, lab.right, RIGHT, size=1 << 20)
        bulk(lab.right, lab.left, LEFT, size=1 << 20)
        companions(server)[0].kill()
        server.wait_said("restart the tunnel if eth1 is ever made anew")
        wait_ping(lab.left, RIGHT)
        unharmed(server)
        unharmed(client)


def test_a_link_local_address_is_bound_again_when_its_device_is_made_anew(lab: Lab, tmp_path: Path) -> None:
    there = "fe80::77%eth1"
    with ends(lab, tmp_path, ["--remote", f"[{there}]"], ["--bind", there], keyed=True) as (_, server):
        assert server.stats()["local"] == "[fe80::77]:1234"
        for times in (1, 2):
            wire(lab)
            lab.right.address("eth1", "fe80::77/64")
            wait_lines(server, "the socket is bound now", times)
            local = f"[fe80::77%{lab.right.index('eth1')}]:1234"
            wait_for(lambda local=local: server.stats()["local"] == local, what=local)  # type: ignore[misc]
            wait_ping(lab.left, RIGHT)
            lab.right.delete_link("eth1")
            wait_lines(server, "there is no network device eth1; waiting for it", times + 1)


def test_a_port_that_is_in_use_by_then_is_told_and_tried_again(lab: Lab) -> None:
    with Tunnel(lab.right, "--bind", LATER) as tunnel:
        with lab.right.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("", 1234))
            lab.right.address("eth0", f"{LATER}/32")
            tunnel.wait_said(f"UDP {LATER} port 1234 is in use: ")
        tunnel.wait_said("the socket is bound now")
        assert lines(tunnel, "is in use") == 1


def test_a_tunnel_that_waits_can_be_stopped_and_leaves_nothing_behind(lab: Lab) -> None:
    options = ["--bind", LATER, "--device", "eth1"]
    tunnel = Tunnel(lab.right, *options)
    assert tunnel.stop() == 0
    assert lines(tunnel, "waiting for it") == 1
    assert lines(tunnel, "error") == 0
    tunnel, killed = Tunnel(lab.right, *options), Tunnel(lab.left, *options)
    killed.process.kill()
    wait_for(lambda: companions(tunnel), what="companion")[0].kill()
    assert tunnel.wait() == 1
    assert "the process that binds the socket is gone" in tunnel.log[-1]


def into_the_tunnel(host: Host, peer: str) -> None:
    """Lead all that is not on the wire into the tunnel, and the peer, too."""
    host.route("add", f"{peer}/32", "tap0")
    assert "dev tap0" in host.run(["ip", "route", "get", peer]).stdout


@pytest.mark.parametrize(("option", "keyed"), [("mark", True), ("device", False)])
def test_datagrams_go_past_a_route_into_the_tunnel(lab: Lab, tmp_path: Path, option: str, keyed: bool) -> None:
    options = ["--mark", hex(MARK)] if option == "mark" else ["--device", "eth0"]
    for host in (lab.left, lab.right):
        if option == "mark":
            host.run(["ip", "rule", "add", "fwmark", str(MARK), "table", "42"])
            host.run(["ip", "route", "add", "10.213.0.0/24", "dev", "eth0", "table", "42"])
    remote = ["--remote", lab.right.ipv4]
    with ends(lab, tmp_path, [*options, *remote], options, keyed=keyed) as (client, server):
        into_the_tunnel(lab.left, lab.right.ipv4)
        into_the_tunnel(lab.right, lab.left.ipv4)
        wait_ping(lab.left, RIGHT)
        bulk(lab.left, lab.right, RIGHT, size=1 << 20)
        bulk(lab.right, lab.left, LEFT, size=1 << 20)
        for tunnel in (client, server):
            facts = tunnel.worker("outbound")
            assert facts["trains"] < facts["datagrams"]
            assert lines(tunnel, "leads into this tunnel") == 0


def test_the_tunnels_own_interface_is_no_device_that_leads_outside(lab: Lab) -> None:
    words = "--device tap0 is this tunnel's own interface: name the one that leads outside"
    mistake(tap2tap("--device", "tap0", host=lab.left), 2, words)  # the name that the kernel chooses
