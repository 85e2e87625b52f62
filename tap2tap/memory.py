"""The memory that supervisor and workers share: what decides, and what is counted.

It is anonymous and shared by fork alone: no other process can open it, whatever its uid. It is an array of aligned
64-bit slots, a header and then one group for each worker; each group's private slots lie behind those that are shown
(tap2tap.counters). Every slot has one writer at a time, so no lock is needed: a store through `memoryview.cast("Q")`
is one aligned 8-byte write.
"""

import mmap
from typing import NamedTuple

from tap2tap.counters import HEADER_SLOTS, MAGIC, SHOWN, SLOTS, VERSION, Counts, Slot

GROUP = 2 * SHOWN  # slots of a worker: those that are shown, and the private ones
SIZE = (HEADER_SLOTS + 2 * GROUP) * 8  # bytes
SESSIONS = 32  # that may be open at a time, with room to spare


class Private:
    """Slots of a worker's group that are never shown."""

    MAIL = SHOWN  # goes up with every order of the supervisor, who writes it
    LATEST = MAIL + 1  # inbound: when the last session ends on which anything authentic came, ns of the clock
    SESSION = SHOWN + 32  # the first of SESSIONS: behind the newest counter of a session; the supervisor begins each


class Memory(NamedTuple):
    """The slots, of format "Q": those of the header, which are shown, are named by counters.Slot."""

    slots: memoryview

    @property
    def outbound(self) -> Counts:
        """The group of the outbound worker."""
        return self.slots[HEADER_SLOTS : HEADER_SLOTS + GROUP]

    @property
    def inbound(self) -> Counts:
        """The group of the inbound worker."""
        return self.slots[HEADER_SLOTS + GROUP :]

    def shown(self) -> memoryview:
        """A copy of what is shown: SLOTS slots, laid out as the counter block has them."""
        copy = memoryview(bytearray(SLOTS * 8)).cast("Q")
        copy[:HEADER_SLOTS] = self.slots[:HEADER_SLOTS]
        copy[HEADER_SLOTS : HEADER_SLOTS + SHOWN] = self.outbound[:SHOWN]
        copy[HEADER_SLOTS + SHOWN :] = self.inbound[:SHOWN]
        return copy


def create() -> Memory:
    """Make it, of zeros but for what tells a counter block. A process has it until it ends."""
    slots = memoryview(mmap.mmap(-1, SIZE)).cast("Q")
    slots[Slot.MAGIC], slots[Slot.VERSION] = MAGIC, VERSION
    return Memory(slots)
