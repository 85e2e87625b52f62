"""SIGHUP ends nothing, whoever sends it: a closed terminal, logrotate, `systemctl reload`."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tap2tap.commands import stats
from tap2tap.demo.lab import Host, Lab, wait_for
from tests.processes.test_ends import script
from tests.processes.test_failures import NAME, asking, silent_name_server
from tests.support.command import tap2tap
from tests.support.link import handshakes
from tests.support.secured import make_keys
from tests.support.tunnel import COMMAND, LEFT, RIGHT, Tunnel, address, alive, ping, wait_gone, wait_ping

KINDS = pytest.mark.parametrize("key", [False, True], ids=["plain", "key"])
LINE = "state at SIGHUP"


def keys(folder: Path, *, key: bool) -> Sequence[Sequence[str]]:
    """Options of the client and of the server."""
    return [("--key", each) for each in make_keys(folder)] if key else ((), ())


@KINDS
def test_a_hang_up_of_all_processes_ends_none_of_them(lab: Lab, tmp_path: Path, key: bool) -> None:
    hook, ours, theirs = script(tmp_path / "hook", "exit 0"), *keys(tmp_path, key=key)
    options = ["--remote", NAME, "--up", hook, *ours]
    prefix = asking(tmp_path, lab.right.ipv4, known=True)
    with (
        Tunnel(lab.right, *theirs) as server,
        Tunnel(lab.left, *options, prefix=prefix, start_new_session=True) as client,
    ):
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        processes = client.descendants()
        assert len(processes) == (6 if key else 4)  # workers, hooks, names; link and its starter
        before = handshakes(server) if key else 0
        os.killpg(client.pid, signal.SIGHUP)
        client.wait_said(LINE)
        if key:
            wait_for(lambda: handshakes(server) > before, what="call")
        assert ping(lab.left, RIGHT)
        assert alive(processes) == processes
        (line,) = [line for line in client.log if LINE in line]
        facts = dict(word.split("=") for word in line.partition(LINE)[2].split())
        assert facts.pop("frames_outbound") != "0"
        assert facts.pop("frames_inbound") != "0"
        assert int(facts.pop("uptime_seconds")) >= int(facts.pop("last_heard_seconds"))
        assert facts.pop("path_mtu") in ("1500", "1280")
        peer = f"{lab.right.ipv4}:1234"
        assert facts == {"interface": "tap0", "peer": peer, "session": "up" if key else "none"}
        server.process.send_signal(signal.SIGHUP)
        server.wait_said(LINE)
        assert client.stop() == server.stop() == 0


def test_a_hang_up_has_the_name_looked_up_again(lab: Lab, tmp_path: Path) -> None:
    prefix = asking(tmp_path, lab.right.ipv4, known=True)
    with (
        silent_name_server(lab.right) as name_server,
        Tunnel(lab.right),
        Tunnel(lab.left, "--remote", NAME, prefix=prefix) as client,
    ):
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)  # so there is no silence for which it is looked up
        (tmp_path / "hosts").write_text("")
        client.process.send_signal(signal.SIGHUP)
        assert NAME.split(".")[0].encode() in name_server.recv(512)
        client.wait_said(LINE)
        assert ping(lab.left, RIGHT)


def test_a_hang_up_before_it_is_up_does_not_end_the_start(lab: Lab, tmp_path: Path) -> None:
    go, began = tmp_path / "go", tmp_path / "began"
    os.mkfifo(go)
    up = script(tmp_path / "up", f": >{began}; read line <{go}")
    down = script(tmp_path / "down", f"kill -HUP $TAP2TAP_PID; : >{tmp_path}/ended")
    with Tunnel(lab.left, "--up", up, "--down", down, wait=False, start_new_session=True) as tunnel:
        wait_for(began.exists, what="hook")
        os.killpg(tunnel.pid, signal.SIGHUP)
        go.write_text("on\n")
        tunnel.wait_said("tunnel is up")
        tunnel.wait_said(LINE)
        assert not tunnel.said("session=up")
        assert tunnel.stop() == 0
        assert (tmp_path / "ended").exists()


IMPORTS = """
import os, signal, sys, tap2tap.cli
class Finder:
    def find_spec(*_): os.kill(os.getpid(), signal.SIGHUP)
