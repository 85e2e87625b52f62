"""The counter block of a running tunnel: whatever happens to the file, or for want of one, the tunnel goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tap2tap import counters
from tap2tap.commands import stats
from tap2tap.counters import Slot
from tap2tap.demo.lab import Lab, wait_for
from tests.supervisor.test_hooks import hanging
from tests.support.command import mistake, private, tap2tap
from tests.support.tunnel import RIGHT, Tunnel, address, joined, ping, wait_ping

pytestmark = pytest.mark.usefixtures("root")

# What another process of the tunnel's uid may try with the file, one line a try; prints what succeeded.
WRITER = """
import mmap, os, sys
path = sys.argv[1]
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
tries = {
    "open": lambda: os.open(path, os.O_RDWR),
    "write": lambda: os.open(path, os.O_WRONLY),
    "truncate": lambda: os.truncate(path, 0),
    "chmod": lambda: os.chmod(path, 0o666),
    "link": lambda: os.open(f"/proc/{sys.argv[2]}/fd", os.O_RDONLY),
    "memory": lambda: os.open(f"/proc/{sys.argv[2]}/mem", os.O_RDWR),
    "map": lambda: os.listdir(f"/proc/{sys.argv[2]}/map_files"),
}
for name, work in tries.items():
    try:
        work()
        print(name)
    except OSError:
        pass
