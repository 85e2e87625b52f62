"""Workers with a fault of their own: what the supervisor makes of them. The fault is planted, the rest is real."""

import subprocess

import psutil
import pytest

from tap2tap.demo.lab import Lab, wait_for
from tests.support.planted import planted
from tests.support.tunnel import COMMAND, Tunnel

ENDLESS = "while True: pass"
CONFUSED = "raise RuntimeError('confused')"
HELPLESS = "return 70"


def faulty(body: str, direction: str = "inbound") -> list[str]:
    """The command tap2tap with this for the loop of one worker."""
    loop = f"def loop(cable, pin, channel):\n    {body}"
    return planted(f"import tap2tap.supervisor.workers as workers\n{loop}\nworkers.{direction} = loop")


def test_a_worker_in_an_endless_loop_is_replaced(lab: Lab) -> None:
    with Tunnel(lab.left, command=faulty(ENDLESS)) as tunnel:
        pid = tunnel.worker("inbound")["pid"]
        assert tunnel.wait_replaced("inbound", pid)["restarts"] == 1
        assert tunnel.said("worker hangs, killing it worker=inbound")
        assert tunnel.said("worker=inbound reason='killed by SIGKILL'")
        assert tunnel.worker("outbound")["restarts"] == 0


def test_a_worker_that_raises_is_told_and_replaced_ever_more_slowly(lab: Lab) -> None:
    with Tunnel(lab.left, command=faulty(CONFUSED)) as tunnel:
        tunnel.wait_said("tap2tap inbound: error: worker failed error=RuntimeError('confused')")
        tunnel.wait_said("worker died, replacing it worker=inbound reason='exit code 1'")
        tunnel.wait_said("worker keeps dying worker=inbound reason='exit code 1' next_try_seconds=0.20")
        assert tunnel.worker("outbound")["restarts"] == 0
        assert tunnel.stop() == 0


@pytest.mark.parametrize("direction", ["outbound", "inbound"])
def test_a_worker_that_cannot_start_ends_the_program(lab: Lab, direction: str) -> None:
    tunnel = Tunnel(lab.left, command=faulty(HELPLESS, direction), wait=False)
    assert tunnel.wait() == 1
    assert tunnel.log[-1] == f"tap2tap: the {direction} worker cannot start: see its message above"
    assert not lab.left.has_link("tap0")


def test_a_worker_whose_tap_is_gone_ends_the_program(lab: Lab) -> None:
    body = "from tap2tap.errors import TapGoneError; raise TapGoneError"
    tunnel = Tunnel(lab.left, command=faulty(body), wait=False)
    assert tunnel.wait() == 1
    assert tunnel.log[-1] == "tap2tap: the tap device was deleted: the tunnel has ended"


def test_a_refused_pin_is_a_warning_and_stats_tell(lab: Lab) -> None:
    command = planted("tap2tap.cpus.allowed = lambda: frozenset({0, 1, 5000})")
    with Tunnel(lab.left, "--cpus", "5000,5000", command=command) as tunnel:
        tunnel.wait_said("tap2tap outbound: warning: not pinned cpu=5000 error='Invalid argument'")
        tunnel.wait_said("tap2tap inbound: warning: not pinned cpu=5000 error='Invalid argument'")
        wait_for(lambda: {tunnel.worker(direction)["cpu"] for direction in ("outbound", "inbound")} == {None})
        assert {tunnel.worker(direction)["restarts"] for direction in ("outbound", "inbound")} == {0}


def test_a_log_that_nobody_reads_any_more_stops_nothing(lab: Lab) -> None:
    process = lab.left.popen([*COMMAND, "-v"], stderr=subprocess.PIPE)
    assert process.stderr is not None
    while "tunnel is up" not in process.stderr.readline():
        assert process.poll() is None
    process.stderr.close()
    workers = psutil.Process(process.pid).children()
    for worker in workers:
        worker.kill()

    def successors() -> bool:
        return len({*psutil.Process(process.pid).children()} - {*workers}) == 2

    wait_for(successors, what="successors")
    process.terminate()
    assert process.wait(30) == 0
