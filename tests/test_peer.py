"""Whom a worker of the plain protocol hears, whom it answers, and when it reminds the peer of itself."""

import ipaddress
import socket
import time

import pytest

from tap2tap.counters import Count, Drop, Slot
from tap2tap.endpoint import Endpoint, from_sockaddr
from tap2tap.lab import wait_for
from tap2tap.workers.peer import SILENCE, Address, Doorkeeper
from tap2tap.workers.plain import Keepalive
from tests.lone import Lone, frame, run


def test_without_a_peer_nothing_is_sent_and_everything_is_counted() -> None:
    with Lone("outbound", remote=False, keepalive=1) as lone:
        lone.feed(*run(10, 100))
        lone.start()
        lone.wait_dropped(Drop.NO_PEER, 10)
        assert not lone.counts[Count.DATAGRAMS]
        lone.point_at(from_sockaddr(lone.peer.getsockname()))
        lone.feed(frame(60))
        assert lone.received(1) == [frame(60)]


def test_an_idle_worker_reminds_the_peer_of_itself() -> None:
    with Lone("outbound", keepalive=1).start() as lone:
        assert lone.received(2) == [b"", b""]
        wait_for(lambda: lone.counts[Count.KEEPALIVES] >= 2, what="count of them")
        assert not lone.counts[Count.FRAMES]


def test_keepalives_are_due_at_once_and_then_after_silence() -> None:
    keepalive = Keepalive(25)
    assert keepalive.due(0, 1000.0)
    assert not keepalive.due(1, 1000.0)
    assert not keepalive.due(1, 1024.9)
    assert keepalive.due(1, 1025.0)
    assert not keepalive.due(2, 1025.1)
    assert not keepalive.due(90, 1040.0)  # frames do as well
    assert not keepalive.due(90, 1064.9)
    assert keepalive.due(90, 1065.0)
    assert not Keepalive(0).due(0, 1e9)


def test_a_client_hears_nobody_but_its_remote() -> None:
    with Lone("inbound").start() as lone, lone.udp() as stranger:
        lone.call(frame(60, 1), b"", source=stranger)
        lone.call(frame(60, 2))
        lone.block.slots[Slot.PEER_HEARD] = 0  # not even when the remote has been silent for ever
        lone.call(frame(60, 3), source=stranger)
        lone.call(frame(60, 4))
        assert [lone.written()[1] for _ in range(2)] == [frame(60, 2), frame(60, 4)]
        lone.wait_dropped(Drop.STRANGER, 3)


@pytest.mark.parametrize("first", [frame(60, 1), b""])
def test_a_server_takes_the_first_caller_and_moves_only_after_silence(first: bytes) -> None:
    with Lone("inbound", remote=False).start() as lone, lone.udp() as second:
        lone.call(b"too short", source=second)  # nothing valid, so no call
        lone.call(first)
        wait_for(lambda: lone.known, what="peer")
        assert lone.known == from_sockaddr(lone.peer.getsockname())
        lone.call(frame(60, 2), b"", source=second)
        lone.call(frame(60, 3))
        got = [lone.written()[1] for _ in range(2 if first else 1)]
        assert got == [sent for sent in (first, frame(60, 3)) if sent]
        assert lone.known == from_sockaddr(lone.peer.getsockname())
        lone.block.slots[Slot.PEER_HEARD] = time.monotonic_ns() - SILENCE
        lone.call(frame(60, 4), source=second)
        assert lone.written()[1] == frame(60, 4)
        assert lone.known == from_sockaddr(second.getsockname())
        assert lone.drops == {"TOO_SHORT": 1, "STRANGER": 2}


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_rules_of_the_door_over_time(family: socket.AddressFamily) -> None:
    slots = memoryview(bytearray(8 * 64)).cast("Q")
    one, two = (Endpoint(ipaddress.ip_address("10.0.0.1"), port).sockaddr(family) for port in (1, 2))
    door = Doorkeeper(slots, 0, 5, family, fixed=False)
    address = Address(slots, 0, family)
    assert address.current() is None
    assert door.admits(one, 1000)
    assert address.current() == one
    assert not door.admits(two, 1000 + SILENCE - 1)
    assert door.admits(one, 2000)
    assert not door.admits(two, 1999 + SILENCE)
    successor = Doorkeeper(slots, 0, 5, family, fixed=False)  # of a killed worker: it knows the peer, and since when
    assert not successor.admits(two, 1999 + SILENCE)
    assert address.current() == one
    assert successor.admits(two, 2000 + SILENCE)
    assert address.current() == two
    assert not successor.admits(one, 2001 + SILENCE)
    client = Doorkeeper(slots, 0, 5, family, fixed=True)
    assert not client.admits(one, 10 * SILENCE)
    assert client.admits(two, 10 * SILENCE)
