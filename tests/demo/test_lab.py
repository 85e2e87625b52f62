"""The lab itself: hosts reach each other, and nothing of a lab outlives it, however it ends."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tap2tap.demo.lab import Host, Lab, wait_for
from tests.conftest import lacking


@pytest.fixture
def lab() -> Iterator[Lab]:
    with made("left", "right") as lab:
        yield lab


def made(*hosts: str, mtu: int = 1500) -> Lab:
    """A lab without what only tunnels need, or the end of the test where there can be none."""
    try:
        return Lab(hosts, mtu=mtu)
    except PermissionError as error:
        lacking(str(error))


def greet(sender: Host, receiver: Host, family: int) -> bool:
    """Send a datagram from one host to the other; whether it arrives."""
    address = receiver.ipv4 if family == socket.AF_INET else receiver.ipv6
    with receiver.socket(family, socket.SOCK_DGRAM) as server, sender.socket(family, socket.SOCK_DGRAM) as client:
        server.bind(("", 4321))
        server.settimeout(30)
        client.sendto(b"hello", (address, 4321))
        try:
            return server.recv(100) == b"hello"
        except TimeoutError:
            return False


def namespaces() -> set[str]:
    """The network namespaces that any process is in."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(str(entry.readlink()))
        except OSError:
            continue  # it ended, or is not ours to see
    return found


def test_hosts_reach_each_other_at_once(lab: Lab) -> None:
    assert greet(lab.left, lab.right, socket.AF_INET)
    assert greet(lab.right, lab.left, socket.AF_INET)


def test_ipv6_needs_no_waiting_for_duplicate_address_detection(lab: Lab) -> None:
    if not lab.left.ipv6:
        pytest.skip("no IPv6 in this kernel")
    assert greet(lab.left, lab.right, socket.AF_INET6)


def test_programs_run_where_they_are_told_to(lab: Lab) -> None:
    script = "import os; print(os.readlink('/proc/self/ns/net'))"
    inside = lab.left.run([sys.executable, "-c", script]).stdout.strip()
    assert inside == str(Path(lab.left.namespace).readlink())
    assert inside != str(Path("/proc/self/ns/net").readlink())


def test_the_thread_comes_back_from_inside(lab: Lab) -> None:
    before = Path("/proc/thread-self/ns/net").readlink()
    with lab.right.inside():
        assert Path("/proc/thread-self/ns/net").readlink() != before
    assert Path("/proc/thread-self/ns/net").readlink() == before


def test_mtu_routes_and_link_state_can_be_changed(lab: Lab) -> None:
    lab.set_underlay_mtu(1400)
    assert "mtu 1400" in lab.left.run(["ip", "link", "show", "eth0"]).stdout
    lab.left.route("del", "10.213.0.0/24")
    with pytest.raises(OSError, match="unreachable"):
        greet(lab.left, lab.right, socket.AF_INET)
    lab.left.route("add", "10.213.0.0/24")
    assert greet(lab.left, lab.right, socket.AF_INET)
    lab.left.link("eth0", state="down")
    lab.left.link("eth0", state="up")
    assert greet(lab.left, lab.right, socket.AF_INET)
    assert lab.left.counters()["eth0"].tx_packets > 0


def test_more_than_two_hosts_meet_at_a_switch() -> None:
    with made("left", "right", "stranger", mtu=1400) as lab:
        assert greet(lab["stranger"], lab.left, socket.AF_INET)
        assert greet(lab.left, lab.right, socket.AF_INET)


def test_leaving_a_lab_kills_what_still_runs_there(lab: Lab) -> None:
    known = lab.left.popen(["sleep", "600"])
    lab.right.run(["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 &"])
    homes = {str(Path(host.namespace).readlink()) for host in lab.hosts.values()}
    lab.close()
    assert known.returncode == -signal.SIGKILL
    assert not homes & namespaces()


def test_a_killed_owner_takes_the_lab_along(lab: Lab) -> None:
    del lab  # only to be skipped where it is
    script = (
        "import os, time; from tap2tap.demo.lab import Lab; lab = Lab(); lab.left.popen(['sleep', '600']); "
        "print(*(os.readlink(host.namespace) for host in lab.hosts.values()), flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        homes = set(owner.stdout.readline().split())
        assert len(homes) == 2
        assert homes <= namespaces()
        owner.kill()
    wait_for(lambda: not homes & namespaces(), 10, "end of the lab")
