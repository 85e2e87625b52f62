"""The binding of the socket where descriptors run out, or where the process that binds it is stopped."""

import errno
import os
import resource
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tap2tap import clock
from tap2tap.config import Config
from tap2tap.demo.lab import Host
from tap2tap.supervisor.binding import Binding
from tap2tap.udp_socket import device_index

LATER = "192.0.2.77"


@contextmanager
def opened(config: Config) -> Iterator[Binding]:
    """A binding whose descriptor is higher than some that are free."""
    low = [os.open(os.devnull, os.O_RDONLY) for _ in range(16)]
    binding = Binding(config)
    with binding.open():
        for fd in low:
            os.close(fd)
        try:
            yield binding
        finally:
            binding.close()


@contextmanager
def open_files(most: int) -> Iterator[None]:
    """No descriptor from `most` on can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def answer(binding: Binding) -> None:
    """Wait for what the companion answers, and take it."""
    ((fd, take),) = binding.waiting.items()
    assert select.select([fd], [], [], 30)[0]
    take()


def test_a_device_that_cannot_be_looked_at_is_not_one_made_anew(alone: Host) -> None:
    with alone.inside(), opened(Config(device="lo")) as binding:
        alone.run(["ip", "link", "property", "add", "dev", "lo", "altname", "loop"])
        binding._device = "loop"  # whose index has to be asked for
        with open_files(3):
            with pytest.raises(OSError) as caught:
                device_index("loop")
            assert caught.value.errno == errno.EMFILE
            binding.look()
        assert binding._asked is None


def test_a_limit_below_the_descriptor_is_waited_for(alone: Host, capfd: pytest.CaptureFixture[str]) -> None:
    with alone.inside(), opened(Config(bind=LATER)) as binding:
        alone.address("lo", f"{LATER}/32")
        assert binding._sock
        with open_files(binding._sock.fileno()):
            for _ in range(2):
                binding.look()
                answer(binding)
        assert not binding.bound
        binding.look()
        answer(binding)
        assert binding.bound
    said = capfd.readouterr().err
    assert said.count("no room for the socket that is bound, trying again: raise the limit of open files") == 1
    assert "the socket is bound now" in said


def test_a_companion_that_does_not_answer_is_one_warning(
    alone: Host, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "the process that binds the socket does not answer"
    with alone.inside(), opened(Config(bind=LATER)) as binding:
        assert binding._process
        pid = binding._process.pid
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        now = clock.now()
        for later in (0.0, 4.9, 5.0, 6.0, 7.0):
            monkeypatch.setattr(clock, "now", lambda later=later: now + later)
            binding.look()
            assert (words in capfd.readouterr().err) == (later == 5.0)
        os.kill(pid, signal.SIGCONT)
        alone.address("lo", f"{LATER}/32")
        answer(binding)
        if not binding.bound:  # it had looked before
            binding.look()
            answer(binding)
        assert binding.bound
