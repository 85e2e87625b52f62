"""What the supervisor and the link process say to each other: what is sent arrives, and nothing else is believed."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.counters import Role
from tap2tap.endpoint import Endpoint
from tap2tap.link import messages
from tap2tap.link.messages import (
    FDS,
    IDENTITY,
    BadKeyFile,
    Cable,
    Call,
    Candidates,
    Channel,
    Goodbye,
    PeerEvent,
    Ready,
    Socket,
)
from tap2tap.protocols.secure.limits import CANDIDATES
from tests.support.endpoints import endpoints

remotes = st.lists(endpoints(), max_size=CANDIDATES).map(tuple)
events = st.one_of([st.builds(kind, endpoints()) for kind in get_args(PeerEvent)])


@contextlib.contextmanager
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends."""
    ours, theirs = messages.make()
    with ours, theirs:
        yield ours, theirs


@given(
    st.one_of(
        events,
        st.just(Goodbye()),
        st.just(Call()),
        st.builds(Candidates, remotes),
        st.builds(Ready, st.binary(min_size=IDENTITY, max_size=IDENTITY)),
    )
)
def test_what_is_sent_arrives(message: messages.ToLink | messages.ToSupervisor) -> None:
    with channel() as (ours, theirs):
        messages.send(ours, message)
        assert messages.receive(theirs) == message
        with pytest.raises(BlockingIOError):
            messages.receive(theirs)
        ours.close()
        assert messages.receive(theirs) is None


@given(st.none() | st.just(0), st.integers(0, 3600), st.integers(0, 65535), remotes)
def test_descriptors_arrive_with_what_is_said_about_them(
    record: int | None, keepalive: int, mtu: int, endpoints: tuple[Endpoint, ...]
) -> None:
    with channel() as (ours, theirs):
        messages.send(ours, Cable(0, 1, record, keepalive, mtu, bool(endpoints), endpoints))
        messages.send(ours, Channel(Role.INBOUND, 2))
        messages.send(ours, Socket(1))
        cable, worker, other = (messages.receive(theirs, FDS) for _ in range(3))
        assert isinstance(cable, Cable)
        assert isinstance(worker, Channel)
        assert cable[3:] == (keepalive, mtu, bool(endpoints), endpoints)
        assert worker.role is Role.INBOUND
        assert isinstance(other, Socket)
        pairs = [(0, cable.tap), (1, cable.sock), (2, worker.fd), (1, other.fd), (record, cable.record)]
        assert (record is None) == (cable.record is None)
        for mine, given in pairs:
            if mine is None or given is None:
                continue
            assert os.path.sameopenfile(mine, given)
            os.close(given)


@given(st.text())
def test_a_mistake_in_a_key_file_is_told_in_one_line(words: str) -> None:
    with channel() as (ours, theirs):
        messages.send(ours, BadKeyFile(words))
        told = messages.receive(theirs)
        assert isinstance(told, BadKeyFile)
        assert told.words.isprintable()
        if words.isprintable() and len(words) < messages.MOST / 4:
            assert told.words == words


@given(st.binary(max_size=64), st.integers(0, FDS))
def test_anything_is_a_message_or_refused_and_leaves_no_descriptor(packed: bytes, fds: int) -> None:
    with channel() as (ours, theirs):
        before = len(list(Path("/proc/self/fd").iterdir()))
        socket.send_fds(ours, [packed], [0] * fds)
        for most in (0, FDS):  # as the supervisor reads, and as the link process does
            with contextlib.suppress(ValueError, BlockingIOError):
                message = messages.receive(theirs, most)
                assert message is None or most or not isinstance(message, Cable | Channel | Socket)
                for at in {"Cable": (0, 1, 2), "Channel": (1,), "Socket": (0,)}.get(type(message).__name__, ()):
                    if message[at] is not None:  # type: ignore[index]
                        os.close(message[at])  # type: ignore[index, arg-type]
        assert len(list(Path("/proc/self/fd").iterdir())) == before
