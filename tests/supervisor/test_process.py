"""Child processes: what they keep of their parent, and that nothing of theirs ever runs in its name."""

import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tap2tap import privileges
from tap2tap.demo.lab import wait_for
from tap2tap.errors import NoPermissionError, StartError
from tap2tap.supervisor import process
from tap2tap.supervisor.run_in_child import Job
from tap2tap.supervisor.signals import CAUGHT
from tests.support.command import Done
from tests.support.refused import known, refusing

PARENT = """
import atexit, os, sys, time
from tap2tap import log
from tap2tap.errors import StartError
from tap2tap.supervisor import process
from tap2tap.supervisor.signals import Signals
log.setup("parent", log.{level})
stop = Signals()
atexit.register(print, "exit of", os.getpid())
sys.stdout.write("in the buffer once\\n")
def life():
{life}
try:
    child = process.start("lookup", life, kind="the lookup")
    while child.poll() is None:
        time.sleep(0.01)
    print("code", child.poll())
finally:
    print("clean-up of", os.getpid())
"""


def parent(life: str, level: str = "INFO") -> Done:
    """A program that starts one child which does `life`, and tells of its end."""
    code = PARENT.format(level=level, life=textwrap.indent(life, "    "))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)


ENDINGS = {
    "raise OSError(24, 'Too many open files')": "OSError(24, 'Too many open files')",
    "raise MemoryError": "MemoryError()",
    "raise KeyboardInterrupt": "KeyboardInterrupt()",
    "raise GeneratorExit": "GeneratorExit()",
    "raise StartError('no')": "StartError('no')",
    "raise BaseException('odd')": "BaseException('odd')",
    "def deeper(): deeper()\ndeeper()": "RecursionError('maximum recursion depth exceeded')",
}


@pytest.mark.parametrize("life", ENDINGS, ids=list(ENDINGS.values()))
def test_whatever_a_child_raises_is_one_line_and_its_own_end(life: str) -> None:
    done = parent(life)
    said = ENDINGS[life] if " " not in ENDINGS[life] else repr(ENDINGS[life])
    assert done.stderr == f"tap2tap lookup: error: the lookup failed error={said}\n"
    once, code, clean_up, end = done.stdout.splitlines()
    assert (once, code) == ("in the buffer once", "code 1")
    assert clean_up.removeprefix("clean-up of ") == end.removeprefix("exit of ")
    assert done.returncode == 0


def test_where_it_was_raised_is_told_to_those_who_ask() -> None:
    done = parent("raise OSError(24, 'Too many open files')", level="DEBUG")
    assert "lookup: where it failed traceback='Traceback (most recent call last)" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("life", "code"),
    [
        ("return 0", "0"),
        ("return 70", "70"),
        ("raise SystemExit(71)", "71"),
        ("raise SystemExit('words')", "1"),
        ("raise SystemExit(10**30)", "0"),
        ("return None", "1"),
        ("os.kill(os.getpid(), 9)", "-9"),
        ("sys.exit()", "1"),
    ],
)
def test_the_exit_code_is_what_the_child_returned(life: str, code: str) -> None:
    done = parent(life)
    assert f"code {code}" in done.stdout.splitlines()
    assert done.stderr == ""


def run(life: Callable[[], int], *keep: int) -> int:
    """The exit code of a child."""
    child = process.start("child", life, keep)
    wait_for(lambda: child.poll() is not None, 30, "end of the child")
    return child.end()


def test_a_child_holds_the_first_three_descriptors_and_those_that_it_is_to_keep() -> None:
    mine = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
    high = os.dup2(mine[0], 1000)

    def life() -> int:
        here = {int(link.name) for link in Path("/proc/self/fd").iterdir()}
        lowest = os.open("/dev/null", os.O_RDONLY)  # the number that the folder had
        return 0 if here == {0, 1, 2, mine[1], mine[3], lowest} else 1

    try:
        assert run(life, mine[1], mine[3]) == 0
    finally:
        for fd in (*mine, high):
            os.close(fd)


