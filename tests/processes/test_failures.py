"""One failure at a time, planted or provoked: no room for a process, a child that fails oddly, a killed supervisor.

The tunnel goes on, or ends with one line; nothing of it is ever left behind.
"""

import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tap2tap.demo.lab import Host, Lab, wait_for
from tests.processes.test_ends import port_is_free, script
from tests.processes.test_privileges import powerless, status
from tests.supervisor.test_hooks import hanging
from tests.support.command import mistake, tap2tap
from tests.support.planted import names, planted
from tests.support.tunnel import COMMAND, RIGHT, Tunnel, address, alive, limit_open_files, wait_gone, wait_ping

pytestmark = pytest.mark.usefixtures("root")

UID = 20000 + os.getpid() % 20000  # of nobody else, not even of a test that runs beside: limits count its processes
NAME = "far-end.example"


OFTEN = "import tap2tap.supervisor.remote as remote\nremote.SILENCE = remote.EVERY = 0.2"


def asking(folder: Path, server: str, *, known: bool) -> list[str]:
    """A prefix for a command that asks `server` for all names but NAME, if that is `known`: then it is `server` itself.

    It is known no longer when the file `folder`/hosts is empty.
    """
    return names(folder, f"{server} {NAME}\n" if known else "", f"nameserver {server}\n")


@contextmanager
def silent_name_server(host: Host) -> Iterator[socket.socket]:
    """A name server that hears and never answers."""
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host.ipv4, 53))
        sock.settimeout(30)
        yield sock


# No room


@contextmanager
def crowd(uid: int) -> Iterator[None]:
    """One more process of a user."""
    become = ["setpriv", "--reuid", str(uid), "--clear-groups"]
    process = subprocess.Popen([*become, "sleep", "600"])
    try:
        wait_for(lambda: status(process.pid)["Uid"].split()[0] == str(uid), what="process of the user")
        yield
    finally:
        process.kill()
        process.wait()


def test_a_worker_that_cannot_be_forked_is_tried_again_while_the_other_one_goes_on(lab: Lab) -> None:
    with (
        Tunnel(lab.right),
        Tunnel(lab.left, "--remote", lab.right.ipv4, "--uid", str(UID), prefix=["prlimit", "--nproc=3:3"]) as tunnel,
    ):
        address(lab.left, lab.right)
        other = tunnel.worker("inbound")["pid"]
        with crowd(UID):
            tunnel.kill_worker("outbound")
            tunnel.wait_said("next try worker=outbound seconds=0.20")
            assert tunnel.worker("outbound")["pid"] is None
        wait_for(lambda: tunnel.worker("outbound")["pid"], what="successor")
        wait_ping(lab.left, RIGHT)
        assert tunnel.worker("inbound")["pid"] == other
        line = "worker cannot be started, trying again worker=outbound reason='Resource temporarily unavailable'"
        assert len([each for each in tunnel.log if line in each]) == 1
        tunnel.wait_said("worker runs again worker=outbound")


@pytest.mark.parametrize(("room", "role"), [(1, "outbound"), (2, "inbound")])
def test_a_worker_that_cannot_be_forked_at_the_start_ends_it_with_one_line(lab: Lab, room: int, role: str) -> None:
    done = tap2tap("-q", "--uid", str(UID), host=lab.left, prefix=["prlimit", f"--nproc={room}:{room}"])
    done.stderr = "".join(line for line in done.stderr.splitlines(keepends=True) if "warning: " not in line)
    mistake(done, 1, f"cannot start the {role} worker: Resource temporarily unavailable: raise the limits")
    assert not lab.left.has_link("tap0")


@pytest.mark.parametrize("room", range(3, 12))
def test_too_few_descriptors_for_a_start_are_told_in_one_line(lab: Lab, room: int) -> None:
    hook = "true"  # no shell, which has a line of its own about too few
    code = f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, ({room}, {room}))"  # when all is imported
    process = lab.left.popen([*planted(code), "-v", "-i", "tap0", "--up", hook], stderr=subprocess.PIPE)
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "tunnel is up" in line:
            process.terminate()
    code_of_exit = process.wait(30)
    last = [line for line in lines if line.startswith("tap2tap: ")]
    assert not [line for line in lines if not line.startswith("tap2tap")]
    assert (code_of_exit, len(last)) in {(0, 0), (1, 1)}, lines
    assert not lab.left.has_link("tap0")


# Lookups


