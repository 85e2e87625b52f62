"""What `tap2tap stats` makes of the slots of a counter block."""

import os
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from tap2tap import endpoint, memory
from tap2tap.commands import stats
from tap2tap.counter_block import Reading
from tap2tap.counters import Count, Link, Slot
from tap2tap.endpoint import Endpoint
from tap2tap.memory import Memory


def described(shared: Memory) -> dict[str, Any]:
    """What `stats` says of a block with this in it."""
    return stats.describe(Reading(Path("block"), 0, shared.shown()))


def test_what_the_processes_measure_is_told_in_seconds_and_shares() -> None:
    shared = memory.create()
    slots = shared.slots
    slots[Slot.LINK] = Link.UP
    unknown = {"peer_mtu", "round_trip_seconds", "jitter_seconds", "loss_outbound", "loss_inbound"}
    facts = described(shared)
    assert {key for key, value in facts["session"].items() if value is None} >= unknown
    assert facts["path_mtu"] is None
    slots[Slot.PATH], slots[Slot.PEER_MTU] = 1464, 9000
    slots[Slot.ROUND_TRIP], slots[Slot.JITTER], slots[Slot.LOSS_OUT] = 12_300_000, 400_000, 2000
    for counts in (shared.outbound, shared.inbound):
        counts[Count.CONTROL], counts[Count.PARTS], counts[Count.LONG], counts[Count.CLAMPED] = 4, 3, 2, 1
    for address, path_mtu in (("192.0.2.1", 1492), ("2001:db8::1", 1512)):
        endpoint.store(slots, Slot.PEER, Endpoint(ip_address(address), 1234))
        assert described(shared)["path_mtu"] == path_mtu
    facts = described(shared)
    assert [facts["session"][key] for key in sorted(unknown)] == [0.0004, 0.0, 0.002, 9000, 0.0123]
    for worker in facts["workers"].values():
        assert [worker[key] for key in ("control", "parts", "too_long_for_peer", "clamped")] == [4, 3, 2, 1]


def test_an_interface_of_another_network_namespace_is_told_by_its_index() -> None:
    """Here, its name may be another one's."""
    shared, ours = memory.create(), os.stat("/proc/self/ns/net")
    index = socket.if_nametoindex("lo")
    slots = shared.slots
    slots[Slot.NETNS_DEVICE], slots[Slot.NETNS_INODE] = ours.st_dev, ours.st_ino
    endpoint.store(slots, Slot.PEER, Endpoint(ip_address("fe80::1"), 1234, index))
    assert described(shared)["peer"] == "[fe80::1%lo]:1234"
    slots[Slot.NETNS_INODE] += 1
    assert described(shared)["peer"] == f"[fe80::1%{index}]:1234"
