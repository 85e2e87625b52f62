"""What a running tunnel may still do: its workers nothing but move frames, and only one small process is still root."""

import grp
import os
import pwd
from pathlib import Path

import psutil
import pytest

from tap2tap.demo.lab import Lab, wait_for
from tests.processes.test_ends import script
from tests.support.tunnel import Tunnel

pytestmark = pytest.mark.usefixtures("root")

DIRECTIONS = ("outbound", "inbound")


def status(pid: int) -> dict[str, str]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: " ".join(value.split()) for key, _, value in (line.partition(":") for line in lines)}


def powerless(pid: int) -> bool:
    """Whether a process has no capability and will never get one."""
    facts = status(pid)
    held = [int(facts[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb")]
    return not any(held) and facts["NoNewPrivs"] == "1" and facts["Groups"] == ""


def limited_to(pid: int, *capabilities: int) -> bool:
    """Whether a process has these capabilities alone, will never get another one, and leaves no core dump."""
    facts = status(pid)
    mask = sum(1 << each for each in capabilities)
    held = [int(facts[kind], 16) for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
    core = Path(f"/proc/{pid}/limits").read_text().partition("Max core file size")[2].split()[:2]
    return held == [0, mask, mask, mask, 0] and facts["NoNewPrivs"] == "1" and core == ["0", "0"]


def shares_memory(pid: int) -> bool:
    """Whether a process has the memory of the tunnel, the only one that is shared (proc_pid_maps(5))."""
    return any(line.split()[1] == "rw-s" for line in Path(f"/proc/{pid}/maps").read_text().splitlines())


def test_workers_are_nobody_without_groups_capabilities_or_a_way_back(lab: Lab) -> None:
    with Tunnel(lab.left, extra_groups=[4, 27]) as tunnel:
        for direction in DIRECTIONS:
            pid = tunnel.worker(direction)["pid"]
            assert status(pid)["Uid"] == status(pid)["Gid"] == "65534 65534 65534 65534"
            assert powerless(pid)


def test_the_successor_of_a_worker_can_do_no_more(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        for direction in DIRECTIONS:
            successor = tunnel.wait_replaced(direction, tunnel.kill_worker(direction))["pid"]
            assert status(successor)["Uid"] == "65534 65534 65534 65534"
            assert powerless(successor)
            wait_descriptors(successor)


def test_the_supervisor_itself_is_nobody(lab: Lab) -> None:
    with Tunnel(lab.left, extra_groups=[4, 27]) as tunnel:
        assert status(tunnel.pid)["Uid"] == status(tunnel.pid)["Gid"] == "65534 65534 65534 65534"
        assert powerless(tunnel.pid)


def test_only_who_runs_hooks_is_still_root_and_it_holds_no_network_descriptor(lab: Lab, tmp_path: Path) -> None:
    down = script(tmp_path / "down", "exit 0")
    with Tunnel(lab.left, "--down", down) as tunnel:
        workers = {tunnel.worker(direction)["pid"] for direction in DIRECTIONS}
        (runner,) = (process for process in tunnel.descendants() if process.pid not in workers)
        assert runner.uids().real == runner.uids().effective == 0
        wait_for(lambda: kinds(runner.pid) == {"unix"})


def test_without_hooks_nobody_is_root(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        assert {process.uids().effective for process in [psutil.Process(tunnel.pid), *tunnel.descendants()]} == {65534}


def test_workers_hold_the_tap_the_socket_and_nothing_else(lab: Lab, tmp_path: Path) -> None:
    down = script(tmp_path / "down", "exit 0")
    extra = os.open("/dev/null", os.O_RDONLY)
    with Tunnel(lab.left, "--down", down, pass_fds=[extra]) as tunnel:
        os.close(extra)
        for direction in DIRECTIONS:
            pid = tunnel.worker(direction)["pid"]
            wait_descriptors(pid)
            assert len(list(Path(f"/proc/{pid}/fd").iterdir())) == 5


@pytest.mark.parametrize("named", [False, True], ids=["by-number", "by-name"])
def test_workers_become_whom_they_are_told_to(lab: Lab, *, named: bool) -> None:
    user, group = pwd.getpwall()[1], grp.getgrall()[2]
    uid, gid = (user.pw_name, group.gr_name) if named else (str(user.pw_uid), str(group.gr_gid))
    with Tunnel(lab.left, "--uid", uid, "--gid", gid, extra_groups=[4, 27]) as tunnel:
        for direction in DIRECTIONS:
            pid = tunnel.worker(direction)["pid"]
            assert status(pid)["Uid"] == " ".join([str(user.pw_uid)] * 4)
            assert status(pid)["Gid"] == " ".join([str(group.gr_gid)] * 4)
            assert powerless(pid)
        block = tunnel.block()
        assert tunnel.stop() == 0
        assert not block.exists()


def test_a_worker_says_in_ps_what_it_is(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        names = {f"{direction}:tap0" for direction in DIRECTIONS}
        wait_for(lambda: {process.name() for process in tunnel.descendants()} == names, what="names")


def wait_descriptors(pid: int) -> None:
    """Wait until a worker holds what it needs, beyond standard input, output and error, and nothing else."""
    wait_for(lambda: kinds(pid) == {"tun", "udp"}, 30, "worker without other descriptors")


def kinds(pid: int) -> set[str]:
    """The kinds of the descriptors of a process beyond the first three: tun, udp, unix, ..."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        if int(link.name) < 3:
            continue
        try:
            target = str(link.readlink())
        except FileNotFoundError:  # just closed
            continue
        if target.startswith("socket:"):
            inode = target.removeprefix("socket:[").removesuffix("]")
            tables = ("udp", "udp6", "unix", "netlink", "packet", "raw")
            names = (name for name in tables if inode in Path(f"/proc/{pid}/net/{name}").read_text().split())
            target = next(names, "socket").removesuffix("6")
        found.add(Path(target).name)
    return found
