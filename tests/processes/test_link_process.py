"""The link process dies, hangs, and is replaced: the cable carries on, and the peer notices a rekey at most."""

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
from tests.processes.test_failures import OFTEN, named, names, planted
from tests.processes.test_privileges import kinds, powerless, status
from tests.processes.test_secure_presence import Diary
from tests.processes.test_secure_tunnel import drops, load
from tests.support.command import mistake, tap2tap
from tests.support.link import (
    DIRECTIONS,
    kill_link,
    link_of,
    link_pid,
    replace_link,
    starter,
    wait_link_replaced,
    workers,
)
from tests.support.secured import (
    IMPATIENT,
    Sniffer,
    assert_no_nonce_repeats,
    make_keys,
    plugged_in,
    secure,
    secured,
    wait_up,
)
from tests.support.traffic import Stream
from tests.support.tunnel import LEFT, RIGHT, Tunnel, address, alive, ping, wait_gone, wait_ping

ROOT = Path(__file__).parents[2]


def unreadable(folder: Path) -> list[str]:
    """A prefix for a command that runs the program from where only its owner may read it."""
    shutil.copytree(ROOT / "tap2tap", folder / "lib" / "tap2tap")
    shutil.copytree(Path(cryptography.__file__).parent, folder / "lib" / "cryptography")
    (folder / "lib").chmod(0o700)
    return ["env", "--chdir=/", f"PYTHONPATH={folder}/lib"]


def handshakes(tunnel: Tunnel) -> int:
    """Sessions that took the place of others."""
    return int(tunnel.stats()["session"]["rekeys"])


def wait_handshake(tunnel: Tunnel, before: int) -> None:
    """Wait until a session has taken the place of another."""
    wait_for(lambda: handshakes(tunnel) > before, 30, f"new session: {tunnel.log}")


def test_its_death_costs_no_frame_and_is_no_event_of_the_peer(lab: Lab, tmp_path: Path) -> None:
    diary = Diary(tmp_path, "both")
    with Sniffer(lab.right) as wire, secured(lab.left, lab.right, tmp_path, "--on-peer", diary.hook) as tunnels:
        wait_up(*tunnels)
        wait_for(lambda: len(diary.entries) == 2, what="hooks")
        pids, before = [workers(tunnel) for tunnel in tunnels], drops(*tunnels)
        counting = [
            host.popen(["ping", "-n", "-q", "-i", "0.01", "-c", "400", "-W", "10", "-s", "200", target], stdout=-1)
            for host, target in ((lab.left, RIGHT), (lab.right, LEFT))
        ]
        streams = [
            Stream(lab.left, lab.right, RIGHT, 8 << 20).start(),
            Stream(lab.right, lab.left, LEFT, 8 << 20).start(),
        ]
        for number in range(4):
            other = tunnels[1 - number % 2]
            sessions = handshakes(other)
            replace_link(tunnels[number % 2])
            wait_handshake(other, sessions)
        for stream in streams:
            stream.check()
        for process in counting:
            assert " 400 received, 0% packet loss" in process.communicate()[0]
        assert drops(*tunnels) == before
        assert [workers(tunnel) for tunnel in tunnels] == pids
        assert plugged_in(lab.left)
        assert plugged_in(lab.right)
        for tunnel in tunnels:
            assert link_of(tunnel)["restarts"] == 2
            assert tunnel.stats()["session"]["state"] == "up"
            assert tunnel.stats()["session"]["cipher"]
            assert (
                len([line for line in tunnel.log if "link process" in line and "reason='killed by SIGKILL'" in line])
                == 2
            )
            assert not tunnel.said("peer is down")
            assert len([line for line in tunnel.log if "peer is up" in line]) == 1
        assert [entry[0] for entry in diary.entries] == ["peer-up", "peer-up"]
    assert assert_no_nonce_repeats(wire.stop()) >= 6


def test_one_that_hangs_is_replaced_and_meanwhile_frames_pass(lab: Lab, tmp_path: Path) -> None:
    with secured(lab.left, lab.right, tmp_path) as (client, server):
        wait_up(client, server)
        sessions = handshakes(server)
        pid = kill_link(client, signal.SIGSTOP)
        assert ping(lab.left, RIGHT)
        wait_link_replaced(client, pid)
        client.wait_said("link process hangs, killing it")
        client.wait_said("link process died, replacing it reason='killed by SIGKILL'")
        wait_handshake(server, sessions)
        assert ping(lab.left, RIGHT)


def test_one_that_dies_again_and_again_is_replaced_ever_more_slowly(lab: Lab, tmp_path: Path) -> None:
    with secured(lab.left, lab.right, tmp_path) as (client, server):
        wait_up(client, server)
        counting = lab.left.popen(["ping", "-n", "-q", "-i", "0.01", "-c", "300", "-W", "10", RIGHT], stdout=-1)
        deaths = 0
        while not client.said("link process keeps dying reason='killed by SIGKILL' next_try_seconds=0.40"):
            replace_link(client)
            deaths += 1
            assert deaths < 20
        assert " 300 received, 0% packet loss" in counting.communicate()[0]
        assert link_of(client)["restarts"] == deaths
        sessions = handshakes(client)
        replace_link(server)
        wait_handshake(client, sessions)
        assert client.worker("inbound")["restarts"] == 0
        assert not client.said("peer is down")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_worker_that_is_replaced_while_the_link_hangs_is_told_by_the_next_one(
    lab: Lab, tmp_path: Path, direction: str
) -> None:
    with Sniffer(lab.right) as wire, secured(lab.left, lab.right, tmp_path) as (client, server):
        wait_up(client, server)
        with load((lab.left, RIGHT), (lab.right, LEFT)):
            link = kill_link(client, signal.SIGSTOP)
            client.wait_replaced(direction, client.kill_worker(direction))
            wait_link_replaced(client, link)
            wait_ping(lab.left, RIGHT)
        wait_up(client, server)
    assert_no_nonce_repeats(wire.stop())


