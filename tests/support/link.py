"""The link process of a running tunnel: killing it, and waiting for its successor; what processes have in memory."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import psutil

from tap2tap.demo.lab import wait_for
from tests.support.tunnel import Tunnel

DIRECTIONS = ("outbound", "inbound")


def link_of(tunnel: Tunnel) -> dict[str, Any]:
    """The stats of the link process."""
    facts: dict[str, Any] = tunnel.stats()["link"]
    return facts


def link_pid(tunnel: Tunnel) -> int:
    """The pid of the link process, when it lives."""
    pid: int = wait_for(lambda: link_of(tunnel)["pid"], 30, f"link process: {tunnel.log}")
    return pid


def kill_link(tunnel: Tunnel, number: signal.Signals = signal.SIGKILL) -> int:
    """Send a signal to the link process, and return the pid that it had."""
    pid = link_pid(tunnel)
    os.kill(pid, number)
    return pid


def wait_link_replaced(tunnel: Tunnel, pid: int) -> int:
    """Wait until another process than `pid` is the link; return its pid."""
    successor: int = wait_for(
        lambda: link_of(tunnel)["pid"] not in (pid, None) and link_of(tunnel)["pid"], 30, f"new link: {tunnel.log}"
    )
    return successor


def replace_link(tunnel: Tunnel) -> None:
    """Kill the link process and wait for its successor."""
    wait_link_replaced(tunnel, kill_link(tunnel))


def starter(tunnel: Tunnel) -> psutil.Process:
    """The process that forks the link process."""
    (found,) = [each for each in tunnel.descendants() if each.name() == "tap2tap:starter"]
    return found


def workers(tunnel: Tunnel) -> dict[str, int]:
    """The pids of the workers."""
    return {direction: tunnel.worker(direction)["pid"] for direction in DIRECTIONS}


def written(pid: int) -> bytes:
    """Everything that a process could have written to its memory."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) .w", line)
            if match:
                begin, end = (int(each, 16) for each in match.groups())
                memory.seek(begin)
                found.append(memory.read(end - begin))
    return b"\n".join(found)


def handshakes(tunnel: Tunnel) -> int:
    """Sessions that took the place of others."""
    return int(tunnel.stats()["session"]["rekeys"])


def wait_handshake(tunnel: Tunnel, before: int) -> None:
    """Wait until a session has taken the place of another."""
    wait_for(lambda: handshakes(tunnel) > before, 30, f"new session: {tunnel.log}")
