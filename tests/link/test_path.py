"""The way to the peer in the memory: no limit that comes too late, nothing stale for a successor."""

import ipaddress

from tap2tap import memory
from tap2tap.counters import Slot
from tap2tap.endpoint import Endpoint
from tap2tap.link.path import PeerPath
from tap2tap.memory import Memory, Private

HERE, THERE = (Endpoint(ipaddress.ip_address(f"192.0.2.{number}"), 1234) for number in (1, 2))
FLOOR, FULL = 1252, 1472


class Watched:
    """Slots that note what is written to them, in its order."""

    def __init__(self, slots: memoryview, notes: list[str]) -> None:
        self._slots, self._notes = slots, notes

    def __getitem__(self, at: int | slice) -> object:
        return self._slots[at]

    def __setitem__(self, at: int, value: int) -> None:
        if at in (Slot.PEER + 3, Private.LIMIT):
            self._notes.append("peer" if at == Slot.PEER + 3 else f"limit {value}")
        self._slots[at] = value


def test_what_goes_to_an_address_in_question_is_limited_from_the_first_byte_to_the_last() -> None:
    shared, notes = memory.create(), list[str]()
    shared.outbound[Private.SEALED] = 1000
    path = PeerPath(shared)
    path._slots, path._outbound = Watched(shared.slots, notes), Watched(shared.outbound, notes)  # type: ignore[assignment]
    path.turn(HERE, None)
    path.turn(THERE, 500)
    assert path.endpoint == THERE
    path.turn(HERE, None)
    assert notes == ["peer", "limit 0", "limit 1500", "peer", "peer", "limit 0"]
    assert path.endpoint == HERE


def test_a_path_mtu_is_news_once() -> None:
    path = PeerPath(memory.create())
    steps = [(FLOOR, False), (FULL, True), (FULL, True), (FLOOR, False), (FULL, True), (FLOOR, True)]
    assert [path.set_payload(payload, told=told) for payload, told in steps] == [
        False,
        True,
        False,
        False,
        False,
        True,
    ]
    assert path.payload == FLOOR


def inherited() -> Memory:
    """The memory of a link process that was killed while the peer was at HERE."""
    shared = memory.create()
    path = PeerPath(shared)
    path.turn(HERE, 1000)
    path.set_payload(FULL, told=True)
    path.send_trains(on=False)
    return shared


def test_a_successor_sends_trains_again_and_keeps_a_limit_until_a_handshake_says_where_the_peer_is() -> None:
    shared = inherited()
    assert shared.outbound[Private.LIMIT]
    assert shared.outbound[Private.SINGLY] == 1
    path = PeerPath(shared)
    assert shared.outbound[Private.LIMIT]
    assert not shared.outbound[Private.SINGLY]
    path.turn(HERE, None)
    assert not shared.outbound[Private.LIMIT]
    path.send_trains(on=True)
    assert not shared.outbound[Private.SINGLY]


def test_a_successor_keeps_the_path_mtu_until_it_knows_better() -> None:
    path = PeerPath(inherited())
    assert not path.set_payload(FLOOR, told=False)  # where it begins its search
    assert path.payload == FULL
    assert not path.set_payload(FULL, told=True)  # people know
    assert not path.set_payload(FLOOR, told=False)
    assert path.payload == FLOOR
    path = PeerPath(inherited())
    assert path.set_payload(FLOOR, told=True)
    assert path.payload == FLOOR


def test_another_address_of_ours_is_no_other_path() -> None:
    path = PeerPath(inherited())
    for local in ("192.0.2.8", "192.0.2.9", None):
        there = HERE._replace(local=ipaddress.ip_address(local) if local else None)
        path.turn(there, None)
        assert path.endpoint == there
        path.set_payload(FLOOR, told=False)
        assert path.payload == FULL


def test_a_successor_does_not_keep_it_for_another_path() -> None:
    path = PeerPath(inherited())
    path.turn(HERE, None)
    path.set_payload(FLOOR, told=False)
    assert path.payload == FULL
    path.turn(THERE, None)
    path.set_payload(FLOOR, told=False)
    assert path.payload == FLOOR
