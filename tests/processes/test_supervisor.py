"""Workers die and hang; the cable does not."""

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tap2tap.demo.lab import Host, Lab, wait_for
from tests.support.tunnel import LEFT, RIGHT, Tunnel, joined, wait_ping


@contextmanager
def load(sender: Host, target: str) -> Iterator[None]:
    """Some thousand frames a second of all sizes from `sender` to `target`, for at most half a minute."""
    over = threading.Event()

    def pour() -> None:
        deadline = time.monotonic() + 30
        with sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not over.wait(0.001) and time.monotonic() < deadline:
                for size in (18, 200, 200, 1400, 1400, 1400):
                    with suppress(OSError):  # nobody listens there, and sometimes the queue is full
                        sock.sendto(bytes(size), (target, 9))

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_workers_that_are_killed_under_load_are_replaced_and_their_counters_go_on(lab: Lab) -> None:
    with joined(lab.left, lab.right) as (client, server), load(lab.left, RIGHT):
        for tunnel, direction in ((client, "outbound"), (server, "inbound")):
            wait_for(lambda it=tunnel, way=direction: it.worker(way)["frames"] > 500, what="load")  # type: ignore[misc]
            before = tunnel.worker(direction)
            after = tunnel.wait_replaced(direction, tunnel.kill_worker(direction))
            assert after["restarts"] == 1
            assert all(after[key] >= before[key] for key in ("frames", "bytes", "datagrams"))
            wait_frames(tunnel, direction, after["frames"] + 500)
            tunnel.wait_said(f"worker died, replacing it worker={direction} reason='killed by SIGKILL'")
            other = "inbound" if direction == "outbound" else "outbound"
            assert tunnel.worker(other)["restarts"] == 0


def test_workers_that_stop_under_load_are_replaced(lab: Lab) -> None:
    with joined(lab.left, lab.right) as (client, server), load(lab.left, RIGHT):
        ends = ((client, "outbound"), (server, "inbound"))
        stopped = [tunnel.kill_worker(direction, signal.SIGSTOP) for tunnel, direction in ends]
        for (tunnel, direction), pid in zip(ends, stopped, strict=True):
            after = tunnel.wait_replaced(direction, pid, timeout=15)
            assert after["restarts"] == 1
            wait_frames(tunnel, direction, after["frames"] + 500)
            tunnel.wait_said(f"worker hangs, killing it worker={direction}")


def wait_frames(tunnel: Tunnel, direction: str, count: int) -> None:
    """Wait until a worker has carried more than that many frames."""
    wait_for(lambda: tunnel.worker(direction)["frames"] > count, what="frames of the successor")


