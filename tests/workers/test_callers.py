"""Whom a worker of the plain protocol hears, whom it answers, and when it reminds the peer of itself."""

import pytest

from tap2tap import clock
from tap2tap.counters import Count, Drop, Slot
from tap2tap.demo.lab import wait_for
from tap2tap.endpoint import from_sockaddr
from tap2tap.workers.stages.peer import SILENCE
from tests.support.lone import Lone, frame, run


def test_without_a_peer_nothing_is_sent_and_everything_is_counted() -> None:
    with Lone("outbound", remote=False, keepalive=1) as lone:
        lone.feed(*run(10, 100))
        lone.start()
        lone.wait_dropped(Drop.NO_PEER, 10)
        assert not lone.counts[Count.DATAGRAMS]
        lone.point_at(from_sockaddr(lone.peer.getsockname()))
        lone.feed(frame(60))
        while (datagram := lone.received(1)[0]) != frame(60):
            assert datagram == b""


def test_an_idle_worker_reminds_the_peer_of_itself() -> None:
    with Lone("outbound", keepalive=1).start() as lone:
        assert lone.received(2) == [b"", b""]
        wait_for(lambda: lone.counts[Count.KEEPALIVES] >= 2, what="count of them")
        assert not lone.counts[Count.FRAMES]


def test_a_client_hears_nobody_but_its_remote() -> None:
    with Lone("inbound").start() as lone, lone.udp() as stranger:
        lone.call(frame(60, 1), b"", source=stranger)
        lone.call(frame(60, 2))
        assert lone.written()[1] == frame(60, 2)
        lone.memory.slots[Slot.PEER_HEARD] = 0  # not even when the remote has been silent for ever
        lone.call(frame(60, 3), source=stranger)
        lone.call(frame(60, 4))
        assert lone.written()[1] == frame(60, 4)
        lone.wait_dropped(Drop.STRANGER, 3)


def test_a_server_answers_the_empty_datagrams_of_its_peer_and_no_stranger() -> None:
    with Lone("inbound", remote=False).start() as lone, lone.udp() as stranger:
        lone.call(b"", b"", frame(60))
        lone.call(b"", source=stranger)
        lone.wait_dropped(Drop.STRANGER)
        assert lone.received(2) == [b"", b""]
        for sock in (lone.peer, stranger):
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)


@pytest.mark.parametrize("first", [frame(60, 1), b""], ids=["frame", "keepalive"])
def test_a_server_takes_the_first_caller_and_moves_only_after_silence(first: bytes) -> None:
    with Lone("inbound", remote=False).start() as lone, lone.udp() as second:
        lone.call(b"too short", source=second)  # nothing valid, so no call
        lone.call(first)
        wait_for(lambda: lone.known, what="peer")
        assert lone.known == from_sockaddr(lone.peer.getsockname())
        lone.call(frame(60, 2), b"", source=second)
        lone.call(frame(60, 3))
        expected = [sent for sent in (first, frame(60, 3)) if sent]
        assert [lone.written()[1] for _ in expected] == expected
        assert lone.known == from_sockaddr(lone.peer.getsockname())
        lone.memory.slots[Slot.PEER_HEARD] = clock.now_ns() - SILENCE
        lone.call(frame(60, 4), source=second)
        assert lone.written()[1] == frame(60, 4)
        assert lone.known == from_sockaddr(second.getsockname())
        assert lone.drops == {"TOO_SHORT": 1, "STRANGER": 2}
