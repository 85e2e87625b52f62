"""`python -m tests.bench.profile`: where the workers' time goes during a TCP stream, from the samples of perf(1).

Of each worker, both ends together: the shares of the kernel (and in which system calls), the compiled data plane,
libcrypto, the interpreter (not compiled, the data plane is in there) and the rest, and the functions that take most.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.bench.groups import connect, iperf, received
from tests.bench.load import pids
from tests.bench.ours import Before, BeforeSecure, Interpreted, InterpretedSecure, Tap2tap, Tap2tapSecure
from tests.bench.peers import Cable, MissingError, laid, program, told
from tests.bench.report import facts, table

WORKERS = ("outbound", "inbound")
PEERS = (Before(), BeforeSecure(), Interpreted(), InterpretedSecure(), Tap2tap(), Tap2tapSecure())
FREQUENCY = 1999  # samples a second of processor time, and no divisor of the kernel's timers
# The first whose words stand in the name of a mapped file is what it belongs to.
PLACES = {
    "libcrypto": ("libcrypto", "/cryptography/"),
    "NumPy": ("/numpy", "openblas"),
    "data plane": ("/tap2tap/workers/",),
    "interpreter": ("/python", "libpython"),
    "C library": ("/libc.so", "/libc-", "/libm.so", "musl", "vdso"),
}
ENTRIES = ("do_syscall_64", "invoke_syscall")  # of x86 and of ARM
PREFIX = re.compile("__x64_sys_|__arm64_sys_|ksys_|__sys_|do_")
ORDER = ("kernel", "data plane", "libcrypto", "interpreter", "NumPy", "C library", "other")


@dataclass
class Shares:
    """Samples of one worker."""

    places: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)  # the kernel's samples, by system call
    functions: Counter[tuple[str, str]] = field(default_factory=Counter)  # place and function


def place(address: int, file: str) -> str:
    """Where an instruction belongs, by its address and the mapped file that holds it."""
    if address >> 63:
        return "kernel"
    return next((name for name, words in PLACES.items() if any(word in file for word in words)), "other")


def readable(name: str) -> str:
    """The function of a compiled module without "tap2tap.workers": Cython writes length and name of each package."""
    if not (start := re.match(r"__pyx_[a-z]+_(?=\d)", name)):
        return name
    rest, parts = name[start.end() :], []
    while (number := re.match(r"\d+", rest)) and rest[(end := number.end() + int(number[0])) :].startswith("_"):
        parts.append(rest[number.end() : end])
        rest = rest[end + 1 :]
    return ".".join([*parts[2:], rest.lstrip("0123456789")])


def system_call(chain: list[str]) -> str:
    """The system call in which the kernel worked: what its entry called, in names from the innermost function out."""
    for inner, outer in pairwise(chain):
        if outer in ENTRIES:
            return PREFIX.sub("", inner)
    return "interrupts, page faults, entry"


def samples(script: str) -> Iterator[tuple[int, list[tuple[int, str, str]]]]:
    """Of the output of `perf script -F pid,ip,sym,dso`: process, and the chain (address, function, file) outwards."""
    for block in script.split("\n\n"):
        pid, *lines = block.strip().splitlines() or [""]
        chain = []
        for line in lines:
            address, _, rest = line.strip().partition(" ")
            name, _, file = rest.rpartition(" (")
            chain.append((int(address, 16), name.partition("+0x")[0], file.rstrip(")")))
        if chain:
            yield int(pid), chain


def sort(script: str, roles: dict[int, str]) -> dict[str, Shares]:
    """Role to its samples."""
    found: dict[str, Shares] = defaultdict(Shares)
    for pid, chain in samples(script):
        address, name, file = chain[0]
        where, shares = place(address, file), found[roles[pid]]
        shares.places[where] += 1
        shares.functions[where, readable(name)] += 1
        if where == "kernel":
            shares.calls[system_call([name for _, name, _ in chain])] += 1
    return found


def record(cable: Cable, seconds: float) -> tuple[dict[str, Shares], float]:
    """What the workers did during a TCP stream from left to right, and its Gbit/s; raises MissingError."""
    roles = {}
    for pid in pids(cable, "left", "right"):
        role = Path(f"/proc/{pid}/comm").read_text().partition(":")[0]
        if role in WORKERS:
            roles[pid] = role
    data = cable.folder / "perf.data"
    stream = iperf(cable, seconds + 1)
    argv = [program("perf"), "record", "-g", "-e", "cpu-clock", "-F", str(FREQUENCY), "-o", str(data)]
    argv += ["-p", ",".join(map(str, roles)), "--", "sleep", str(seconds)]
    done = subprocess.run(argv, capture_output=True, text=True)
    gbits, _ = received(stream, seconds + 1)
    if done.returncode:
        raise MissingError(f"perf cannot record here: {done.stderr.strip().splitlines()[-1]}")
    argv = [program("perf"), "script", "-i", str(data), "--no-inline", "-F", "pid,ip,sym,dso"]
    script = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return sort(script, roles), gbits


def text(found: dict[str, Shares], top: int) -> str:
    """The tables of one tunnel."""
    workers = [worker for worker in WORKERS if worker in found]
    totals = {worker: found[worker].places.total() for worker in workers}

    def share(count: int, worker: str) -> str:
        return f"{100 * count / totals[worker]:.1f} %"

    calls = Counter[str]()
    for worker in workers:
        calls += found[worker].calls
    rows = []
    for name in ORDER:
        if any(found[worker].places[name] for worker in workers):
            rows.append([name, *(share(found[worker].places[name], worker) for worker in workers)])
        if name == "kernel":
            for call, _ in calls.most_common(6):
                rows.append([f"  {call}", *(share(found[worker].calls[call], worker) for worker in workers)])
    rows.append(["samples", *(str(totals[worker]) for worker in workers)])
    parts = [table(["share of the time", *workers], rows)]
    for worker in workers:
        most = found[worker].functions.most_common(top)
        rows = [[name, where, share(count, worker)] for (where, name), count in most]
        parts.append(table([f"{worker}: function", "", ""], rows))
    return "\n\n".join(parts)


def main() -> int:
    """Profile the tunnels in turn; 0 if there was something to see."""
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__.partition(": ")[2])
    parser.add_argument(
        "--peers", default="tap2tap,tap2tap-secure", help=f"of {','.join(names)} (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=5, metavar="S", help="how long (default: %(default)s)")
    parser.add_argument("--top", type=int, default=12, metavar="N", help="functions to show (default: %(default)s)")
    parser.add_argument("--before", metavar="PROGRAM", help="another tap2tap, for the peers of that name")
    options = parser.parse_args()
    if options.before:
        os.environ["TAP2TAP_BENCH_BEFORE"] = str(Path(options.before).absolute())
    where, seen = facts(), 0
    print(f"{where['cpu']}, {where['cores']} CPUs, Linux {where['kernel']}, {where['libcrypto']}")
    for peer in PEERS:
        if peer.name not in options.peers.split(","):
            continue
        try:
            version = peer.version()
            with laid(peer) as cable:
                connect(cable)
                found, gbits = record(cable, options.seconds)
        except Exception as error:  # one that fails must not cost the sight of the others
            print(f"{peer.label}: left out: {error if isinstance(error, MissingError) else told(error)}")
            continue
        seen += 1
        print(f"\n{peer.label} ({version}), {gbits:.2f} Gbit/s\n\n{text(found, options.top)}")
    return 0 if seen else 1


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("profiling needs root: sudo make profile")
    for name, package in (("perf", "linux-perf"), ("iperf3", "iperf3")):
        if not shutil.which(name):
            sys.exit(f"profiling needs {name} (Debian's package {package})")
    sys.exit(main())
