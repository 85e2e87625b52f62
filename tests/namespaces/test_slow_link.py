"""A way out that is slow, or stuck: no worker hangs, no long queue builds up, and what is dropped for it is counted."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tap2tap.demo.lab import Host, Lab, wait_for
from tests.conftest import lacking
from tests.support.secured import secured
from tests.support.traffic import bulk
from tests.support.tunnel import RIGHT, Tunnel, joined, wait_ping

KINDS = pytest.mark.parametrize("kind", ["trains", "datagrams", "secure"])
DATAGRAM_HEADERS = 42  # bytes: Ethernet, IPv4, UDP


@contextmanager
def cable(lab: Lab, kind: str, folder: Path) -> Iterator[tuple[Tunnel, Tunnel]]:
    """Both ends of a tunnel: with trains, without, or with keys."""
    if kind == "secure":
        with secured(lab.left, lab.right, folder) as pair:
            yield pair
    else:
        with joined(lab.left, lab.right, *(["--no-offload"] if kind == "datagrams" else [])) as pair:
            yield pair


def shape(host: Host, rate: str, burst: int = 5000) -> None:
    """Let no more than `rate` leave the host, and what is more wait, up to many seconds."""
    line = ["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate, "burst", str(burst), "limit", "20m"]
    try:
        host.run(line)
    except (OSError, subprocess.CalledProcessError) as error:
        lacking(f"tc qdisc tbf: {error}")


def unshape(host: Host) -> None:
    """Let anything leave the host again; what waited is lost."""
    host.run(["tc", "qdisc", "del", "dev", "eth0", "root"])


def queued(host: Host) -> int:
    """Bytes that wait to leave a host."""
    done = host.run(["tc", "-s", "-j", "qdisc", "show", "dev", "eth0"])
    return int(json.loads(done.stdout)[0]["backlog"])


@contextmanager
def flood(host: Host, size: int, rate: float) -> Iterator[None]:
    """UDP datagrams of so many bytes into the tunnel, at `rate` bits a second, for as long as it lasts."""
    ended = threading.Event()

    def send() -> None:
        with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            due = 0.0
            last = time.monotonic()
            while not ended.wait(0.002):
                now = time.monotonic()
                due += min(now - last, 0.1) * rate / 8
                last = now
                while due > size:
                    due -= size
                    try:
                        sock.sendto(bytes(size), (RIGHT, 9))
                    except OSError:  # no room, or ICMP says that nobody listens
                        break

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)


@KINDS
def test_a_way_out_that_is_slow_or_stuck_holds_up_little_and_nobody(lab: Lab, kind: str, tmp_path: Path) -> None:
    with cable(lab, kind, tmp_path) as (client, server):
        for rate, size, offered in ((1e6, 1400, 2e7), (1e6, 100, 4e6), (2e7, 1400, 5e7)):
            shape(lab.left, f"{rate:.0f}bit")
            check_queue(lab, client, size + (24 if kind == "secure" else 0), rate, size, offered)
            unshape(lab.left)  # and what waited is gone
        shape(lab.left, "20mbit", burst=20_000)
        bulk(lab.left, lab.right, RIGHT, size=1 << 20)  # TCP finds its rate
        unshape(lab.left)
        shape(lab.left, "1kbit")
        check_stuck(lab, client)
        unshape(lab.left)
        wait_ping(lab.left, RIGHT)
        for tunnel in (client, server):
            assert {worker["restarts"] for worker in tunnel.stats()["workers"].values()} == {0}
        assert set(client.worker("outbound")["dropped"]) == {"no_buffers"}


def check_queue(lab: Lab, client: Tunnel, sealed: int, rate: float, size: int, offered: float) -> None:
    """What waits is a tenth of a second, or 64 datagrams, and no more."""
    before = dropped(client)
    with flood(lab.left, size, offered):
        wait_for(lambda: dropped(client) > before + 100, 30, "drops")
        datagram = sealed + 42 + DATAGRAM_HEADERS
        most = max(rate / 8 * 0.1, 64 * datagram) + 10_000  # the bucket of the shaper, what else is sent
        seen = []
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            seen.append(queued(lab.left))
        assert max(seen) <= most
        assert max(seen) > 0


def check_stuck(lab: Lab, client: Tunnel) -> None:
    """A way out by which next to nothing goes: the outbound worker reads the tap on, all the time."""
    before = dropped(client)
    with flood(lab.left, 1400, 1e7):
        wait_for(lambda: dropped(client) > before + 100, 30, "drops")
        for _ in range(3):
            beat = client.worker("outbound")["frames"]
            wait_for(lambda: client.worker("outbound")["frames"] > beat + 200, 30, "frames")  # noqa: B023
        assert queued(lab.left) <= 64 * 1600 + 10_000


def test_the_successor_of_a_killed_worker_knows_what_waits(lab: Lab, tmp_path: Path) -> None:
    with cable(lab, "datagrams", tmp_path) as (client, _):
        shape(lab.left, "1kbit")
        with flood(lab.left, 1400, 1e7):
            for lives in range(1, 4):
                most = dropped(client) + 100
                wait_for(lambda: dropped(client) > most, 30, "drops")  # noqa: B023
                assert queued(lab.left) <= 64 * 1600 + 10_000
                pid = client.kill_worker("outbound")
                assert client.wait_replaced("outbound", pid)["restarts"] == lives


def dropped(tunnel: Tunnel) -> int:
    """How much the outbound worker had no room for."""
    return int(tunnel.worker("outbound")["dropped"].get("no_buffers", 0))
