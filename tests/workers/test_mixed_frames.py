"""Mixed traffic through the data plane in one process: every frame comes out, once, byte for byte, and nothing else.

From one tap to the other by way of reader, splitter, sealer, opener, joiner and writer; socketpairs stand in for taps.
"""

import errno
import itertools
import os
import random
import socket
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tap2tap import endpoint
from tap2tap.memory import GROUP
from tap2tap.vnet import VNET_LENGTH
from tap2tap.workers.join import Joiner
from tap2tap.workers.reader import TapReader
from tap2tap.workers.singles import singly
from tap2tap.workers.train import STRIDE, TRAINS, Batch, Train, Trains
from tap2tap.workers.udp import Receiver
from tap2tap.workers.writer import TapWriter
from tests.support import frames
from tests.support.joining import BULK, standing_still
from tests.support.lone import Lone, roomy
from tests.support.mixture import MAX_DATAGRAMS, Read, check, mixture, received
from tests.support.pair import HERE, LONGEST, Pair, pair

OVERHEAD = 24  # bytes that the secure protocol adds to a datagram
MAX_PAYLOAD = 65535 - 52  # bytes in a super-frame of TCP with timestamps
SEEDS = st.integers(0, 2**32)
BATCH = Batch()  # the receiver's


class Taps(NamedTuple):
    """Both ends of a tunnel without the network between them: what is `fed` is read, what is written `came`."""

    fed: socket.socket
    reader: TapReader
    writer: TapWriter
    single: TapWriter  # the same tap, but nothing is joined
    came: socket.socket

    def written(self) -> Iterator[bytes]:
        """All that has been written, as it is."""
        while True:
            try:
                yield self.came.recv(1 << 17)
            except BlockingIOError:
                return


def slots() -> memoryview:
    return memoryview(array("Q", bytes(8 * GROUP)))


