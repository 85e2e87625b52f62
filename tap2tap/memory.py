"""The memory that the supervisor and its children share: what decides, and what is counted.

It is anonymous and shared by fork alone: no other process can open it, whatever its uid. It is an array of aligned
64-bit slots, a header and then one group for each child in the order of counters.Role; each group's private slots lie
behind those that are shown (tap2tap.counters). Every slot has one writer at a time, but for one that the parent sets
before its child begins with it, so no lock is needed: a store through `memoryview.cast("Q")` is one aligned 8-byte
write.
"""

import contextlib
import mmap
from collections.abc import Iterator
from typing import NamedTuple

from tap2tap.counters import HEADER_SLOTS, MAGIC, SHOWN, SLOTS, VERSION, Counts, Slot

# Sessions that may be open at a time. A link process has 24 at the most (ROOM_* in protocols.secure.limits). A killed
# one leaves as many behind, which the workers keep until their time is over, and which its successor does not know:
# so there are slots for two of them, and one that dies again and again takes over those that end soonest.
SESSIONS = 64


class Private:
    """Slots of a worker's group that are never shown."""

    MAIL = SHOWN  # goes up with every order of the link process, which writes it
    LATEST = MAIL + 1  # inbound: when the last session ends on which anything authentic came, ns of the clock
    SEALED = LATEST + 1  # outbound: bytes of all datagrams that were sealed
    LIMIT = SEALED + 1  # outbound: what SEALED may not exceed; 0 is no limit. This and the next the link process writes
    SINGLY = LIMIT + 1  # outbound: 1 while trains are to go datagram by datagram
    IN_TRAINS = SINGLY + 1  # outbound: datagrams that went in trains of several
    SESSION = 2 * SHOWN  # the first of SESSIONS: behind the newest counter of a session; the link process begins each
    END = SESSION + SESSIONS  # the first of SESSIONS: when that session is over, ns of the clock; the link process's
    ACCEPTED = END + SESSIONS  # inbound, the first of SESSIONS: datagrams from CONTROL_COUNTERS on that were accepted
    LATE = ACCEPTED + SESSIONS  # inbound, the first of SESSIONS: of those, came behind a newer one


GROUP = Private.LATE + SESSIONS  # slots of a child: those that are shown, and the private ones
SIZE = (HEADER_SLOTS + 3 * GROUP) * 8  # bytes


class Memory(NamedTuple):
    """The slots, of format "Q": those of the header, which are shown, are named by counters.Slot."""

    slots: memoryview

    @property
    def outbound(self) -> Counts:
        """The group of the outbound worker."""
        return self._group(0)

    @property
    def inbound(self) -> Counts:
        """The group of the inbound worker."""
        return self._group(1)

    @property
    def link(self) -> Counts:
        """The group of the link process."""
        return self._group(2)

    @contextlib.contextmanager
    def withheld(self) -> Iterator[None]:
        """Have nothing of it in the processes that are forked meanwhile, where the kernel does so (madvise(2))."""
        area = self.slots.obj
        assert isinstance(area, mmap.mmap)
        with contextlib.suppress(OSError):
            area.madvise(mmap.MADV_DONTFORK)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                area.madvise(mmap.MADV_DOFORK)

    def _group(self, number: int) -> Counts:
        at = HEADER_SLOTS + number * GROUP
        return self.slots[at : at + GROUP]

    def shown(self) -> memoryview:
        """A copy of what is shown: SLOTS slots, laid out as the counter block has them."""
        copy = memoryview(bytearray(SLOTS * 8)).cast("Q")
        copy[:HEADER_SLOTS] = self.slots[:HEADER_SLOTS]
        for number, group in enumerate((self.outbound, self.inbound, self.link)):
            at = HEADER_SLOTS + number * SHOWN
            copy[at : at + SHOWN] = group[:SHOWN]
        return copy


def create() -> Memory:
    """Make it, of zeros but for what tells a counter block. A process has it until it ends."""
    slots = memoryview(mmap.mmap(-1, SIZE)).cast("Q")
    slots[Slot.MAGIC], slots[Slot.VERSION] = MAGIC, VERSION
    return Memory(slots)
