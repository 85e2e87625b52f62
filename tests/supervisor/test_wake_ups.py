"""A sleep of the machine is looked for often enough, told, and followed by a call."""

import ipaddress
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap import clock, endpoint, memory
from tap2tap.counters import Slot
from tap2tap.endpoint import Endpoint
from tap2tap.supervisor.loop import next_second
from tap2tap.supervisor.wake_ups import Sleep
from tap2tap.workers.worker import Cable

PEER = Endpoint(ipaddress.ip_address("192.0.2.1"), 9)


def made(*, client: bool, peer: Endpoint | None = None) -> tuple[Sleep, list[str]]:
    """The part of an end, and its calls."""
    shared, calls = memory.create(), list[str]()
    if peer:
        endpoint.store(shared.slots, Slot.PEER, peer)
    cable = Cable("tap0", -1, None, shared, 1500, client, 0, True, True, True, True)  # type: ignore[arg-type]
    return Sleep(cable, lambda: calls.append("call")), calls


@given(st.floats(0, 1e9))
def test_half_a_second_is_the_most_that_a_wake_up_waits_for_and_it_is_no_wake_up_of_its_own(now: float) -> None:
    part, _ = made(client=True)
    with patch.object(clock, "now", lambda: now):
        part.look()
    assert now < part.due <= now + 0.5
    assert part.due in (next_second(now), next_second(now) - 0.5)


@pytest.mark.parametrize(("client", "peer", "calling"), [(True, None, True), (False, PEER, True), (False, None, False)])
def test_each_sleep_is_told_once_with_what_is_done(
    client: bool, peer: Endpoint | None, calling: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    part, calls = made(client=client, peer=peer)
    with patch.object(clock.WakeUps, "slept", iter([0.0, 59.6, 0.0, 3600.0]).__next__):
        for _ in range(4):
            part.look()
    said = [line.partition(" woke up ")[2] for line in capfd.readouterr().err.splitlines()]
    suffix = ", calling the peer" if calling else ""
    assert said == [f"after a sleep of {seconds} s{suffix}" for seconds in (60, 3600)]
    assert len(calls) == 2
