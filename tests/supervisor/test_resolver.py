"""The remote's name is looked up again when the peer is silent, and only a new address counts."""

import ipaddress
import multiprocessing
import select
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.config import Config
from tap2tap.demo.lab import wait_for
from tap2tap.endpoint import PACKED, Endpoint, pack
from tap2tap.errors import NoSuchNameError, StartError
from tap2tap.supervisor import process, resolver
from tap2tap.supervisor.candidates import Candidates
from tap2tap.supervisor.remote import AGAIN, EVERY, SILENCE, Name
from tap2tap.supervisor.resolver import MOST, Lookups, endpoints_in
from tests.support.endpoints import endpoints
from tests.support.tunnel import alive, wait_gone

OLD = Endpoint(ipaddress.ip_address("192.0.2.1"), 1234)
NEW = Endpoint(ipaddress.ip_address("2001:db8::7"), 1234)
OTHER = Endpoint(ipaddress.ip_address("192.0.2.7"), 1234)
Lookup = Callable[[], Iterable[Endpoint]]


made: list[Lookups] = []


def processes() -> list[psutil.Process]:
    """Those that look names up, or have it done."""
    children = alive(psutil.Process().children(recursive=True))
    return [each for each in children if each.name() in ("tap2tap:names", "tap2tap:lookup")]


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Nothing that a test has made outlives it."""
    yield
    while made:
        made.pop().close()
    wait_gone(processes())


def lookups_of(lookup: Lookup, **options: Any) -> Lookups:
    """What looks up a name that stands for what `lookup` says."""
    made.append(Lookups("name.example", 1234, find=lambda *_: lookup(), **options))
    return made[-1]


def name_of(lookup: Lookup, known: Sequence[Endpoint] = (OLD,)) -> Name:
    """Such a name; the answer of the start has been taken, and was `known`."""
    lookups = lookups_of(lookup)
    wait_readable(lookups.fd)
    with suppress(StartError):
        lookups.take()
    name = Name("name.example", lookups, 0.0)
    name.known = known
    return name


def looked(lookup: Lookup, now: float = 1000.0, heard: float = 0.0) -> tuple[Name, bool]:
    """A name that has been looked up once, to the end; and whether anything was done."""
    name = name_of(lookup)
    name.look(now, heard)
    return name, finish(name)


def wait_readable(fd: int) -> None:
    """Wait until there is something to read."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(10_000)


def finish(name: Name) -> bool:
    """Take the answer of the lookup under way; whether there was one."""
    waiting = name.waiting
    for fd, take in waiting.items():
        wait_readable(fd)
        take()
    return bool(waiting)


def test_another_address_takes_the_place_of_the_known_one() -> None:
    name, did = looked(lambda: [NEW])
    assert did
    assert name.known == [NEW]
    assert not name.waiting


def test_a_name_stands_for_all_its_addresses_in_the_order_of_the_answer() -> None:
    name, _ = looked(lambda: [NEW, OLD])
    assert name.known == [NEW, OLD]


