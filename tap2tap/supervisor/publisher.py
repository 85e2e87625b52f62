"""Renewing the counter block when somebody opens it: so `tap2tap stats` sees the counts of that moment.

Where the kernel does not tell of that (inotify(7)), it is renewed now and then. Constants: linux/inotify.h.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tap2tap import clock, counter_block, log
from tap2tap.counter_block import Block
from tap2tap.counters import Slot
from tap2tap.memory import Memory
from tap2tap.supervisor.loop import Part

_IN_OPEN = 0x20

EVERY = 1.0  # seconds from one copy to the next where it is not known whether anybody asks
PAUSE = 0.01  # seconds at least, however often it is opened

_libc = ctypes.CDLL(None, use_errno=True)


class Publisher(Part):
    """Copies what is shown of `memory` to `block`; without a block it does nothing. Times are those of `clock`."""

    def __init__(self, memory: Memory, block: Block | None) -> None:
        self.due = 0.0 if block else float("inf")  # when to publish next, if nobody asks
        self._last = 0.0
        self._memory = memory
        self._block = block
        self._opened = _watch(block.path) if block else -1  # readable when somebody has opened it

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when somebody opens the block; empty where that cannot be known, or a copy is due anyway."""
        return {self._opened: self._asked} if self._opened >= 0 and self.due == float("inf") else {}

    def _asked(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._opened, 4096)
        self.due = self._last + PAUSE

    def look(self) -> None:
        """Make a copy now."""
        if self._block is None:
            return
        self._last = clock.now()
        self._memory.slots[Slot.PUBLISHED] = clock.now_ns()
        self._block.write(self._memory.shown())
        self.due = self._last + EVERY if self._opened < 0 else float("inf")

    def close(self) -> None:
        """Remove the block."""
        if self._opened >= 0:
            os.close(self._opened)
        if self._block:
            self._block.close()


def _watch(path: Path) -> int:
    """A descriptor that becomes readable when `path` is opened; -1 where there is none to be had."""
    fd = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if fd >= 0 and _libc.inotify_add_watch(fd, bytes(path), _IN_OPEN) < 0:
        os.close(fd)
        return -1
    return fd


@contextmanager
def published(memory: Memory, owner: int, folder: Path = counter_block.FOLDER) -> Iterator[Publisher]:
    """Publish `memory` until the end, as the uid `owner`; where there can be no block, that is a warning."""
    counter_block.sweep(folder)
    block = None
    try:
        block = counter_block.create(memory.shown(), owner, folder)
    except OSError as error:
        log.warning("tap2tap stats will not see this tunnel", folder=folder, error=error.strerror)
    result = Publisher(memory, block)
    try:
        yield result
    finally:
        result.close()
