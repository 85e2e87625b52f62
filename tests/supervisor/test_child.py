"""A child that is begun anew because what it was lent is another one now."""

import errno
import signal

import psutil

from tap2tap import memory
from tap2tap.counters import Count, Role
from tap2tap.demo.lab import wait_for
from tap2tap.supervisor import process
from tap2tap.supervisor.child import Child
from tap2tap.supervisor.process import Process


def forever() -> int:
    """A life that has to be ended."""
    while True:
        signal.pause()


def test_a_renewed_child_is_replaced_at_once_and_no_restart_is_counted() -> None:
    counts = memory.create().inbound
    child = Child(Role.INBOUND, counts, lambda: process.start("test", forever))
    child.start()
    try:
        pids = {counts[Count.PID]}
        for _ in range(5):
            before = counts[Count.PID]
            child.renew()
            assert not psutil.pid_exists(before)
            assert child.restart_at is None
            pids.add(counts[Count.PID])
        assert len(pids) > 1
        assert counts[Count.RESTARTS] == 0
    finally:
        child.end()


def test_a_child_that_cannot_be_renewed_for_want_of_room_is_begun_later() -> None:
    counts = memory.create().inbound
    room = [True, False, True]

    def begin() -> Process:
        if not room.pop(0):
            raise OSError(errno.EAGAIN, "no room")
        return process.start("test", forever)

    child = Child(Role.INBOUND, counts, begin)
    child.start()
    try:
        child.renew()
        assert counts[Count.PID] == 0
        child.renew()  # it waits for its time, like any other that could not be begun
        assert len(room) == 1

        def begun() -> bool:
            child.tend()
            return bool(counts[Count.PID])

        wait_for(begun, what="next life")
        assert counts[Count.RESTARTS] == 0
    finally:
        child.end()
