"""What the outbound worker finds out of lengths: for the link, and for people."""

from tap2tap import clock, log
from tap2tap.counters import Count, Slot
from tap2tap.device import ETHERNET_HEADER, VLAN_TAGS
from tap2tap.memory import Memory
from tap2tap.protocols.secure.mailbox import WorkerEnd

LONG = Count.LONG
PEER_MTU = Slot.PEER_MTU
HEADERS = ETHERNET_HEADER + VLAN_TAGS  # bytes of a frame that do not count for the mtu
AGAIN = 10**9  # ns until a length is told once more
FEW = 4  # mtus of the far end that are told of
KINDS = 64  # lengths that are told in this time at the most


class Complaints:
    """Frames longer than the far end's mtu, and datagrams that the kernel refuses for their length."""

    def __init__(self, memory: Memory, channel: WorkerEnd) -> None:
        self._slots, self._counts = memory.slots, memory.outbound
        self._channel = channel
        self._told_mtus: set[int] = set()
        self._told: set[int] = set()  # lengths that the link knows of
        self._path = self._since = 0  # for the path as it was then, and since when

    def long_frames(self, size: int, last: int, count: int) -> None:
        """Count those of a train of frames that are longer than the far end's mtu, which is known, allows."""
        longest = self._slots[PEER_MTU] + HEADERS
        if size > longest:
            self._counts[LONG] += count if last > longest else count - 1
            if last > longest or count > 1:
                self._explain(size)

    def _explain(self, size: int) -> None:
        """Say it, once for each mtu of the far end, of which FEW are believed."""
        mtu = self._slots[PEER_MTU]
        if mtu not in self._told_mtus and len(self._told_mtus) < FEW:
            self._told_mtus.add(mtu)
            log.warning(
                "frames are longer than the far end's mtu, which may lose them: give both ends the same --mtu",
                frame=size,
                mtu=self._slots[Slot.MTU],
                far_mtu=mtu,
            )

    def too_long(self, size: int) -> None:
        """Tell the link, not too often."""
        now, path = clock.now_ns(), self._slots[Slot.PATH]
        if path != self._path or now - self._since >= AGAIN:
            self._told.clear()
            self._path, self._since = path, now
        if size not in self._told and len(self._told) < KINDS and self._channel.too_long(size):
            self._told.add(size)
