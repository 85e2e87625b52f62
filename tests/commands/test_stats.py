"""`tap2tap stats`: what it shows of whom, to whom, and how it ends."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tap2tap.counters import Drop
from tap2tap.demo.lab import Host, Lab, wait_for
from tests.support.command import AS_NOBODY, mistake, tap2tap
from tests.support.tunnel import COMMAND, RIGHT, Tunnel, joined, ping

# What those who read --json rely on; keys may be added, none may go or change its meaning.
CONTRACT = {
    "interface",
    "pid",
    "mtu",
    "path_mtu",
    "local",
    "peer",
    "uptime_seconds",
    "data_plane",
    "workers",
    "link",
    "session",
}
WORKER_CONTRACT = {"pid", "cpu", "restarts", "frames", "bytes", "datagrams", "dropped", "control", "parts", "clamped"}

# A local user's own file that looks like a block of a living supervisor: every slot at its maximum.
FORGER = """
import fcntl, os, pathlib, sys
from tap2tap import counter_block, counters
from tap2tap.counters import Slot
slots = memoryview(bytearray(counters.SLOTS * 8)).cast("Q")
for slot in range(counters.SLOTS):
    slots[slot] = 2**64 - 1
slots[Slot.MAGIC], slots[Slot.VERSION] = counters.MAGIC, counters.VERSION
netns = os.stat("/proc/self/ns/net")
slots[Slot.NETNS_DEVICE], slots[Slot.NETNS_INODE] = netns.st_dev, netns.st_ino
block = counter_block.create(slots, os.geteuid())
print("ready", flush=True)
sys.stdin.read()
block.close()
"""


def read(host: Host, *argv: str, **options: Any) -> list[dict[str, Any]]:
    """What `tap2tap stats --json` says on a host."""
    done = tap2tap("stats", "--json", *argv, host=host, **options)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    tunnels: list[dict[str, Any]] = json.loads(done.stdout)
    return tunnels


def test_json_keeps_its_contract(lab: Lab) -> None:
    with joined(lab.left, lab.right) as (client, server):
        (facts,) = read(lab.left)
        assert facts.keys() >= CONTRACT
        assert facts["interface"] == "tap0"
        assert facts["pid"] == client.pid
        assert facts["mtu"] == 1458
        assert facts["local"] == "[::]:1234"
        assert facts["peer"] == f"{lab.right.ipv4}:1234"
        assert 0 < facts["uptime_seconds"] < 120
        assert set(facts["workers"]) == {"outbound", "inbound"}
        children = {process.pid for process in client.descendants()}
        for worker in facts["workers"].values():
            assert worker.keys() >= WORKER_CONTRACT
            assert worker["pid"] in children
            assert worker["cpu"] in {None, *os.sched_getaffinity(0)}
            assert worker["restarts"] == 0
            assert 0 < worker["frames"] <= worker["datagrams"]
            assert worker["frames"] * 14 < worker["bytes"]
            assert worker["dropped"].keys() <= {drop.name.lower() for drop in Drop}
        assert read(lab.right)[0]["pid"] == server.pid


def test_drops_are_told_by_reason(lab: Lab) -> None:
    lab.left.sysctl("net/ipv6/conf/default/disable_ipv6", "1")
    with Tunnel(lab.left):
        lab.left.address("tap0", "10.9.0.1/24")
        assert not ping(lab.left, RIGHT)
        (facts,) = read(lab.left)
        assert facts["peer"] is None
        outbound = facts["workers"]["outbound"]
        assert outbound["dropped"] == {"no_peer": outbound["frames"]}
        assert outbound["frames"] > 0


def test_frames_and_bytes_are_those_that_the_kernel_counts_at_the_tap(lab: Lab) -> None:
    with joined(lab.left, lab.right) as (client, _):
        lab.left.run(["ping", "-n", "-c", "20", "-i", "0.01", "-s", "1000", RIGHT])

        def same() -> bool:
            kernel = lab.left.counters()["tap0"]
            out, into = client.worker("outbound"), client.worker("inbound")
            return (out["frames"], out["bytes"], into["frames"], into["bytes"]) == (
                kernel.tx_packets,
                kernel.tx_bytes,
                kernel.rx_packets,
                kernel.rx_bytes,
            )

        wait_for(same, what="agreement with the kernel")


def test_without_a_tunnel_json_is_an_empty_array_and_the_exit_code_7(lab: Lab) -> None:
    done = tap2tap("stats", "--json", host=lab.left)
    assert (done.returncode, json.loads(done.stdout)) == (7, [])
    assert done.stderr == "tap2tap stats: no tunnel runs in this network namespace (--all looks in every one)\n"


def test_without_a_tunnel_one_line_says_so_and_the_exit_code_is_7(lab: Lab) -> None:
    mistake(tap2tap("stats", host=lab.left), 7, "no tunnel runs in this network namespace")


def test_an_unknown_name_is_exit_code_7(lab: Lab) -> None:
    with Tunnel(lab.left):
        mistake(tap2tap("stats", "tap1", host=lab.left), 7, "no tunnel named tap1 runs in this network namespace")
        mistake(tap2tap("stats", "no-such", "--all", host=lab.left), 7, "no tunnel named no-such runs$")
        done = tap2tap("stats", "tap1", "--json", host=lab.left)
        assert (done.returncode, json.loads(done.stdout)) == (7, [])


@pytest.mark.usefixtures("root")
def test_an_ordinary_user_can_read_everything(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        (facts,) = read(lab.left, command=AS_NOBODY)
        assert facts["pid"] == tunnel.pid
        for worker in facts["workers"].values():
            assert worker["memory_bytes"] > 0
            assert worker["cpu_seconds"] >= 0
        done = tap2tap("stats", host=lab.left, command=AS_NOBODY)
        assert done.returncode == 0
        assert "interface: tap0" in done.stdout


def test_one_name_in_two_network_namespaces_is_two_tunnels(lab: Lab) -> None:
    with Tunnel(lab.left) as one, Tunnel(lab.right) as other:
        assert [facts["pid"] for facts in read(lab.left)] == [one.pid]
        assert [facts["pid"] for facts in read(lab.right, "tap0")] == [other.pid]
        assert {facts["pid"] for facts in read(lab.left, "--all", "tap0")} >= {one.pid, other.pid}
        assert one.block() != other.block()
        one.stop()
        assert [facts["pid"] for facts in read(lab.right)] == [other.pid]


def test_tunnels_are_sorted_and_can_be_chosen_by_name(lab: Lab) -> None:
    with Tunnel(lab.left, interface="b0"), Tunnel(lab.left, "--port", "1235", interface="a0"):
        assert [facts["interface"] for facts in read(lab.left)] == ["a0", "b0"]
        assert [facts["interface"] for facts in read(lab.left, "b0")] == ["b0"]
        text = tap2tap("stats", host=lab.left).stdout
        assert re.findall(r"^interface: (.*)$", text, re.MULTILINE) == ["a0", "b0"]


def test_the_screen_shows_both_workers(lab: Lab) -> None:
    with Tunnel(lab.left, "--remote", lab.right.ipv4) as tunnel:
        text = tap2tap("stats", "tap0", host=lab.left).stdout
        assert text.startswith("interface: tap0\n  state: up\n  mtu: 1458\n")
        for direction in ("outbound", "inbound"):
            assert re.search(f"pid {tunnel.worker(direction)['pid']} on (any CPU|CPU [0-9]+), ", text)
        assert "\x1b" not in text


@contextlib.contextmanager
def watching(host: Host, *argv: str, stdout: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """`tap2tap stats --watch` until an interrupt, as Ctrl-C sends it, ends it."""
    process = host.popen([*COMMAND, "stats", "--watch", "0.1", *argv], stdout=stdout, stderr=subprocess.PIPE)
    yield process
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_watch_refreshes_with_rates_until_it_is_interrupted(lab: Lab) -> None:
    with Tunnel(lab.left), watching(lab.left) as process:
        assert process.stdout is not None
        rounds: list[list[str]] = []
        while len(rounds) < 4:
            line = process.stdout.readline()
            assert line, "it ended"
            if line.startswith("interface: "):
                rounds.append([])
            rounds[-1].append(line.strip())
        assert not [line for line in rounds[0] if "/s)" in line]
        for lines in rounds[1:3]:
            assert len([line for line in lines if re.fullmatch(r"frames: \d+ \(\d+/s\)", line)]) == 2
            assert len([line for line in lines if re.fullmatch(r"bytes: .* \([\d.]+ Mbit/s\)", line)]) == 2
        assert not [line for lines in rounds for line in lines if "\x1b" in line]  # no terminal


def test_watch_refreshes_a_terminal_in_place(lab: Lab) -> None:
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as screen, Tunnel(lab.left), watching(lab.left, stdout=theirs):
        os.close(theirs)
        seen = b""
        while seen.count(b"\x1b[H\x1b[J") < 3:
            seen += screen.read(4096)
        assert seen.startswith(b"\x1b[H\x1b[Jinterface: tap0")


def test_watch_with_json_prints_an_array_a_line(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel, watching(lab.left, "--json") as process:
        assert process.stdout is not None
        ages = []
        for _ in range(3):
            (facts,) = json.loads(process.stdout.readline())
            assert facts["pid"] == tunnel.pid
            ages.append(facts["uptime_seconds"])
        assert ages == sorted(set(ages))


def test_watch_ends_with_its_tunnel(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        process = lab.left.popen([*COMMAND, "stats", "--watch", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == "interface: tap0\n"
        tunnel.stop()
        _, said = process.communicate(timeout=30)
        assert process.returncode == 7
        assert said == "tap2tap stats: no tunnel runs in this network namespace (--all looks in every one)\n"


def test_a_reader_that_goes_away_is_no_traceback(lab: Lab) -> None:
    with Tunnel(lab.left):
        process = lab.left.popen([*COMMAND, "stats", "--watch", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == ""


def test_reading_stats_needs_nothing_of_the_workers(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        pids = [tunnel.kill_worker(direction, signal.SIGSTOP) for direction in ("outbound", "inbound")]
        (facts,) = read(lab.left)
        assert [worker["pid"] for worker in facts["workers"].values()] == pids
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_forged_block_is_shown_for_what_it_says_and_breaks_nothing(lab: Lab) -> None:
    forger = lab.left.popen([sys.executable, "-c", FORGER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert forger.stdin is not None
    assert forger.stdout is not None
    assert forger.stdout.readline() == "ready\n"
    with Tunnel(lab.left) as tunnel:
        assert tunnel.pid in {facts["pid"] for facts in read(lab.left)}
        done = tap2tap("stats", host=lab.left)
        assert done.returncode == 0
        assert "interface: tap0" in done.stdout
        assert done.stdout.replace("\n", "").isprintable()
    forger.stdin.close()
    assert forger.wait(30) == 0
