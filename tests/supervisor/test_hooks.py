"""The user's programs: when they run, as whom, with what, and what becomes of the tunnel when they fail or hang."""

import json
import os
import re
import signal
from contextlib import closing
from pathlib import Path

import pytest

from tap2tap import device
from tap2tap.demo.lab import Lab, wait_for
from tap2tap.supervisor.hooks import Hooks
from tap2tap.supervisor.signals import CAUGHT
from tests.processes.test_ends import port_is_free, script
from tests.support.tunnel import Tunnel, alive, wait_gone

# Writes what a hook can know to the file named like the event, whole or not at all.
REPORT = """
{
    echo "arguments $# $*"
    echo "ids $(id -u) $(id -g)"
    echo "link $(ip -o link show dev "$1")"
    echo "children $(cat /proc/$TAP2TAP_PID/task/$TAP2TAP_PID/children)"
    echo "marker $MARKER"
    env | grep ^TAP2TAP_
} > OUT.draft 2>&1
mv OUT.draft OUT
"""


def report(path: Path, event: str) -> str:
    """A hook that reports to `path`/`event`.txt."""
    return script(path / event, REPORT.replace("OUT", str(path / f"{event}.txt")))


def facts(path: Path) -> dict[str, str]:
    """What a hook reported."""
    lines = path.read_text().splitlines()
    return dict(
        line.replace("=", " ", 1).split(" ", 1) if line.startswith("TAP") else line.split(" ", 1) for line in lines
    )


def test_up_and_down_run_with_the_interface_and_the_facts_of_the_tunnel(lab: Lab, tmp_path: Path) -> None:
    up, down = report(tmp_path, "up"), report(tmp_path, "down")
    options = ["--remote", f"{lab.right.ipv4}:99", "--bind", lab.left.ipv4, "--mtu", "1400", "--up", up, "--down", down]
    with Tunnel(lab.left, *options, env={**os.environ, "MARKER": "of the administrator"}) as tunnel:
        said = facts(tmp_path / "up.txt")
        assert not (tmp_path / "down.txt").exists()
        workers = [str(tunnel.worker(direction)["pid"]) for direction in ("outbound", "inbound")]
        assert tunnel.stop() == 0
    said_down = facts(tmp_path / "down.txt")
    for event, found in (("up", said), ("down", said_down)):
        assert found["arguments"] == "1 tap0"
        assert found["ids"] == f"{os.getuid()} {os.getgid()}"
        assert " tap0: " in found["link"]
        assert ",UP" in found["link"]
        assert " mtu 1400 " in found["link"]
        assert found["marker"] == "of the administrator"
        assert {name: value for name, value in found.items() if name.startswith("TAP2TAP_")} == {
            "TAP2TAP_EVENT": event,
            "TAP2TAP_INTERFACE": "tap0",
            "TAP2TAP_LOCAL": f"{lab.left.ipv4}:1234",
            "TAP2TAP_MTU": "1400",
            "TAP2TAP_PEER": f"{lab.right.ipv4}:99",
            "TAP2TAP_PID": str(tunnel.pid),
        }
    assert not set(workers) & {*said["children"].split(), *said_down["children"].split()}


def test_up_can_give_the_interface_its_address(lab: Lab, tmp_path: Path) -> None:
    up = script(tmp_path / "up", f"ip address add 10.9.0.1/24 dev $1; echo $TAP2TAP_PEER > {tmp_path}/peer")
    with Tunnel(lab.left, "--up", up):
        assert "10.9.0.1/24" in lab.left.run(["ip", "-o", "address", "show", "dev", "tap0"]).stdout
        assert (tmp_path / "peer").read_text() == "\n"  # a server that knows none yet


def test_a_hook_may_be_named_as_on_a_command_line_or_by_a_relative_path(lab: Lab, tmp_path: Path) -> None:
    for name in ("my-up", "down"):
        report(tmp_path, name)
    path = f"{os.environ.get('PYTHONPATH', '')}:{Path(__file__).parents[2]}"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": path}
    with Tunnel(lab.left, "--up", "my-up", "--down", "./down", cwd=tmp_path, env=environment):
        assert facts(tmp_path / "my-up.txt")["arguments"] == "1 tap0"
    assert facts(tmp_path / "down.txt")["arguments"] == "1 tap0"


@pytest.mark.parametrize(
    ("text", "words"), [("exit 3", "failed: exit code 3"), ("kill -9 $$", "failed: killed by SIGKILL")]
)
def test_a_failing_up_ends_the_program_and_leaves_nothing(lab: Lab, tmp_path: Path, text: str, words: str) -> None:
    up, down = script(tmp_path / "up", text), report(tmp_path, "down")
    tunnel = Tunnel(lab.left, "--up", up, "--down", down, wait=False)
    assert tunnel.wait() == 1
    assert tunnel.log[-1] == f"tap2tap: --up {up} {words}"
    assert not tunnel.said("tunnel is up")
    assert not lab.left.has_link("tap0")
    assert port_is_free(lab.left)


