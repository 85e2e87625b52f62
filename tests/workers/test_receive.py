"""Whatever the kernel hands over comes out of the receiver datagram by datagram, in order, in batches within bounds."""

import errno
import os
import signal
import socket
import struct
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap import device, endpoint
from tap2tap.demo.lab import Lab, wait_for
from tap2tap.endpoint import SOL_UDP, UDP_SEGMENT
from tap2tap.protocols.secure import wire
from tap2tap.vnet import VIRTIO_NET_HDR_GSO_UDP_L4
from tap2tap.workers.train import MAX_SEGMENTS, ROWS, STRIDE, TRAINS
from tap2tap.workers.udp import Receiver
from tests.support.frames import Flow, build, contents, dissect, payload, resegment, super_frame
from tests.support.lone import Lone, roomy
from tests.support.secured import make_keys, secure
from tests.support.tunnel import RIGHT, Tunnel

PATTERN = payload(65507)


class Message(NamedTuple):
    """What one receive of the kernel's gives: bytes from a source, in datagrams of `segment`; 0: one datagram."""

    source: int
    length: int
    segment: int

    def datagrams(self, number: int) -> list[bytes]:
        """Its datagrams; the first bytes of what is long enough say which message it was."""
        data = (number.to_bytes(2) + PATTERN)[: self.length]
        step = self.segment or max(1, self.length)
        return [data[at : at + step] for at in range(0, max(1, self.length), step)]


LENGTHS = st.integers(0, 65507) | st.sampled_from((0, 1, 2, 63, 64, 65, 128, 129, 512, 513, 1472, 65507))
SEGMENTS = st.integers(0, 65507) | st.sampled_from((0, 1, 2, 13, 14, 60, 511, 512, 513, 1472))


def read(receiver: Receiver, count: int) -> list[tuple[int, bytes]]:
    """The next datagrams, with the ports that they came from: from batches that keep what the receiver promises."""
    came: list[tuple[int, bytes]] = []
    while len(came) < count:
        source = receiver.receive()
        assert source is not None, f"{len(came)} of {count}"
        trains = receiver.batch.trains
        assert 0 < trains.frames <= ROWS
        assert all(0 < train.count <= MAX_SEGMENTS and 0 <= train.last <= train.size for train in trains)
        assert trains.frames == sum(train.count for train in trains)
        came += [(endpoint.from_raw(source).port, datagram) for datagram in contents(receiver.batch)]
    return came


