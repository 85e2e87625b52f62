"""Frames that are longer than a datagram to the peer: they go in parts, and come out whole and once, or not at all."""

import random
import struct
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tap2tap.counters import Count
from tap2tap.memory import Private
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS
from tap2tap.protocols.secure.mailbox import Order, Task
from tap2tap.protocols.secure.sealing import aead
from tap2tap.protocols.secure.wire import MAX_PARTS, OVERHEAD, PART_HEADER_LENGTH, Cipher
from tap2tap.workers.stages.secure.parts import piece_of
from tap2tap.workers.train import MAX_PAYLOAD
from tests.support.frames import payload
from tests.support.pair import HERE, Pair, counter, numbered, pair

PART = OVERHEAD + PART_HEADER_LENGTH
CIPHER = Cipher.AES_256_GCM
UNFINISHED = 16  # frames in the making, at most
PATIENCE = 1024  # counters until one is given up


def sealed_text(kind: int, index: int, number: int, text: bytes) -> bytes:
    """A datagram as the peer of session `index` of a pair may make it, who may be malicious."""
    header = wire.header(kind, index, number)
    return header + aead(CIPHER, index.to_bytes(32, "big")).encrypt(wire.nonce(CIPHER, number), text, header)


def part(number: int, count: int, length: int, piece: bytes, *, at: int, index: int = 7) -> bytes:
    """A part under the counter `at`, whatever it says."""
    return sealed_text(wire.TYPE_PART, index, at, struct.pack("<BBH", number, count, length) + piece)


def hold(both: Pair) -> dict[str, int]:
    """What the opener says of parts, beside the drops."""
    return {"PARTS": both.memory.inbound[Count.PARTS], **both.drops}


