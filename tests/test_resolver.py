"""The remote's name is looked up again when the peer is silent, and only a new address counts."""

import ipaddress
import os
import select
import signal
from collections.abc import Callable, Iterable

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.endpoint import Endpoint, pack
from tap2tap.errors import StartError
from tap2tap.supervisor import process
from tap2tap.supervisor.resolver import EVERY, MOST, SILENCE, Resolver, read

OLD = Endpoint(ipaddress.ip_address("192.0.2.1"), 1234)
NEW = Endpoint(ipaddress.ip_address("2001:db8::7"), 1234)
OTHER = Endpoint(ipaddress.ip_address("192.0.2.7"), 1234)
Lookup = Callable[[], Iterable[Endpoint]]


def looked(lookup: Lookup, now: float = 1000.0, heard: float = 0.0) -> tuple[Resolver, bool]:
    """A resolver that has looked once, to the end; and whether it did anything."""
    resolver = Resolver(lookup, OLD)
    resolver.look(now, heard)
    return resolver, finish(resolver)


def finish(resolver: Resolver) -> bool:
    """Take the answer of the lookup under way; whether there was one."""
    waiting = resolver.waiting
    for fd, take in waiting.items():
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(10_000)
        take()
    return bool(waiting)


def test_another_address_takes_the_place_of_the_known_one() -> None:
    resolver, did = looked(lambda: [NEW])
    assert did
    assert resolver.known == NEW
    assert not resolver.waiting


def test_a_name_with_several_addresses_keeps_the_known_one_in_any_order() -> None:
    resolver, _ = looked(lambda: [NEW, OLD])
    assert resolver.known == OLD


def test_a_failed_lookup_changes_nothing() -> None:
    def fail() -> list[Endpoint]:
        raise StartError("no such name")

    resolver, did = looked(fail)
    assert did
    assert resolver.known == OLD


def test_a_peer_that_speaks_is_left_alone() -> None:
    assert not looked(lambda: [NEW], now=1000.0, heard=1000.0 - SILENCE / 2)[1]


def test_lookups_keep_their_distance() -> None:
    resolver, _ = looked(list)
    resolver.look(1000.0 + EVERY / 2, 0.0)
    assert not resolver.waiting
    resolver.look(1000.0 + EVERY, 0.0)
    assert resolver.waiting
    resolver.close()


def test_a_lookup_that_hangs_can_be_given_up() -> None:
    def hang() -> list[Endpoint]:
        while True:
            signal.pause()

    resolver = Resolver(hang, OLD)
    resolver.look(1000.0, 0.0)
    resolver.close()
    assert not resolver.waiting


def test_one_that_still_hangs_when_the_next_is_due_is_given_up() -> None:
    def hang() -> list[Endpoint]:
        while True:
            signal.pause()

    resolver = Resolver(hang, OLD)
    resolver.look(1000.0, 0.0)
    (first,) = resolver.waiting
    resolver.look(1000.0 + EVERY, 0.0)
    (second,) = resolver.waiting
    resolver.close()
    for fd in {first, second}:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    assert "tap2tap:lookup" not in [child.name() for child in psutil.Process().children()]


def test_what_this_end_cannot_send_to_is_passed_over() -> None:
    resolver = Resolver(lambda: [NEW, OTHER], OLD, usable=lambda each: each.address.version == 4)
    resolver.look(1000.0, 0.0)
    finish(resolver)
    assert resolver.known == OTHER


@pytest.mark.parametrize("error", [BlockingIOError(11, "no process left"), OSError(12, "no memory")])
def test_a_lookup_for_which_there_is_no_room_is_not_under_way(
    error: OSError, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def start(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(process, "start", start)
    resolver, did = looked(lambda: [NEW])
    assert not did
    assert resolver.known == OLD
    resolver.look(1000.0 + EVERY / 2, 0.0)
    assert len(capfd.readouterr().err.splitlines()) == 1
    resolver.close()


addresses = st.ip_addresses().filter(lambda each: not str(each).startswith("::ffff:"))
endpoints = st.lists(st.builds(Endpoint, addresses, st.just(1234), st.integers(0, 2**32 - 1)), max_size=2 * MOST)


@given(endpoints)
def test_what_an_honest_lookup_answers_is_what_it_found(found: list[Endpoint]) -> None:
    assert read(b"".join(map(pack, found)), 1234) == found[:MOST]


@given(st.binary(max_size=5000))
def test_whatever_a_lookup_answers_is_endpoints_of_the_port_that_was_asked_for_or_nothing(answer: bytes) -> None:
    found = read(answer, 1234)
    assert len(found) <= MOST
    assert all(each.port == 1234 for each in found)
    assert b"".join(map(pack, found)) == answer[: 24 * len(found)]


@given(endpoints.filter(bool), st.data())
def test_an_answer_that_is_wrong_anywhere_counts_for_nothing(found: list[Endpoint], data: st.DataObject) -> None:
    answer = bytearray(b"".join(map(pack, found[:MOST])))
    at = 24 * data.draw(st.integers(0, len(found[:MOST]) - 1)) + data.draw(st.sampled_from([16, 17, 22, 23]))
    answer[at] ^= data.draw(st.integers(1, 255))
    assert read(bytes(answer), 1234) == []
    assert read(bytes(answer[:-1]), 1234) == []
