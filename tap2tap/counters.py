"""The counter block: one memory-mapped file a tunnel, in which workers, supervisor and `stats` share facts.

The file is an array of aligned 64-bit slots in the byte order of the host: a header, then one group for each worker.
Every slot has one writer at a time, so no lock is needed: a store through `memoryview.cast("Q")` is one aligned
8-byte write. Any local user may read it. The supervisor holds a POSIX lock on it for as long as it lives, which is
how a reader tells a live block from one that a killed supervisor left behind.
"""

import contextlib
import fcntl
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from enum import IntEnum, auto
from pathlib import Path
from typing import NamedTuple

from tap2tap.errors import StartError

MAGIC = int.from_bytes(b"TAP2TAP\0", "little")
VERSION = 1
FOLDER = Path("/dev/shm")  # noqa: S108  (world-writable and sticky by design: names there are random, see create)
PREFIX = "tap2tap-"

HEADER_SLOTS = 64
SESSIONS = 32  # that may be open at a time, with room to spare
WORKER_SLOTS = 128
SLOTS = HEADER_SLOTS + 2 * WORKER_SLOTS


class Slot:
    """Slots of the header. The supervisor writes them, unless said otherwise."""

    MAGIC = 0
    VERSION = 1
    PID = 2
    STARTED = 3  # CLOCK_MONOTONIC, ns
    STATE = 4  # a State
    NETNS_DEVICE = 5
    NETNS_INODE = 6
    MTU = 7
    INTERFACE = 8  # 16 bytes
    LOCAL = 10  # an endpoint of 4 slots
    PEER = 14  # an endpoint of 4 slots; the inbound worker writes it in server mode
    PEER_HEARD = 18  # CLOCK_MONOTONIC, ns; 0 is never; the inbound worker writes it
    LINK = 19  # a Link
    CIPHER = 20  # of the session in use; 0 is none
    HANDSHAKE = 21  # CLOCK_MONOTONIC, ns, of the session in use; 0 is never
    REKEYS = 22


class State(IntEnum):
    """What the supervisor is doing."""

    STARTING = 0
    UP = auto()
    STOPPING = auto()


class Link(IntEnum):
    """The session with the peer, in the secure protocol."""

    NONE = 0  # the plain protocol has no sessions
    DOWN = auto()
    HANDSHAKE = auto()
    UP = auto()


class Count:
    """Slots of a worker's group. The supervisor writes the first ones, the worker the others."""

    PID = 0
    CPU = 1  # the CPU number plus one; 0 is not pinned
    RESTARTS = 2
    BEAT = 3  # goes up whenever the worker comes round its loop and has nothing to do
    FRAMES = 4  # Ethernet frames as they crossed the tap
    BYTES = 5  # of those frames
    DATAGRAMS = 6  # that crossed the socket, keepalives and dropped ones included
    TRAINS = 7  # that crossed the socket
    SUPER_FRAMES = 8  # split by the outbound worker, joined by the inbound one
    SUPER_FRAME_FRAMES = 9  # frames that those stood for
    FALLBACKS = 10  # trains and super-frames that had to go piece by piece
    KEEPALIVES = 11  # sent by the outbound worker, received by the inbound one
    MAIL = 12  # goes up with every order of the supervisor, who writes it
    DROPPED = 13  # the first of one slot for each Drop, in its order
    SESSION = 64  # the first of SESSIONS: behind the newest counter of a session; the supervisor begins each


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


Counts = memoryview  # of format "Q": the group of one worker


class Block(NamedTuple):
    """A mapped counter block. The supervisor's `fd` holds the lock, for as long as it lives."""

    fd: int
    path: Path
    slots: memoryview  # format "Q", SLOTS long

    @property
    def outbound(self) -> Counts:
        """The group of the outbound worker."""
        return self.slots[HEADER_SLOTS : HEADER_SLOTS + WORKER_SLOTS]

    @property
    def inbound(self) -> Counts:
        """The group of the inbound worker."""
        return self.slots[HEADER_SLOTS + WORKER_SLOTS :]


def create(owner: int | None = None, folder: Path = FOLDER) -> Block:
    """Make, map and lock a block of zeros that `owner` (a uid) may remove. Raises StartError.

    The file appears under its final name only when it is locked, so that nobody takes it for a stale one.
    """
    try:
        fd, draft = tempfile.mkstemp(prefix="." + PREFIX, dir=folder)
        os.fchmod(fd, 0o644)
        os.ftruncate(fd, SLOTS * 8)
        if owner is not None and owner != os.geteuid():
            os.fchown(fd, owner, -1)
        slots = memoryview(mmap.mmap(fd, SLOTS * 8)).cast("Q")
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path = folder / (PREFIX + Path(draft).name.removeprefix("." + PREFIX))
        Path(draft).rename(path)
    except OSError as error:
        raise StartError(f"cannot make the counter block in {folder}: {error.strerror}") from error
    slots[Slot.VERSION] = VERSION
    slots[Slot.PID] = os.getpid()
    slots[Slot.MAGIC] = MAGIC
    return Block(fd, path, slots)


def store_name(block: Block, interface: str) -> None:
    """Write the name of the interface, at most 15 bytes."""
    name = interface.encode().ljust(16, b"\0")
    block.slots[Slot.INTERFACE], block.slots[Slot.INTERFACE + 1] = struct.unpack("<QQ", name)


def load_name(block: Block) -> str:
    """Read the name of the interface; anything unprintable in it is replaced."""
    packed = struct.pack("<QQ", block.slots[Slot.INTERFACE], block.slots[Slot.INTERFACE + 1])
    text = packed.split(b"\0", 1)[0].decode(errors="replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def remove(block: Block) -> None:
    """Unlink the block's file; those that have it mapped keep it."""
    with contextlib.suppress(OSError):
        block.path.unlink()


def live(folder: Path = FOLDER) -> Iterator[Block]:
    """Copy every block in `folder` whose supervisor lives. The caller closes each `fd`.

    A copy, as whoever maps a file is killed when its owner cuts it short, and anyone may put a file here.
    """
    for path, fd, alive in _files(folder):
        if not alive:
            os.close(fd)
            continue
        data = b""
        with contextlib.suppress(OSError):  # a folder, a pipe
            data = os.pread(fd, SLOTS * 8, 0)
        slots = memoryview(data.ljust(SLOTS * 8, b"\0")).cast("Q")
        if slots[Slot.MAGIC] == MAGIC and slots[Slot.VERSION] == VERSION:
            yield Block(fd, path, slots)
        else:
            os.close(fd)


def sweep(folder: Path = FOLDER) -> None:
    """Remove the blocks of dead supervisors, as far as this user may."""
    for path, fd, alive in _files(folder):
        os.close(fd)
        if not alive:
            with contextlib.suppress(OSError):
                path.unlink()


def _files(folder: Path) -> Iterator[tuple[Path, int, bool]]:
    for path in sorted(folder.glob(PREFIX + "*")):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        yield path, fd, _locked(fd)


def _locked(fd: int) -> bool:
    """Whether another process holds the lock: asked with F_GETLK, which takes nothing (fcntl(2))."""
    flock = struct.Struct("hhqqi0q")  # l_type, l_whence, l_start, l_len, l_pid
    asked = flock.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
    try:
        answer = flock.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    except OSError:
        return False
    return bool(answer[0] != fcntl.F_UNLCK)
