"""The state of a tunnel in one line of the log, in the words of `tap2tap stats`."""

from tap2tap import clock, counters, endpoint, log
from tap2tap.counters import Count, Link, Slot
from tap2tap.memory import Memory


def tell(memory: Memory) -> None:
    """Write it. What the children have put into the memory may be anything."""
    slots = memory.slots
    now, heard, link = clock.now_ns(), slots[Slot.PEER_HEARD], slots[Slot.LINK]
    peer = endpoint.load(slots, Slot.PEER)
    log.info(
        "state at SIGHUP",
        interface=counters.load_name(slots),
        peer=peer or "not known yet",
        session=Link(link).name.lower() if link in list(Link) else "unknown",
        path_mtu=slots[Slot.PATH] + peer.headers if peer and slots[Slot.PATH] else "unknown",
        last_heard_seconds=_seconds(now - heard) if heard else "never",
        uptime_seconds=_seconds(now - slots[Slot.STARTED]),
        frames_outbound=memory.outbound[Count.FRAMES],
        frames_inbound=memory.inbound[Count.FRAMES],
    )


def _seconds(nanoseconds: int) -> int:
    return max(0, nanoseconds // 10**9)
