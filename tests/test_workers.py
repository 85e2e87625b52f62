"""The workers' loops, each in a process of its own, between a socketpair for a tap and real loopback UDP."""

import ipaddress
import random
import socket
import time
from collections.abc import Iterator

import pytest

from tap2tap.counters import Count, Drop, Slot
from tap2tap.endpoint import Endpoint, from_sockaddr
from tap2tap.lab import Host, wait_for
from tap2tap.vnet import NO_OFFLOAD
from tap2tap.workers.peer import SILENCE, Address, Doorkeeper
from tap2tap.workers.plain import Keepalive
from tests import frames
from tests.conftest import lacking
from tests.lone import Lone

HEADER = bytes.fromhex("020000000002 020000000001 88b5")  # an EtherType for experiments
LONGEST = 1458 + 14 + 8  # the mtu, the Ethernet header, two VLAN tags


def frame(size: int, seed: int = 0) -> bytes:
    return HEADER + random.Random(seed).randbytes(size - len(HEADER))


def run(count: int, size: int) -> list[bytes]:
    return [frame(size, seed) for seed in range(count)]


@pytest.fixture
def alone() -> Iterator[Host]:
    """A host with nothing but a loopback, whose routes may be broken."""
    try:
        host = Host("alone")
    except PermissionError as error:
        lacking(str(error))
    yield host
    host.close()


# Outbound


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([60], 1),
        ([1472] * 40, 1),
        ([300] * 40 + [100], 1),  # a shorter one ends the train
        ([100, 100, 300, 300, 50, 50, 1472, 60], 4),  # 100 100 | 300 300 50 | 50 | 1472 60
        ([60] * 200, 4),  # 64 at a time
        ([1472, 14, 1472, 14, 15, 14, 60000, 60000, 30000], 6),
        ([65507, 65507, 100], 3),  # as much as one datagram takes
    ],
)
def test_frames_leave_as_datagrams_of_their_own_in_as_few_trains_as_can_be(
    sizes: list[int], expected: int, trains: bool
) -> None:
    sent = [frame(size, seed) for seed, size in enumerate(sizes)]
    with Lone("outbound", trains=trains) as lone:
        lone.feed(*sent)
        lone.start()
        assert lone.received(len(sent)) == sent
        assert lone.counts[Count.TRAINS] == expected
        assert lone.counts[Count.DATAGRAMS] == lone.counts[Count.FRAMES] == len(sent)
        assert lone.counts[Count.BYTES] == sum(sizes)
        assert not lone.drops


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tcp", [True, False])
def test_what_the_kernel_left_undone_is_done_before_frames_leave(version: int, tcp: bool) -> None:
    flow = frames.Flow(version=version, tcp=tcp)
    small, large = frames.payload(100), frames.payload(30_000)
    undone = frames.vnet(flow, 0)[:1] + b"\0\0\0\0\0" + frames.vnet(flow, 0)[6:]  # NEEDS_CSUM, but no super-frame
    header, whole = frames.super_frame(flow, large, 1000)
    with Lone("outbound") as lone:
        lone.feed(*[frames.build(flow, small, partial=True)] * 3, header=undone)
        lone.feed(frames.build(flow, small))
        lone.feed(whole, header=header)
        lone.feed(frame(60))
        lone.start()
        assert lone.received(4) == [frames.build(flow, small)] * 4
        assert lone.received(30) == frames.segments(flow, large, 1000)
        assert lone.received(1) == [frame(60)]
        assert lone.counts[Count.SUPER_FRAMES] == 1
        assert lone.counts[Count.SUPER_FRAME_FRAMES] == 30


def test_a_frame_that_no_datagram_holds_is_dropped_as_too_long() -> None:
    with Lone("outbound") as lone:
        lone.feed(frame(65508), frame(60))
        lone.start()
        assert lone.received(1) == [frame(60)]
        lone.wait_dropped(Drop.TOO_LONG)


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


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (None, Drop.UNREACHABLE),  # no route at all
        ("unreachable", Drop.UNREACHABLE),
        ("prohibit", Drop.NOT_PERMITTED),
        ("blackhole", Drop.OTHER),  # EINVAL
    ],
)
def test_a_refused_send_is_a_counted_drop_and_no_more(alone: Host, kind: str | None, reason: Drop) -> None:
    if kind:
        alone.run(["ip", "route", "add", kind, "10.1.1.1"])
    with Lone("outbound", host=alone) as lone:
        lone.sock.close()
        lone.sock = alone.socket(socket.AF_INET, socket.SOCK_DGRAM)  # not bound to the loopback, which goes nowhere
        lone.point_at(Endpoint(ipaddress.ip_address("10.1.1.1"), 1234))
        lone.feed(*run(10, 100), frame(200), frame(300))
        lone.start()
        lone.wait_dropped(reason, 12)
        lone.point_at(from_sockaddr(lone.peer.getsockname()))
        lone.feed(*run(10, 100))
        assert lone.received(10) == run(10, 100)