@settings(deadline=None, max_examples=60)
@given(length=st.integers(14, 65_000), path=st.integers(600, 9000), seed=st.integers(), vouched=st.booleans())
@example(length=1514, path=1472, seed=0, vouched=True)
@example(length=65_000, path=1048, seed=0, vouched=False)  # 64 parts: more than one train of them
def test_a_frame_of_any_length_crosses_a_path_of_any_mtu_in_any_order(
    length: int, path: int, seed: int, vouched: bool
) -> None:
    frame = payload(length, seed % 100)
    with pair(7) as both:
        both.path(path)
        trains = both.trains([frame], vouched=vouched)
        datagrams = [each for train in trains for each in train]
        whole, parts = length + OVERHEAD <= path, -(-length // (path - PART))
        if parts > MAX_PARTS and not whole:
            assert datagrams == []
            assert both.drops_of(both.memory.outbound) == {"TOO_LONG": 1}
            return
        assert all(sum(map(len, train)) <= MAX_PAYLOAD or len(train) == 1 for train in trains)
        assert max(map(len, datagrams)) <= path
        assert len(datagrams) == (1 if whole else parts)
        assert sum(map(len, datagrams)) == length + (OVERHEAD if whole else parts * PART)
        assert [counter(each) for each in datagrams] == list(range(CONTROL_COUNTERS, CONTROL_COUNTERS + len(datagrams)))
        assert both.memory.outbound[Count.PARTS] == (not whole)
        random.Random(seed).shuffle(datagrams)
        assert list(both.runs(datagrams)) == [([frame], vouched)]
        assert hold(both) == {"PARTS": int(not whole)}


def test_each_part_is_what_the_specification_says() -> None:
    frame = numbered(3000)[0]
    with pair(7) as both:
        both.path(1472)
        for vouched in (False, True):
            pieces = []
            for number, datagram in enumerate(both.sealed([frame], vouched=vouched)):
                header = wire.header(wire.TYPE_PART, 7, counter(datagram))
                assert datagram[:8] == header
                nonce = wire.nonce(CIPHER, counter(datagram))
                text = aead(CIPHER, (7).to_bytes(32, "big")).decrypt(nonce, datagram[8:], header)
                assert text[:4] == struct.pack("<BBH", number | (0x80 if vouched else 0), 3, 3000)
                pieces.append(text[4:])
            assert [len(piece) for piece in pieces] == [1000, 1000, 1000]
            assert b"".join(pieces) == frame


def test_whole_frames_and_parts_of_one_train_keep_their_order() -> None:
    with pair(7) as both:
        both.path(1000)
        frames = numbered(1514, 1514, 1514, 900)
        assert [len(train) for train in both.trains(frames)] == [2, 2, 2, 1]
        more = numbered(*[976] * 5)
        assert [len(train) for train in both.trains(more)] == [5]
        assert both.opened(both.sealed(frames) + both.sealed(more)) == [*frames, *more]


def test_a_peer_that_takes_no_parts_gets_none_nor_one_on_a_path_that_is_not_known() -> None:
    frames = numbered(4000)
    with pair(7) as both:
        assert both.opened(both.sealed(frames)) == frames
        both.path(1472)
        both.session(8, parts=False)
        assert both.opened(both.sealed(frames)) == frames
        assert hold(both) == {"PARTS": 0}


@pytest.mark.parametrize("path", [OVERHEAD + 1, PART, PART + 1, 50])
def test_a_path_that_is_next_to_nothing_costs_frames_alone(path: int) -> None:
    with pair(7) as both:
        both.path(path)
        short, long = numbered(20, 1514)
        assert both.sealed([long]) == []
        both.opened(both.sealed([short]))
        both.path(1472)
        assert both.opened(both.sealed([short])) == [short]
        assert both.drops_of(both.memory.outbound)["TOO_LONG"] >= 1


@st.composite
def journeys(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Frames, by session and length; which datagrams are lost; and how far each is late."""
    frames = draw(st.lists(st.tuples(st.sampled_from((1, 2)), st.integers(14, 4000)), min_size=1, max_size=12))
    return frames, draw(st.lists(st.integers(0, 60), max_size=6)), draw(st.lists(st.integers(0, 20), min_size=1))


@settings(deadline=None, max_examples=100)
@given(journeys())
def test_of_interleaved_frames_exactly_those_arrive_of_which_nothing_is_lost(
    journey: tuple[list[tuple[int, int]], list[int], list[int]],
) -> None:
    plan, lost, late = journey
    with pair(1, 2) as both:
        both.path(700)
        sent: list[tuple[int, bytes]] = []  # number of the frame, and a datagram of it
        frames = numbered(*[length for _, length in plan])
        for number, (session, _) in enumerate(plan):
            both.use(session)
            sent += [(number, datagram) for datagram in both.sealed([frames[number]])]
        gone = {at % len(sent) for at in lost}
        order = sorted(set(range(len(sent))) - gone, key=lambda at: at + late[at % len(late)])
        came = both.opened([sent[at][1] for at in order])
        broken = {sent[at][0] for at in gone}
        assert sorted(came) == sorted(frame for number, frame in enumerate(frames) if number not in broken)
        assert not both.drops
        assert both.opened([sent[at][1] for at in order]) == []
        assert both.drops.keys() <= {"REPLAY"}


def test_the_oldest_frame_makes_room() -> None:
    with pair(7) as both:
        both.path(700)
        frames = numbered(*[1000] * (UNFINISHED + 1))
        halves = [both.sealed([frame]) for frame in frames]
        assert both.opened([first for first, _ in halves]) == []
        assert both.opened([second for _, second in halves]) == frames[1:]
        assert hold(both) == {"PARTS": UNFINISHED, "INCOMPLETE": 2}  # each half of the oldest
        assert both.opened(both.sealed(frames[:1])) == frames[:1]


def test_a_frame_is_given_up_when_its_session_has_gone_on() -> None:
    with pair(7) as both:
        both.path(700)
        frames = numbered(1000, 1000, 1000)
        early, other, just = (both.sealed([frame]) for frame in frames)
        both.opened([early[0], other[0], just[0]])
        newest = counter(just[0]) + PATIENCE - 1
        assert both.opened([sealed_text(wire.TYPE_DATA, 7, newest, frames[0])]) == frames[:1]
        assert both.opened([early[1], just[1]]) == frames[2:]
        assert hold(both) == {"PARTS": 1, "INCOMPLETE": 1}
        both.opened([part(0, 2, 1000, frames[0][:500], at=newest + 1)])
        assert hold(both) == {"PARTS": 1, "INCOMPLETE": 2}  # the other one, at last


def test_what_belongs_to_a_closed_session_is_given_up() -> None:
    with pair(7) as both:
        both.path(700)
        first, second = both.sealed(numbered(1000))
        both.opened([first])
        both.into.order(Order(Task.CLOSE, index=7))
        assert both.opened([second]) == []
        assert hold(both) == {"PARTS": 0, "INCOMPLETE": 1, "NO_SESSION": 1}


def test_a_successor_begins_without_the_parts_of_its_predecessor() -> None:
    with pair(7) as both:
        both.path(700)
        frames = numbered(1000)
        first, second = both.sealed(frames)
        both.opened([first])
        both.replace()
        assert both.opened([second]) == []
        assert both.opened(both.sealed(frames)) == frames


HALF = bytes(500)


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([(0, 1, 500, HALF)], "MALFORMED"),  # one part is none
        ([(0, 0, 500, HALF)], "MALFORMED"),
        ([(0, 65, 500, b"x" * 8)], "MALFORMED"),
        ([(2, 2, 1000, HALF)], "MALFORMED"),
        ([(127, 64, 1000, b"x" * 16)], "MALFORMED"),
        ([(0, 2, 1000, b"")], "MALFORMED"),
        ([(0, 2, 500, HALF)], "MALFORMED"),  # nothing is left for the other
        ([(0, 2, 1001, HALF)], "MALFORMED"),  # too much is
        ([(1, 2, 400, HALF)], "MALFORMED"),  # longer than the whole
        ([(1, 2, 999, HALF)], "MALFORMED"),  # the last is longer than the others
        ([(2, 3, 1000, b"x" * 333)], "MALFORMED"),  # the others would be of two sizes
        ([(1, 2, 0, b"x")], "MALFORMED"),
        ([(0, 2, 13, b"x" * 7), (1, 2, 13, b"x" * 6)], "TOO_SHORT"),
        ([(0, 2, 1000, HALF), (1, 2, 900, b"x" * 400)], "MALFORMED"),  # each alone is right
        ([(0, 3, 1500, HALF), (1, 4, 2000, HALF)], "MALFORMED"),
        ([(0, 2, 1000, HALF), (1, 2, 1000, b"x" * 490)], "MALFORMED"),
    ],
)
def test_parts_that_contradict_the_rules_or_one_another_drop_the_frame(
    pieces: Sequence[tuple[int, int, int, bytes]], reason: str
) -> None:
    with pair(7) as both:
        base = CONTROL_COUNTERS
        datagrams = [part(*piece, at=base + at) for at, piece in enumerate(pieces)]
        assert both.opened(datagrams) == []
        assert both.drops.keys() == {reason}
        both.memory.outbound[Private.SESSION + 7] = 1000
        frames = numbered(1000)
        both.path(700)
        assert both.opened(both.sealed(frames)) == frames


def test_a_number_above_the_counter_names_no_frame() -> None:
    with pair(7) as both:
        assert both.opened([part(5, 10, 1000, bytes(100), at=4)]) == []
        assert both.drops == {"MALFORMED": 1}


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(),
    shapes=st.lists(
        st.tuples(
            st.integers(0, 255),
            st.sampled_from((2, 3, 64)) | st.integers(0, 255),
            st.sampled_from((13, 14, 1514, 65535)) | st.integers(0, 65535),
            st.sampled_from((0, 1, 2, 1023)) | st.integers(0, 1500),
            st.sampled_from((0, 1, 2, 63, 1023, 1024)) | st.integers(0, 5000),
        ),
        max_size=40,
    ),
)
def test_whatever_an_authentic_peer_says_of_parts_nothing_breaks(
    seed: int, shapes: list[tuple[int, int, int, int, int]]
) -> None:
    dice = random.Random(seed)
    with pair(7) as both:
        both.opened([part(0, 2, 65535, bytes(1), at=CONTROL_COUNTERS)])
        around = both.incoming.take(0, 1 << 16)
        for number, count, length, size, at in shapes:
            wrong = part(number, count, length, dice.randbytes(size), at=CONTROL_COUNTERS + 1 + at)
            train = both.opened([wrong])
            assert all(14 <= len(frame) <= 65535 for frame in train)
        assert both.incoming.take(8192, 1 << 15) == around[8192 : 8192 + (1 << 15)]  # a datagram lies in front of it
        both.memory.outbound[Private.SESSION + 7] = 100_000
        frames = numbered(1514)
        both.path(700)
        assert both.opened(both.sealed(frames), HERE) == frames


@given(st.integers(0, 70), st.integers(0, 70), st.integers(0, 200), st.integers(0, 200))
@example(1, 2, 101, 50)
@settings(max_examples=500)
def test_a_part_is_taken_if_some_size_of_parts_explains_it(number: int, count: int, whole: int, length: int) -> None:
    def explains(piece: int) -> bool:
        last = whole - piece * (count - 1)
        return 0 < last <= piece and length == (last if number == count - 1 else piece)

    possible = [piece for piece in range(1, whole + 1) if explains(piece)]
    right = 2 <= count <= MAX_PARTS and number < count and possible
    assert piece_of(number, count, whole, length) == (possible[0] if right else 0)
    assert len(possible) < 2 or count < 2
