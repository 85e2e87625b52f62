"""The remote's name is looked up again when the peer is silent, and only a new address counts."""

import ipaddress
import select
import signal
from collections.abc import Callable, Iterable

from tap2tap.endpoint import Endpoint
from tap2tap.errors import StartError
from tap2tap.supervisor.resolver import EVERY, SILENCE, Resolver

OLD = Endpoint(ipaddress.ip_address("192.0.2.1"), 1234)
NEW = Endpoint(ipaddress.ip_address("2001:db8::7"), 1234)
Lookup = Callable[[], Iterable[Endpoint]]


def looked(lookup: Lookup, now: float = 1000.0, heard: float = 0.0) -> tuple[Resolver, bool]:
    """A resolver that has looked once, to the end; and whether it did anything."""
    resolver = Resolver(lookup, OLD)
    resolver.look(now, heard)
    waiting = resolver.waiting
    for fd, take in waiting.items():
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(10_000)
        take()
    return resolver, bool(waiting)


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