sys.meta_path.insert(0, Finder)
"""
LAST = """
import functools, os, signal, sys, tap2tap.cli
made = {}  # with globals of its own, which do not lead back to it: so it is deleted with the modules
exec("class Last:\\n def __del__(self): hang_up()", {"hang_up": functools.partial(os.kill, os.getpid(), 1)}, made)
last = made.pop("Last")()
"""


@pytest.mark.parametrize("entry", ["main", "supervisor"])
def test_a_hang_up_while_it_loads_does_not_end_it(entry: str) -> None:
    done = tap2tap("--version", command=[sys.executable, "-c", f"{IMPORTS}sys.exit(tap2tap.cli.{entry}())"])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_hang_up_in_the_last_moments_of_the_interpreter_does_not_change_the_exit_code(lab: Lab) -> None:
    with Tunnel(lab.left, command=[sys.executable, "-c", f"{LAST}sys.exit(tap2tap.cli.main())"]) as tunnel:
        assert tunnel.stop() == 0


def facts_of(host: Host, pid: int) -> stats.Facts | None:
    """What stats say of the tunnel of a supervisor that is up."""
    found = [facts for facts in stats.read(host.namespace) if facts["pid"] == pid and facts["state"] == "up"]
    return found[0] if found else None


@KINDS
def test_a_closed_terminal_ends_nothing(lab: Lab, tmp_path: Path, key: bool) -> None:
    """The kernel sends SIGHUP, and each write fails from then on (EIO)."""
    ours, theirs = keys(tmp_path, key=key)
    down = script(tmp_path / "down", f"echo closed; : >{tmp_path}/ended")
    master, slave = pty.openpty()
    terminal = {"stdin": slave, "stdout": slave, "stderr": slave}
    command = ["setsid", "--ctty", *COMMAND, "-i", "tap0", "-v", "--remote", lab.right.ipv4, "--down", down, *ours]
    with Tunnel(lab.right, *theirs):
        client = lab.left.popen(command, **terminal)
        os.close(slave)
        wait_for(lambda: facts_of(lab.left, client.pid), 30, "tunnel")
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        processes = psutil.Process(client.pid).children(recursive=True)
        os.close(master)
        os.killpg(client.pid, signal.SIGHUP)  # the kernel does so for the leader and for whom the foreground has
        wait_ping(lab.right, LEFT)
        facts = facts_of(lab.left, client.pid)
        assert facts
        killed = facts["workers"]["inbound"]["pid"]
        os.kill(killed, signal.SIGKILL)  # so that it has something to say

        def replaced() -> bool:
            now = facts_of(lab.left, client.pid)
            return bool(now and now["workers"]["inbound"]["pid"] not in (None, killed))

        wait_for(replaced, 30, "successor")
        wait_ping(lab.left, RIGHT)
        assert len(alive(processes)) == len(processes) - 1
        processes += psutil.Process(client.pid).children(recursive=True)
        client.terminate()
        assert client.wait(30) == 0
        assert (tmp_path / "ended").exists()
        wait_gone(processes)


def test_a_new_log_file_in_place_of_the_old_one_takes_what_comes_next(lab: Lab, tmp_path: Path) -> None:
    """What logrotate does to a program that writes to its standard error: copy and truncate, then SIGHUP."""
    log = tmp_path / "log"
    with log.open("a") as file:
        process = lab.left.popen([*COMMAND, "-i", "tap0"], stderr=file, stdout=subprocess.DEVNULL)
    wait_for(lambda: "tunnel is up" in log.read_text(), what="tunnel")
    os.truncate(log, 0)
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: LINE in log.read_text(), what="state")
    assert log.read_text().startswith("tap2tap supervisor: ")
    process.terminate()
    assert process.wait(30) == 0
