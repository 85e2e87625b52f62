"""What every test may ask for: two hosts, and the certainty that nothing of a test outlives it."""

import ctypes
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tap2tap.demo import host
from tap2tap.demo.lab import Host, Lab, wait_for
from tests.support import interpreted

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

# No test is timed, as the machine may be busy; none depends on what earlier runs found.
settings.register_profile("untimed", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Choose what is tested."""
    parser.addoption("--interpreted", action="store_true", help="test the sources where there are compiled modules too")


def pytest_configure(config: pytest.Config) -> None:
    """Become the parent of every orphan below this process: a process that a test lost sight of is still found.

    And mind signals as programs do that a person starts: the suite may run behind nohup(1), or in the background of a
    shell that ignores some for it, and what it starts inherits that.
    """
    if config.getoption("--interpreted"):
        interpreted.from_now_on()
    host.PAUSE = 0.02  # looking takes time from what is waited for
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What `-n auto` means: two more than there are CPUs, as most tests wait for something half of their time."""
    return len(os.sched_getaffinity(0)) + 2


def lacking(what: str) -> NoReturn:
    """Skip the test for want of what this machine or this user can do; where root must be able to do all, fail."""
    if os.environ.get("CI") == "true" and os.geteuid() == 0:
        pytest.fail(f"not skipped, as CI=true and this is root: {what}")
    pytest.skip(what)


def make_lab(*hosts: str, switch: bool = False) -> Lab:
    """A lab, or the end of the test where there can be none."""
    for program, package in (("ip", "iproute2"), ("ping", "iputils-ping"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            lacking(f"no program {program} (Debian's package {package})")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        lacking("/dev/net/tun cannot be opened")
    try:
        return Lab(hosts, switch=switch)
    except PermissionError as error:
        lacking(str(error))


@pytest.fixture(autouse=True, scope="session")
def no_record_outlives_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have all tunnels remember their peers in a folder of the tests, and not in that of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STATE_DIRECTORY", str(tmp_path_factory.mktemp("records") / "tap2tap"))
        yield


@pytest.fixture
def alone() -> Iterator[Host]:
    """A host with nothing but a loopback, whose routes may be broken."""
    try:
        host = Host("alone")
    except PermissionError as error:
        lacking(str(error))
    yield host
    host.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Two hosts joined by a wire."""
    with make_lab("left", "right") as made:
        yield made


@pytest.fixture
def road() -> Iterator[Lab]:
    """Two hosts and one in the middle, which is on the path between them or beside it; all are on one switch."""
    with make_lab("left", "right", "middle", switch=True) as made:
        yield made


@pytest.fixture
def root() -> None:
    """The privilege to become another user, and to drop the groups."""
    if os.geteuid() or Path("/proc/self/setgroups").read_text().strip() != "allow":
        lacking("only root can become somebody else")


def _alive() -> set[psutil.Process]:
    """Every living process below this one; zombies wait for us, but do nothing any more."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture(autouse=True)
def no_process_survives() -> Iterator[None]:
    """Fail a test that leaves a process behind, and end what it left."""
    before = _alive()
    yield
    try:
        wait_for(lambda: not _alive() - before, 30, "end of all processes of the test")
    except TimeoutError:
        left = _alive() - before
        for process in left:
            process.kill()
        pytest.fail(f"still running: {[process.cmdline() for process in left]}")
