"""The counter block: one file a tunnel, from which `tap2tap stats` reads what tap2tap.counters lays out.

It is a copy, which the supervisor renews when the file is opened, of slots of the memory that the processes share
(tap2tap.memory): nobody maps it, and nobody reads a decision back from it. So whatever happens to the file, the tunnel
does not notice. It belongs to who started the tunnel, every local user may read it, and nobody else can write it. The
supervisor holds a POSIX lock on it for as long as it lives, which is how a reader tells a live block from one that a
killed supervisor left behind.
"""

import contextlib
import fcntl
import os
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tap2tap import clock
from tap2tap.counters import HEADER_SLOTS, MAGIC, SHOWN, SLOTS, VERSION, Counts, Slot

FOLDER = Path("/dev/shm")  # noqa: S108  (world-writable and sticky by design: names there are random, see create)
PREFIX, NAME = "tap2tap-", "counters"  # of the folder of a block, before its network namespace; the file in it

PATIENCE = 0.1  # seconds that a reader waits until the supervisor has renewed the block


class Reading(NamedTuple):
    """A copy of one counter block. `uid` is whose file it is: anyone may put one there."""

    path: Path
    uid: int
    slots: memoryview  # format "Q", SLOTS long

    @property
    def outbound(self) -> Counts:
        """The group of the outbound worker."""
        return self.slots[HEADER_SLOTS : HEADER_SLOTS + SHOWN]

    @property
    def inbound(self) -> Counts:
        """The group of the inbound worker."""
        return self.slots[HEADER_SLOTS + SHOWN : HEADER_SLOTS + 2 * SHOWN]

    @property
    def link(self) -> Counts:
        """The group of the link process."""
        return self.slots[HEADER_SLOTS + 2 * SHOWN :]


class Block:
    """The counter block of a running supervisor, who alone may close it: that gives up the lock."""

    def __init__(self, fd: int, path: Path) -> None:
        self.path = path
        self._fd = fd

    def write(self, slots: memoryview) -> None:
        """Renew it: SLOTS slots, with the magic number in them. A file that cannot be written stays as it is."""
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, slots, 0)

    def close(self) -> None:
        """Remove the file, and let go of it."""
        _remove(self.path)
        os.close(self._fd)


def create(slots: memoryview, owner: int, folder: Path = FOLDER) -> Block:
    """Make and lock a block of `slots`, all of its space allocated. Raises OSError.

    It stands in a folder of its own that belongs to `owner`, a uid, who may remove it from there although it is root's.
    It appears under its name only when it is locked, so that nobody takes it for a stale one.
    """
    home = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{slots[Slot.NETNS_INODE]}-", dir=folder))
    draft, path = home / "draft", home / NAME
    try:
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.fchmod(fd, 0o644)  # whatever the umask took away
            os.posix_fallocate(fd, 0, SLOTS * 8)
            os.pwrite(fd, slots, 0)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.rename(path)
            home.chmod(0o755)
            if owner != os.geteuid():
                os.chown(home, owner, -1)
        except OSError:
            os.close(fd)
            raise
    except OSError:
        for each in (draft, path):
            each.unlink(missing_ok=True)
        home.rmdir()
        raise
    return Block(fd, path)


def why_none(folder: Path = FOLDER) -> str | None:
    """Why a tunnel cannot have a counter block in `folder`; None if it can, as far as one sees."""
    try:
        where = os.statvfs(folder)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    if where.f_flag & os.ST_RDONLY:
        return f"{folder} is read-only"
    return f"{folder} is full" if where.f_blocks and not (where.f_bavail and where.f_favail) else None


def live(folder: Path = FOLDER, netns: int | None = None) -> Iterator[Reading]:
    """Copy every block in `folder` whose supervisor lives, with the counts of this moment where they can be had.

    With `netns`, the inode of a network namespace, no supervisor elsewhere is disturbed.
    """
    which = "*" if netns is None else f"{netns}-*"
    began = clock.now_ns()
    for _ in _files(folder, which):
        pass  # each supervisor learns that its block is opened
    for path, fd in _files(folder, which):
        if _locked(fd) and (slots := _fresh(fd, began)):
            yield Reading(path, os.fstat(fd).st_uid, slots)


def sweep(folder: Path = FOLDER) -> None:
    """Remove the blocks of this user whose supervisors are dead, and nothing else of that name."""
    for path, fd in _files(folder):
        if os.fstat(fd).st_uid == os.geteuid() and not _locked(fd) and _read(fd):
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a block and its folder, whose owner may have put anything in its place: so no link is followed."""
    with contextlib.suppress(OSError):
        home = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.unlink(path.name, dir_fd=home)
        finally:
            os.close(home)
        path.parent.rmdir()


def _files(folder: Path, which: str = "*") -> Iterator[tuple[Path, int]]:
    """The files of a block's name, none too short, each open until the next is asked for. Anyone may put one there."""
    for path in sorted(folder.glob(f"{PREFIX}{which}/{NAME}")):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_size >= SLOTS * 8:
                yield path, fd
        finally:
            os.close(fd)


def _fresh(fd: int, began: int) -> memoryview | None:
    """A copy of the block in a file, made since `began` if there is such within PATIENCE of it; None if it is none."""
    while True:
        slots = _read(fd)
        if (slots and slots[Slot.PUBLISHED] >= began) or clock.now_ns() >= began + PATIENCE * 1e9:
            return slots
        time.sleep(PATIENCE / 100)


def _read(fd: int) -> memoryview | None:
    """A copy of the block in a file; None if it is none."""
    try:
        data = os.pread(fd, SLOTS * 8, 0)
    except OSError:
        return None
    if len(data) < SLOTS * 8:  # cut short just now
        return None
    slots = memoryview(data).cast("Q")
    return slots if (slots[Slot.MAGIC], slots[Slot.VERSION]) == (MAGIC, VERSION) else None


def _locked(fd: int) -> bool:
    """Whether another process holds the lock: asked with F_GETLK, which takes nothing (fcntl(2))."""
    flock = struct.Struct("hhqqi0q")  # l_type, l_whence, l_start, l_len, l_pid
    asked = flock.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
    try:
        answer = flock.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    except OSError:
        return False
    return bool(answer[0] != fcntl.F_UNLCK)
