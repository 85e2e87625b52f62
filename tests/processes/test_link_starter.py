"""Who starts the link process and with which powers; what it says, and what it needs; how it ends."""

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import cryptography
import pytest

from tap2tap.demo.lab import Lab, wait_for
from tests.processes.test_ends import script
from tests.processes.test_failures import named
from tests.processes.test_privileges import kinds, powerless, status
from tests.processes.test_secure_presence import Diary
from tests.support.command import mistake, tap2tap
from tests.support.link import (
    handshakes,
    kill_link,
    link_of,
    link_pid,
    replace_link,
    starter,
    wait_handshake,
    wait_link_replaced,
    workers,
)
from tests.support.planted import planted
from tests.support.secured import (
    make_keys,
    secure,
    secured,
    wait_up,
)
from tests.support.tunnel import RIGHT, Tunnel, alive, ping, wait_gone

ROOT = Path(__file__).parents[2]


def unreadable(folder: Path) -> list[str]:
    """A prefix for a command that runs the program from where only its owner may read it."""
    shutil.copytree(ROOT / "tap2tap", folder / "lib" / "tap2tap")
    shutil.copytree(Path(cryptography.__file__).parent, folder / "lib" / "cryptography")
    (folder / "lib").chmod(0o700)
    return ["env", "--chdir=/", f"PYTHONPATH={folder}/lib"]


