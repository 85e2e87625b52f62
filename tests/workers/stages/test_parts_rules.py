"""Parts as a malicious peer may make them: whatever they say, they cost that peer a frame and nobody anything else."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tap2tap.memory import Private
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS
from tap2tap.protocols.secure.wire import MAX_PARTS
from tap2tap.workers.stages.secure.parts import piece_of
from tests.support.pair import HERE, numbered, pair, part

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