def test_a_user_who_may_have_no_more_processes_is_followed_to_another_address(lab: Lab, tmp_path: Path) -> None:
    prefix = [*asking(tmp_path, lab.right.ipv4, known=True), "prlimit", "--nproc=3:3"]
    with Tunnel(lab.left, "--remote", NAME, "--uid", str(UID), prefix=prefix, command=planted(OFTEN)) as tunnel:
        workers = {each["pid"] for each in tunnel.stats()["workers"].values()}
        (tmp_path / "hosts").write_text(f"192.0.2.77 {NAME}\n")
        tunnel.wait_said("the name of the remote stands for another address")
        wait_for(lambda: tunnel.stats()["peer"] == "192.0.2.77:1234", what="other address")
        unharmed(tunnel, workers)


def test_a_lookup_without_descriptors_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    prefix = asking(tmp_path, lab.right.ipv4, known=True)
    with Tunnel(lab.left, "--remote", NAME, prefix=prefix, command=planted(OFTEN)) as tunnel:
        workers = {each["pid"] for each in tunnel.stats()["workers"].values()}
        limit_open_files(tunnel.pid, 3)
        resource.prlimit(named(tunnel, "tap2tap:names")[0].pid, resource.RLIMIT_NOFILE, (3, 3))
        tunnel.wait_said(f"looking up '{NAME}' failed: Too many open files")
        unharmed(tunnel, workers)


@pytest.mark.parametrize(
    "fault",
    ["raise OSError(24, 'Too many open files')", "raise BaseException", "os.kill(os.getpid(), 11)"],
)
def test_a_lookup_that_fails_oddly_changes_nothing(lab: Lab, tmp_path: Path, fault: str) -> None:
    begin = f"/tmp/tap2tap-test-{os.getpid()}"  # where nobody finds it
    code = (
        "import tap2tap.endpoint as endpoint\nresolve = endpoint.resolve\n"
        f"def fail(*name):\n    if os.path.exists({begin!r}):\n        {fault}\n    return resolve(*name)\n"
        "endpoint.resolve = fail"
    )
    prefix = asking(tmp_path, lab.right.ipv4, known=True)
    with Tunnel(lab.left, "--remote", NAME, prefix=prefix, command=planted(f"{OFTEN}\n{code}")) as tunnel:
        workers = {each["pid"] for each in tunnel.stats()["workers"].values()}
        Path(begin).touch()
        try:
            tunnel.wait_said(f"looking up '{NAME}' failed: ")
        finally:
            Path(begin).unlink()
        unharmed(tunnel, workers)


def unharmed(tunnel: Tunnel, workers: set[int]) -> None:
    """A tunnel still has these workers, and its block."""
    assert {each["pid"] for each in tunnel.stats()["workers"].values()} == workers
    assert tunnel.block().exists()
    assert not [line for line in tunnel.log if not line.startswith("tap2tap ")]  # as those of a traceback would
    assert tunnel.stop() == 0


def named(tunnel: Tunnel, name: str) -> list[psutil.Process]:
    """The processes below a supervisor that ps calls so."""
    return [child for child in psutil.Process(tunnel.pid).children(recursive=True) if child.name() == name]


def test_the_first_lookup_is_nobodys_and_holds_nothing_but_its_pipe(lab: Lab, tmp_path: Path) -> None:
    prefix = asking(tmp_path, lab.right.ipv4, known=False)
    extra = os.open("/dev/null", os.O_RDONLY)
    with silent_name_server(lab.right) as server:
        tunnel = Tunnel(lab.left, "--remote", NAME, prefix=prefix, wait=False, pass_fds=[extra])
        os.close(extra)
        server.recv(512)
        (child,) = named(tunnel, "tap2tap:lookup")
        assert status(child.pid)["Uid"] == status(child.pid)["Gid"] == "65534 65534 65534 65534"
        assert powerless(child.pid)
        targets = [str(link.readlink()) for link in Path(f"/proc/{child.pid}/fd").iterdir() if int(link.name) > 2]
        assert sorted(target.split(":")[0] for target in targets) == ["pipe", "socket"]
        assert not lab.left.has_link("tap0")
        assert tunnel.stop() == 0


def test_a_stop_signal_ends_a_hanging_first_lookup(lab: Lab, tmp_path: Path) -> None:
    with silent_name_server(lab.right) as server:
        options = ["--remote", NAME]
        tunnel = Tunnel(
            lab.left, *options, prefix=asking(tmp_path, lab.right.ipv4, known=False), wait=False, start_new_session=True
        )
        server.recv(512)
        (child,) = named(tunnel, "tap2tap:lookup")
        os.killpg(tunnel.pid, signal.SIGINT)  # as a terminal does
        assert tunnel.wait() == 0
        assert not alive([child])
        assert not tunnel.said("error")


