"""A process that forks others: what those have, how they end, and what happens without it."""

import ctypes
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tap2tap import privileges
from tap2tap.demo.lab import wait_for
from tap2tap.errors import StartError
from tap2tap.supervisor import fork_server, process
from tap2tap.supervisor.fork_server import ForkServer
from tap2tap.supervisor.process import Process

ME = (os.geteuid(), os.getegid())
PR_GET_CHILD_SUBREAPER = 37  # linux/prctl.h
LATE = "antigravity"  # a module that nobody else loads, and whose import does something only in a browser


def echo(channel: socket.socket) -> int:
    """A life that answers until the channel closes, and ends by what it was told last."""
    code = 0
    while said := channel.recv(64):
        channel.send(said)
        code = int(said)
    return code


def forever(_: socket.socket) -> int:
    """A life that has to be ended."""
    while True:
        signal.pause()


@contextmanager
def server(life: Callable[[socket.socket], int], load: Callable[[], None] = lambda: None) -> Iterator[ForkServer]:
    """A fork server that keeps no descriptor."""
    made = ForkServer("child", load, life, [], ME)
    try:
        yield made
    finally:
        made.close()
        privileges.adopt(on=True)  # the suite adopts orphans, which `fork` ends


def forked(by: ForkServer) -> tuple[Process, socket.socket]:
    """A new process, and the channel to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            return by.fork(theirs), ours
        except (OSError, StartError):
            ours.close()
            raise


def wait_ended(child: Process) -> int | None:
    """Its exit code, when it has ended."""
    wait_for(lambda: child.poll() is not None, 30, "end of the process")
    return child.poll()


def test_each_process_gets_its_channel_and_its_exit_code_is_told() -> None:
    with server(echo) as starter:
        for code in (b"0", b"7", b"70"):
            child, channel = forked(starter)
            with channel:
                channel.send(code)
                assert channel.recv(64) == code
                assert child.poll() is None
                assert os.getpgid(child.pid) == os.getpgid(0)
            assert wait_ended(child) == int(code)
            assert child.end() == int(code)


@pytest.mark.parametrize("stopped", [False, True], ids=["", "stopped"])
def test_one_that_is_killed_is_gone(stopped: bool) -> None:
    with server(forever) as starter:
        child, channel = forked(starter)
        with channel:
            if stopped:
                os.kill(child.pid, signal.SIGSTOP)
            child.kill()
            assert wait_ended(child) == -signal.SIGKILL
        child, channel = forked(starter)
        with channel:
            assert child.end() == -signal.SIGKILL
            assert not Path(f"/proc/{child.pid}").exists()


def test_what_is_loaded_is_loaded_once_before_the_privileges_go_and_nowhere_else() -> None:
    def load() -> None:
        sys.modules[LATE] = sys  # which stands for something large
        os.environ["LOADED_AS"] = str(os.getpid())

    def life(channel: socket.socket) -> int:
        channel.send(f"{LATE in sys.modules} {os.environ['LOADED_AS']} {os.getppid()}".encode())
        channel.recv(1)
        return 0

    with server(life, load) as starter:
        found = set()
        for _ in range(2):
            child, channel = forked(starter)
            with channel:
                found.add(channel.recv(64))
            assert wait_ended(child) == 0
        (only,) = found
        loaded, by, parent = only.split()
        assert loaded == b"True"
        assert int(by) not in (child.pid, os.getpid())
        assert int(parent) == os.getpid()
        assert LATE not in sys.modules


def test_a_process_holds_nothing_but_its_channel_and_what_it_is_to_keep() -> None:
    mine = [os.open("/dev/null", os.O_RDONLY) for _ in range(2)]

    def life(channel: socket.socket) -> int:
        here = {int(link.name) for link in Path("/proc/self/fd").iterdir()}
        folder = os.open("/dev/null", os.O_RDONLY)  # the number that the folder had
        return 0 if here == {0, 1, 2, channel.fileno(), mine[1], folder} else 1

    starter = ForkServer("child", lambda: None, life, [mine[1]], ME)
    try:
        child, channel = forked(starter)
        with channel:
            assert wait_ended(child) == 0
    finally:
        starter.close()
        for fd in mine:
            os.close(fd)


def test_the_process_outlives_the_server_and_another_server_can_be_had() -> None:
    with server(echo) as starter:
        child, channel = forked(starter)
        starter._process.end()
        with channel:
            channel.send(b"3")
            assert channel.recv(64) == b"3"
        assert wait_ended(child) == 3
        child, channel = forked(starter)
        channel.close()
        assert wait_ended(child) == 0


def test_where_no_orphan_is_adopted_the_process_is_forked_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "adopt", lambda *, on: False)  # noqa: ARG005
    made = ForkServer("child", lambda: None, echo, [], ME)
    try:
        child, channel = forked(made)
        with channel:
            channel.send(b"5")
            assert channel.recv(64) == b"5"
        assert wait_ended(child) == 5
    finally:
        made.close()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("refused", ["adopt", "kernel_ends_orphans"])
def test_one_that_is_forked_here_has_no_more_privileges(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    monkeypatch.setattr(privileges, refused, lambda **_: False)
    done: list[str] = []

    def life(channel: socket.socket) -> int:
        status = Path("/proc/self/status").read_text()
        powerless = "CapEff:\t0000000000000000" in status
        channel.send(f"{os.getresuid()} {os.getgroups()} {powerless} {done}".encode())
        return 0

    made = ForkServer("child", lambda: done.append("loaded"), life, [], (65534, 65534))
    try:
        child, channel = forked(made)
        with channel:
            assert channel.recv(256) == b"(65534, 65534, 65534) [] True ['loaded']"
        assert wait_ended(child) == 0
    finally:
        made.close()


def test_nobody_else_is_adopted() -> None:
    with server(echo) as starter:
        child, channel = forked(starter)
        channel.close()
        wait_ended(child)
        now = (ctypes.c_int * 1)()
        ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, now, 0, 0, 0)
        assert now[0] == 0


def test_a_server_that_cannot_load_is_told_and_leaves_no_descriptor(capfd: pytest.CaptureFixture[str]) -> None:
    def load() -> None:
        raise ModuleNotFoundError("nothing of that name")

    before = len(list(Path("/proc/self/fd").iterdir()))
    with server(echo, load) as starter, pytest.raises(StartError, match="the process that starts the child process"):
        forked(starter)
    assert "child starter: error: the process that starts the child process failed" in capfd.readouterr().err
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_without_room_for_a_process_its_error_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    start = process.start

    def full(role: str, *rest: object, **more: object) -> process.Process:
        if role == "child":
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return start(role, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(process, "start", full)
    with server(echo) as starter:
        for _ in range(2):
            with pytest.raises(OSError, match="Resource temporarily unavailable"):
                forked(starter)


def test_a_server_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server, "PATIENCE", 0.2)
    with server(forever) as starter:
        first, channel = forked(starter)
        channel.close()
        first.end()
        os.kill(starter._process.pid, signal.SIGSTOP)
        with pytest.raises(OSError, match="the process that starts it is gone"):
            forked(starter)
        child, channel = forked(starter)
        with channel:
            assert child.end() == -signal.SIGKILL
