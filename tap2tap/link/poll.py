"""Waiting for descriptors, with a patience that also runs out while the machine sleeps.

The timeout of poll(2) is of CLOCK_MONOTONIC, which stands still meanwhile: what is left of it would pass after the
wake-up. A timer of CLOCK_BOOTTIME whose time has come in the sleep fires at once then (timerfd_create(2)).
"""

import ctypes
import os
import select
import time
from collections.abc import Collection

_libc = ctypes.CDLL(None, use_errno=True)  # Python has os.timerfd_create from 3.13 on


class _Itimerspec(ctypes.Structure):
    """struct itimerspec of timerfd_settime(2): the interval, and the time until it fires, which stops it if zero."""

    _fields_ = (("interval", ctypes.c_long * 2), ("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class Poll:
    """One timer for all waiting. Where it cannot be had, poll(2) alone tells of a wake-up, later."""

    def __init__(self) -> None:
        self._timer = int(_libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_NONBLOCK | os.O_CLOEXEC))

    def wait(self, descriptors: Collection[int], seconds: float) -> set[int]:
        """Return those that are readable, as soon as one is, or when the seconds are over."""
        poll = select.poll()
        for fd in descriptors:
            poll.register(fd, select.POLLIN)
        if self._timer >= 0:
            whole, nanoseconds = divmod(max(1, int(seconds * 1e9)), 10**9)
            _libc.timerfd_settime(self._timer, 0, ctypes.byref(_Itimerspec((0, 0), whole, nanoseconds)), None)
            poll.register(self._timer, select.POLLIN)
        return {fd for fd, _ in poll.poll(seconds * 1000 + 1)} - {self._timer}

    def close(self) -> None:
        """Give the timer back."""
        if self._timer >= 0:
            os.close(self._timer)
            self._timer = -1