# A killed supervisor


@pytest.mark.parametrize("phase", ["first-lookup", "set-up", "hook", "lookup", "stopped-hooks"])
def test_a_killed_supervisor_leaves_nothing_behind_in_any_phase(lab: Lab, tmp_path: Path, phase: str) -> None:
    options, command = ["--down", script(tmp_path / "down", "exit 0")], COMMAND
    if "lookup" in phase:
        options += ["--remote", NAME]
        command = planted(OFTEN)
    elif phase == "set-up":
        command = planted("import tap2tap.supervisor.tap_setup as setup\nsetup.apply = lambda *_: time.sleep(600)")
    elif phase == "hook":
        options += ["--up", hanging(tmp_path)]
    prefix = asking(tmp_path, lab.right.ipv4, known=phase == "lookup")
    with silent_name_server(lab.right) as server:
        tunnel = Tunnel(lab.left, *options, prefix=prefix, command=command, wait=False)
        if phase in ("lookup", "stopped-hooks"):
            tunnel.wait_said("tunnel is up")
            tunnel.wait_settled()
            (tmp_path / "hosts").write_text("")
        if "lookup" in phase:
            server.recv(512)
        if phase == "hook":
            wait_for((tmp_path / "begun").exists, what="hook")
        if phase == "set-up":
            wait_for(lambda: named(tunnel, "tap2tap:set-up"), 30, "set-up")
        if phase == "stopped-hooks":
            named(tunnel, "tap2tap:hooks")[0].suspend()
        descendants = tunnel.descendants()
        tunnel.process.kill()
        wait_gone(descendants)
        wait_for(lambda: not lab.left.has_link("tap0"), what="end of the interface")
        wait_for(lambda: port_is_free(lab.left), what="free port")


# A worker that cannot start


def test_only_the_first_worker_may_end_the_program_by_its_failure_to_start(lab: Lab) -> None:
    marker = f"/tmp/tap2tap-test-{os.getpid()}"  # where nobody finds it
    code = (
        "import tap2tap.supervisor.workers as workers\nsettle = workers.settle\n"
        f"def unsettled():\n    if os.path.exists({marker!r}): raise MemoryError('no memory')\n    settle()\n"
        "workers.settle = unsettled"
    )
    try:
        with Tunnel(lab.left, command=planted(code)) as tunnel:
            tunnel.wait_settled()
            other = tunnel.worker("outbound")["pid"]
            Path(marker).touch()
            tunnel.kill_worker("inbound")
            tunnel.wait_said("tap2tap inbound: error: worker cannot start error='no memory'")
            tunnel.wait_said("worker keeps dying worker=inbound reason='exit code 70' next_try_seconds=0.20")
            Path(marker).unlink()
            wait_for(lambda: sched(tunnel.worker("inbound")["pid"]) == os.SCHED_BATCH, 30, "successor")
            assert tunnel.worker("outbound")["pid"] == other
            assert tunnel.stop() == 0
            Path(marker).touch()
            tunnel = Tunnel(lab.left, command=planted(code), wait=False)
            assert tunnel.wait() == 1
            assert "worker cannot start: see its message above" in tunnel.log[-1]
    finally:
        Path(marker).unlink(missing_ok=True)


def sched(pid: int | None) -> int | None:
    """How a process is scheduled."""
    try:
        return os.sched_getscheduler(pid) if pid else None
    except ProcessLookupError:
        return None


@pytest.mark.parametrize("limit", [0, 1, 2, 4])
def test_a_running_supervisor_needs_no_room_for_descriptors(lab: Lab, tmp_path: Path, limit: int) -> None:
    prefix = asking(tmp_path, lab.right.ipv4, known=True)
    with (
        Tunnel(lab.right),
        Tunnel(lab.left, "--remote", NAME, prefix=prefix, command=planted(OFTEN)) as tunnel,
    ):
        workers = {each["pid"] for each in tunnel.stats()["workers"].values()}
        limit_open_files(tunnel.pid, limit)
        (tmp_path / "hosts").write_text(f"192.0.2.77 {NAME}\n")
        tunnel.wait_said("the name of the remote stands for another address")
        unharmed(tunnel, workers)