def test_what_is_not_known_is_looked_up_again_soon(capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever is waited for is told once, and once that it is there."""
    number = multiprocessing.Value("i", 0)

    def find() -> list[Endpoint]:
        number.value += 1
        if number.value < 4:
            raise StartError("no name service")
        return [NEW]

    lookups = lookups_of(find)
    name = Name("name.example", lookups, 1000.0)
    for now in (1000.0, 1000.0 + AGAIN, 1000.0 + 2 * AGAIN, 1000.0 + 3 * AGAIN):
        assert finish(name)
        name.look(now + AGAIN / 2, 1000.0)
        assert not name.waiting
        name.look(now + AGAIN, 1000.0)
    assert name.known == [NEW]
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2
    assert "waiting for a name service that knows 'name.example'" in said[0]
    assert "is known now" in said[1]


def no_such_name() -> list[Endpoint]:
    """What a name service says of a mistake in a name."""
    raise NoSuchNameError("cannot resolve: no such name")


def test_a_name_that_does_not_exist_is_an_error_at_first() -> None:
    name = Name("name.example", lookups_of(no_such_name), 0.0)
    with pytest.raises(NoSuchNameError, match="cannot resolve: no such name"):
        finish(name)


@pytest.mark.parametrize(
    ("starting", "others", "ends"),
    [(True, True, True), (True, False, True), (False, True, False), (False, False, True)],
)
def test_a_name_that_does_not_exist_ends_no_tunnel_that_has_another_remote(
    starting: bool, others: bool, ends: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    candidates = Candidates(Config(remotes=(("192.0.2.1", 1234),) if others else ()), (0, 0))
    candidates._starting = starting
    name = Name("name.example", lookups_of(no_such_name), 0.0, candidates._end)
    if ends:
        with pytest.raises(NoSuchNameError):
            finish(name)
        return
    for now in (0.5, AGAIN, 2 * AGAIN):
        finish(name)
        name.look(now, now)
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_name_that_does_not_exist_any_more_may_come_again() -> None:
    number = multiprocessing.Value("i", 0)

    def find() -> list[Endpoint]:
        number.value += 1
        return no_such_name() if number.value > 1 else [OLD]

    name = Name("name.example", lookups_of(find), 0.0)
    finish(name)
    name.ask(1000.0)
    assert finish(name)
    assert name.known == [OLD]


def test_a_failed_lookup_changes_nothing() -> None:
    def fail() -> list[Endpoint]:
        raise StartError("no such name")

    name, did = looked(fail)
    assert did
    assert name.known == (OLD,)


def test_a_peer_that_speaks_is_left_alone() -> None:
    assert not looked(lambda: [NEW], now=1000.0, heard=1000.0 - SILENCE / 2)[1]


def test_lookups_keep_their_distance() -> None:
    name, _ = looked(list)
    name.look(1000.0 + EVERY / 2, 0.0)
    assert not name.waiting
    name.look(1000.0 + EVERY, 0.0)
    assert name.waiting


def hang() -> list[Endpoint]:
    """A lookup without end."""
    while True:
        signal.pause()


def test_a_lookup_that_hangs_can_be_given_up() -> None:
    lookups = lookups_of(hang)
    wait_for(lambda: len(processes()) == 2, what="lookup")
    both = processes()
    lookups.close()
    wait_gone(both)


def test_a_lookup_that_takes_too_long_is_a_failure_and_the_next_one_is_as_good_as_ever() -> None:
    slow = multiprocessing.Value("i", 2)  # lookups that hang

    def find() -> list[Endpoint]:
        slow.value -= 1
        return hang() if slow.value >= 0 else [NEW]

    lookups = lookups_of(find, most=0.2)
    for _ in range(2):
        wait_readable(lookups.fd)
        with pytest.raises(StartError, match=r"looking up 'name\.example' takes too long"):
            lookups.take()
        lookups.ask()
    wait_readable(lookups.fd)
    assert lookups.take() == [NEW]


def test_a_process_that_is_gone_is_told_once_and_changes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    name = name_of(lambda: [NEW])
    for child in processes():
        child.kill()
    for now in range(1000, 1300, 50):
        name.look(float(now), 0.0)
        finish(name)
    assert name.known == (OLD,)
    assert len(capfd.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("error", [BlockingIOError(11, "no process left"), OSError(12, "no memory")])
def test_without_room_for_the_process_there_is_no_start(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(process, "start", start)
    with pytest.raises(StartError, match=r"looking up 'name\.example' failed: no "):
        Lookups("name.example", 1234)


def test_without_room_for_a_lookup_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise StartError("no process left")

    monkeypatch.setattr(resolver, "Job", start)
    name, did = looked(lambda: [NEW])
    assert did
    assert name.known == (OLD,)


answers = st.lists(endpoints(st.just(1234), local=False), max_size=2 * MOST)


@given(answers)
def test_what_an_honest_lookup_answers_is_what_it_found(found: list[Endpoint]) -> None:
    assert endpoints_in(b"".join(map(pack, found)), 1234) == found[:MOST]


@given(st.binary(max_size=5000))
def test_whatever_a_lookup_answers_is_endpoints_of_the_port_that_was_asked_for_or_nothing(answer: bytes) -> None:
    found = endpoints_in(answer, 1234)
    assert len(found) <= MOST
    assert all(each.port == 1234 for each in found)
    assert b"".join(map(pack, found)) == answer[: PACKED * len(found)]


@given(answers.filter(bool), st.data())
def test_an_answer_that_is_wrong_anywhere_counts_for_nothing(found: list[Endpoint], data: st.DataObject) -> None:
    answer = bytearray(b"".join(map(pack, found[:MOST])))
    at = PACKED * data.draw(st.integers(0, len(found[:MOST]) - 1)) + data.draw(
        st.sampled_from([16, 17, 22, 23, 24, 39])
    )
    answer[at] ^= data.draw(st.integers(1, 255))
    assert endpoints_in(bytes(answer), 1234) == []
    assert endpoints_in(bytes(answer[:-1]), 1234) == []