def test_it_reads_its_key_file_again_and_says_what_is_wrong_with_it(lab: Lab, tmp_path: Path) -> None:
    with secured(lab.left, lab.right, tmp_path) as (client, server):
        wait_up(client, server)
        path = tmp_path / "home.key"
        sound = path.read_text()
        path.write_text("nonsense\n")
        kill_link(client)
        client.wait_said(f"the link cannot go on reason='{path}: line 1: not a field")
        client.wait_said("link process keeps dying reason='exit code 70'")
        assert ping(lab.left, RIGHT)
        path.write_text(sound)
        path.unlink()  # it goes by the descriptor, for it could not open the file any more
        sessions = handshakes(server)
        wait_handshake(server, sessions)
        assert not server.said("peer is down")
        assert not any(secret in "\n".join(client.log) for secret in re.findall(r"= (\S{44})", sound))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense\n", "line 1: not a field"),
        ("", "no 'private = ' line"),
        ("\xff", "no 'private = '|line 1: not a field"),
    ],
)
def test_a_mistake_in_the_key_file_is_told_before_there_is_a_tap(
    lab: Lab, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "a\nb.key"
    path.write_text(text)
    path.chmod(0o600)
    done = tap2tap("-i", "tap0", "--key", str(path), host=lab.left)
    mistake(done, 2, words)
    assert "offloads" not in done.stderr
    assert not lab.left.has_link("tap0")


@pytest.mark.usefixtures("root")
def test_it_may_do_no_more_than_a_worker(lab: Lab, tmp_path: Path) -> None:
    with secured(lab.left, lab.right, tmp_path) as (client, _):
        for _ in range(2):
            pid = link_pid(client)
            expected = {"tun", "udp", "unix", "home.key"}
            wait_for(lambda: kinds(pid) == expected, 30, "link process with its descriptors")  # noqa: B023
            assert len(list(Path(f"/proc/{pid}/fd").iterdir())) == 3 + 6
            for process in (pid, starter(client).pid):
                assert status(process)["Uid"] == status(process)["Gid"] == "65534 65534 65534 65534"
                assert powerless(process)
                assert Path(f"/proc/{process}/maps").stat().st_uid == 0  # nobody but root may look into it
                assert "Max core file size 0 0" in " ".join(Path(f"/proc/{process}/limits").read_text().split())
            assert kinds(starter(client).pid) == {"unix", "home.key"}
            replace_link(client)


def test_stats_show_it_as_the_third_and_a_plain_tunnel_has_none(lab: Lab, tmp_path: Path) -> None:
    with secured(lab.left, lab.right, tmp_path) as (client, _):
        replace_link(client)
        facts = link_of(client)
        assert set(facts) == {"pid", "cpu", "cpu_seconds", "cpu_percent", "memory_bytes", "restarts"}
        assert (facts["cpu"], facts["restarts"]) == (None, 1)
        assert facts["memory_bytes"] > 1 << 20
        assert named(client, "tap2tap:link")[0].pid == facts["pid"]
        shown = tap2tap("stats", host=lab.left).stdout
        assert f"  link: keys, handshakes and sessions\n    process: pid {facts['pid']} on any CPU" in shown
    with Tunnel(lab.left) as plain:
        assert plain.stats()["link"] is None
        assert len(plain.descendants()) == 2
        assert "link" not in tap2tap("stats", host=lab.left).stdout


def end_starter(tunnel: Tunnel) -> None:
    starter(tunnel).kill()


def stop_starter(tunnel: Tunnel) -> None:
    """What stops does not do what it is asked, either."""
    starter(tunnel).suspend()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("harm", [end_starter, stop_starter])
def test_who_forks_it_is_replaced_by_one_that_may_read_the_programs_files(
    lab: Lab, tmp_path: Path, harm: Callable[[Tunnel], None]
) -> None:
    with secured(lab.left, lab.right, tmp_path, "--uid", "0", "--gid", "0") as (client, server):
        wait_up(client, server)
        sessions, pid = handshakes(server), link_pid(client)
        harm(client)
        os.kill(pid, signal.SIGKILL)
        wait_link_replaced(client, pid)
        wait_handshake(server, sessions)
        assert not client.said("peer is down")
        replace_link(client)


@pytest.mark.usefixtures("root")
def test_without_anybody_who_could_fork_it_the_program_ends_with_one_line(lab: Lab, tmp_path: Path) -> None:
    home, _ = make_keys(tmp_path)
    with secure(lab.left, home, prefix=unreadable(tmp_path)) as tunnel:
        end_starter(tunnel)
        os.kill(link_pid(tunnel), signal.SIGKILL)
        assert tunnel.wait() == 1
        assert tunnel.log[-1] == "tap2tap: the process that starts the link process has failed: see its message above"
        assert tunnel.said("tap2tap link starter: error: the process that starts the link process failed error=")
        assert not lab.left.has_link("tap0")


def test_a_killed_supervisor_takes_it_along(lab: Lab, tmp_path: Path) -> None:
    home, _ = make_keys(tmp_path)
    with secure(lab.left, home, "--remote", lab.right.ipv4) as tunnel:
        descendants = tunnel.descendants()
        assert len(descendants) == 4
        kill_link(tunnel, signal.SIGSTOP)
        tunnel.process.kill()
        wait_gone(descendants)
        wait_for(lambda: not lab.left.has_link("tap0"), what="end of the interface")


def test_a_stopped_link_does_not_hold_up_the_end(lab: Lab, tmp_path: Path) -> None:
    down = script(tmp_path / "down", f": >{tmp_path}/ran")
    home, _ = make_keys(tmp_path)
    with secure(lab.left, home, "--down", down) as tunnel:
        descendants = tunnel.descendants()
        kill_link(tunnel, signal.SIGSTOP)
        assert tunnel.stop() == 0
        assert (tmp_path / "ran").exists()
        assert not alive(descendants)


@pytest.mark.usefixtures("root")
def test_a_successor_needs_not_read_the_programs_files(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    with (
        secure(lab.right, vps) as server,
        secure(lab.left, home, "--remote", lab.right.ipv4, prefix=unreadable(tmp_path)) as client,
    ):
        wait_up(client, server)
        for _ in range(2):
            sessions = handshakes(server)
            replace_link(client)
            wait_handshake(server, sessions)


GARBAGE = """
import tap2tap.link.messages as messages
send = messages.send
def rude(sock, message):
    if isinstance(message, messages.PeerUp):
        sock.send({what}, 0x40)
    else:
        send(sock, message)
messages.send = rude
"""


@pytest.mark.parametrize("what", ["b'U'", "b'C' + bytes(2)", "b'M' + bytes(40)"])
def test_one_that_says_what_makes_no_sense_is_killed_and_nothing_happens_to_the_tunnel(
    lab: Lab, tmp_path: Path, what: str
) -> None:
    home, vps = make_keys(tmp_path)
    hook = Diary(tmp_path, "hook")
    options = ("--key", home, "--remote", lab.right.ipv4, "--on-peer", hook.hook)
    with secure(lab.right, vps), Tunnel(lab.left, *options, command=planted(GARBAGE.format(what=what))) as client:
        pids = workers(client)
        if "M" in what:  # which is well formed
            hook.wait(("peer-moved", "[::]:0"))
            assert link_of(client)["restarts"] == 0
        else:
            client.wait_said("the link process says what makes no sense, killing it")
            client.wait_said("link process died, replacing it")
            assert not hook.entries
        assert workers(client) == pids
        assert client.stop() == 0
