"""What the kernel refuses: which trains go datagram by datagram then, for how long, and what is dropped as what."""

import errno
import socket
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap import endpoint, udp_socket
from tap2tap.counters import Count, Drop
from tap2tap.memory import GROUP, Private
from tap2tap.workers.arena import Arena
from tap2tap.workers.send import RETRY_AFTER, Sender
from tap2tap.workers.train import ROOM
from tests.support.lone import roomy
from tests.support.sending import lay, loopback, notes

FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM)
OURS = (errno.EBADF, errno.ENOTSOCK, errno.EFAULT)


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOPROTOOPT, errno.EPERM, errno.EPROTO]
)
def test_trains_that_are_refused_as_such_are_tried_again_after_seconds(
    number: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tried = 0

    def refuse(train: bool) -> int:
        nonlocal tried
        tried += train
        return number if train and broken else 0

    with loopback(monkeypatch) as path:
        path.refuse, broken = refuse, True
        for _ in range(3):  # for longer and longer
            before = tried
            for _ in range(5):
                assert path.send(1000) == path.came()
            assert tried == before + 1
            path.now += RETRY_AFTER
        assert notes(capfd) == 1
        broken = False
        before = tried
        for _ in range(5):
            assert path.send(1000) == path.came()
        assert tried == before + 5
        assert path.counts[Count.FALLBACKS] == 3
        assert not path.drops
        broken = True  # much later, it is news again
        path.now += 100 * RETRY_AFTER
        assert path.send(1000) == path.came()
        assert notes(capfd) == 1


@pytest.mark.parametrize(
    ("number", "shorter"), [(errno.EMSGSIZE, True), (errno.EINVAL, True), (errno.EIO, False), (errno.EPERM, False)]
)
def test_shorter_datagrams_still_go_in_trains_where_length_was_the_reason(
    number: int, shorter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains = 0

    def refuse(train: bool) -> int:
        nonlocal trains
        trains += train
        return number if train and trains == 1 else 0

    with loopback(monkeypatch) as path:
        path.refuse = refuse
        for size, seen in ((1000, 1), (1000, 1), (900, 2 if shorter else 1)):
            assert path.send(size) == path.came()
            assert trains == seen


def test_where_single_datagrams_are_refused_too_it_was_not_the_train(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in {*errno.errorcode} - {*OURS, *FULL, errno.EINTR}:
        with loopback(monkeypatch) as path:
            path.refuse = lambda _, number=number: number  # type: ignore[misc]
            sent = path.send(1000, 1000)
            assert path.came() == []
            assert sum(path.drops.values()) == len(sent)
            assert path.calls <= 4
            path.refuse = lambda _: 0
            path.calls = 0
            assert path.send(1000, 1000) == path.came()
            assert path.calls == 2
            assert path.counts[Count.FALLBACKS] == 0
        monkeypatch.undo()
    assert notes(capfd) == 0


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EINVAL, Drop.UNREACHABLE),  # a blackhole
        (errno.EHOSTUNREACH, Drop.UNREACHABLE),
        (errno.ENETUNREACH, Drop.UNREACHABLE),
        (errno.ENETDOWN, Drop.UNREACHABLE),
        (errno.ENODEV, Drop.UNREACHABLE),
        (errno.EACCES, Drop.NOT_PERMITTED),
        (errno.EPERM, Drop.NOT_PERMITTED),
        (errno.ECONNREFUSED, Drop.REFUSED),
        (errno.EMSGSIZE, Drop.TOO_LONG),
        (errno.EPROTO, Drop.OTHER),
    ],
)
@pytest.mark.parametrize("length", [1, 10])
def test_drops_are_counted_by_their_reason(
    number: int, reason: Drop, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback(monkeypatch) as path:
        path.refuse = lambda _: number
        path.send(1000, length=length)
        assert path.drops == {reason.name: length}


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_train_that_there_is_no_room_for_is_dropped_and_the_next_one_is_tried(
    number: int, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback(monkeypatch) as path:
        path.refuse = lambda _: number if path.calls > before else 0
        sent = path.send(*[500] * 4)
        assert path.came() == sent[: before * 10]
        assert path.calls == 4
        assert path.drops == {"NO_BUFFERS": len(sent) - before * 10}


@pytest.mark.parametrize("number", FULL)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_what_follows_a_refusal_for_want_of_room_is_dropped_with_it(
    number: int, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback(monkeypatch) as path:
        path.refuse = lambda train: errno.EIO if train else 0
        path.send(500)
        path.came()
        path.most = 1
        path.calls = 0
        path.refuse = lambda _: number if path.calls > before else 0
        sent = path.send(500, length=40)
        assert path.came() == sent[:before]
        assert path.calls == before + 1
        assert path.drops == {"NO_BUFFERS": len(sent) - before}


ERRORS = st.sampled_from((0, 0, 0, errno.EAGAIN, errno.EIO, errno.EINVAL, errno.EPERM, errno.EHOSTUNREACH))


@given(st.lists(st.tuples(ERRORS, st.integers(1, 8)), max_size=40), st.lists(st.integers(1, 4), min_size=1, max_size=4))
@settings(max_examples=100)
def test_whatever_calls_are_refused_all_is_sent_once_in_order_or_counted(
    outcomes: Sequence[tuple[int, int]], batches: Sequence[int]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch, loopback(monkeypatch) as path:
        script = iter(outcomes)

        def refuse(_: bool) -> int:
            number, path.most = next(script, (0, 8))
            return number

        path.refuse = refuse
        sent = [datagram for trains in batches for datagram in path.send(*[300] * trains)]
        came = path.came()
        left = iter(sent)
        assert all(datagram in left for datagram in came)  # a part of it, in its order
        assert len(came) + sum(path.drops.values()) == len(sent)


@pytest.mark.parametrize("number", OURS)
def test_faults_of_this_program_are_raised(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback(monkeypatch) as path:
        path.refuse = lambda _: number
        for send in (lambda: path.send(500), lambda: path.send(500, length=1), lambda: path.keepalive(b"")):
            with pytest.raises(OSError) as raised:
                send()
            assert raised.value.errno == number


def test_what_is_refused_for_its_length_is_told_and_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback(monkeypatch) as path:
        path.refuse = lambda _: errno.EMSGSIZE
        path.send(1000)
        path.send(900, length=1)
        assert not path.keepalive(bytes(800))
        path.counts[Private.SINGLY] = 1
        path.send(700, length=3)
        assert path.too_long == [1000, 900, 800, 700, 700, 700]
        assert path.drops == {"TOO_LONG": 14}
        path.refuse = lambda train: errno.EMSGSIZE * train  # it is the train, not the datagram
        path.counts[Private.SINGLY] = 0
        assert path.send(1000) == path.came()
        assert len(path.too_long) == 6


def test_trains_go_datagram_by_datagram_as_long_as_the_link_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback(monkeypatch) as path:
        trains: list[bool] = []
        path.refuse = lambda train: trains.append(train) or 0  # type: ignore[func-returns-value]
        for singly in (0, 1, 0):
            path.counts[Private.SINGLY] = singly
            assert path.send(1000, 60, length=7) == path.came()
            assert path.send(1000, length=1) == path.came()
        assert path.counts[Private.IN_TRAINS] == 2 * 14
        assert path.counts[Count.DATAGRAMS] == 3 * 15
        assert trains == [True, True, False] + [False] * 3 + [True, True, False]
        assert not path.drops


def test_a_keepalive_that_is_refused_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback(monkeypatch) as path:
        for number in (0, errno.ENETUNREACH, errno.EAGAIN, errno.EPERM, 0):
            path.refuse = lambda _, number=number: number  # type: ignore[misc]
            assert path.keepalive(b"") == (not number)
        assert path.came() == [b"", b""]
        assert path.counts[Count.DATAGRAMS] == 2
        assert not path.drops


def test_without_trains_every_datagram_is_sent_by_itself() -> None:
    with udp_socket.open_socket("127.0.0.1", 0) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        roomy(peer).bind(("127.0.0.1", 0))
        udp_socket.enable_gro(peer)  # a train would come whole
        arena = Arena(ROOM)
        counts = memoryview(bytearray(GROUP * 8)).cast("Q")
        sent = [bytes((number,)) * (100 if number < 99 else 7) for number in range(100)]  # more than one call takes
        sockaddr = endpoint.from_sockaddr(peer.getsockname()).raw(sock.family)
        Sender(sock, arena, counts, False, lambda _: None).send(lay(arena, sent), sockaddr)
        peer.settimeout(10)
        assert [peer.recv(1 << 16) for _ in sent] == sent
        assert counts[Count.FALLBACKS] == 0
        assert counts[Count.DATAGRAMS] == len(sent)