def test_an_up_that_is_no_program_ends_it_with_the_reason(lab: Lab, tmp_path: Path) -> None:
    up = tmp_path / "up"
    up.write_text("echo this is no script, as its first line does not say who reads it\n")
    up.chmod(0o755)
    tunnel = Tunnel(lab.left, "--up", str(up), wait=False)
    assert tunnel.wait() == 1
    assert tunnel.log[-1] == f"tap2tap: --up {up} cannot be run: Exec format error"


@pytest.mark.parametrize("option", ["--up", "--down"])
def test_a_hook_that_is_not_executable_is_refused_before_anything_is_made(
    lab: Lab, tmp_path: Path, option: str
) -> None:
    hook = tmp_path / "hook"
    hook.write_text("#!/bin/sh\n")
    tunnel = Tunnel(lab.left, option, str(hook), wait=False)
    assert tunnel.wait() == 2
    assert tunnel.log == [f"tap2tap: {option} {hook}: no such program, or not executable"]


def test_a_failing_down_is_told_and_the_interface_goes_all_the_same(lab: Lab, tmp_path: Path) -> None:
    down = script(tmp_path / "down", "exit 5")
    with Tunnel(lab.left, "--down", down) as tunnel:
        assert tunnel.stop() == 1
        tunnel.wait_said(f"error: --down {down} failed: exit code 5")
        assert not lab.left.has_link("tap0")
        assert port_is_free(lab.left)


def hanging(path: Path, *, stubborn: bool = False) -> str:
    """A hook that says when it has begun and then never ends; a stubborn one does not mind SIGTERM."""
    trap = "trap '' TERM" if stubborn else ""
    return script(path / "hanging", f"{trap}\nsleep 600 &\n: >{path}/begun\nwait; wait; sleep 600")


def test_a_stop_signal_ends_a_hanging_up_and_the_program(lab: Lab, tmp_path: Path) -> None:
    tunnel = Tunnel(lab.left, "--up", hanging(tmp_path), wait=False)
    wait_for((tmp_path / "begun").exists, what="hook")
    descendants = tunnel.descendants()
    assert len(descendants) == 3
    assert tunnel.stop(signal.SIGQUIT) == 0
    assert not alive(descendants)
    assert not lab.left.has_link("tap0")


def test_a_hook_that_does_not_mind_sigterm_cannot_hold_up_the_end(lab: Lab, tmp_path: Path) -> None:
    tunnel = Tunnel(lab.left, "--up", hanging(tmp_path, stubborn=True), wait=False)
    wait_for((tmp_path / "begun").exists, what="hook")
    descendants = tunnel.descendants()
    assert tunnel.stop() == 0
    assert not alive(descendants)
    assert not lab.left.has_link("tap0")


def test_a_second_signal_ends_the_waiting_for_a_hanging_down(lab: Lab, tmp_path: Path) -> None:
    with Tunnel(lab.left, "--down", hanging(tmp_path)) as tunnel:
        tunnel.process.terminate()
        wait_for((tmp_path / "begun").exists, what="hook")
        descendants = tunnel.descendants()
        assert tunnel.stop() == 1
        assert not alive(descendants)
        tunnel.wait_said("warning: not waiting for --down any longer")
        assert not lab.left.has_link("tap0")


def test_a_killed_supervisor_takes_a_running_hook_along(lab: Lab, tmp_path: Path) -> None:
    tunnel = Tunnel(lab.left, "--up", hanging(tmp_path), wait=False)
    wait_for((tmp_path / "begun").exists, what="hook")
    descendants = tunnel.descendants()
    assert len(descendants) == 3
    tunnel.process.kill()
    wait_gone(descendants)
    wait_for(lambda: not lab.left.has_link("tap0"), what="end of the interface")


def test_the_down_hook_runs_although_the_hook_process_saw_the_signals_too(lab: Lab, tmp_path: Path) -> None:
    with Tunnel(lab.left, "--down", report(tmp_path, "down")) as tunnel:
        workers = {tunnel.worker(direction)["pid"] for direction in ("outbound", "inbound")}
        (runner,) = (process for process in tunnel.descendants() if process.pid not in workers)
        for number in CAUGHT:
            runner.send_signal(number)
        assert tunnel.stop() == 0
        assert facts(tmp_path / "down.txt")["arguments"] == "1 tap0"


