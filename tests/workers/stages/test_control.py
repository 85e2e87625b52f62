"""Control datagrams: the outbound stage seals what the link orders, the inbound one passes on what the peer's says."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap import clock
from tap2tap.counters import Count, Slot
from tap2tap.memory import Private
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.control import PathCheck, Probe, pack
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS
from tap2tap.protocols.secure.mailbox import MOST, Missed, Order, Proved, Received, Task, TooLong
from tap2tap.protocols.secure.sealing import aead
from tap2tap.protocols.secure.wire import OVERHEAD, Cipher
from tests.support.pair import HERE, THERE, Pair, counter, numbered, pair

WAITING = 32  # orders


def order(both: Pair, text: bytes, size: int = 0) -> None:
    """Order a control datagram."""
    both.out.order(Order(Task.CONTROL, data=text, size=size))


def received(both: Pair) -> list[tuple[int, int, bytes]]:
    """What the link was passed: counter, size and text of each."""
    return [(each.counter, each.size, each.text) for each in both.notices() if isinstance(each, Received)]


@settings(deadline=None, max_examples=60)
@given(text=st.binary(min_size=1, max_size=MOST), size=st.sampled_from((0, 24, 52, 1252, 1472, 65507)))
def test_a_text_comes_to_the_peers_link_with_zeros_up_to_the_size(text: bytes, size: int) -> None:
    with pair(7) as both:
        assert both.control() == []
        order(both, text, size)
        (datagram,) = both.control()
        assert len(datagram) == max(size, len(text) + OVERHEAD)
        header = wire.header(wire.TYPE_CONTROL, 7, CONTROL_COUNTERS)
        assert datagram[:8] == header
        nonce = wire.nonce(Cipher.AES_256_GCM, CONTROL_COUNTERS)
        sealed = aead(Cipher.AES_256_GCM, (7).to_bytes(32, "big")).decrypt(nonce, datagram[8:], header)
        assert sealed == text.ljust(len(datagram) - OVERHEAD, b"\0")
        assert both.opened([datagram]) == []
        assert received(both) == [(CONTROL_COUNTERS, len(datagram), sealed[:MOST])]
        assert both.opened([datagram]) == []  # a replay is none
        assert received(both) == []
        assert both.memory.inbound[Count.CONTROL] == 1
        assert both.memory.inbound[Count.FRAMES] == both.memory.inbound[Count.KEEPALIVES] == 0
        assert both.drops == {"REPLAY": 1}


def test_control_shares_the_count_with_frames_and_stands_anywhere_in_a_train() -> None:
    with pair(7) as both:
        order(both, pack(PathCheck(b"12345678")))
        frames = numbered(12, 12)
        sent = [*both.sealed([bytes(12) + frames[0]]), *both.control(), *both.sealed([bytes(12) + frames[1]])]
        assert [counter(each) for each in sent] == [CONTROL_COUNTERS + number for number in range(3)]
        assert [len(each) for each in sent] == [48, 36, 48]
        assert both.opened([sent[0], sent[2], sent[1]]) == [bytes(12) + frame for frame in frames]
        assert [text for _, _, text in received(both)] == [pack(PathCheck(b"12345678"))]
        assert both.memory.inbound[Private.ACCEPTED + 7] == 3
        assert both.memory.inbound[Private.LATE + 7] == 1


def test_it_is_heard_and_a_proof_as_any_datagram_and_the_link_knows_of_the_proof_first() -> None:
    with pair(7) as both:
        order(both, b"\4\0\0\0")
        both.opened(both.control(), THERE)
        proved, told = both.notices()
        assert isinstance(proved, Proved)
        assert isinstance(told, Received)
        assert (told.index, str(proved.source)) == (7, "198.51.100.7:4321")
        assert both.memory.slots[Slot.PEER_HEARD]
        assert both.peer == "198.51.100.7:4321"


def test_on_a_session_that_is_closed_and_without_a_text_it_says_nothing() -> None:
    with pair(7) as both:
        key, header = aead(Cipher.AES_256_GCM, (7).to_bytes(32, "big")), wire.header(wire.TYPE_CONTROL, 7, 20)
        empty = header + key.encrypt(wire.nonce(Cipher.AES_256_GCM, 20), b"", header)
        assert both.opened([empty]) == []
        assert received(both) == []
        assert both.memory.inbound[Count.CONTROL] == 1
        order(both, b"\4\0\0\0")
        datagrams = both.control()
        forged = datagrams[0][:-1] + bytes([datagrams[0][-1] ^ 1])
        both.into.order(Order(Task.CLOSE, index=7))
        assert both.opened([forged, *datagrams]) == []
        assert received(both) == []
        assert both.drops == {"NO_SESSION": 2}


def test_a_flood_of_it_is_cut_off_where_the_link_does_not_read() -> None:
    with pair(7) as both:
        for _ in range(40):
            for number in range(WAITING):
                order(both, bytes([5, number]))
            both.opened(both.control())
        came = 0
        while some := received(both):
            came += len(some)
        assert came
        assert came + both.drops.get("NO_BUFFERS", 0) == 40 * WAITING
        assert both.memory.inbound[Count.CONTROL] == 40 * WAITING


def test_few_wait_and_none_for_another_session_than_it_was_about() -> None:
    with pair(7) as both:
        for number in range(WAITING + 5):
            order(both, bytes([5, number]))
        both.opened(both.control())
        assert [text[1] for _, _, text in received(both)] == list(range(5, WAITING + 5))
        order(both, b"old")
        both.session(8)
        order(both, b"new")
        both.opened(both.control())
        assert [text for _, _, text in received(both)] == [b"new"]
        order(both, b"never")
        both.out.order(Order(Task.STOP))
        assert both.control() == []
        assert not both.drops_of(both.memory.outbound)  # they were no frames


def test_an_address_that_has_not_answered_gets_so_much_and_no_more_but_for_the_question() -> None:
    with pair(7) as both:
        counts = both.memory.outbound
        both.path(1000)
        frames = numbered(100, 100)
        both.sealed(frames)
        assert counts[Private.SEALED] == 2 * (100 + OVERHEAD)
        counts[Private.LIMIT] = counts[Private.SEALED] + 300
        assert len(both.sealed(frames)) == 2
        assert both.sealed(frames) == []
        assert both.sealed(numbered(1514)) == []
        order(both, pack(Probe()), 1000)
        order(both, pack(PathCheck(bytes(8))))
        assert [len(each) for each in both.control()] == [36]
        assert both.drops_of(counts) == {"UNCHECKED": 3}
        assert counts[Private.SEALED] == 4 * (100 + OVERHEAD) + 36
        counts[Private.LIMIT] = 0
        assert both.opened(both.sealed(frames)) == frames
        assert len(both.sealed(numbered(1514))) == 2
        assert counts[Private.SEALED] == 6 * (100 + OVERHEAD) + 36 + 1514 + 2 * 28


@settings(deadline=None, max_examples=60)
@given(order=st.permutations(range(20)), lost=st.sets(st.integers(0, 19)), at=st.integers(0, 20))
def test_what_was_accepted_and_what_of_it_was_late_is_counted(order: list[int], lost: set[int], at: int) -> None:
    with pair(7) as both:
        both.path(700)
        sent = both.sealed(numbered(*[60] * 14)) + [
            datagram for n in range(3) for datagram in both.sealed([bytes(900)])
        ]
        order = [number for number in order if number not in lost]
        arrived = [sent[number] for number in order]
        both.opened(arrived[:at])
        both.opened(arrived)  # some of it twice
        late = sum(number < max(order[:place], default=-1) for place, number in enumerate(order))
        assert both.memory.inbound[Private.ACCEPTED + 7] == len(order)
        assert both.memory.inbound[Private.LATE + 7] == late


def test_the_link_is_told_of_another_source_at_once_and_again_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "now_ns", lambda: int(now * 1e9))
    with pair(7) as both:
        data = [datagram for _ in range(10) for datagram in both.sealed(numbered(80))]
        both.opened(data[:1])
        assert both.peer == "192.0.2.1:1234"
        both.notices()
        told: list[list[tuple[str, bool]]] = []
        for number, (later, source) in enumerate(
            ((0, THERE), (0.05, THERE), (0, HERE), (0, THERE), (0.05, THERE), (0.05, THERE), (0.01, THERE)), 1
        ):
            now += later
            both.opened([data[number]], source)
            news = [each for each in both.into.notices() if isinstance(each, Proved)]  # nobody moves the peer
            told.append([(str(each.source), each.newest) for each in news])
        there = [("198.51.100.7:4321", True)]
        assert told == [there, [], [], [], [], there, []]


def test_the_link_hears_what_is_too_long_once_for_each_path_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "now_ns", lambda: int(now * 1e9))
    with pair(7) as both:

        def told(*sizes: int) -> list[int]:
            for size in sizes:
                both.seal.too_long(size)
            return [each.size for each in both.out.notices() if isinstance(each, TooLong)]

        both.path(1472)
        assert told(1472, 1472, 1400, 1472) == [1472, 1400]
        both.path(1400)
        assert told(1400, 1400) == [1400]
        assert len(told(*random.Random(1).sample(range(1401, 9000), 1000))) < 100
        now += 1.0
        assert told(1400, 1400) == [1400]


def test_frames_longer_than_the_far_ends_mtu_are_sent_and_counted_and_said_once(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pair(7) as both:
        slots, counts = both.memory.slots, both.memory.outbound
        slots[Slot.MTU] = 1500
        both.path(1472)
        longer, fitting = numbered(1423, 1422)
        assert both.opened(both.sealed([longer])) == [longer]  # nobody knows
        slots[Slot.PEER_MTU] = 1400
        assert both.opened(both.sealed([fitting])) == [fitting]
        assert counts[Count.LONG] == 0
        assert both.opened(both.sealed([longer, longer, fitting])) == [longer, longer, fitting]
        assert counts[Count.LONG] == 2
        assert both.opened(both.sealed(numbered(1514, 1514, 100))) == numbered(1514, 1514, 100)
        assert counts[Count.LONG] == 4
        (line,) = capfd.readouterr().err.splitlines()
        assert "frames are longer than the far end's mtu" in line
        assert "--mtu" in line
        assert "mtu=1500" in line
        assert "far_mtu=1400" in line
        slots[Slot.PEER_MTU] = 1300
        both.sealed([longer])
        both.sealed([longer])
        assert "far_mtu=1300" in capfd.readouterr().err
        for mtu in range(1000, 1020):  # a peer that has another one at each handshake fills no log
            slots[Slot.PEER_MTU] = mtu
            both.sealed([longer])
        assert len(capfd.readouterr().err.splitlines()) == 2
        assert not both.drops_of(counts)


def test_the_link_hears_at_once_of_counters_that_were_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "now_ns", lambda: int(now * 1e9))
    with pair(7) as both:
        sent = both.sealed(numbered(*[76] * 20))
        assert len(both.opened(sent[:3])) == 3
        both.opened(sent[6:8])  # three are late, or lost
        assert Missed() not in both.notices()
        both.opened(sent[12:13])
        assert both.notices().count(Missed()) == 1
        both.opened(sent[8:12])  # they were late
        both.opened(sent[19:])  # others are missed, but that is no news so soon
        assert Missed() not in both.notices()
        now += 0.11
        both.opened(both.sealed(numbered(*[76] * 6))[5:])
        assert both.notices().count(Missed()) == 1
