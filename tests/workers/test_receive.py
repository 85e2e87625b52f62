"""Whatever the kernel hands over comes out of the receiver datagram by datagram, in order."""

import errno
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap import endpoint, udp_socket
from tap2tap.abi import set_timeout
from tap2tap.udp_socket import SOL_UDP, UDP_SEGMENT
from tap2tap.workers.arena import Arena
from tap2tap.workers.receive import OURS, Receiver
from tap2tap.workers.train import Train
from tap2tap.workers.udp import AREA, TRAINS, Incoming
from tests.support.frames import payload
from tests.support.lone import find_room, roomy
from tests.support.sending import most_segments

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


def read(receiver: Receiver, arena: Arena, count: int) -> list[tuple[int, bytes]]:
    """The next datagrams, with the ports that they came from: from trains that keep what the receiver promises."""
    came: list[tuple[int, bytes]] = []
    train = Train()
    while len(came) < count:
        assert receiver.receive(), f"{len(came)} of {count}"
        while receiver.next(train):
            train_at, size = train.at, train.size
            assert train.count > 0
            assert 0 <= train.last <= size == train.step
            assert train.last or train.count == 1
            assert not train.vouched
            port = endpoint.from_raw(receiver.source).port
            for number in range(train.count):
                length = size if number < train.count - 1 else train.last
                came.append((port, arena.take(train_at + number * size, length)))
    return came


class Kernel(Incoming):
    """Stands in for the socket's calls, so that messages can be such as no sender here can make."""

    def __init__(self, sock: socket.socket, arena: Arena, messages: Sequence[Message]) -> None:
        super().__init__(sock, arena, 0)
        self._memory = arena
        self._waiting = [(message, b"".join(message.datagrams(at))) for at, message in enumerate(messages)]
        self._now: list[Message] = []

    def receive(self) -> int:
        """Fill the slots with the next messages."""
        some, self._waiting = self._waiting[:TRAINS], self._waiting[TRAINS:]
        for slot, (_, data) in enumerate(some):
            self._memory.put(self.at(slot), data)
        self._now = [message for message, _ in some]
        return len(some) or -errno.EAGAIN

    def length(self, number: int) -> int:
        """As it came."""
        return self._now[number].length

    def segment(self, number: int) -> int:
        """As it came."""
        return self._now[number].segment

    def source(self, number: int) -> bytes:
        """A struct sockaddr_in whose port tells the sources apart, and no local address."""
        return struct.pack("@H2s4s8x4x", socket.AF_INET, self._now[number].source.to_bytes(2), bytes(4))


@contextmanager
def receiving(messages: Sequence[Message], kernel: type[Kernel] = Kernel) -> Iterator[tuple[Receiver, Arena]]:
    """A receiver of these messages, and where it puts them."""
    arena = Arena(AREA)
    with udp_socket.open_socket("127.0.0.1", 0) as sock:
        receiver = Receiver(sock, arena, 0)
        receiver.incoming = kernel(sock, arena, messages)
        yield receiver, arena


@given(st.lists(st.builds(Message, st.integers(1, 2), LENGTHS, SEGMENTS), min_size=1, max_size=2 * TRAINS + 1))
@settings(max_examples=60)
def test_every_shape_comes_out_whole(messages: list[Message]) -> None:
    expected = [(each.source, datagram) for number, each in enumerate(messages) for datagram in each.datagrams(number)]
    with receiving(messages) as (receiver, arena):
        assert read(receiver, arena, len(expected)) == expected
        assert not receiver.receive()
        assert not receiver.next(Train())


def test_as_many_single_bytes_as_can_be_take_no_more_memory_than_others() -> None:
    with receiving([Message(1, 65507, 1)] * TRAINS) as (receiver, _):
        came, train = 0, Train()
        tracemalloc.start()
        try:
            while receiver.receive():
                while receiver.next(train):
                    came += train.count
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()
        assert came == 65507 * TRAINS


def test_no_error_of_the_network_is_raised_and_all_of_ours_are() -> None:
    class Broken(Kernel):
        number = 0

        def receive(self) -> int:
            return -self.number

    with receiving([], Broken) as (receiver, _):
        for Broken.number in {*errno.errorcode} - {*OURS}:
            assert not receiver.receive()
            assert not receiver.next(Train())
        for Broken.number in OURS:
            with pytest.raises(OSError) as raised:
                receiver.receive()
            assert raised.value.errno == Broken.number


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
    with udp_socket.open_socket("127.0.0.1", 0) as sock:
        find_room(2 * udp_socket.BUFFER, sock)  # all waits there before it is read
        udp_socket.enable_gro(sock)
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
        arena = Arena(AREA)
        assert read(Receiver(sock, arena, 0), arena, len(expected)) == expected


@pytest.mark.parametrize("version", [4, 6])
def test_each_message_has_its_source_the_same_object_as_long_as_it_is_the_same(version: int) -> None:
    host = "127.0.0.1" if version == 4 else "::1"
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with (
        udp_socket.open_socket(host, 0) as sock,
        socket.socket(family, socket.SOCK_DGRAM) as one,
        socket.socket(family, socket.SOCK_DGRAM) as other,
    ):
        order = (one, one, other, one, other, other, other, one, one)
        for number, sender in enumerate(order):
            sender.connect(sock.getsockname())
            sender.send(bytes((number,)) * (10 + number % 3))
        arena, train = Arena(AREA), Train()
        receiver = Receiver(sock, arena, 0)
        came: list[tuple[bytes, bytes]] = []
        sources: list[bytes] = []
        while len(came) < len(order):
            assert receiver.receive()
            while receiver.next(train):
                came.append((receiver.source, arena.take(train.at, train.last)))
                sources.append(receiver.source)
        assert came == [
            (endpoint.from_sockaddr(sender.getsockname()).raw(family), bytes((number,)) * (10 + number % 3))
            for number, sender in enumerate(order)
        ]
        assert all((a is b) == (a == b) for a, b in pairwise(sources))


def test_the_socket_itself_waits_and_gives_up_after_its_timeout() -> None:
    with udp_socket.open_socket("127.0.0.1", 0) as sock:
        receiver = Receiver(sock, Arena(AREA), 0)
        before = time.monotonic()
        assert not receiver.receive()
        assert time.monotonic() - before > 0.9 * udp_socket.RECEIVE_TIMEOUT
        set_timeout(sock, socket.SO_RCVTIMEO, 60)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            later = threading.Timer(0.1, sender.sendto, (b"late", sock.getsockname()))
            later.start()
            assert receiver.receive()
            later.join()