"""


def garble(path: Path) -> None:
    """Every slot at its maximum."""
    with path.open("r+b") as file:
        file.write(b"\xff" * counters.SLOTS * 8)


def go_back(path: Path) -> None:
    """Every slot zero."""
    with path.open("r+b") as file:
        file.write(bytes(counters.SLOTS * 8))


def cut(path: Path) -> None:
    """Nothing left of it."""
    os.truncate(path, 0)


def grow(path: Path) -> None:
    """More than there should be."""
    with path.open("ab") as file:
        file.write(b"\xff" * 5000)


def drop(path: Path) -> None:
    """It is gone, and so is its folder."""
    path.unlink()
    path.parent.rmdir()


def test_no_process_of_the_tunnels_uid_can_change_it_or_what_the_tunnel_goes_by(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        path = tunnel.block()
        assert path.stat().st_uid == 0
        for pid in [tunnel.pid, *(process.pid for process in tunnel.descendants())]:
            argv = [sys.executable, "-c", WRITER, str(path), str(pid)]
            assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == ""


def test_whatever_becomes_of_the_file_nothing_happens_to_the_tunnel(lab: Lab) -> None:
    with joined(lab.left, lab.right) as (client, server):
        pids = [process.pid for end in (client, server) for process in end.descendants()]
        blocks = [end.block() for end in (client, server)]
        for harm in (garble, go_back, cut, grow, drop):
            for block in blocks:
                harm(block)
            for size in ("56", "1400", "20000"):
                assert ping(lab.left, RIGHT, "-s", size)
            lab.left.run(["ping", "-n", "-q", "-c", "50", "-i", "0.002", RIGHT])
        assert [process.pid for end in (client, server) for process in end.descendants()] == pids
        for end in (client, server):
            assert end.stop() == 0


def test_what_was_written_into_the_file_is_gone_at_the_next_look(lab: Lab) -> None:
    with Tunnel(lab.left, "--remote", lab.right.ipv4) as tunnel:
        for harm in (garble, go_back, grow):
            harm(tunnel.block())
            wait_for(lambda: tunnel.stats()["mtu"] == 1458, what="renewed block")
        assert tunnel.stats()["peer"] == f"{lab.right.ipv4}:1234"


@pytest.mark.parametrize(
    ("mount", "reason", "blind"),
    [
        ("mount -t tmpfs -o ro none /dev/shm", "Read-only file system", "/dev/shm is read-only"),
        (
            "mount -t tmpfs -o size=8k none /dev/shm && (cat /dev/zero >/dev/shm/full 2>/dev/null || true)",
            "No space left on device",
            "/dev/shm is full",
        ),
        (
            "mount -t tmpfs none /dev && mkdir /dev/net && mknod /dev/net/tun c 10 200 && mknod -m 666 /dev/null c 1 3",
            "No such file or directory",
            "/dev/shm: No such file or directory",
        ),
    ],
    ids=["read-only", "full", "none"],
)
def test_without_room_for_it_the_tunnel_runs_and_stats_says_why_it_sees_nothing(
    lab: Lab, mount: str, reason: str, blind: str
) -> None:
    with Tunnel(lab.right) as server, Tunnel(lab.left, "--remote", lab.right.ipv4, prefix=private(mount)) as client:
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        (warning,) = [line for line in client.log if "stats" in line]
        assert warning.endswith(f"warning: tap2tap stats will not see this tunnel folder=/dev/shm error={reason!r}")
        inside = ["nsenter", f"--mount=/proc/{client.pid}/ns/mnt", "--"]
        done = tap2tap("stats", host=lab.left, prefix=inside)
        mistake(done, 7, f"no tunnel runs in this network namespace .*; one that does could not be seen: {blind}")
        assert client.stop() == 0
        assert server.stop() == 0


def test_counts_are_those_of_the_moment_in_which_stats_looks(lab: Lab) -> None:
    with joined(lab.left, lab.right, ipv6=False) as (client, _):
        for _ in range(5):
            before = client.worker("outbound")["frames"]
            lab.left.run(["ping", "-n", "-q", "-c", "10", "-i", "0.002", "-W", "10", RIGHT])
            assert client.worker("outbound")["frames"] >= before + 10


def test_the_block_tells_when_its_counts_were_taken(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        first, second = tunnel.stats(), tunnel.stats()
        assert 0 < first["counted_seconds"] < second["counted_seconds"] <= second["uptime_seconds"]
        os.kill(tunnel.pid, signal.SIGSTOP)  # stopped: what it said last is still there
        stopped = tunnel.stats()
        assert stopped["pid"] == tunnel.pid
        assert stopped["counted_seconds"] >= second["counted_seconds"]
        os.kill(tunnel.pid, signal.SIGCONT)


def test_only_what_is_shown_is_in_the_file(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        tunnel.stats()
        slots = memoryview(tunnel.block().read_bytes()).cast("Q")
        assert len(slots) == counters.SLOTS
        assert slots[Slot.PID] == tunnel.pid


def test_a_tunnel_that_starts_is_seen_and_what_a_killed_start_leaves_is_swept(lab: Lab, tmp_path: Path) -> None:
    with Tunnel(lab.left, "--up", hanging(tmp_path), wait=False) as tunnel:
        wait_for((tmp_path / "begun").exists, what="hook")
        assert tunnel.stats()["state"] == "starting"
        left = tunnel.block()
        tunnel.process.kill()
        tunnel.process.wait()
    with Tunnel(lab.left):
        assert not left.exists()


def test_whoever_opens_it_again_and_again_does_not_keep_the_supervisor_busy(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        path, supervisor = tunnel.block(), psutil.Process(tunnel.pid)
        before, began = supervisor.num_ctx_switches().voluntary, time.monotonic()
        while time.monotonic() < began + 1:
            path.open("rb").close()
        turns = supervisor.num_ctx_switches().voluntary - before
        assert turns < 300 * (time.monotonic() - began)  # a hundred copies a second, and the waiting for each
        assert tunnel.stats()["pid"] == tunnel.pid


# A block of another user that says whatever it likes, and looks older than any that is looked for.
FORGER = """
import os, sys
from pathlib import Path
from tap2tap import counter_block, counters
from tap2tap.commands import stats
from tap2tap.counters import Slot
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
slots = memoryview(bytearray(Path(sys.argv[1]).read_bytes())).cast("Q")
slots[Slot.PUBLISHED] = 0
blocks = [counter_block.create(slots, 65534) for _ in range(20)]
print("ready", flush=True)
sys.stdin.read()
for block in blocks:
    block.close()
"""


def test_forged_blocks_make_no_genuine_one_old_and_are_told_apart(lab: Lab) -> None:
    with joined(lab.left, lab.right, ipv6=False) as (client, _):
        argv = [sys.executable, "-c", FORGER, str(client.block())]
        forger = lab.left.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert forger.stdin is not None
        assert forger.stdout is not None
        assert forger.stdout.readline() == "ready\n"
        lab.left.run(["ping", "-n", "-q", "-c", "10", "-i", "0.002", "-W", "10", RIGHT])
        sent = lab.left.counters()["tap0"].tx_packets
        found = stats.read(lab.left.namespace)
        assert [each["uid"] for each in found] == [0] + [65534] * 20
        assert found[0]["workers"]["outbound"]["frames"] >= sent
        text = tap2tap("stats", host=lab.left).stdout
        assert text.startswith("interface: tap0\n")
        assert text.count("interface: tap0 (of uid 65534)\n") == 20
        forger.stdin.close()
        assert forger.wait(30) == 0