class Kernel:
    """Stands in for the messages of a receiver, so that they can be such as no sender here can make."""

    def __init__(self, receiver: Receiver, messages: Sequence[Message]) -> None:
        self._buffer = receiver.batch.buffer
        self._waiting = [(message, b"".join(message.datagrams(at))) for at, message in enumerate(messages)]
        self._now: list[Message] = []

    def receive(self) -> int:
        """Fill the slots with the next messages."""
        some, self._waiting = self._waiting[:TRAINS], self._waiting[TRAINS:]
        for slot, (_, data) in enumerate(some):
            self._buffer[slot * STRIDE : slot * STRIDE + len(data)] = data
        self._now = [message for message, _ in some]
        if not some:
            raise BlockingIOError(errno.EAGAIN, "nothing more")
        return len(some)

    def take(self, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The lengths and the segment sizes."""
        assert count == len(self._now)
        return tuple(each.length for each in self._now), tuple(each.segment for each in self._now)

    def take_one(self) -> tuple[int, int]:
        """The same of a lone one."""
        return self._now[0].length, self._now[0].segment

    def source(self, number: int) -> bytes:
        """A struct sockaddr_in whose port tells the sources apart."""
        return struct.pack("@H2s4s8x", socket.AF_INET, self._now[number].source.to_bytes(2), bytes(4))

    def one_source(self, count: int) -> bool:
        """Whether all came from one."""
        return len({each.source for each in self._now[:count]}) == 1


@contextmanager
def receiving(messages: Sequence[Message], kernel: type[Kernel] = Kernel) -> Iterator[Receiver]:
    """A receiver of these messages."""
    with endpoint.open_socket("127.0.0.1", 0) as sock:
        receiver = Receiver(sock)
        receiver._messages = kernel(receiver, messages)  # type: ignore[assignment]
        yield receiver


@given(st.lists(st.builds(Message, st.integers(1, 2), LENGTHS, SEGMENTS), min_size=1, max_size=2 * TRAINS + 1))
@settings(max_examples=60)
def test_every_shape_comes_out_whole_and_in_bounds(messages: list[Message]) -> None:
    expected = [(each.source, datagram) for number, each in enumerate(messages) for datagram in each.datagrams(number)]
    with receiving(messages) as receiver:
        assert read(receiver, len(expected)) == expected
        assert receiver.receive() is None


def test_as_many_single_bytes_as_can_be_take_no_more_memory_than_others() -> None:
    with receiving([Message(1, 65507, 1)] * TRAINS) as receiver:
        came = 0
        tracemalloc.start()
        try:
            while receiver.receive() is not None:
                trains = receiver.batch.trains
                assert trains.frames <= ROWS
                assert len(trains) <= ROWS // MAX_SEGMENTS + TRAINS
                came += trains.frames
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()
        assert came == 65507 * TRAINS


def test_no_error_of_the_network_is_raised() -> None:
    class Broken(Kernel):
        number = 0

        def receive(self) -> int:
            raise OSError(self.number, os.strerror(self.number))

    with receiving([], Broken) as receiver:
        for number in {*errno.errorcode} - {errno.EBADF, errno.ENOTSOCK, errno.EFAULT}:  # those are ours
            Broken.number = number
            assert receiver.receive() is None


def most_segments() -> int:
    """How many datagrams a train may have on this kernel (UDP_MAX_SEGMENTS in linux/udp.h)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for most in (128, 64):
            try:
                sock.sendmsg([bytes(2 * most)], [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", 2))], 0, ("127.0.0.1", 9))
            except OSError:
                continue
            return most
    pytest.skip("this kernel has no UDP segmentation")


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(1, 1472), st.integers(0, 130), st.floats(0, 1)),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=40)
def test_what_senders_on_this_machine_make_comes_out_as_it_went_in(
    trains: list[tuple[int, int, int, float]],
) -> None:
    most = most_segments()
    with endpoint.open_socket("127.0.0.1", 0) as sock:
        endpoint.enable_gro(sock)
        callers = [roomy(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
        for caller in callers:
            caller.bind(("127.0.0.1", 0))
        expected = []
        for number, (which, size, wanted, part) in enumerate(trains):
            count = min(wanted, most, 65507 // size)
            length = size * max(0, count - 1) + round(part * (size - 1)) + 1 if count else 0
            message = Message(which, length, size if count > 1 else 0)
            datagrams = message.datagrams(number)
            extra = [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", size))] if count > 1 else []
            callers[which].sendmsg([b"".join(datagrams)], extra, 0, sock.getsockname())
            expected += [(callers[which].getsockname()[1], datagram) for datagram in datagrams]
        for caller in callers:
            caller.close()
        assert read(Receiver(sock), len(expected)) == expected


# The worker, and the whole tunnel


def equal_and_different(size: int, version: int) -> Iterator[list[bytes]]:
    """Trains as long as can be of frames of one flow: each like the others, each another, and with a shorter last."""
    most = most_segments()
    flow = Flow(version=version, tcp=False)
    if version == 4:
        flow = replace(flow, target=socket.inet_aton(RIGHT))
    different = [build(flow, payload(size, number)) for number in range(most)]
    yield different[:1] * most
    yield different
    yield [*different[:-1], build(flow, b"last")]


@pytest.mark.parametrize("size", [20, 300, 420])
def test_trains_of_128_are_written_to_the_tap_frame_by_frame(size: int) -> None:
    with Lone("inbound", offload=True) as lone:
        expected: list[bytes] = []
        for sent in list(equal_and_different(size, 6)) * 4:  # all wait when it starts, so they come batch by batch
            lone.call_train(b"".join(sent), len(sent[0]))
            expected += sent
        lone.start()
        came: list[bytes] = []
        while len(came) < len(expected):
            came += resegment(b"".join(lone.written()))
        assert came == expected
        assert not lone.drops
        assert lone.alive()


def test_trains_of_128_reach_whoever_listens_behind_a_server(lab: Lab) -> None:
    """As a container or a guest on the same machine sends them."""
    with Tunnel(lab.right) as server, lab.left.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        lab.right.link("tap0", address="02:00:00:00:00:02")
        lab.right.address("tap0", f"{RIGHT}/24")
        with roomy(lab.right.socket(socket.AF_INET, socket.SOCK_DGRAM)) as listener:
            listener.bind((RIGHT, Flow().ports[1]))
            expected: list[bytes] = []
            pid = server.kill_worker("inbound", signal.SIGSTOP)
            for sent in list(equal_and_different(300, 4)) * 2:
                extra = [(SOL_UDP, UDP_SEGMENT, len(sent[0]).to_bytes(2, sys.byteorder))]
                caller.sendmsg([b"".join(sent)], extra, 0, (lab.right.ipv4, 1234))
                expected += [dissect(each)[1] for each in sent]
            os.kill(pid, signal.SIGCONT)
            assert [listener.recv(1 << 16) for _ in expected] == expected
        wait_for(lambda: server.worker("inbound")["frames"] == len(expected), what="account of all frames")
        assert (server.worker("inbound")["restarts"], server.worker("inbound")["dropped"]) == (0, {})


def test_forged_trains_of_128_are_counted_with_a_key(lab: Lab, tmp_path: Path) -> None:
    most = most_segments()
    with (
        secure(lab.right, make_keys(tmp_path)[1]) as server,
        lab.left.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller,
    ):
        forged = wire.header(wire.TYPE_DATA, 7, 1000) + bytes(100)
        extra = [(SOL_UDP, UDP_SEGMENT, len(forged).to_bytes(2, sys.byteorder))]
        caller.sendmsg([forged * most], extra, 0, (lab.right.ipv4, 1234))
        wait_for(lambda: server.worker("inbound")["dropped"].get("no_session") == most, what="drops")
        assert server.worker("inbound")["restarts"] == 0


@pytest.mark.parametrize("segment", [1, 13, 14, 15])
def test_a_super_frame_of_a_guest_with_tiny_segments_stops_nothing(lab: Lab, segment: int) -> None:
    """A virtual machine on the tunnel's host says how its datagrams are to be cut; nobody does it on this way."""
    guest = ("02000000000a", "192.168.77.2")
    with lab.right.inside():
        tap = device.open_tap("guest0")
    try:
        device.offer_offloads(tap.fd)
        lab.right.address("guest0", "192.168.77.1/24")
        lab.right.link("guest0", state="up", address="02:00:00:00:00:0b")
        with Tunnel(lab.right) as server:
            flow = Flow(
                tcp=False,
                macs=bytes.fromhex("02000000000b" + guest[0]),
                source=socket.inet_aton(guest[1]),
                target=socket.inet_aton("192.168.77.1"),
                ports=(5000, 1234),
            )
            for count in (1400, most_segments()):  # newer kernels take no more of a guest than of others
                header, whole = super_frame(flow, PATTERN[: count * segment], segment)
                assert header[1] == VIRTIO_NET_HDR_GSO_UDP_L4
                with suppress(OSError):
                    os.write(tap.fd, header + whole)
                    break
            else:
                pytest.skip("this kernel takes no UDP super-frames from a tap")
            wait_for(lambda: server.worker("inbound")["datagrams"] >= count, what=f"{count} datagrams")
            assert server.worker("inbound")["restarts"] == 0
            assert server.worker("inbound")["datagrams"] == count
    finally:
        os.close(tap.fd)
