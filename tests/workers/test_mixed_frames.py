"""Mixed traffic through the data plane in one process: every frame comes out, once, byte for byte, and nothing else.

From one tap to the other as the two workers go; socketpairs stand in for taps.
"""

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tap2tap import udp_socket
from tap2tap.vnet import VNET_LENGTH
from tap2tap.workers import ciphers
from tap2tap.workers.receive import Receiver
from tap2tap.workers.train import Train
from tests.support import frames
from tests.support.ends import IN, Ends
from tests.support.frames import load
from tests.support.joining import BULK, standing_still
from tests.support.lone import Lone, roomy
from tests.support.mixture import MAX_DATAGRAMS, Read, check, mixture
from tests.support.pair import LONGEST, Pair, pair

MAX_PAYLOAD = 65535 - 52  # bytes in a super-frame of TCP with timestamps
SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def plain() -> Iterator[Ends]:
    with ExitStack() as stack:
        yield Ends(stack)


@pytest.fixture(scope="module")
def both() -> Iterator[Pair]:
    with pair(7) as made:
        yield made


@pytest.fixture(scope="module")
def secure(both: Pair) -> Iterator[Ends]:
    with ExitStack() as stack:
        yield Ends(stack, both)


@settings(max_examples=80)
@given(SEEDS, st.sampled_from((2, 7, 64)))
@example(1, 64)
def test_every_frame_of_a_mixture_comes_out_as_it_was(plain: Ends, seed: int, most: int) -> None:
    reads = mixture(random.Random(seed), 12)
    sent = [frame for read in reads for frame in read.cut]
    datagrams = plain.carried(reads)
    check(sent, datagrams)
    check(sent, plain.delivered(datagrams, most))


@settings(max_examples=60)
@given(SEEDS, st.sampled_from((2, 7, 64)), st.sampled_from((1514, LONGEST)))
def test_every_frame_of_a_sealed_mixture_comes_out_as_it_was(secure: Ends, seed: int, most: int, longest: int) -> None:
    reads = mixture(random.Random(seed), 10, longest)
    sent = [frame for read in reads for frame in read.cut]
    check(sent, secure.delivered(secure.carried(reads), most))


def cut_to(read: Read, room: int) -> list[bytes]:
    """The frames that it stands for where those of TCP super-frames are cut to `room` bytes."""
    flags, kind, hl, mss, start, offset = struct.unpack("=BBHHHH", read.header)
    if kind & ~frames.ECN not in (frames.TCPV4, frames.TCPV6) or hl + mss <= room:
        return read.cut
    return frames.resegment(struct.pack("=BBHHHH", flags, kind, hl, room - hl, start, offset) + read.frame)


@settings(max_examples=40)
@given(SEEDS, st.sampled_from((2, 7, 64)), st.sampled_from((1280 - 48, 1400 - 28, 1500 - 28)))
@example(1, 64, 1232)
def test_every_frame_of_a_mixture_comes_out_where_some_go_in_parts(
    both: Pair, secure: Ends, seed: int, most: int, payload: int
) -> None:
    both.path(payload)
    try:
        reads = mixture(random.Random(seed), 10, 1514)
        datagrams = secure.carried(reads)
        sent = [frame for read in reads for frame in cut_to(read, secure.path.room())]
    finally:
        both.path(0)
    assert max(map(len, datagrams)) <= payload
    assert len(datagrams) == sum(1 + (len(frame) > payload - both.seal.overhead) for frame in sent)
    check(sent, secure.delivered(datagrams, most))


def test_a_mixture_passes_where_libcrypto_is_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ciphers, "implementation", lambda _: ciphers.Portable)
    with ExitStack() as stack, pair(7) as both:
        ends = Ends(stack, both)
        reads = mixture(random.Random(1), 10, 1514)
        check([frame for read in reads for frame in read.cut], ends.delivered(ends.carried(reads), 64))


@pytest.mark.parametrize("start", [100, 34])
def test_a_checksum_that_is_not_the_transports_vouches_for_nothing(plain: Ends, secure: Ends, start: int) -> None:
    header = struct.pack("=BBHHHH", frames.NEEDS_CSUM, 0, 0, 0, start, 0)
    wrong = [bytearray(frame) for frame in frames.segments(BULK, frames.payload(4000), 1000)]
    for frame in wrong:
        frame[BULK.l4 + 16] ^= 1
    reads = [Read(header, bytes(frame), []) for frame in wrong]
    sent = plain.carried(reads)
    assert plain.delivered(sent, 64) == sent
    assert secure.delivered(secure.carried(reads), 64) == sent


