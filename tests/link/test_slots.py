"""Slots of sessions: none that may still be in use is given out, whoever gave it, as long as there are others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap import clock, memory
from tap2tap.link.slots import SessionSlots
from tap2tap.memory import SESSIONS, Private

SECOND = 10**9


@given(st.lists(st.integers(-1, SESSIONS - 2), max_size=300), st.integers(0, 299))
def test_no_living_session_loses_its_slot_though_the_link_was_killed(steps: list[int], killed: int) -> None:
    counts = memory.create().inbound
    slots, now, living = SessionSlots(counts), 1000 * SECOND, [0]
    living.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now_ns", lambda: now)
        for number, step in enumerate(steps):
            now += 1
            if number == killed:
                slots = SessionSlots(counts)
            if 0 <= step < len(living):
                slots.give_back(living.pop(step))
            elif len(living) < SESSIONS - 1:
                slot = slots.take(now + 180 * SECOND, number)
                assert slot not in living
                assert counts[Private.SESSION + slot] == number
                living.append(slot)


def test_one_that_was_given_back_is_not_the_next_one() -> None:
    slots = SessionSlots(memory.create().inbound)
    given_out = []
    for _ in range(SESSIONS):
        given_out.append(slots.take(clock.now_ns() + 180 * SECOND, 0))
        slots.give_back(given_out[-1])
    assert sorted(given_out) == list(range(SESSIONS))


def test_where_all_are_in_use_the_one_goes_that_ends_soonest_and_the_groups_are_apart() -> None:
    shared = memory.create()
    slots = SessionSlots(shared.outbound)
    now = clock.now_ns()
    for number in range(SESSIONS):
        assert slots.take(now + (200 - number) * SECOND, 7) == number
    assert slots.last_end() == now + 200 * SECOND
    assert slots.take(now + 300 * SECOND, 9) == SESSIONS - 1
    assert not any(shared.inbound)
    assert not any(shared.link)
    assert not any(shared.outbound[: Private.SESSION])
