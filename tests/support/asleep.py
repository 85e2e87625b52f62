"""`tap2tap` on a machine that sleeps: python asleep.py FILE arguments-of-tap2tap

CLOCK_BOOTTIME is ahead by the seconds in FILE, as after a sleep, and CLOCK_MONOTONIC is not.
"""

import mmap
import sys
import time
from pathlib import Path

SCRIPT = Path(__file__).resolve()


def command(slept: Path) -> list[str]:
    """The beginning of a command line: `tap2tap` on a machine that has slept for so many seconds as the file says."""
    sleep(slept, 0)
    return [sys.executable, "-P", str(SCRIPT), str(slept)]


def sleep(slept: Path, seconds: int) -> None:
    """Let the machine have slept for so long since it was started."""
    with slept.open("r+b" if slept.exists() else "wb") as file:
        file.write(seconds.to_bytes(8, sys.byteorder))


def main(slept: Path, arguments: list[str]) -> int:
    """Run tap2tap, which is not to be loaded before."""
    get, get_ns = time.clock_gettime, time.clock_gettime_ns
    with slept.open("rb") as file:  # mapped, as who may read it is another user soon
        seconds = memoryview(mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)).cast("Q")

    def ahead(which: int) -> int:
        return seconds[0] if which == time.CLOCK_BOOTTIME else 0

    time.clock_gettime = lambda which: get(which) + ahead(which)
    time.clock_gettime_ns = lambda which: get_ns(which) + ahead(which) * 10**9

    from tap2tap import cli

    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