@pytest.mark.parametrize("key", [False, True], ids=["plain", "key"])
@pytest.mark.parametrize("mss", [36, 48, 100, 126])
def test_a_super_frame_of_more_segments_than_a_train_holds(plain: Ends, secure: Ends, mss: int, key: bool) -> None:
    """As a program with a packet socket, or a guest with a tap of its own, may send them; the last is alone."""
    ends = secure if key else plain
    for count in (513, 1025):
        if count * mss > MAX_PAYLOAD:
            continue
        header, frame = frames.super_frame(BULK, frames.payload((count - 1) * mss + 5), mss)
        cut = frames.segments(BULK, frames.payload((count - 1) * mss + 5), mss)
        datagrams = ends.carried([Read(header, frame, cut)])
        if not key:
            assert datagrams == cut
        assert ends.delivered(datagrams, 64) == cut


def test_what_came_from_others_is_still_there_when_its_turn_comes() -> None:
    """It was received together with what is written before it, which overwrites the memory in front of frames."""
    sent = [frames.payload(size, seed) for seed, size in enumerate((65507, 65507, 60, 1, 65507, 1514, 14, 9000))]
    came: list[bytes] = []
    with ExitStack() as stack:
        ends = Ends(stack)
        sock = stack.enter_context(roomy(udp_socket.open_socket("127.0.0.1", 0)))
        receiver, train = Receiver(sock, ends.incoming, 0), Train()
        for datagram in sent:
            sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sender.sendto(datagram, ("127.0.0.1", sock.getsockname()[1]))
        while len(came) < len(sent):
            assert receiver.receive()
            while receiver.next(train):
                ends.writer.write(train)
                came += [written[VNET_LENGTH:] for written in ends.written()]
    assert came == sent


def test_a_segment_that_is_a_train_alone_leaves_as_long_as_it_is() -> None:
    header, frame = frames.super_frame(BULK, frames.payload(512 * 100 + 5), 100)
    with Lone("outbound") as lone:
        lone.feed(frame, header=header)
        lone.start()
        assert lone.received(513) == frames.segments(BULK, frames.payload(512 * 100 + 5), 100)


def test_what_is_left_of_a_train_is_as_long_as_it_was(both: Pair, secure: Ends) -> None:
    """All of it but its short last datagram is a replay."""
    cut = frames.segments(BULK, frames.payload(1500), 1000)
    first, last = both.sealed(cut)
    assert secure.delivered([first], 64) == cut[:1]
    assert secure.delivered([first, last], 64) == cut[1:]


SHAPES = st.lists(
    st.tuples(
        st.integers(0, 120) | st.integers(0, 1600) | st.sampled_from((1514, 9000, 32753, 40000, 65507)),
        st.integers(1, 128),
        st.integers(0, 2**16),
        st.sampled_from(("noise", "zeros", "flow", "damaged", "flows")),
    ),
    min_size=1,
    max_size=8,
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
@example([(66, 128, 0, "noise")] * 8, 0, False, False)
@example([(66, 128, 65, "flow")] * 8, 0, False, False)
@example([(0, 1, 0, "zeros"), (60, 3, 0, "zeros")], 0, False, False)  # an empty one among others
@example([(40000, 2, 20000, "flow")] * 2, 0, False, False)  # of which no two fit a super-frame
def test_whatever_the_kernel_may_deliver_is_written_as_it_is(
    plain: Ends, shapes: list[tuple[int, int, int, str]], seed: int, vouched: bool, singles: bool
) -> None:
    dice = random.Random(seed)
    lied = vouched and any(kind == "damaged" for *_, kind in shapes)  # the checksum is another then
    for shape in shapes:
        sent = shaped(dice, *shape)
        (plain.single if singles else plain.writer).write(load(plain.incoming, IN, sent, vouched=vouched))
        done = 0
        for written in plain.written():
            back = frames.resegment(written)
            came = sent[done : done + len(back)]
            assert back == came or lied or back == standing_still(came)
            done += len(back)
        assert done == len(sent)
