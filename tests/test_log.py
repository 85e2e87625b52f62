"""Log lines that nobody reads: they are lost and counted, and hold up nothing; whatever standard error is."""

import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tap2tap.demo.lab import Lab, wait_for
from tests.processes.test_ends import script
from tests.processes.test_privileges import wait_descriptors
from tests.support.tunnel import COMMAND, RIGHT, Tunnel, address, alive, wait_gone, wait_ping

KINDS = ["pipe", "stream", "datagrams", "terminal"]
LINES = 5000

TALKER = f"""
from tap2tap import log
log.setup("talker")
log.unblock()
for number in range({LINES}):
    log.info("a line", number=number, text="x" * 300)
print("done", flush=True)
input()
log.info("a line", number="last")
"""


@contextmanager
def unread(kind: str) -> Iterator[tuple[int, int]]:
    """What a program may have for its standard error, and the other end of it, which nobody reads."""
    if kind == "pipe":
        read, write = os.pipe()
    elif kind == "terminal":
        read, write = pty.openpty()
        termios.tcflow(write, termios.TCOOFF)  # Ctrl-S
    else:
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM)
        read, write = (end.detach() for end in ends)
    try:
        yield write, read
    finally:
        os.close(read)
        os.close(write)


def drain(read: int) -> bytes:
    """What waits to be read."""
    poll, found = select.poll(), b""
    poll.register(read, select.POLLIN)
    while poll.poll(0):
        found += os.read(read, 1 << 20)
    return found.replace(b"\r\n", b"\n")


def filled(kind: str, write: int) -> None:
    """Leave no room for a line; a stopped terminal has none as it is."""
    if kind == "pipe":
        with open(f"/proc/self/fd/{write}", "wb", buffering=0, opener=nonblocking) as pipe:
            for size in (1 << 16, 4096, 1):
                while pipe.write(bytes(size)):
                    pass
    elif kind != "terminal":
        with socket.socket(fileno=os.dup(write)) as sock, suppress(BlockingIOError):
            while True:
                sock.send(bytes(64), socket.MSG_DONTWAIT)


def nonblocking(path: str, flags: int) -> int:
    """An opener of descriptors that never block."""
    return os.open(path, flags | os.O_NONBLOCK)


@pytest.mark.parametrize("kind", KINDS)
def test_lines_without_room_are_lost_and_the_next_one_says_how_many(kind: str) -> None:
    with unread(kind) as (write, read):
        talker = subprocess.Popen(
            [sys.executable, "-c", TALKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=write, text=True
        )
        assert talker.stdout is not None
        assert talker.stdout.readline() == "done\n"
        assert os.get_blocking(write)  # the file description of the user's shell is as it was
        if kind == "terminal":
            termios.tcflow(write, termios.TCOON)
        said = drain(read)
        talker.communicate("\n", timeout=30)
        assert talker.returncode == 0
        said += drain(read)
    told = re.findall(rb"talker: warning: lines were lost, as nobody read them lines=(\d+)\n", said)
    assert said.endswith(b"talker: a line number=last\n")
    whole = len(re.findall(rb"talker: a line number=\d+ text=x{300}\n", said))
    assert whole < LINES
    assert whole + sum(map(int, told)) == LINES


@pytest.mark.parametrize("kind", KINDS)
def test_a_tunnel_goes_on_although_nobody_reads_what_it_says(lab: Lab, tmp_path: Path, kind: str) -> None:
    down = script(tmp_path / "down", f": >{tmp_path}/ran")
    with unread(kind) as (write, _), Tunnel(lab.right):
        filled(kind, write)
        command = [*COMMAND, "-v", "-i", "tap0", "--remote", lab.right.ipv4, "--down", down]
        process = lab.left.popen(command, stderr=write)
        wait_for(lambda: lab.left.has_link("tap0"), 30, "interface")
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        supervisor = psutil.Process(process.pid)
        for _ in range(2):
            workers = named(supervisor).values()
            for worker in workers:
                worker.kill()
            wait_gone(workers)
            wait_for(lambda: len(named(supervisor)) == 2, 30, "successors")
        wait_ping(lab.left, RIGHT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert (tmp_path / "ran").exists()


def named(supervisor: psutil.Process) -> dict[str, psutil.Process]:
    """The living workers of a supervisor, by name."""
    return {child.name(): child for child in alive(supervisor.children()) if ":tap0" in child.name()}


def test_an_error_at_the_end_waits_for_nobody(lab: Lab) -> None:
    with unread("pipe") as (write, _):
        filled("pipe", write)
        process = lab.left.popen([*COMMAND, "-i", "tap0"], stderr=write)
        wait_for(lambda: named(psutil.Process(process.pid)), 30, "workers")
        lab.left.delete_link("tap0")
        assert process.wait(30) == 1


def test_closed_standard_descriptors_are_not_taken_for_the_tap(lab: Lab) -> None:
    with Tunnel(lab.right) as server:
        closing = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
        process = lab.left.popen([*closing, *COMMAND, "-v", "-i", "tap0", "--remote", lab.right.ipv4])
        wait_for(lambda: len(named(psutil.Process(process.pid))) == 2, 30, "workers")
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        for worker in named(psutil.Process(process.pid)).values():
            wait_descriptors(worker.pid)
            assert {str(Path(f"/proc/{worker.pid}/fd/{fd}").readlink()) for fd in range(3)} == {"/dev/null"}
        assert server.worker("inbound")["dropped"] == {}
        process.terminate()
        assert process.wait(30) == 0


def test_the_programs_of_hooks_have_standard_error_as_it_was(lab: Lab, tmp_path: Path) -> None:
    up = script(tmp_path / "up", f"cat /proc/self/fdinfo/2 >{tmp_path}/out; echo said by the hook >&2")
    with Tunnel(lab.left, "--up", up) as tunnel:
        flags = re.search(r"flags:\s+(\d+)", (tmp_path / "out").read_text())
        assert flags
        assert not int(flags[1], 8) & os.O_NONBLOCK
        tunnel.wait_said("said by the hook")
        flags = re.search(r"flags:\s+(\d+)", Path(f"/proc/{tunnel.pid}/fdinfo/2").read_text())
        assert flags
        assert int(flags[1], 8) & os.O_NONBLOCK


@pytest.mark.usefixtures("root")
def test_a_pipe_that_may_not_be_opened_again_is_not_waited_for_either() -> None:
    with unread("pipe") as (write, _):
        filled("pipe", write)
        code = (
            "import os, tap2tap.log as log; os.setresuid(65534, 65534, 65534); log.unblock();"
            "log.info('lost'); os.get_blocking(2) or os._exit(5)"
        )
        assert subprocess.run([sys.executable, "-c", code], stderr=write, timeout=30).returncode == 0
