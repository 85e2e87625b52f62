"""The seal and open stages, one behind the other in one process: what comes out is what went in, once, or nothing."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.counters import Slot
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS
from tap2tap.protocols.secure.mailbox import Handshake, Order, Proved, Task
from tap2tap.protocols.secure.sealing import aead
from tap2tap.protocols.secure.wire import OVERHEAD, Cipher
from tap2tap.workers.train import MAX_PAYLOAD, Train
from tests.support.frames import load
from tests.support.pair import AREA, LONGEST, THERE, counter, initiation, numbered, pair, response

CIPHERS = pytest.mark.parametrize("cipher", list(Cipher))


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int, bool]:
    """Size, count, last and vouched of a train that fits one send."""
    size = draw(st.integers(14, 1500) | st.sampled_from((14, 15, 60, 1448, LONGEST)))
    count = draw(st.integers(1, min(64, MAX_PAYLOAD // (size + OVERHEAD))) | st.just(1))
    return size, count, draw(st.integers(14, size) | st.just(size)), draw(st.booleans())


@CIPHERS
@settings(deadline=None, max_examples=60)
@given(trains=st.lists(shapes(), min_size=1, max_size=6))
def test_what_was_sealed_opens_as_it_was(cipher: Cipher, trains: list[tuple[int, int, int, bool]]) -> None:
    with pair(7, cipher=cipher) as both:
        expected = CONTROL_COUNTERS
        for size, count, last, vouched in trains:
            frames = numbered(*[size] * (count - 1), last)
            datagrams = both.sealed(frames, vouched=vouched)
            assert [len(each) for each in datagrams] == [len(frame) + OVERHEAD for frame in frames]
            assert [counter(each) for each in datagrams] == list(range(expected, expected + count))
            assert list(both.runs(datagrams)) == [(frames, vouched)]
            expected += count
        assert not both.drops


@CIPHERS
def test_each_datagram_is_what_the_specification_says(cipher: Cipher) -> None:
    with pair(7, cipher=cipher) as both:
        frames = numbered(100, 100, 50)
        for vouched in (False, True):
            for number, datagram in enumerate(both.sealed(frames, vouched=vouched)):
                header = wire.header(wire.TYPE_DATA_VOUCHED if vouched else wire.TYPE_DATA, 7, counter(datagram))
                assert datagram[:8] == header
                nonce = wire.nonce(cipher, counter(datagram))
                assert aead(cipher, (7).to_bytes(32, "big")).decrypt(nonce, datagram[8:], header) == frames[number]


def test_a_successor_seals_behind_whatever_a_killed_worker_may_have_sent() -> None:
    with pair(7) as both:
        used: list[int] = []
        for life in range(5):
            for _ in range(3):
                used += [counter(each) for each in both.sealed(numbered(*[100] * 7))]
            if life % 2:  # dies in the middle of a train: there is no more memory than for two of its frames
                train = load(both.outgoing, AREA - 250, numbered(100, 100), room=OVERHEAD)
                train.count = 64
                with pytest.raises(IndexError):
                    both.seal.seal(train, Train())
            both.replace()
        assert used == sorted(set(used))
        assert used[-1] - used[0] == 5 * 21 + 2 * 64 - 1  # what the dead may have sent was not sent again


@given(order=st.permutations(range(40)), at=st.integers(0, 40))
@settings(deadline=None, max_examples=40)
def test_nothing_is_accepted_twice_not_even_by_a_successor(order: list[int], at: int) -> None:
    with pair(7) as both:
        frames = numbered(*[60] * 40)
        datagrams = both.sealed(frames)
        before = both.opened([datagrams[number] for number in order[:at]])
        assert before == [frames[number] for number in order[:at]]
        assert both.opened(datagrams[:0] + [datagrams[number] for number in order[:at]]) == []
        both.replace()
        after = both.opened([datagrams[number] for number in order])
        newest = max(order[:at], default=-1)
        assert after == [frames[number] for number in order if number > newest]
        both.replace()
        assert both.opened(datagrams) == []
        assert both.drops.keys() <= {"REPLAY"}


Blow = tuple[int, str, int]  # which datagram, what happens to it, a number for that


@settings(deadline=None, max_examples=150)
@given(
    size=st.integers(14, 200),
    blows=st.lists(
        st.tuples(
            st.integers(0, 29), st.sampled_from(("flip", "cut", "twice", "swap", "lose", "again")), st.integers(0)
        ),
        max_size=12,
    ),
)
def test_of_a_battered_train_exactly_the_authentic_fresh_datagrams_come_out(size: int, blows: list[Blow]) -> None:
    with pair(7) as both:
        frames = numbered(*[size] * 29, 14)
        sent = both.sealed(frames)
        wire_now: list[bytes] = list(sent)
        for number, kind, much in blows:
            at = number % max(1, len(wire_now))
            batter(wire_now, sent, at, kind, much)
        whole = dict(zip(sent, frames, strict=True))
        accepted: set[bytes] = set()
        expected: list[bytes] = []
        drops = {"AUTHENTICATION": 0, "REPLAY": 0, "TOO_SHORT": 0}
        seen: set[int] = set()
        for datagram in filter(None, wire_now):
            if len(datagram) < OVERHEAD:
                drops["TOO_SHORT"] += 1
            elif counter(datagram) in seen:
                drops["REPLAY"] += 1
            elif datagram not in whole:
                drops["AUTHENTICATION"] += 1
            else:
                accepted.add(datagram)
                seen.add(counter(datagram))
                expected.append(whole[datagram])
        assert both.opened(wire_now) == expected
        assert both.drops == {reason: count for reason, count in drops.items() if count}


def batter(datagrams: list[bytes], sent: list[bytes], at: int, kind: str, much: int) -> None:
    """Do one thing to a list of datagrams. Headers keep their type and session: others are for other tests."""
    if not datagrams or kind == "again":
        datagrams.append(sent[much % len(sent)])
    elif kind == "flip" and len(datagrams[at]) > 4:
        place = 4 + much % (len(datagrams[at]) - 4)
        flipped = bytearray(datagrams[at])
        flipped[place] ^= 1 << much % 7 if place != 7 else 1  # bit 31 of a counter is for later
        datagrams[at] = bytes(flipped)
    elif kind == "cut":
        datagrams[at] = datagrams[at][: much % max(1, len(datagrams[at]))]
    elif kind == "twice":
        datagrams.insert(at + 1 + much % 3, datagrams[at])
    elif kind == "swap":
        other = much % len(datagrams)
        datagrams[at], datagrams[other] = datagrams[other], datagrams[at]
    elif kind == "lose":
        del datagrams[at]


def test_sessions_may_be_mixed_in_a_train() -> None:
    with pair(1, 2) as both:
        frames = numbered(*[80] * 9)
        new = both.sealed(frames[:3], vouched=True)
        both.session(1)
        old = both.sealed(frames[3:6])
        both.session(3)
        unknown = both.sealed(frames[6:])
        both.into.order(Order(Task.CLOSE, index=3))
        assert both.opened([new[0], old[0], unknown[0], old[1], new[1], new[2], unknown[1], old[2], unknown[2]]) == [
            frames[number] for number in (0, 3, 4, 1, 2, 5)
        ]
        assert both.drops == {"NO_SESSION": 3}


def test_a_run_has_frames_that_are_vouched_for_or_others() -> None:
    with pair(7) as both:
        frames = numbered(*[80] * 6)
        vouched, unvouched = both.sealed(frames[:4], vouched=True), both.sealed(frames[4:])
        mixed = [vouched[0], unvouched[0], vouched[1], vouched[2], unvouched[1], vouched[3]]
        expected = [([0], True), ([4], False), ([1, 2], True), ([5], False), ([3], True)]
        assert list(both.runs(mixed)) == [([frames[number] for number in run], kind) for run, kind in expected]


def test_a_forged_frame_ends_a_run_and_leaves_no_plaintext() -> None:
    with pair(7) as both:
        frames = numbered(*[80] * 5)
        datagrams = both.sealed(frames)
        datagrams[2] = datagrams[2][:-1] + bytes([datagrams[2][-1] ^ 1])
        train = load(both.incoming, 64, datagrams)
        forged = train.at + 2 * train.step
        assert list(both.runs_of(train)) == [(frames[:2], False), (frames[3:], False)]
        assert both.incoming.take(forged + 8, 80) == bytes(80)
        assert both.drops == {"AUTHENTICATION": 1}


def test_handshakes_pass_wherever_they_stand_in_a_train() -> None:
    with pair(7) as both:
        frames = numbered(76, 76, 76, 76)
        data = both.sealed(frames)
        first, second, last = initiation(1), initiation(2), response(3)
        assert both.opened([first, data[0], data[1], second, data[2], last], THERE) == frames[:3]
        notices = both.notices()
        assert [each.datagram for each in notices if isinstance(each, Handshake)] == [first, second, last]
        sources = {str(each.source) for each in notices if isinstance(each, Handshake | Proved)}
        assert sources == {"198.51.100.7:4321"}
        assert not both.drops


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(), sizes=st.lists(st.integers(1, 1500) | st.sampled_from((24, 36, 84, 100)), max_size=40))
def test_hostile_datagrams_are_dropped_and_counted_one_by_one(seed: int, sizes: list[int]) -> None:
    noise = random.Random(seed)
    with pair(7) as both:
        both.opened(both.sealed(numbered(80)))
        heard = both.memory.slots[Slot.PEER_HEARD]
        before = len(both.notices())
        hostile = []
        for size in sizes:
            kind, index = noise.choice((0, 1, 2, 3, 4, 5, 255)), noise.choice((0, 7, 0xFFFFFF))
            number = noise.choice((0, 16, 17, 40, 9000, 2**31 - 1, 2**31, 2**32 - 1))
            hostile.append((wire.header(kind, index, number) + noise.randbytes(size))[:size])
        assert both.opened(hostile, THERE) == []
        assert sum(both.drops.values()) + len(both.notices()) == len(hostile)
        assert before == 1
        assert both.memory.slots[Slot.PEER_HEARD] == heard
        assert both.peer == "192.0.2.1:1234"
        frames = numbered(80, 80, 20)
        assert both.opened(both.sealed(frames)) == frames


@pytest.mark.parametrize(("size", "count", "last"), [(0, 1, 0), (1, 65507, 1), (23, 2000, 1), (24, 5, 0)])
def test_a_train_of_tiny_datagrams_is_dropped_and_counted(size: int, count: int, last: int) -> None:
    with pair(7) as both:
        train = Train()
        train.at, train.size, train.step, train.count, train.last = 64, size, size, count, last
        assert list(both.runs_of(train)) == []
        assert sum(both.drops.values()) == count
        assert both.drops["TOO_SHORT"] == (1 if size >= OVERHEAD else count)


def test_authentic_frames_of_any_length_are_taken_that_have_an_ethernet_header() -> None:
    with pair(7) as both:
        long, fitting, short = numbered(60_000, 14, 13)
        assert both.opened(both.sealed([long, long, fitting])) == [long, long, fitting]
        assert both.opened(both.sealed([fitting, short])) == [fitting]
        assert both.opened(both.sealed([short])) == []
        assert both.drops == {"TOO_SHORT": 2}