def test_all_three_killed_at_once_are_all_replaced(lab: Lab, tmp_path: Path) -> None:
    with Sniffer(lab.right) as wire, secured(lab.left, lab.right, tmp_path) as tunnels:
        wait_up(*tunnels)
        for tunnel in tunnels:
            old, link = workers(tunnel), link_pid(tunnel)
            for pid in (*old.values(), link):
                os.kill(pid, signal.SIGKILL)
            for direction, pid in old.items():
                tunnel.wait_replaced(direction, pid)
            wait_link_replaced(tunnel, link)
            wait_ping(lab.left, RIGHT)
    assert_no_nonce_repeats(wire.stop())


HALF_WAY = """
import signal, tap2tap.protocols.secure.mailbox as mailbox
order = mailbox.LinkEnd.order
def dies(self, given):
    first = given.task.name == {task!r} and not os.path.exists({marker!r})
    if first:
        open({marker!r}, "x").close()
    if not (first and {before}):
        order(self, given)
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
mailbox.LinkEnd.order = dies
"""


@pytest.mark.parametrize(("task", "before"), [("OWN_MAC", False), ("EXPECT", False), ("OPEN", True), ("USE", False)])
def test_orders_that_it_leaves_half_way_do_no_harm(lab: Lab, tmp_path: Path, task: str, before: bool) -> None:
    home, vps = make_keys(tmp_path)
    marker = f"/tmp/tap2tap-test-{os.getpid()}-{task}-{before}"  # where nobody finds it
    code = HALF_WAY.format(task=task, marker=marker, before=before)
    try:
        with (
            secure(lab.right, vps) as server,
            Tunnel(lab.left, "--key", home, "--remote", lab.right.ipv4, command=planted(code)) as client,
        ):
            address(lab.left, lab.right)
            wait_ping(lab.left, RIGHT)
            wait_up(client, server)
            client.wait_said("link process died, replacing it")
            assert link_of(client)["restarts"] == 1
    finally:
        Path(marker).unlink(missing_ok=True)


def test_the_carrier_is_pulled_although_the_peer_went_when_there_was_no_link(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    diary = Diary(tmp_path, "ours")
    right = f"{lab.right.ipv4}:1234"
    with secure(lab.left, home, "--remote", lab.right.ipv4, "--on-peer", diary.hook, timers=IMPATIENT) as client:
        with secure(lab.right, vps, timers=IMPATIENT) as server:
            wait_up(client, server)
            diary.wait(("peer-up", right))
            server.process.kill()
            replace_link(client)
        wait_for(lambda: not plugged_in(lab.left), 30, f"end of the carrier: {client.log}")
        diary.wait(("peer-up", right), ("peer-down", right))
        assert client.stats()["session"]["cipher"] is None


def test_one_that_is_replaced_before_the_peer_comes_leaves_the_cable_unplugged(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    with secure(lab.left, home, "--remote", lab.right.ipv4) as client:
        replace_link(client)
        assert not plugged_in(lab.left)
        with secure(lab.right, vps) as server:
            wait_up(client, server)
            wait_for(lambda: plugged_in(lab.left), what="carrier")


def test_a_successor_calls_where_the_remote_is_now(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    prefix = names(tmp_path, "192.0.2.77", known=True)
    options = ("--key", home, "--remote", "far-end.example")
    with Tunnel(lab.left, *options, prefix=prefix, command=planted(OFTEN)) as client:
        (tmp_path / "hosts").write_text(f"{lab.right.ipv4} far-end.example\n")
        client.wait_said("the remote has another address")
        replace_link(client)
        with secure(lab.right, vps) as server:
            wait_up(client, server)


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
            wait_for(lambda: kinds(pid) == {"tun", "udp", "unix", "home.key"}, 30, "link process with its descriptors")  # noqa: B023
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
    os.kill(link_pid(tunnel), signal.SIGSTOP)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("harm", [end_starter, stop_starter])
def test_who_forks_it_is_replaced_by_one_that_may_read_the_programs_files(
    lab: Lab, tmp_path: Path, harm: Callable[[Tunnel], None]
) -> None:
    with secured(lab.left, lab.right, tmp_path, "--uid", "0", "--gid", "0") as (client, server):
        wait_up(client, server)
        sessions, pid = handshakes(server), link_pid(client)
        harm(client)
        wait_link_replaced(client, pid)
        wait_handshake(server, sessions)
        assert not client.said("peer is down")
        replace_link(client)


@pytest.mark.usefixtures("root")
def test_without_anybody_who_could_fork_it_the_program_ends_with_one_line(lab: Lab, tmp_path: Path) -> None:
    home, _ = make_keys(tmp_path)
    with secure(lab.left, home, prefix=unreadable(tmp_path)) as tunnel:
        end_starter(tunnel)
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


@pytest.mark.parametrize("what", ["b'U'", "b'C' + bytes(2)", "b'M' + bytes(24)"])
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
