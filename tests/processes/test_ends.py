"""However a tunnel ends, nothing of it is left: no process, no interface, no port, no counter block."""

import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from tap2tap.demo.lab import Host, Lab, wait_for
from tap2tap.supervisor.signals import STOP_SIGNALS
from tests.support.tunnel import Tunnel, alive, wait_gone

signals = pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)


def port_is_free(host: Host, port: int = 1234) -> bool:
    """Whether a program could have the UDP port now."""
    with host.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("::", port))
        except OSError:
            return False
        return True


def script(path: Path, text: str) -> str:
    """Write a program for a hook; return its path."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@signals
def test_each_stop_signal_ends_it_cleanly_and_leaves_nothing(lab: Lab, tmp_path: Path, number: signal.Signals) -> None:
    down = script(tmp_path / "down", f"echo $1 > {tmp_path}/ran")
    with Tunnel(lab.left, "--remote", lab.right.ipv4, "--down", down) as tunnel:
        descendants, block = tunnel.descendants(), tunnel.block()
        assert len(descendants) == 3  # two workers, and who will run the hook
        assert lab.left.has_link("tap0")
        assert not port_is_free(lab.left)
        assert tunnel.stop(number) == 0
        assert not alive(descendants)
        assert (tmp_path / "ran").read_text() == "tap0\n"
        assert not lab.left.has_link("tap0")
        assert port_is_free(lab.left)
        assert not block.exists()
        tunnel.wait_said(f"stopping signal={number.name}")


def test_a_signal_to_the_whole_group_as_a_terminal_sends_it_ends_it_as_cleanly(lab: Lab, tmp_path: Path) -> None:
    down = script(tmp_path / "down", f"echo $1 > {tmp_path}/ran")
    with Tunnel(lab.left, "--down", down, start_new_session=True) as tunnel:
        descendants = tunnel.descendants()
        os.killpg(tunnel.pid, signal.SIGINT)
        assert tunnel.wait() == 0
        assert not alive(descendants)
        assert (tmp_path / "ran").read_text() == "tap0\n"
        assert not lab.left.has_link("tap0")


def test_a_signal_while_workers_are_dying_ends_it_cleanly(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        for _ in range(3):  # so that it waits before it replaces the worker
            tunnel.wait_replaced("inbound", tunnel.kill_worker("inbound"))
        tunnel.kill_worker("inbound")
        tunnel.kill_worker("outbound", signal.SIGSTOP)
        assert tunnel.stop() == 0
        assert not lab.left.has_link("tap0")


def test_a_signal_before_it_is_up_ends_it_cleanly(lab: Lab) -> None:
    tunnel = Tunnel(lab.left, wait=False)
    tunnel.wait_said("offloads")
    assert tunnel.stop() == 0
    assert not lab.left.has_link("tap0")


def test_a_killed_supervisor_takes_everything_along_and_frees_the_port(lab: Lab, tmp_path: Path) -> None:
    hook = script(tmp_path / "hook", "exit 0")
    with Tunnel(lab.left, "--up", hook, "--down", hook) as tunnel:
        descendants, block = tunnel.descendants(), tunnel.block()
        assert len(descendants) == 3
        tunnel.process.kill()
        tunnel.process.wait()
        wait_gone(descendants)
        wait_for(lambda: port_is_free(lab.left), what="free port")
        wait_for(lambda: not lab.left.has_link("tap0"), what="end of the interface")
    with Tunnel(lab.left) as successor:
        assert not block.exists()
        assert successor.block() != block


def test_a_killed_supervisor_takes_stopped_workers_along(lab: Lab) -> None:
    with Tunnel(lab.left) as tunnel:
        tunnel.wait_settled()
        descendants = tunnel.descendants()
        for direction in ("outbound", "inbound"):
            tunnel.kill_worker(direction, signal.SIGSTOP)
        tunnel.process.kill()
        wait_gone(descendants)


def test_a_tap_that_is_deleted_ends_it_with_a_clear_error(lab: Lab, tmp_path: Path) -> None:
    down = script(tmp_path / "down", f"echo $1 > {tmp_path}/ran")
    with Tunnel(lab.left, "--down", down) as tunnel:
        descendants, block = tunnel.descendants(), tunnel.block()
        lab.left.delete_link("tap0")
        assert tunnel.wait() == 1
        assert tunnel.log[-1] == "tap2tap: the tap device was deleted: the tunnel has ended"
        assert not alive(descendants)
        assert port_is_free(lab.left)
        assert not block.exists()
        assert (tmp_path / "ran").read_text() == "tap0\n"


@pytest.mark.parametrize(
    ("queues", "killed"), [([], True), (["multi_queue"], False)], ids=["killed", "multi-queue-stopped"]
)
def test_a_persistent_tap_is_used_and_left_in_place(lab: Lab, queues: list[str], *, killed: bool) -> None:
    lab.left.run(["ip", "tuntap", "add", "dev", "cable0", "mode", "tap", *queues])
    index = lab.left.index("cable0")
    for _ in range(2):
        with Tunnel(lab.left, interface="cable0") as tunnel:
            assert tunnel.stats()["interface"] == "cable0"
            descendants = tunnel.descendants()
            if killed:
                tunnel.process.kill()
                tunnel.process.wait()
        wait_gone(descendants)
        assert lab.left.index("cable0") == index


def test_a_persistent_tap_carries_frames(lab: Lab) -> None:
    lab.left.run(["ip", "tuntap", "add", "dev", "tap0", "mode", "tap", "multi_queue"])
    with Tunnel(lab.right) as server, Tunnel(lab.left, "--remote", lab.right.ipv4):
        lab.left.address("tap0", "10.9.0.1/24")
        lab.right.address("tap0", "10.9.0.2/24")
        assert lab.left.run(["ping", "-n", "-c1", "-w20", "10.9.0.2"]).returncode == 0
        assert server.worker("inbound")["frames"] > 0


def test_without_a_name_the_kernel_picks_one(lab: Lab) -> None:
    lab.left.run(["ip", "tuntap", "add", "dev", "tap0", "mode", "tap"])
    with Tunnel(lab.left, interface="tap%d") as tunnel:
        assert tunnel.stats()["interface"] == "tap1"
        assert lab.left.has_link("tap1")
    assert not lab.left.has_link("tap1")


def test_two_tunnels_on_one_host_do_not_mind_each_other(lab: Lab) -> None:
    with Tunnel(lab.left) as one, Tunnel(lab.left, "--port", "1235", interface="tap1") as two:
        assert {facts.stats()["interface"] for facts in (one, two)} == {"tap0", "tap1"}
        descendants = two.descendants()
        one.stop()
        assert alive(descendants) == descendants
        assert psutil.pid_exists(two.pid)
        assert two.stats()["state"] == "up"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_stopped_companions_with_privileges_go_with_their_supervisor(
    lab: Lab, tmp_path: Path, number: signal.Signals
) -> None:
    hook = script(tmp_path / "hook", "exit 0")
    with Tunnel(lab.left, "--remote", "localhost", "--up", hook) as tunnel:
        processes = tunnel.descendants()
        for process in processes:
            if process.name() in ("tap2tap:names", "tap2tap:hooks"):
                process.suspend()
        tunnel.process.send_signal(number)
        tunnel.process.wait(30)
        wait_gone(processes)
