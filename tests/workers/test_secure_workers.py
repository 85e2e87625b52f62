"""The loops with the stages of the secure protocol, each in a process of its own, whose link is the test."""

import socket

import pytest

from tap2tap import clock
from tap2tap.counters import Count, Drop, Slot
from tap2tap.demo.lab import Host, wait_for
from tap2tap.memory import Private
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS
from tap2tap.protocols.secure.mailbox import Notice, Order, Proved, Received, Task, TooLong
from tap2tap.protocols.secure.sealing import aead
from tap2tap.protocols.secure.wire import OVERHEAD, Cipher
from tap2tap.udp_socket import IP_MTU_DISCOVER, IP_PMTUDISC_PROBE
from tests.support.lone import Lone, frame, run
from tests.support.pair import counter

KEY = (7).to_bytes(32, "big")  # as the session 7 of a pair has it


def use(lone: Lone, *, parts: bool = True) -> None:
    """Have the worker send on a session."""
    lone.counts[Private.SESSION + 7] = CONTROL_COUNTERS
    lone.link.order(Order(Task.USE, Cipher.AES_256_GCM, 7, 7, parts=parts, data=KEY))


def told(lone: Lone, count: int) -> list[Notice]:
    """The first notices of the worker that are not alike."""
    notices: dict[Notice, None] = {}

    def enough() -> bool:
        notices.update(dict.fromkeys(lone.link.notices()))
        return len(notices) >= count

    wait_for(enough, what=f"{count} notices")
    return list(notices)


def kinds(datagrams: list[bytes]) -> list[int]:
    """Their types."""
    return [datagram[0] for datagram in datagrams]


def test_a_control_datagram_is_sent_soon_also_while_the_tap_never_runs_empty() -> None:
    with Lone("outbound", secure=True) as lone:
        frames = [frame(100 + number % 2, number) for number in range(500)]  # every one a train of its own
        lone.feed(*frames)
        use(lone)
        for number in range(3):
            lone.link.order(Order(Task.CONTROL, data=bytes([5, number]), size=100 * number))
        lone.start()
        datagrams = lone.received(503)
        places = [at for at, kind in enumerate(kinds(datagrams)) if kind == wire.TYPE_CONTROL]
        assert len(places) == 3
        assert places[-1] < 70
        assert [len(datagrams[at]) for at in places] == [26, 100, 200]
        assert sorted(map(counter, datagrams)) == list(range(CONTROL_COUNTERS, CONTROL_COUNTERS + 503))
        assert lone.counts[Count.CONTROL] == 3
        assert lone.counts[Count.FRAMES] == 500
        lone.link.order(Order(Task.CONTROL, data=b"idle"))
        lone.link.order(Order(Task.KEEPALIVE))
        assert kinds(lone.received(2)) == [wire.TYPE_CONTROL, wire.TYPE_DATA]
        wait_for(lambda: lone.counts[Count.KEEPALIVES] == 1, what="count of keepalives")
        assert not lone.drops


def test_frames_longer_than_the_path_leave_in_parts_and_come_out_whole() -> None:
    with Lone("outbound", secure=True) as out, Lone("inbound", secure=True) as into:
        out.memory.slots[Slot.PATH] = 1000
        use(out)
        into.link.order(Order(Task.OPEN, Cipher.AES_256_GCM, 7, 7, data=KEY))
        frames = [frame(1514, 1), *run(3, 1514), frame(60), *run(20, 976), frame(9014), frame(60_000)]
        out.feed(*frames)
        out.start()
        into.start()
        datagrams = out.received(2 + 6 + 1 + 20 + 10 + 62)
        assert max(map(len, datagrams)) <= 1000
        into.call(*datagrams)
        assert [into.written()[1] for _ in frames] == frames
        assert out.counts[Count.PARTS] == into.counts[Count.PARTS] == 6
        assert not out.drops
        assert not into.drops


@pytest.mark.parametrize("trains", [True, False])
def test_what_is_too_long_for_the_way_out_is_dropped_and_the_link_is_told(alone: Host, trains: bool) -> None:
    alone.link("lo", mtu=1400)
    with Lone("outbound", host=alone, secure=True, trains=trains) as lone:
        lone.sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        use(lone)
        lone.link.order(Order(Task.CONTROL, data=b"\1\0\0\0", size=1400))
        lone.feed(*run(30, 1449))
        lone.start()
        lone.wait_dropped(Drop.TOO_LONG, 30)
        lone.feed(*run(3, 1000))
        assert [len(datagram) for datagram in lone.received(3)] == [1000 + OVERHEAD] * 3
        assert set(told(lone, 2)) == {TooLong(1449 + OVERHEAD), TooLong(1400)}
        assert lone.counts[Count.CONTROL] == lone.counts[Count.FALLBACKS] == 0


@pytest.mark.parametrize("length", [1, 4, 28, 1400])
def test_what_the_peers_link_says_comes_to_the_own(length: int) -> None:
    with Lone("inbound", secure=True) as lone:
        lone.link.order(Order(Task.OPEN, Cipher.AES_256_GCM, 7, 7, data=KEY))
        lone.start()
        header = wire.header(wire.TYPE_CONTROL, 7, 16)
        text = bytes(range(1, 29))[:length].ljust(length, b"\0")
        lone.call(header + aead(Cipher.AES_256_GCM, KEY).encrypt(wire.nonce(Cipher.AES_256_GCM, 16), text, header))
        proved, received = told(lone, 2)
        assert isinstance(proved, Proved)
        assert isinstance(received, Received)
        assert (received.index, received.counter, received.size) == (7, 16, length + OVERHEAD)
        assert received.text[:28] == text[:28]


def test_idle_workers_forget_keys_whose_time_went_by_while_the_machine_slept() -> None:
    header = wire.header(wire.TYPE_DATA, 7, CONTROL_COUNTERS)
    cipher = Cipher.AES_256_GCM
    datagram = header + aead(cipher, KEY).encrypt(wire.nonce(cipher, CONTROL_COUNTERS), frame(60), header)
    until = clock.now_ns() + 180 * 10**9
    with Lone("outbound", secure=True) as out, Lone("inbound", secure=True) as into:
        for lone in (out, into):
            lone.counts[Private.SESSION + 7] = CONTROL_COUNTERS
            lone.link.order(Order(Task.USE if lone is out else Task.OPEN, cipher, 7, 7, until, data=KEY))
            lone.start()
        out.feed(frame(60))
        into.call(datagram)
        assert len(out.received(1)[0]) == 60 + OVERHEAD
        assert into.written()[1] == frame(60)
        for lone in (out, into):
            lone.sleep(180)
        idle = [lone.counts[Count.BEAT] for lone in (out, into)]
        for lone, before in zip((out, into), idle, strict=True):  # twice: it may have looked at the clock already
            wait_for(lambda lone=lone, before=before: lone.counts[Count.BEAT] >= before + 2, what="idle worker")  # type: ignore[misc]
            lone.sleep(0)  # what shows that the key is not there, and not only of no use any more
        out.feed(frame(60))
        into.call(datagram)
        out.wait_dropped(Drop.NO_SESSION)
        into.wait_dropped(Drop.NO_SESSION)  # else it were a replay
