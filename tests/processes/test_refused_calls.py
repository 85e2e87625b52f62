"""Kernels that lack a system call and containers that refuse one: the tunnel works, or ends with one clear line."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tap2tap.counters import DataPlane
from tap2tap.demo.lab import Lab, wait_for
from tap2tap.workers.worker import data_plane
from tests.conftest import lacking
from tests.processes.test_ends import script
from tests.processes.test_privileges import powerless
from tests.support.command import mistake, tap2tap
from tests.support.refused import known, refusing
from tests.support.tunnel import RIGHT, Tunnel, address, alive, limit_open_files, wait_gone, wait_ping

pytestmark = pytest.mark.usefixtures("root", "filters")


@pytest.fixture
def filters() -> None:
    """The means to refuse calls."""
    if not known():
        lacking("the numbers of this machine's system calls are not known to the tests")


def complaints(tunnel: Tunnel) -> list[str]:
    """What a tunnel warned of beside its having no key, and maybe no compiled data plane."""
    known = ("no --key", "data plane: interpreted")
    warnings = [line for line in tunnel.log if "warning: " in line or "error: " in line]
    return [line for line in warnings if not any(words in line for words in known)]


def fatal(lab: Lab, prefix: Sequence[str], words: str, *options: str) -> None:
    """It ends with exit code 4 and one line, beside the warning that there is no key."""
    done = tap2tap(*options, host=lab.left, prefix=prefix)
    *warnings, last = done.stderr.splitlines(keepends=True)
    assert "no --key" in "".join(warnings)
    done.stderr = last
    mistake(done, 4, words)
    assert not lab.left.has_link("tap0")


UNPINNED = "tap2tap {}: warning: not pinned cpu="
PROTECTION = "tap2tap supervisor: warning: the kernel refuses some protection refused={}"


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (
            "close_range pidfd_open inotify_init1 sched_getaffinity sched_setscheduler capset setgroups",
            [],
        ),
        (
            "inotify_add_watch prlimit64 sched_setaffinity",
            [
                *(UNPINNED.format(role) for role in ("inbound", "inbound", "outbound")),  # a line a life
                PROTECTION.format("RLIMIT_CORE"),
            ],
        ),
        ("prctl", [PROTECTION.format("PR_SET_NO_NEW_PRIVS,PR_SET_DUMPABLE")]),
        ("prctl.PR_SET_DUMPABLE", [PROTECTION.format("PR_SET_DUMPABLE")]),
    ],
)
def test_a_refused_call_has_its_way_round_or_one_clear_line(
    lab: Lab, tmp_path: Path, calls: str, said: Sequence[str]
) -> None:
    up = script(tmp_path / "up", f": >{tmp_path}/ran")
    own = min(os.sched_getaffinity(0))
    cpus = ("--cpus", f"{own},{own}")
    with (
        Tunnel(
            lab.right, *cpus, prefix=refusing(*(f"{call}:EPERM" for call in calls.split())), extra_groups=[]
        ) as server,
        Tunnel(
            *(lab.left, "--remote", lab.right.ipv4, "--up", up, *cpus),
            prefix=refusing(*(f"{call}:ENOSYS" for call in calls.split())),
            extra_groups=[],
        ) as client,
    ):
        assert (tmp_path / "ran").exists()
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT, 10)
        for tunnel in (server, client):
            tunnel.wait_replaced("inbound", tunnel.kill_worker("inbound"))
        wait_ping(lab.left, RIGHT, 10)
        for tunnel in (server, client):
            told = [line for line in sorted(complaints(tunnel)) if "worker died" not in line]
            assert len(told) == len(said), tunnel.log
            assert all(line.startswith(words) for line, words in zip(told, said, strict=True)), told
            assert tunnel.stop() == 0


@pytest.mark.parametrize(("call", "error"), [("sendmmsg", "ENOSYS"), ("recvmmsg", "EPERM")])
def test_a_call_that_there_is_no_way_round_ends_the_start_with_one_line(lab: Lab, call: str, error: str) -> None:
    if data_plane() is DataPlane.INTERPRETED:
        pytest.skip("uncompiled, neither is called")
    done = tap2tap(host=lab.left, prefix=refusing(f"{call}:{error}"))
    mistake(done, 1, rf"{call}\(2\) is refused by this kernel or container")
    assert not lab.left.has_link("tap0")


def test_without_affinity_all_cpus_are_allowed(lab: Lab) -> None:
    with Tunnel(lab.left, "--cpus", "0,0", prefix=refusing("sched_getaffinity:EPERM")) as tunnel:
        assert {tunnel.worker(direction)["cpu"] for direction in ("outbound", "inbound")} == {0}


@pytest.mark.parametrize("call", ["prctl", "prctl.PR_SET_PDEATHSIG"])
def test_a_killed_supervisor_takes_everything_along_although_the_kernel_does_not_see_to_it(
    lab: Lab, tmp_path: Path, call: str
) -> None:
    hook = script(tmp_path / "hook", "exit 0")
    with Tunnel(lab.left, "--down", hook, prefix=refusing(f"{call}:ENOSYS")) as tunnel:
        tunnel.wait_replaced("inbound", tunnel.kill_worker("inbound"))
        wait_for(lambda: len(alive(tunnel.descendants())) == 3, what="successor")
        descendants = tunnel.descendants()
        tunnel.wait_settled()
        tunnel.kill_worker("inbound", signal.SIGSTOP)
        tunnel.process.kill()
        wait_gone(descendants)
        wait_for(lambda: not lab.left.has_link("tap0"), what="end of the interface")


def test_groups_that_cannot_be_given_up_end_it(lab: Lab) -> None:
    prefix = ["setpriv", "--groups", "4,27", *refusing("setgroups:EPERM")]
    fatal(lab, prefix, r"cannot give up the supplementary groups: setgroups\(2\): Operation not permitted")


def test_a_uid_that_cannot_be_given_up_ends_it(lab: Lab) -> None:
    fatal(lab, refusing("setresuid:EPERM"), "cannot become uid 65534 and gid 65534: Operation not permitted")


@pytest.mark.parametrize("more", [[], ["capget:EPERM"]], ids=["", "nor-told"])
def test_capabilities_that_cannot_be_given_up_end_it(lab: Lab, more: list[str]) -> None:
    words = r"cannot give up the capabilities: capset\(2\): Operation not permitted"
    fatal(lab, refusing("capset:EPERM", *more), words, "--uid", "0", "--gid", "0")


def test_a_refused_capset_is_no_matter_where_no_capability_is_left(lab: Lab) -> None:
    with Tunnel(lab.left, prefix=refusing("capset:EPERM", "capget:EPERM")) as tunnel:
        for direction in ("outbound", "inbound"):
            assert powerless(tunnel.worker(direction)["pid"])
        assert powerless(tunnel.pid)


def test_a_worker_closes_what_is_not_its_own_although_nothing_lists_it(lab: Lab) -> None:
    extra = os.open("/dev/null", os.O_RDONLY)
    try:
        with Tunnel(lab.left, prefix=refusing("close_range:ENOSYS"), pass_fds=[extra]) as tunnel:
            limit_open_files(tunnel.pid, 3)  # so /proc/self/fd cannot be opened
            successor = tunnel.wait_replaced("inbound", tunnel.kill_worker("inbound"), 10)["pid"]
            wait_for(lambda: len(list(Path(f"/proc/{successor}/fd").iterdir())) == 5, what="closed descriptors")
    finally:
        os.close(extra)