def test_a_peer_that_does_not_listen_is_no_reason_to_stop() -> None:
    with Lone("outbound") as lone, lone.udp() as gone:
        address = gone.getsockname()
        gone.close()
        lone.point_at(from_sockaddr(address))
        lone.feed(*run(10, 100))
        lone.start()
        wait_for(lambda: lone.counts[Count.DATAGRAMS] == 10, what="datagrams")
        lone.point_at(from_sockaddr(lone.peer.getsockname()))
        lone.feed(frame(60))
        assert lone.received(1) == [frame(60)]


def test_trains_that_the_route_refuses_go_out_datagram_by_datagram(alone: Host) -> None:
    alone.link("lo", mtu=1400)
    with Lone("outbound", host=alone) as lone:
        sent = [*run(30, 1472), *run(30, 1300), *run(30, 1472)]
        lone.feed(*sent)
        lone.start()
        assert lone.received(90) == sent
        assert lone.counts[Count.FALLBACKS] == 1  # it has learnt
        assert lone.counts[Count.DATAGRAMS] == 90
        assert not lone.drops


# Inbound


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("offload", [True, False])
def test_datagrams_arrive_as_frames(offload: bool, trains: bool) -> None:
    with Lone("inbound", offload=offload, trains=trains).start() as lone:
        lone.call(frame(60), frame(14))
        lone.call_train(b"".join([*run(20, 1000), frame(500)]), 1000)
        expected = [frame(60), frame(14), *run(20, 1000), frame(500)]
        assert [lone.written() for _ in expected] == [(NO_OFFLOAD, sent) for sent in expected]
        wait_for(lambda: lone.counts[Count.FRAMES] == 23, what="frames")
        assert lone.counts[Count.BYTES] == 60 + 14 + 20_500
        assert lone.counts[Count.DATAGRAMS] == 23
        assert lone.counts[Count.TRAINS] == (3 if trains else 23)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("tcp", [True, False])
def test_a_train_of_one_flow_arrives_as_one_super_frame(version: int, tcp: bool) -> None:
    flow = frames.Flow(version=version, tcp=tcp)
    sent = frames.segments(flow, frames.payload(20_500), 1000)
    with Lone("inbound", offload=True).start() as lone:
        lone.call_train(b"".join(sent), len(sent[0]))
        header, data = lone.written()
        assert frames.resegment(header + data) == sent
        wait_for(lambda: lone.counts[Count.FRAMES] == 21, what="frames")
        assert lone.counts[Count.SUPER_FRAMES] == 1


@pytest.mark.parametrize(
    ("data", "size", "left", "drops"),
    [
        (bytes(13), 13, [], {"TOO_SHORT": 1}),
        (frame(LONGEST + 1), 65000, [], {"TOO_LONG": 1}),
        (frame(LONGEST), 65000, [frame(LONGEST)], {}),
        (frame(65000), 65000, [], {"TOO_LONG": 1}),
        (bytes(60), 6, [], {"TOO_SHORT": 10}),
        (b"".join(run(3, 100)) + bytes(13), 100, run(3, 100), {"TOO_SHORT": 1}),
        (bytes(8000) + frame(100), 2000, [frame(100)], {"TOO_LONG": 4}),
        (bytes(8000) + bytes(10), 2000, [], {"TOO_LONG": 4, "TOO_SHORT": 1}),
        (bytes(8000) + bytes(1999), 2000, [], {"TOO_LONG": 5}),
    ],
)
@pytest.mark.parametrize("trains", [True, False])
def test_what_is_no_frame_is_dropped_by_its_reason(
    data: bytes, size: int, left: list[bytes], drops: dict[str, int], trains: bool
) -> None:
    with Lone("inbound", trains=trains).start() as lone:
        lone.call_train(data, size)
        lone.call(frame(60))
        assert [lone.written()[1] for _ in range(len(left) + 1)] == [*left, frame(60)]
        wait_for(lambda: lone.counts[Count.FRAMES] == len(left) + 1, what="frames")
        assert lone.drops == drops


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


def test_a_full_tap_costs_frames_but_not_the_worker() -> None:
    with Lone("inbound") as lone:
        lone._tap.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        lone.start()
        for _ in range(10):
            lone.call_train(b"".join(run(40, 1000)), 1000)
        wait_for(lambda: lone.counts[Count.DATAGRAMS] == 400, what="datagrams")
        wait_for(lambda: lone.dropped(Drop.NO_BUFFERS) + lone.counts[Count.FRAMES] == 400, what="account of all")
        assert lone.drops == {"NO_BUFFERS": 400 - lone.counts[Count.FRAMES]}
        while lone.written()[1] != frame(60):
            lone.call(frame(60))


# The peer


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
