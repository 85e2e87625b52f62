"""A running tap2tap on a host of a lab, as a test sees it: a process, its log, its stats, its end."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tap2tap import counter_block
from tap2tap.commands import stats
from tap2tap.counters import Slot
from tap2tap.demo.lab import Host, wait_for

COMMAND = [sys.executable, "-m", "tap2tap"]
LEFT, RIGHT = "10.9.0.1", "10.9.0.2"  # on the taps
LEFT6, RIGHT6 = "fd00:9::1", "fd00:9::2"


class Tunnel:
    """`tap2tap` with `options` on `host`; ready (both workers run) when constructed, unless `wait` is False.

    `prefix` is a command that becomes tap2tap in the end, as env(1) does; `command` stands for tap2tap itself.
    """

    def __init__(
        self,
        host: Host,
        *options: str,
        interface: str = "tap0",
        wait: bool = True,
        prefix: Sequence[str] = (),
        command: Sequence[str] = COMMAND,
        **popen: Any,
    ) -> None:
        self.host = host
        self.interface = interface
        self.log: list[str] = []
        self.process = host.popen([*prefix, *command, "-v", "-i", interface, *options], stderr=subprocess.PIPE, **popen)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait:
            try:
                wait_for(lambda: self.said("tunnel is up") or self.ended, 30, "tunnel that is up")
            except TimeoutError:
                raise AssertionError(f"tap2tap did not start: {self.log}") from None
            assert self.said("tunnel is up"), f"tap2tap did not start: {self.log}"

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self.process.pid

    @property
    def ended(self) -> bool:
        """Whether the supervisor is gone, and its log complete."""
        return self.process.poll() is not None and not self._reader.is_alive()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))

    def said(self, text: str) -> bool:
        """Whether a line of the log has `text` in it."""
        return any(text in line for line in list(self.log))

    def wait_said(self, text: str, timeout: float = 30.0) -> None:
        """Wait until the log says `text`."""
        try:
            wait_for(lambda: self.said(text), timeout)
        except TimeoutError:
            raise AssertionError(f"never said {text!r}: {self.log}") from None

    def stats(self) -> dict[str, Any]:
        """What `tap2tap stats --json` says of it, without a process for every look."""
        found = [facts for facts in stats.read(self.host.namespace) if facts["pid"] == self.pid]
        assert found, f"no tunnel with pid {self.pid}: {self.log}"
        return found[0]

    def worker(self, direction: str) -> dict[str, Any]:
        """The stats of one worker."""
        facts: dict[str, Any] = self.stats()["workers"][direction]
        return facts

    def wait_settled(self) -> None:
        """Wait until both workers have changed their scheduling, the last thing that they do before their loops."""
        for worker in self.stats()["workers"].values():
            wait_for(partial(_settled, worker["pid"]), 30, f"settled worker: {self.log}")

    def kill_worker(self, direction: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a worker, and return the pid that it had."""
        pid: int = wait_for(lambda: self.worker(direction)["pid"], what=f"living {direction} worker")
        os.kill(pid, number)
        return pid

    def wait_replaced(self, direction: str, pid: int, timeout: float = 30.0) -> dict[str, Any]:
        """Wait until another process than `pid` does the work; return its stats."""

        def replaced() -> dict[str, Any] | None:
            worker = self.worker(direction)
            return worker if worker["pid"] not in (pid, None) else None

        return wait_for(replaced, timeout, f"successor of the {direction} worker") or {}

    def descendants(self) -> list[psutil.Process]:
        """Every process below the supervisor."""
        return psutil.Process(self.pid).children(recursive=True)

    def block(self) -> Path:
        """Its counter block."""
        for block in counter_block.live(netns=os.stat(self.host.namespace).st_ino):
            if block.slots[Slot.PID] == self.pid:
                return block.path
        raise FileNotFoundError("no counter block")

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 30.0) -> int:
        """End it with a signal and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for its own end and return its exit code."""
        code = self.process.wait(timeout)
        self._reader.join(timeout)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def address(left: Host, right: Host, interface: str = "tap0", *, ipv6: bool = True) -> None:
    """Give both taps their addresses, IPv4 and IPv6 (which needs an MTU of 1280)."""
    for host, four, six in ((left, LEFT, LEFT6), (right, RIGHT, RIGHT6)):
        host.address(interface, f"{four}/24")
        if ipv6:
            host.address(interface, f"{six}/64")


@contextmanager
def joined(
    left: Host, right: Host, *options: str, remote: str = "", ipv6: bool = True
) -> Iterator[tuple[Tunnel, Tunnel]]:
    """A client on the left and a server on the right, both with `options`; their taps have addresses and echo."""
    with Tunnel(right, *options) as server, Tunnel(left, "--remote", remote or right.ipv4, *options) as client:
        address(left, right, ipv6=ipv6)
        wait_ping(left, RIGHT)
        yield client, server


def wait_ping(host: Host, target: str, timeout: float = 30.0) -> None:
    """Wait until an echo comes back."""
    wait_for(lambda: ping(host, target), timeout, f"echo from {target}")


def ping(host: Host, target: str, *options: str) -> bool:
    """Whether one echo comes back within a second; `options` go to ping(8)."""
    done = host.run(["ping", "-n", "-c1", "-W1", *options, target], check=False)
    return done.returncode == 0


def limit_open_files(pid: int, limit: int) -> None:
    """Let a process of nobody, as a supervisor that root has started becomes, open no descriptor from `limit` on."""
    become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    subprocess.run([*become, "prlimit", f"--nofile={limit}:{limit}", "--pid", str(pid)], check=True)


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still do anything; a zombie does not."""
    return [process for process in processes if _status(process) not in (None, psutil.STATUS_ZOMBIE)]


def wait_gone(processes: Iterable[psutil.Process]) -> None:
    """Wait until none of these does anything any more."""
    wait_for(lambda: not alive(processes), 30, f"end of {processes}")


def _settled(pid: int) -> bool:
    return os.sched_getscheduler(pid) == os.SCHED_BATCH


def _status(process: psutil.Process) -> str | None:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return None
