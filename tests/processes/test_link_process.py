"""The link process dies, hangs, and is replaced: the cable carries on, and the peer notices a rekey at most."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tap2tap.demo.lab import Lab, wait_for
from tests.processes.test_failures import OFTEN, asking
from tests.processes.test_secure_presence import Diary
from tests.processes.test_secure_tunnel import drops, load
from tests.support.link import (
    DIRECTIONS,
    handshakes,
    kill_link,
    link_of,
    link_pid,
    replace_link,
    wait_handshake,
    wait_link_replaced,
    workers,
)
from tests.support.planted import planted
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
from tests.support.tunnel import LEFT, RIGHT, Tunnel, address, ping, wait_ping


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
            assert len([line for line in tunnel.log if ": path mtu " in line]) <= 1  # a successor has it
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


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_worker_that_is_replaced_waits_until_a_busy_link_has_told_it_what_holds(
    lab: Lab, tmp_path: Path, direction: str
) -> None:
    with secured(lab.left, lab.right, tmp_path) as (client, server):
        wait_up(client, server)
        before = drops(client, server)
        counting = lab.left.popen(["ping", "-n", "-q", "-i", "0.01", "-c", "300", "-W", "10", RIGHT], stdout=-1)
        for _ in range(3):
            link = kill_link(client, signal.SIGSTOP)
            pid = client.kill_worker(direction)
            client.wait_replaced(direction, pid)
            time.sleep(0.1)  # the successor is there, and has its frames before it
            os.kill(link, signal.SIGCONT)
        counting.communicate()  # of which a killed worker may have had one in its hands
        assert drops(client, server) == before


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
            theirs = server.descendants()
            server.process.kill()
            psutil.wait_procs(theirs, 30)  # or its link process answers once more
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
    prefix = asking(tmp_path, "192.0.2.77", known=True)
    options = ("--key", home, "--remote", "far-end.example")
    with Tunnel(lab.left, *options, prefix=prefix, command=planted(OFTEN)) as client:
        (tmp_path / "hosts").write_text(f"{lab.right.ipv4} far-end.example\n")
        client.wait_said("the name of the remote stands for another address")
        replace_link(client)
        with secure(lab.right, vps) as server:
            wait_up(client, server)
