"""Frames that are longer than a datagram to the peer: they go in parts, and come out whole and once, or not at all."""

import random
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tap2tap.counters import Count
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS
from tap2tap.protocols.secure.mailbox import Order, Task
from tap2tap.protocols.secure.sealing import aead
from tap2tap.protocols.secure.wire import MAX_PARTS, OVERHEAD, PART_HEADER_LENGTH, Cipher
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS
from tests.support.frames import payload
from tests.support.pair import counter, hold, numbered, pair, part, sealed_text

PART = OVERHEAD + PART_HEADER_LENGTH
CIPHER = Cipher.AES_256_GCM
UNFINISHED = 16  # frames in the making, at most
PATIENCE = 1024  # counters until one is given up


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
        trains = both.trains(frames)
        assert [len(train) for train in trains] == [6, 1]
        assert len({len(datagram) for datagram in trains[0]}) == 1
        more = numbered(*[976] * 5)
        assert [len(train) for train in both.trains(more)] == [5]
        odd = numbered(1513, 1513, 1512)
        assert [len(train) for train in both.trains(odd)] == [2, 2, 2]
        assert both.opened([each for sent in (frames, more, odd) for each in both.sealed(sent)]) == frames + more + odd


@settings(deadline=None, max_examples=60)
@given(
    length=st.integers(14, 9014) | st.sampled_from((1514, 1518, 1522)),
    path=st.integers(600, 9000) | st.just(1472),
    count=st.integers(1, 42),
    last=st.integers(14, 9014),
)
@example(length=1514, path=1472, count=42, last=1514)
def test_frames_of_a_train_are_as_few_trains_of_parts_as_can_be(length: int, path: int, count: int, last: int) -> None:
    count = min(count, MAX_PAYLOAD // (length + OVERHEAD))  # as frames come
    frames = numbered(*[length] * (count - 1), min(last, length))
    with pair(7) as both:
        both.path(path)
        trains = both.trains(frames)
        assert all(len(train) <= MAX_SEGMENTS and sum(map(len, train)) <= MAX_PAYLOAD for train in trains)
        sent = [datagram for train in trains for datagram in train]
        assert both.opened(sent) == frames
        assert hold(both) == {"PARTS": both.memory.outbound[Count.PARTS]}
        each = -(-length // (path - PART))
        if length + OVERHEAD > path and not length % each and count > 1:
            together = min(MAX_SEGMENTS, MAX_PAYLOAD // (length // each + PART)) // each
            assert len(trains) <= (count - 1) // together + 2


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
        assert hold(both) == {"PARTS": UNFINISHED, "INCOMPLETE": 1}  # the oldest, once
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
