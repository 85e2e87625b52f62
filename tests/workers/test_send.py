"""What the kernel refuses: which trains go datagram by datagram then, for how long, and what is dropped as what."""

import errno
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tap2tap.counters import Count, Drop
from tap2tap.workers import udp
from tap2tap.workers.mmsg import Outgoing
from tests.support.sending import loopback, notes

SEND = Outgoing.send
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
            path.now += udp.RETRY_AFTER
        assert notes(capfd) == 1
        broken = False
        before = tried
        for _ in range(5):
            assert path.send(1000) == path.came()
        assert tried == before + 5
        assert path.counts[Count.FALLBACKS] == 3
        assert not path.drops
        broken = True  # much later, it is news again
        path.now += 100 * udp.RETRY_AFTER
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
            assert path.calls == 1
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
@pytest.mark.parametrize("trains", [True, False], ids=["trains", "datagrams"])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_what_follows_a_refusal_for_want_of_room_is_dropped_with_it(
    number: int, trains: bool, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback(monkeypatch) as path:
        if not trains:
            path.refuse = lambda train: errno.EIO if train else 0
            path.send(500)
            path.came()
        monkeypatch.setattr(path, "_sendmmsg", lambda messages, first, _: SEND(messages, first, first + 1))
        path.calls = 0
        path.refuse = lambda _: number if path.calls > before else 0
        sent = path.send(*[500] * 4)
        came = path.came()
        assert came == sent[: len(came)]
        assert len(came) == before * (10 if trains else 1)
        assert path.calls == before + 1
        assert path.drops == {"NO_BUFFERS": len(sent) - len(came)}


ERRORS = st.sampled_from((0, 0, 0, errno.EAGAIN, errno.EINTR, errno.EIO, errno.EINVAL, errno.EPERM, errno.EHOSTUNREACH))


@given(st.lists(st.tuples(ERRORS, st.integers(1, 8)), max_size=40), st.lists(st.integers(1, 4), min_size=1, max_size=4))
@settings(max_examples=100)
def test_whatever_calls_are_refused_all_is_sent_once_in_order_or_counted(
    outcomes: Sequence[tuple[int, int]], batches: Sequence[int]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch, loopback(monkeypatch) as path:
        script = iter(outcomes)
        most = 8

        def refuse(train: bool) -> int:
            nonlocal most
            number, most = next(script, (0, 8))
            return 0 if number == errno.EINTR and not train else number  # Python's own call sees to that

        path.refuse = refuse
        monkeypatch.setattr(
            path, "_sendmmsg", lambda messages, first, end: SEND(messages, first, min(end, first + most))
        )
        sent = [datagram for trains in batches for datagram in path.send(*[300] * trains)]
        came = path.came()
        left = iter(sent)
        assert all(datagram in left for datagram in came)  # a part of it, in its order
        assert len(came) + sum(path.drops.values()) == len(sent)