def test_idle_workers_that_stop_are_replaced(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        stopped = {direction: tunnel.kill_worker(direction, signal.SIGSTOP) for direction in ("outbound", "inbound")}
        for direction, pid in stopped.items():
            assert tunnel.wait_replaced(direction, pid, timeout=15)["restarts"] == 1
            tunnel.wait_said(f"worker hangs, killing it worker={direction}")


def test_the_reason_of_a_death_is_in_the_log(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        for number in (signal.SIGSEGV, signal.SIGTERM, signal.SIGABRT, signal.SIGSYS):
            pid = tunnel.kill_worker("inbound", number)
            tunnel.wait_replaced("inbound", pid)
            tunnel.wait_said(f"worker=inbound reason='killed by {number.name}'")


def test_workers_do_not_mind_the_signals_of_a_terminal(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        pids = [tunnel.kill_worker("outbound", number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)]
        tunnel.kill_worker("inbound")
        tunnel.wait_said("worker died")
        assert set(pids) == {tunnel.worker("outbound")["pid"]}


def test_both_workers_killed_at_once_are_both_replaced(lab: Lab) -> None:
    with joined(lab.left, lab.right) as (client, _):
        old = {direction: client.worker(direction)["pid"] for direction in ("outbound", "inbound")}
        for pid in old.values():
            os.kill(pid, signal.SIGKILL)
        for direction, pid in old.items():
            client.wait_replaced(direction, pid)
        wait_ping(lab.left, RIGHT)


def test_a_crash_loop_backs_off_to_a_second_and_says_so(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        deaths = 0
        while not tunnel.said("next_try_seconds=1.00"):
            pid = tunnel.kill_worker("inbound")
            deaths += 1
            assert deaths < 20
            tunnel.wait_replaced("inbound", pid)
        delays = [float(found[1]) for line in tunnel.log if (found := re.search(r"next_try_seconds=(\S+)", line))]
        assert delays == sorted(delays)
        assert delays[0] < 0.1
        assert max(delays) == 1.0
        assert tunnel.said("worker keeps dying worker=inbound reason='killed by SIGKILL'")
        assert tunnel.worker("inbound")["restarts"] == deaths
        assert tunnel.worker("outbound")["restarts"] == 0


def test_a_ping_loses_at_most_five_packets_when_a_worker_is_killed(lab: Lab) -> None:
    with joined(lab.left, lab.right) as tunnels:
        for tunnel in tunnels:
            for direction in ("outbound", "inbound"):
                check_loss(lab, tunnel, direction)


def check_loss(lab: Lab, tunnel: Tunnel, direction: str) -> None:
    """Kill a worker that carries pings."""
    frames = tunnel.worker(direction)["frames"]
    pinging = lab.left.popen(["ping", "-n", "-q", "-i", "0.002", "-c", "600", "-W", "5", RIGHT], stdout=-1)
    wait_for(lambda: tunnel.worker(direction)["frames"] > frames + 100, what="pings under way")
    pid = tunnel.kill_worker(direction)
    tunnel.wait_replaced(direction, pid)
    text, _ = pinging.communicate(timeout=60)
    found = re.search(r"(\d+) packets transmitted, (\d+) received", text)
    assert found, text
    assert found[1] == "600"
    assert 600 - int(found[2]) <= 5, text


def test_a_server_whose_worker_was_replaced_still_knows_its_peer(lab: Lab) -> None:
    with joined(lab.left, lab.right) as (client, server):
        peer = server.stats()["peer"]
        pid = server.kill_worker("inbound")
        server.wait_replaced("inbound", pid)
        pid = server.kill_worker("outbound")
        server.wait_replaced("outbound", pid)
        assert server.stats()["peer"] == peer == f"{lab.left.ipv4}:1234"
        wait_ping(lab.right, LEFT)
        assert client.worker("inbound")["restarts"] == 0


def test_each_worker_runs_on_the_cpu_that_stats_name(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        tunnel.wait_settled()
        cpus = [tunnel.worker(direction)["cpu"] for direction in ("outbound", "inbound")]
        assert cpus == [None, None] if len(os.sched_getaffinity(0)) <= 2 else len(set(cpus)) == 2


def test_the_workers_run_on_the_cpus_that_were_asked_for_before_and_after_a_death(lab: Lab) -> None:
    mine = os.sched_getaffinity(0)
    out, into = max(mine), min(mine)
    with Tunnel(lab.left, "--cpus", f"{out},{into}") as tunnel:
        for _ in range(2):
            tunnel.wait_settled()
            assert tunnel.worker("outbound")["cpu"] == out
            assert tunnel.worker("inbound")["cpu"] == into
            tunnel.wait_replaced("outbound", tunnel.kill_worker("outbound"))


def test_a_process_that_may_use_one_cpu_warns_and_works(lab: Lab) -> None:
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(mine)})  # inherited by what is started
    try:
        tunnel = Tunnel(lab.left)
    finally:
        os.sched_setaffinity(0, mine)
    with tunnel:
        assert tunnel.said("warning: only one CPU: both workers share it")
        assert {tunnel.worker(direction)["cpu"] for direction in ("outbound", "inbound")} == {None}


def test_an_idle_tunnel_hardly_ever_wakes_up(lab: Lab) -> None:
    lab.left.sysctl("net/ipv6/conf/default/disable_ipv6", "1")  # a tap that comes up says so to its neighbours
    with Tunnel(lab.left, "--remote", lab.right.ipv4) as tunnel:
        processes = [psutil.Process(tunnel.pid), *tunnel.descendants()]
        assert len(processes) == 3
        wait_for(lambda: tunnel.worker("outbound")["keepalives"], what="first keepalive")
        before = [wake_ups(process) for process in processes]
        used = sum(run_time(process) for process in processes)
        time.sleep(3)  # the window of the measurement
        woken = [wake_ups(process) - then for process, then in zip(processes, before, strict=True)]
        used = sum(run_time(process) for process in processes) - used
        # Two a second, and one whenever somebody asks for the figures of all tunnels, as other tests do.
        assert max(woken) <= 45, dict(zip(processes, woken, strict=True))
        assert used < 0.005 * 3e9


def wake_ups(process: psutil.Process) -> int:
    """How often a process has gone to sleep of its own will."""
    return int(process.num_ctx_switches().voluntary)


def run_time(process: psutil.Process) -> int:
    """Nanoseconds that a process has been on a CPU."""
    return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0])