def test_a_killed_hook_process_is_told_when_it_is_missed(lab: Lab, tmp_path: Path) -> None:
    with Tunnel(lab.left, "--down", report(tmp_path, "down")) as tunnel:
        workers = {tunnel.worker(direction)["pid"] for direction in ("outbound", "inbound")}
        for process in tunnel.descendants():
            if process.pid not in workers:
                process.kill()
                wait_gone([process])
        assert len(alive(tunnel.descendants())) == 2
        assert tunnel.stop() == 1
        tunnel.wait_said("failed: the process that runs it is gone")
        assert not lab.left.has_link("tap0")


def test_a_hook_holds_nothing_of_the_tunnel(lab: Lab, tmp_path: Path) -> None:
    hook = script(tmp_path / "up", f"ls -l /proc/self/fd > {tmp_path}/out")
    with Tunnel(lab.left, "--up", hook):
        links = [line.split(" -> ")[1] for line in (tmp_path / "out").read_text().splitlines() if " -> " in line]
    assert not [link for link in links if re.search("tun|socket|shm|memfd", link)]
    assert len(links) == 4  # the first three, and the folder that is listed


NAMES = ["vpn.5", "vpn+1", "a~b", "a,b", "x=y", "a#b", "a$b", "$(id)", "a'b\"c", "-n", "ü-ö", "a;b&c|d", "*"]


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_runs_for_every_name_that_an_interface_may_have(name: str, tmp_path: Path) -> None:
    hook = script(tmp_path / "hook", f'printf "%s\\n" "$1" "$TAP2TAP_INTERFACE" "$TAP2TAP_EVENT" >{tmp_path}/out')
    device.check_name(name)
    with closing(Hooks({"up": hook})) as hooks:
        hooks.start()
        hooks.introduce(name)
        assert talk(hooks, ["up", name, {}]) == "ok"
    assert (tmp_path / "out").read_text().splitlines() == [name, name, "up"]


def talk(hooks: Hooks, message: object) -> str:
    """What the process that runs hooks answers; bytes are sent as they are."""
    assert hooks._channel is not None
    hooks._channel.settimeout(30)
    hooks._channel.send(message if isinstance(message, bytes) else json.dumps(message).encode())
    return hooks._channel.recv(8192).decode()


GARBAGE: list[object] = [
    b"",
    b"\0",
    b"\xff" * 100,
    b"[" * 8000,
    b"9" * 8000,
    b'["up", "tap0", {}' + b" " * 9000 + b"]",
    [],
    {},
    None,
    "up",
    ["up", "tap0"],
    ["up", "tap0", {}, 1],
    ["up", "tap0", []],
    ["up", "tap0", None],
    ["up", None, {}],
    ["up", 7, {}],
    ["up", ["tap0"], {}],
    ["up", "tap1", {}],
    [None, "tap1", {}],
    ["down", "tap0", {}],
    [["up"], "tap0", {}],
    [{}, "tap0", {}],
    ["up", "tap0", {"PATH": "/tmp"}],
    ["up", "tap0", {"TAP2TAP_PEER": "$(id)"}],
    ["up", "tap0", {"TAP2TAP_PEER": "a\nb"}],
    ["up", "tap0", {"TAP2TAP_PEER": 1}],
    ["up", "tap0", {"TAP2TAP_PEER": None}],
    ["up", "../../etc", {}],
    ["up", "tap0\n", {}],
    ["up", "", {}],
]


def test_whatever_comes_from_a_supervisor_that_was_taken_over_runs_nothing_and_ends_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hook = script(tmp_path / "hook", f"echo $1 >>{tmp_path}/ran")
    with closing(Hooks({"up": hook})) as hooks:
        hooks.start()
        hooks.introduce("tap0")
        for message in GARBAGE:
            assert talk(hooks, message) == "refused", message
        assert not (tmp_path / "ran").exists()
        assert talk(hooks, ["up", "tap0", {}]) == "ok"
    assert (tmp_path / "ran").read_text() == "tap0\n"
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == len(GARBAGE)
    assert all(line.startswith("tap2tap hooks: warning: refused to run a hook error=") for line in lines)


def test_the_interface_is_that_of_the_first_sound_message(tmp_path: Path) -> None:
    hook = script(tmp_path / "hook", "exit 0")
    with closing(Hooks({"up": hook})) as hooks:
        hooks.start()
        assert talk(hooks, ["down", "tap9", {}]) == "refused"
        assert talk(hooks, ["up", "tap0", {}]) == "ok"
        assert talk(hooks, ["up", "tap9", {}]) == "refused"
        assert talk(hooks, ["up", "tap0", {}]) == "ok"