def test_a_child_closes_what_is_not_its_own_where_no_descriptor_is_left_to_list_them() -> None:
    mine = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def life() -> int:
        return 0 if opened(mine) == [mine[2]] else 1

    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert run(life, mine[2]) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in mine:
            os.close(fd)


def opened(fds: list[int]) -> list[int]:
    """Those that are open."""
    found = []
    for fd in fds:
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.append(fd)
    return found


def test_a_child_has_dispositions_of_its_own_whatever_its_parent_and_its_parents_parent_chose() -> None:
    def life() -> int:
        for number in CAUGHT:
            os.kill(os.getpid(), number)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, []) & {*CAUGHT}
        return 0 if not blocked and signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL else 1

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    handler = signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
    try:
        assert run(life) == 0
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {*CAUGHT}
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, handler)


def test_a_fork_that_fails_leaves_no_descriptor_and_no_blocked_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(privileges, "kernel_ends_orphans", lambda: False)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(BlockingIOError):
        process.start("child", lambda: 0)
    with pytest.raises(StartError, match="the work failed: Resource temporarily unavailable"):
        Job("child", "the work", bytes)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & {*CAUGHT}


ORPHAN = """
import os, signal
from tap2tap.supervisor import process
def life():
    os.write(1, b"%d\\n" % os.getpid())
    while True:
        signal.pause()
children = [process.start("child", life, identity={identity}) for _ in range(3)]
input()
"""


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("identity", [None, (65534, 65534)], ids=["same", "other-uid"])
@pytest.mark.parametrize("call", ["", "prctl.PR_SET_PDEATHSIG:EINVAL"], ids=["kernel", "lifeline"])
def test_children_die_with_their_parent_even_stopped_ones(call: str, identity: tuple[int, int] | None) -> None:
    if call and not known():
        pytest.skip("the numbers of this machine's system calls are not known to the tests")
    command = [*(refusing(call) if call else []), sys.executable, "-c", ORPHAN.format(identity=identity)]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    pids = [int(program.stdout.readline()) for _ in range(3)]
    os.kill(pids[0], signal.SIGSTOP)
    program.kill()
    program.communicate()
    for pid in pids:  # whose parent is the test now, as the suite adopts orphans
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in (-signal.SIGKILL, 1)


def answer(data: bytes) -> Callable[[], bytes]:
    """Work that answers in a way of its own, whatever is expected."""

    def work() -> bytes:
        pipe = max(int(link.name) for link in Path("/proc/self/fd").iterdir() if "pipe" in str(link.readlink()))
        os.write(pipe, data)
        os._exit(0)

    return work


def taken(work: Callable[[], bytes]) -> bytes:
    """What `work` gives, done in a child."""
    job = Job("child", "the work", work)
    try:
        return job.take()
    finally:
        job.close()


def test_work_in_a_child_gives_its_bytes_or_its_error() -> None:
    def fail() -> bytes:
        raise NoPermissionError("not allowed: be root")

    def confused() -> bytes:
        raise ValueError("confused")

    def killed() -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    assert taken(lambda: b"bytes") == b"bytes"
    with pytest.raises(NoPermissionError, match=r"^not allowed: be root$"):
        taken(fail)
    with pytest.raises(StartError, match=r"^the work failed: ValueError\('confused'\)$"):
        taken(confused)
    with pytest.raises(StartError, match=r"^the work failed: exit code 5$"):
        taken(lambda: os._exit(5))
    with pytest.raises(StartError, match=r"^the work failed: killed by SIGKILL$"):
        taken(killed)


@pytest.mark.parametrize("data", [b"\x01two\nlines", b"\x09\x1b[2J", b"\x01\xff\xfe\x00", b"\x04" + b"\x07" * 5000])
def test_words_that_would_not_be_one_line_are_not_believed(data: bytes) -> None:
    with pytest.raises(StartError, match=r"^the work failed$|^[^\n\x1b\x07]*$"):
        taken(answer(data))


def test_no_answer_is_longer_than_a_pipe_takes_in_one_piece() -> None:
    assert taken(lambda: bytes(1 << 20)) == bytes(4095)
