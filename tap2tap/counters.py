"""The counter block: one file a tunnel, from which `tap2tap stats` reads what the processes of a tunnel count.

It is a copy, which the supervisor renews when the file is opened, of slots of the memory that they share
(tap2tap.memory): nobody maps it, and nobody reads a decision back from it. So whatever happens to the file, the tunnel
does not notice. It belongs to who started the tunnel, every local user may read it, and nobody else can write it. The
supervisor holds a POSIX lock on it for as long as it lives, which is how a reader tells a live block from one that a
killed supervisor left behind.

The file is an array of aligned 64-bit slots in the byte order of the host: a header, then one group for each
of the supervisor's three children: outbound worker, inbound worker, link process (all zeros without a key).
"""

import contextlib
import fcntl
import os
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from enum import IntEnum, StrEnum, auto
from pathlib import Path
from typing import NamedTuple

from tap2tap import clock

MAGIC = int.from_bytes(b"TAP2TAP\0", "little")
VERSION = 3
FOLDER = Path("/dev/shm")  # noqa: S108  (world-writable and sticky by design: names there are random, see create)
PREFIX, NAME = "tap2tap-", "counters"  # of the folder of a block, before its network namespace; the file in it

HEADER_SLOTS = 64
SHOWN = 64  # slots of a child
SLOTS = HEADER_SLOTS + 3 * SHOWN

PATIENCE = 0.1  # seconds that a reader waits until the supervisor has renewed the block


class Role(StrEnum):
    """The children of a supervisor that it replaces when they die, in the order of their groups."""

    OUTBOUND = "outbound"
    INBOUND = "inbound"
    LINK = "link"


class Slot:
    """Slots of the header. The supervisor writes them, unless said otherwise."""

    MAGIC = 0
    VERSION = 1
    PID = 2
    STARTED = 3  # CLOCK_BOOTTIME, ns
    STATE = 4  # a State
    NETNS_DEVICE = 5
    NETNS_INODE = 6
    MTU = 7
    INTERFACE = 8  # 16 bytes
    LOCAL = 10  # an endpoint of 4 slots
    PEER = 14  # an endpoint of 4 slots; the inbound worker writes it in server mode
    PEER_HEARD = 18  # CLOCK_BOOTTIME, ns; 0 is never; the inbound worker writes it
    LINK = 19  # a Link; this and what follows to REKEYS the link process writes
    CIPHER = 20  # of the session in use; 0 is none
    HANDSHAKE = 21  # CLOCK_BOOTTIME, ns, of the session in use; 0 is never
    REKEYS = 22
    PUBLISHED = 23  # CLOCK_BOOTTIME, ns: when this copy was made
    DATA_PLANE = 24  # a DataPlane


class State(IntEnum):
    """What the supervisor is doing."""

    STARTING = 0
    UP = auto()
    STOPPING = auto()


class DataPlane(IntEnum):
    """How the workers' loops run."""

    INTERPRETED = 0  # as Python source
    COMPILED = auto()  # when the package was built


INTERPRETED = "interpreted (no compiler at install)"  # for people to read


class Link(IntEnum):
    """The session with the peer, in the secure protocol."""

    NONE = 0  # the plain protocol has no sessions
    DOWN = auto()
    HANDSHAKE = auto()
    UP = auto()


class Count:
    """Slots of a child's group. The supervisor writes the first ones, the child the others; the link has no more."""

    PID = 0
    CPU = 1  # the CPU number plus one; 0 is not pinned
    RESTARTS = 2
    BEAT = 3  # goes up whenever the child comes round its loop and has nothing to do
    FRAMES = 4  # Ethernet frames as they crossed the tap
    BYTES = 5  # of those frames
    DATAGRAMS = 6  # that crossed the socket, keepalives and dropped ones included
    TRAINS = 7  # that crossed the socket
    SUPER_FRAMES = 8  # split by the outbound worker, joined by the inbound one
    SUPER_FRAME_FRAMES = 9  # frames that those stood for
    FALLBACKS = 10  # trains and super-frames that had to go piece by piece
    KEEPALIVES = 11  # sent by the outbound worker, received by the inbound one
    DROPPED = 12  # the first of one slot for each Drop, in its order


class Drop(IntEnum):
    """Why a frame or a datagram went no further."""

    NO_PEER = 0  # outbound: server mode, and nobody has called yet
    UNREACHABLE = auto()  # no route, or the network is down
    REFUSED = auto()  # nobody listens at the peer
    NOT_PERMITTED = auto()  # a firewall of this host
    NO_BUFFERS = auto()  # the kernel has no room
    TOO_LONG = auto()  # longer than the path, or than the mtu of the tap, allows
    TOO_SHORT = auto()  # no Ethernet header
    STRANGER = auto()  # inbound: not from the peer
    TAP_DOWN = auto()  # inbound: the interface is down
    MALFORMED = auto()  # offload header that contradicts its frame, frame that the kernel refuses
    AUTHENTICATION = auto()  # not sealed by the peer
    REPLAY = auto()  # seen before, or older than the replay window reaches
    NO_SESSION = auto()  # sealed for a session that there is not, or none to seal with
    OTHER = auto()


Counts = memoryview  # of format "Q": the group of one child


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


def store_name(slots: memoryview, interface: str) -> None:
    """Write the name of the interface, at most 15 bytes."""
    name = interface.encode().ljust(16, b"\0")
    slots[Slot.INTERFACE], slots[Slot.INTERFACE + 1] = struct.unpack("<QQ", name)


def load_name(slots: memoryview) -> str:
    """Read the name of the interface; anything unprintable in it is replaced."""
    packed = struct.pack("<QQ", slots[Slot.INTERFACE], slots[Slot.INTERFACE + 1])
    text = packed.split(b"\0", 1)[0].decode(errors="replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


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
