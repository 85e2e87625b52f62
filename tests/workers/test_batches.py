"""What is worked on together comes out as if each had come alone: several super-frames, trains and sources at once."""

import ipaddress
import select
import socket
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tap2tap import endpoint
from tap2tap.counters import SHOWN, Count
from tap2tap.device import super_frame_size
from tap2tap.memory import GROUP
from tap2tap.workers.split import Splitter
from tap2tap.workers.train import MAX_PAYLOAD, STRIDE, TRAINS, Batch
from tap2tap.workers.udp import Receiver, Sender
from tests.support import frames
from tests.support.frames import TIMESTAMPS, Flow
from tests.support.joining import check, join_all

SOURCE = Batch()
SPLITTER = Splitter(SOURCE)

# Super-frames that may share a virtio_net_hdr: how much a flow has moved on, and bytes of payload.
SEVERAL = st.lists(st.tuples(st.integers(0, 70000), st.integers(1, 9000)), min_size=2, max_size=TRAINS)


@given(frames.flows(), SEVERAL, st.integers(40, 1500), st.data())
def test_super_frames_split_together_are_split_as_if_alone(
    flow: Flow, several: list[tuple[int, int]], mss: int, data: st.DataObject
) -> None:
    expected: list[bytes] = []
    header, lengths, matching = b"", [], 0
    for slot, (step, length) in enumerate(several):
        moved = replace(flow, ident=(flow.ident + step) % 65536, seq=(flow.seq + step) % 2**32)
        if data.draw(st.integers(0, 9)) == 0:  # of the other version, so that this header is not its own
            moved = replace(Flow(version=10 - flow.version, tcp=flow.tcp), flags=flow.flags)
        shape, frame = frames.super_frame(moved, frames.payload(length, slot), mss)
        header = header or shape
        SOURCE.buffer[slot * STRIDE : slot * STRIDE + len(frame)] = frame
        lengths.append(len(frame))
        if shape == header:
            matching += 1
            expected += frames.segments(moved, frames.payload(length, slot), mss)
    came = [frame for batch in SPLITTER.split(header, lengths) for frame in frames.contents(batch)]
    assert came == expected
    assert SPLITTER.malformed == len(lengths) - matching


@given(
    st.lists(st.tuples(frames.flows(joinable=True), st.integers(1, 12), st.integers(1, 200)), min_size=1, max_size=3),
    st.lists(st.integers(0, 2), min_size=2, max_size=TRAINS),
    st.booleans(),
    st.data(),
)
def test_trains_joined_together_give_their_frames_back(
    flows: list[tuple[Flow, int, int]], order: list[int], vouched: bool, data: st.DataObject
) -> None:
    mss = data.draw(st.integers(200, 1400))
    trains: list[list[bytes]] = []
    for number, which in enumerate(order):
        flow, count, rest = flows[which % len(flows)]
        moved = replace(flow, seq=(flow.seq + number * 70000) % 2**32)
        # All frames are of one size, whatever the headers: so the layouts are looked for in one group.
        cut = frames.segments(moved, frames.payload((count - 1) * (mss - flow.hl % 100) + rest, number), mss)
        if not vouched and data.draw(st.booleans()):
            spoilt = bytearray(cut[0])
            spoilt[data.draw(st.integers(0, len(spoilt) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            cut[0] = bytes(spoilt)
        trains.append(cut)
    check([frame for train in trains for frame in train], join_all(*trains, vouched=vouched))


def test_one_flow_in_several_trains_is_one_super_frame_a_train() -> None:
    trains = []
    for number in range(TRAINS):
        flow = Flow(options=TIMESTAMPS, seq=number * 64000, ident=number * 50)
        trains.append(frames.segments(flow, frames.payload(43 * 1448 + 100 * number + 1), 1448))
    written = join_all(*trains)
    check([frame for train in trains for frame in train], written)
    assert [count for _, count in written] == [44] * TRAINS


def test_what_came_with_one_call_from_several_sources_is_handed_over_source_by_source() -> None:
    with (
        endpoint.open_socket("127.0.0.1", 0) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        port = sock.getsockname()[1]
        for sender in (one, other):
            sender.connect(("127.0.0.1", port))
        order = (one, one, other, one, other, other, other, one)
        for number, sender in enumerate(order):
            sender.send(bytes((number,)) * (10 + number % 3))
        receiver = Receiver(sock)
        came: list[tuple[int, bytes]] = []
        calls = 0
        while len(came) < len(order):
            source = receiver.receive()
            assert source is not None
            calls += 1
            came += [(endpoint.from_raw(source).port, frame) for frame in frames.contents(receiver.batch)]
        expected = [
            (sender.getsockname()[1], bytes((number,)) * (10 + number % 3)) for number, sender in enumerate(order)
        ]
        assert came == expected
        assert calls == 5


def test_trains_of_a_batch_that_is_refused_go_out_datagram_by_datagram_all_of_them() -> None:
    with endpoint.open_socket("127.0.0.1", 0) as sock, endpoint.open_socket("127.0.0.1", 0) as peer:
        # No train may be longer than a datagram: the kernel refuses these.
        batch = frames.load(Batch(), *([bytes((number,)) * 40000] * 2 for number in range(3)), step=80000)
        counts = memoryview(bytearray(GROUP * 8)).cast("Q")
        sockaddr = endpoint.Endpoint(ipaddress.ip_address("127.0.0.1"), peer.getsockname()[1]).raw(sock.family)
        sent = frames.contents(batch)
        Sender(sock, counts, segment=True).send(batch, sockaddr)
        came: list[bytes] = []
        while len(came) < len(sent):
            assert select.select([peer], [], [], 10)[0]
            came.append(peer.recv(65536))
        assert came == sent
        assert counts[Count.FALLBACKS] == 3
        assert not any(counts[Count.DROPPED : SHOWN])


@given(st.integers(576, 9000))
def test_tcp_fills_a_train_and_no_more(mtu: int) -> None:
    """By what sk_setup_caps and tcp_tso_autosize make of it: the size, less MAX_TCP_HEADER, in whole segments."""
    segments = min(64, MAX_PAYLOAD // (mtu + 14))
    size = super_frame_size(mtu, segments, 64)
    for headers in (40, 52, 60, 72):
        payload = mtu - headers
        for reserved in (256, 320, 384):  # MAX_TCP_HEADER with and without the headers of other links
            assert (min(size, 65536) - 1 - reserved) // payload <= segments or segments == 64
    assert size == 65536 or (size - 1 - 384) // (mtu - 72) >= segments - 1
