"""Which CPUs the two workers run on: a pure function over the topology, and the reading of that topology."""

import os
from collections.abc import Mapping, Set
from pathlib import Path

Core = tuple[int, int]  # (package, core): CPUs that share one are hyper-threads of each other


def topology(root: Path = Path("/sys/devices/system/cpu")) -> dict[int, Core]:
    """Read the physical core of every CPU from `root`; a CPU that sysfs does not describe is a core of its own."""
    cores: dict[int, Core] = {}
    for folder in root.glob("cpu[0-9]*"):
        cpu = int(folder.name[3:])
        try:
            package = int((folder / "topology/physical_package_id").read_text())
            core = int((folder / "topology/core_id").read_text())
        except (OSError, ValueError):
            package, core = -1, cpu
        cores[cpu] = (package, core)
    return cores


def choose(allowed: Set[int], cores: Mapping[int, Core]) -> tuple[int, int]:
    """Choose the CPUs of the outbound and the inbound worker among `allowed`, the affinity mask of the process.

    Two physical cores of one package where there are any (they share a cache), else two physical cores, else two
    CPUs, else the only one twice. The first CPU, where interrupts and everybody else's defaults gather, comes last,
    and the CPUs that share its core next to last. Raises ValueError when nothing is allowed.
    """
    if not allowed:
        raise ValueError("no CPU is allowed")
    order = sorted(allowed)
    order = order[1:] + order[:1]
    where = {cpu: cores.get(cpu, (-1, cpu)) for cpu in order}
    pairs = [(out, into) for out in order for into in order if out != into]

    def cost(pair: tuple[int, int]) -> tuple[bool, bool, bool, bool]:
        out, into = (where[cpu] for cpu in pair)
        return out == into, order[-1] in pair, out[0] != into[0], where[order[-1]] in (out, into)

    return min(pairs, key=cost, default=(order[0], order[0]))


def allowed() -> frozenset[int]:
    """The CPUs that this process may run on; all that there are where the kernel does not tell."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except OSError:
        return frozenset(range(os.cpu_count() or 1))
