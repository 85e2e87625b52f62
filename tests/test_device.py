"""The tap device, as its descriptor shows it."""

import errno
import fcntl
import os

import pytest

from tap2tap import device
from tap2tap.demo.lab import Host
from tap2tap.errors import TapGoneError
from tests.support.taps import state


def test_a_tap_that_is_deleted_before_anything_is_known_of_it_is_gone(alone: Host) -> None:
    with alone.inside():
        tap = device.open_tap("tap0", carrier=True)
        alone.delete_link("tap0")
        with open(tap.fd, "rb", buffering=0), pytest.raises(TapGoneError, match="the tap device was deleted: the"):
            device.is_persistent(tap.fd)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EPERM, errno.ENOTTY])
def test_a_kernel_that_does_not_tell_what_it_knows_gives_a_tap(
    alone: Host, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, request: int, argument: bytes) -> bytes:
        if request == device.TUNGETFEATURES:
            raise OSError(code, os.strerror(code))
        return ioctl(fd, request, argument)

    ioctl = fcntl.ioctl
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    with alone.inside():
        tap = device.open_tap("tap0", carrier=False)
    with open(tap.fd, "rb", buffering=0):
        assert not state(alone).carrier
