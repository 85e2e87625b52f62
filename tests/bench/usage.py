"""What a tunnel costs: processor time of its processes and of the whole machine, and memory."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

TICKS = os.sysconf("SC_CLK_TCK")
CPUCLOCK_SCHED = 2  # linux/posix-timers.h


def family(pids: Iterable[int]) -> list[int]:
    """The processes and all their descendants."""
    found: list[int] = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found += [pid, *(child.pid for child in process.children(recursive=True))]
        except psutil.NoSuchProcess:
            continue
    return found


def process_seconds(pid: int) -> float:
    """Processor time of all threads of a process, also of those that ended; 0 if it is gone.

    By the clock that clock_getcpuclockid(3) tells, in nanoseconds: at a fixed low rate the ticks of /proc/PID/stat are
    as long as all that a process does in a second.
    """
    try:
        return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def machine_seconds() -> float:
    """Time that any CPU was busy with anything, interrupts included: the first line of /proc/stat without idle."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]
    user, nice, system, _idle, _iowait, irq, softirq = fields
    return (user + nice + system + irq + softirq) / TICKS


@dataclass
class Cost:
    """Processor time in seconds: of the processes of the tunnel at both ends, and of the machine."""

    tunnel: float
    machine: float


class Meter:
    """Reads the clocks now; `cost` tells what was used since."""

    def __init__(self, pids: Iterable[int]) -> None:
        self.pids = list(pids)
        self.before = {pid: process_seconds(pid) for pid in self.pids}
        self.machine = machine_seconds()

    def cost(self) -> Cost:
        """The cost since the meter was made."""
        tunnel = sum(max(0.0, process_seconds(pid) - seconds) for pid, seconds in self.before.items())
        return Cost(tunnel, machine_seconds() - self.machine)


def rollup(pid: int) -> dict[str, int]:
    """The sums over all mappings of a process in KiB, by the names of /proc/PID/smaps_rollup."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name.rstrip(":"): int(number) for name, number, _ in (line.split() for line in lines)}


def pss(pids: Iterable[int]) -> float:
    """The proportional set size of some processes in MiB, as the kernel counts it."""
    return sum(rollup(pid)["Pss"] for pid in pids) / 1024


def pss_alone(pids: Iterable[int]) -> float:
    """The same in MiB if nobody else used the same files.

    Here both ends, and a benchmark that is Python too, share the pages of the interpreter and of its libraries, which
    flatters us; on a host with one end only they count in full. So: anonymous and shared memory as the kernel divides
    it, and of every mapped piece of a file the most that any process of the tunnel has of it.
    """
    memory = 0
    files: dict[tuple[str, ...], int] = defaultdict(int)
    for pid in pids:
        sums = rollup(pid)
        memory += sums["Pss_Anon"] + sums["Pss_Shmem"]
        piece: tuple[str, ...] = ()
        resident = 0
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            words = line.split()
            if not words[0].endswith(":"):  # a new mapping: address, permissions, offset, device, inode, path
                piece = tuple(words[1:5])
            elif words[0] == "Rss:":
                resident = int(words[1])
            elif words[0] == "Anonymous:" and piece[3] != "0":  # written pages of a file are in Pss_Anon already
                files[piece] = max(files[piece], resident - int(words[1]))
    return (memory + sum(files.values())) / 1024
