"""The same wire as a program that we did not write: QuickTun with PROTOCOL raw at the other end."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tap2tap.demo.lab import Host, Lab, wait_for
from tests.conftest import lacking
from tests.support.traffic import bulk
from tests.support.tunnel import LEFT, LEFT6, RIGHT, RIGHT6, Tunnel, address, ping, wait_ping

OFFLOADS = pytest.mark.parametrize("options", [(), ("--no-offload",)], ids=["offload", "frame-by-frame"])


@contextmanager
def quicktun(host: Host, remote: str = "0.0.0.0") -> Iterator[None]:
    """QuickTun on `host` with a tap0 that is up; without a remote it goes by who calls it."""
    program = shutil.which("quicktun", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        lacking("quicktun is not installed")
        raise AssertionError  # for the type checker: lacking does not return
    facts = {"TUN_MODE": "0", "PROTOCOL": "raw", "LOCAL_ADDRESS": "0.0.0.0", "LOCAL_PORT": "1234"}
    facts |= {"REMOTE_ADDRESS": remote, "REMOTE_PORT": "1234"}
    environment = os.environ | {"IFACE": "tap0"} | {f"IF_QT_{key}": value for key, value in facts.items()}
    process = host.popen([program], env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: host.has_link("tap0"), what="tap of quicktun")
        host.link("tap0", mtu=1458, state="up")
        yield
    finally:
        process.kill()
        process.wait()


def everything_passes(lab: Lab) -> None:
    """Ping and bulk transfers both ways."""
    address(lab.left, lab.right)
    wait_ping(lab.left, RIGHT)
    for host, target in ((lab.left, RIGHT6), (lab.right, LEFT), (lab.right, LEFT6)):
        assert ping(host, target)
    assert ping(lab.left, RIGHT, "-M", "do", "-s", "1430")  # a full frame
    bulk(lab.left, lab.right, RIGHT, RIGHT6)
    bulk(lab.right, lab.left, LEFT, LEFT6)


@OFFLOADS
def test_a_quicktun_client_is_served(lab: Lab, options: tuple[str, ...]) -> None:
    with Tunnel(lab.right, *options) as server, quicktun(lab.left, lab.right.ipv4):
        everything_passes(lab)
        assert server.stats()["peer"] == f"{lab.left.ipv4}:1234"


@OFFLOADS
def test_a_quicktun_server_is_called(lab: Lab, options: tuple[str, ...]) -> None:
    with quicktun(lab.right), Tunnel(lab.left, "--remote", lab.right.ipv4, *options):
        everything_passes(lab)


def test_two_ends_that_both_know_the_other_join(lab: Lab) -> None:
    with quicktun(lab.right, lab.left.ipv4), Tunnel(lab.left, "--remote", lab.right.ipv4):
        everything_passes(lab)