def taps(stack: ExitStack, overhead: int = 0) -> Taps:
    """Make them."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    (fed, read), (write, came) = ([stack.enter_context(roomy(end)) for end in ends] for ends in pairs)
    for end in (read, came):
        end.setblocking(False)
    writer, single = (TapWriter(write.fileno(), slots(), pieces) for pieces in (Joiner(udp=True).join, singly))
    return Taps(fed, TapReader(read.fileno(), slots(), overhead), writer, single, came)


@pytest.fixture(scope="module")
def plain() -> Iterator[Taps]:
    with ExitStack() as stack:
        yield taps(stack)


@pytest.fixture(scope="module")
def secure() -> Iterator[tuple[Taps, Pair]]:
    with ExitStack() as stack, pair(7) as both:
        yield taps(stack, OVERHEAD), both


def carried(ends: Taps, reads: Sequence[Read], both: Pair | None = None) -> list[bytes]:
    """The datagrams that all this becomes."""
    datagrams: list[bytes] = []

    def carry(batch: Batch) -> None:
        sealed = both.seal.seal(batch) if both else batch
        assert sealed is not None
        datagrams.extend(frames.contents(sealed))

    for header, frame, _ in reads:
        try:
            ends.fed.send(header + frame, socket.MSG_DONTWAIT)
        except BlockingIOError:  # an ordinary user's socket holds less than all of it
            ends.reader.drain(carry)
            ends.fed.send(header + frame)
    for _ in reads:  # once is not enough where a lone frame is expected
        ends.reader.drain(carry)
    return datagrams


def delivered(
    ends: Taps, datagrams: Sequence[bytes], most: int, together: int, both: Pair | None = None
) -> list[bytes]:
    """The frames that come of datagrams, received in trains of at most `most` and batches of `together` trains."""
    came: list[bytes] = []
    list(ends.written())  # what a failed example has left
    trains = received(datagrams, most)
    batch = both.received if both else BATCH
    while some := list(itertools.islice(trains, together)):
        frames.load(batch, *some)
        opened = both.open.open(batch, HERE) if both else batch
        assert opened is not None
        ends.writer.write(opened)
        came += [frame for written in ends.written() for frame in frames.resegment(written)]
    return came


@settings(max_examples=80)
@given(SEEDS, st.sampled_from((2, 7, 64)), st.integers(1, TRAINS))
@example(1, 64, TRAINS)
def test_every_frame_of_a_mixture_comes_out_as_it_was(plain: Taps, seed: int, most: int, together: int) -> None:
    reads = mixture(random.Random(seed), 12)
    sent = [frame for read in reads for frame in read.cut]
    datagrams = carried(plain, reads)
    check(sent, datagrams)
    check(sent, delivered(plain, datagrams, most, together))


@settings(max_examples=60)
@given(SEEDS, st.sampled_from((2, 7, 64)), st.integers(1, TRAINS), st.sampled_from((1514, LONGEST)))
def test_every_frame_of_a_sealed_mixture_comes_out_as_it_was(
    secure: tuple[Taps, Pair], seed: int, most: int, together: int, longest: int
) -> None:
    ends, both = secure
    reads = mixture(random.Random(seed), 10, longest)
    sent = [frame for read in reads for frame in read.cut]
    check(sent, delivered(ends, carried(ends, reads, both), most, together, both))


def test_flows_of_one_layout_and_many_sizes_in_one_batch_keep_their_payload(plain: Taps) -> None:
    for tcp, version in itertools.product((True, False), (4, 6)):
        sent: list[list[bytes]] = []
        for port, mss in enumerate((1200, 800, 1448, 100, 536, 1201, 1000, 60)):
            flow = frames.Flow(version=version, tcp=tcp, ports=(port, 5201))
            sent.append(frames.segments(flow, bytes((97 + port,)) * 10 * mss, mss))
        plain.writer.write(frames.load(BATCH, *sent))
        written = list(plain.written())
        assert [frames.resegment(write) for write in written] == sent


@pytest.mark.parametrize("key", [False, True], ids=["plain", "key"])
@pytest.mark.parametrize("mss", [36, 48, 100, 126])
def test_a_super_frame_of_more_segments_than_a_batch_holds(
    plain: Taps, secure: tuple[Taps, Pair], mss: int, key: bool
) -> None:
    """As a program with a packet socket, or a guest with a tap of its own, may send them; the last is alone."""
    ends, both = secure if key else (plain, None)
    for count in (513, 1025):
        if count * mss > MAX_PAYLOAD:
            continue
        header, frame = frames.super_frame(BULK, frames.payload((count - 1) * mss + 5), mss)
        cut = frames.segments(BULK, frames.payload((count - 1) * mss + 5), mss)
        datagrams = carried(ends, [Read(header, frame, cut)], both)
        if not key:
            assert datagrams == cut
        assert delivered(ends, datagrams, 64, TRAINS, both) == cut


def test_super_frames_that_the_kernel_refuses_are_written_frame_by_frame(
    plain: Taps, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = random.Random(3)
    writev = os.writev

    def sometimes(fd: int, vector: Sequence[bytes]) -> int:
        if len(vector) > 2 and refused.random() < 0.5:
            raise OSError(errno.EINVAL, "as the kernel says it")
        return writev(fd, vector)

    monkeypatch.setattr(os, "writev", sometimes)
    for seed in range(20):
        reads = mixture(random.Random(seed), 12)
        sent = [frame for read in reads for frame in read.cut]
        check(sent, delivered(plain, carried(plain, reads), 64, TRAINS))


def test_what_came_from_others_is_still_there_when_its_turn_comes(plain: Taps) -> None:
    """It was received together with what is written before it, which overwrites the memory in front of frames."""
    sent = [frames.payload(size, seed) for seed, size in enumerate((65507, 65507, 60, 1, 65507, 1514, 14, 9000))]
    came: list[bytes] = []
    with ExitStack() as stack:
        sock = stack.enter_context(roomy(endpoint.open_socket("127.0.0.1", 0)))
        receiver = Receiver(sock)
        for datagram in sent:
            sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sender.sendto(datagram, ("127.0.0.1", sock.getsockname()[1]))
        while len(came) < len(sent):
            assert receiver.receive() is not None
            plain.writer.write(receiver.batch)
            came += [written[VNET_LENGTH:] for written in plain.written()]
    assert came == sent


def test_a_segment_that_is_a_batch_alone_leaves_as_long_as_it_is() -> None:
    header, frame = frames.super_frame(BULK, frames.payload(512 * 100 + 5), 100)
    with Lone("outbound") as lone:
        lone.feed(frame, header=header)
        lone.start()
        assert lone.received(513) == frames.segments(BULK, frames.payload(512 * 100 + 5), 100)


def test_what_is_left_of_a_train_is_as_long_as_it_was(secure: tuple[Taps, Pair]) -> None:
    """All of it but its short last datagram is a replay."""
    ends, both = secure
    cut = frames.segments(BULK, frames.payload(1500), 1000)
    first, last = both.sealed(cut)
    assert delivered(ends, [first], 64, TRAINS, both) == cut[:1]
    assert delivered(ends, [first, last], 64, TRAINS, both) == cut[1:]


SHAPES = st.lists(
    st.tuples(
        st.integers(0, 120) | st.integers(0, 1600) | st.sampled_from((1514, 9000, 32753, 40000, 65507)),
        st.integers(1, 128),
        st.integers(0, 2**16),
        st.sampled_from(("noise", "zeros", "flow", "damaged", "flows")),
    ),
    min_size=1,
    max_size=TRAINS,
)


def shaped(dice: random.Random, size: int, count: int, last: int, kind: str) -> list[bytes]:
    """A train of at most `count` datagrams of `size` bytes and one of at most `last`, as one receive may return."""
    count = max(1, min(count, MAX_DATAGRAMS // (size or 1)))
    cut: list[bytes] = []
    while len(cut) < count:
        flow = frames.Flow(version=dice.choice((4, 6)), tcp=dice.random() < 0.5, ports=(dice.randrange(3), 1))
        mss = size - flow.hl
        if kind in ("noise", "zeros") or mss < 1:
            cut.append(bytes(size) if kind == "zeros" else dice.randbytes(size))
        else:
            some = dice.randint(1, 5) if kind == "flows" else count
            cut += frames.segments(flow, dice.randbytes(some * mss), mss)
    del cut[count:]
    if kind == "damaged" and size:
        for _ in range(dice.randint(1, 5)):
            which = dice.randrange(count)
            broken = bytearray(cut[which])
            broken[dice.randrange(min(size, 80))] ^= 1 << dice.randrange(8)
            cut[which] = bytes(broken)
    if size and count > 1:
        cut[-1] = cut[-1][: 1 + last % size]
    return cut


@settings(max_examples=150)
@given(SHAPES, SEEDS, st.booleans(), st.booleans())
@example([(66, 128, 0, "noise")] * TRAINS, 0, False, False)  # more rows than a batch was to have
@example([(66, 128, 65, "flow")] * TRAINS, 0, False, False)
@example([(0, 1, 0, "zeros"), (60, 3, 0, "zeros")], 0, False, False)  # an empty one among others
@example([(40000, 2, 20000, "flow")] * 2, 0, False, False)  # of which no two fit a super-frame
def test_whatever_the_kernel_may_deliver_is_written_as_it_is(
    plain: Taps, shapes: list[tuple[int, int, int, str]], seed: int, vouched: bool, singles: bool
) -> None:
    dice = random.Random(seed)
    made, sent = [], []
    for slot, shape in enumerate(shapes):
        cut = shaped(dice, *shape)
        data = b"".join(cut)
        BATCH.buffer[slot * STRIDE : slot * STRIDE + len(data)] = data  # and what was there before behind it
        made.append(Train(slot * STRIDE, len(cut[0]), len(cut), len(cut[-1])))
        sent += cut
    BATCH.trains, BATCH.vouched = Trains(made), vouched
    lied = vouched and any(kind == "damaged" for *_, kind in shapes)  # the checksum is another then
    (plain.single if singles else plain.writer).write(BATCH)
    done = 0
    for written in plain.written():
        back = frames.resegment(written)
        came = sent[done : done + len(back)]
        assert back == came or lied or back == standing_still(came)
        done += len(back)
    assert done == len(sent)
