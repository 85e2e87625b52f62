"""The other programs that are attached to a tap: each queue of a multi-queue tap takes its share of the frames away."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tap2tap import clock, device, log
from tap2tap.device import InUseError, Tap
from tap2tap.supervisor import netlink
from tap2tap.supervisor.loop import Part, next_second

UNKNOWN = "another program"
_PROC = Path("/proc")


def open_tap(name: str | None, *, carrier: bool) -> Tap:
    """Open a tap that no other program has, as device.open_tap does. Raises Tap2tapError, naming who has it."""
    try:
        # Before anything is done to it: what we attach to, we unplug.
        if name and queues(name):
            raise InUseError(name)
        return device.open_tap(name, carrier=carrier)
    except InUseError as error:
        raise InUseError(name or "", holder(name or "")) from error


def queues(name: str) -> int:
    """How many queues of a multi-queue tap are held; 0 of what is none, or not known."""
    with suppress(OSError):
        link = netlink.link(name=name)
        return link.queues if link else 0
    return 0


def holder(name: str) -> str:
    """A program of this network namespace, other than this one, that has a tap, as far as this user may see it."""
    with suppress(OSError):
        here = _PROC.joinpath("self/ns/net").readlink()
        for process in _PROC.iterdir():
            with suppress(OSError):  # it has ended, or is not ours to look into
                if not process.name.isdigit() or int(process.name) == os.getpid():
                    continue
                if process.joinpath("ns/net").readlink() == here and name in _taps(process):
                    comm = process.joinpath("comm").read_text(errors="replace")  # whatever it calls itself
                    return f"{''.join(filter(str.isprintable, comm))} (pid {process.name})"
    return UNKNOWN


def _taps(process: Path) -> Iterator[str]:
    """The names of the taps that a process of /proc is attached to. Raises OSError."""
    for link in process.joinpath("fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            if str(link.readlink()) == device.DEVICE:
                for line in process.joinpath("fdinfo", link.name).read_text(errors="replace").splitlines():
                    if line.startswith("iff:"):
                        yield line.split(":", 1)[1].strip()


class Queues(Part):
    """Looks each second, at a multi-queue tap, for a program that attaches later, and warns of it once."""

    def __init__(self, tap: int) -> None:
        self.due = 0.0
        self._tap = tap

    def look(self) -> None:
        """Look now."""
        self.due = math.inf
        with suppress(OSError):  # it was deleted: the workers see to that
            if not device.is_multi_queue(self._tap):
                return
            self.due = next_second(clock.now())
            name, mac = device.name_and_mac(self._tap)
            link = netlink.link(name=name)
            if link and link.address == mac and link.queues > 1:
                self.due = math.inf
                words = "another program has attached to this multi-queue tap and takes frames away: end it"
                log.warning(words, interface=name)
