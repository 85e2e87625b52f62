"""Waiting for descriptors: what comes is told at once, and the patience is measured by CLOCK_BOOTTIME."""

import os
import select
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tap2tap.link import poll
from tap2tap.link.poll import Poll
from tests.support.asleep import Patient

LONG = 600.0  # seconds that no test waits


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_what_can_be_read_is_told(pipe: tuple[int, int]) -> None:
    read, write = pipe
    with closing(Poll()) as patience:
        assert patience.wait([read], 0.0) == set()
        os.write(write, b"x")
        assert patience.wait([read], LONG) == {read}
        os.read(read, 1)
        assert patience.wait([read], 0.01) == set()


def test_the_time_is_that_which_passes_in_a_sleep_too(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "select", SimpleNamespace(poll=Patient, POLLIN=select.POLLIN))
    with closing(Poll()) as patience:
        assert patience.wait([pipe[0]], 0.01) == set()
        assert f"clockid: {time.CLOCK_BOOTTIME}\n" in Path(f"/proc/self/fdinfo/{patience._timer}").read_text()


def test_without_a_timer_it_is_poll_that_counts(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "_libc", SimpleNamespace(timerfd_create=lambda *_: -1))
    with closing(Poll()) as patience:
        assert patience.wait([pipe[0]], 0.01) == set()
        os.write(pipe[1], b"x")
        assert patience.wait([pipe[0]], LONG) == {pipe[0]}
