"""The workers' loops, each in a process of its own, between a socketpair for a tap and real loopback UDP."""

import ipaddress
import socket

import pytest

from tap2tap.counters import Count, Drop
from tap2tap.demo.lab import Host, wait_for
from tap2tap.endpoint import Endpoint, from_sockaddr
from tap2tap.vnet import NO_OFFLOAD
from tests.support import frames
from tests.support.lone import Lone, frame, run

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


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (None, Drop.UNREACHABLE),  # no route at all
        ("unreachable", Drop.UNREACHABLE),
        ("prohibit", Drop.NOT_PERMITTED),
        ("blackhole", Drop.UNREACHABLE),  # EINVAL
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
        (frame(65000), 65000, [frame(65000)], {}),  # the sender knows how long a frame may be
        (bytes(60), 6, [], {"TOO_SHORT": 10}),
        (b"".join(run(3, 100)) + bytes(13), 100, run(3, 100), {"TOO_SHORT": 1}),
        (bytes(8000) + frame(100), 2000, [bytes(2000)] * 4 + [frame(100)], {}),
        (bytes(8000) + bytes(10), 2000, [bytes(2000)] * 4, {"TOO_SHORT": 1}),
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
