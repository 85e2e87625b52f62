"""The counter block: what it keeps, who may read it, how a stale one is told, and what strange files do."""

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap import counter_block, counters, memory
from tap2tap.counter_block import Reading
from tap2tap.counters import MAGIC, SLOTS, VERSION, Count, Drop, Slot
from tap2tap.endpoint import ENDPOINT_SLOTS

OWNER = """
import os, sys, pathlib
from tap2tap import counter_block, counters, memory
from tap2tap.counters import Count, Slot
from tap2tap.memory import Private
from tap2tap.supervisor.publisher import Publisher
shared = memory.create()
shared.slots[Slot.PID] = os.getpid()
counters.store_name(shared.slots, "tap7")
shared.outbound[Count.FRAMES] = 2**64 - 1
for group in shared.outbound, shared.inbound:
    for slot in range(Private.MAIL, memory.GROUP):
        group[slot] = 77
block = counter_block.create(shared.shown(), os.geteuid(), pathlib.Path(sys.argv[1]))
Publisher(shared, block).look()
print(block.path, flush=True)
sys.stdin.read()
"""

LOCKER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_NONBLOCK)
fcntl.lockf(fd, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""

Process = subprocess.Popen[str]


@contextlib.contextmanager
def other(code: str, argument: Path) -> Iterator[tuple[Process, str]]:
    """Another process, and the first line that it printed; it lives until it is killed or the test is over."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code, argument], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def living(folder: Path) -> list[Reading]:
    """The living blocks."""
    return list(counter_block.live(folder))


def place(folder: Path, name: str) -> Path:
    """Where a block could stand."""
    home = folder / f"{counter_block.PREFIX}{name}"
    home.mkdir()
    return home / counter_block.NAME


def forged(path: Path, magic: int = MAGIC, version: int = VERSION) -> Path:
    """A file with the header of a block."""
    path.write_bytes(struct.pack("=QQ", magic, version).ljust(SLOTS * 8, b"\xff"))
    return path


def test_what_one_process_writes_another_reads(tmp_path: Path) -> None:
    with other(OWNER, tmp_path) as (process, path):
        (block,) = living(tmp_path)
        assert str(block.path) == path
        assert counters.load_name(block.slots) == "tap7"
        assert block.slots[Slot.PID] == process.pid
        assert block.outbound[Count.FRAMES] == 2**64 - 1
        assert not any(block.inbound)  # above all, nothing of what is private
        assert sum(block.outbound) == 2**64 - 1


def test_any_user_may_read_a_block_and_only_its_owner_write(tmp_path: Path) -> None:
    block = counter_block.create(memory.create().shown(), os.geteuid(), tmp_path)
    assert block.path.stat().st_mode & 0o777 == 0o644
    assert block.path.stat().st_uid == os.geteuid()
    block.close()


def test_all_space_of_a_block_is_taken_when_it_is_made(tmp_path: Path) -> None:
    block = counter_block.create(memory.create().shown(), os.geteuid(), tmp_path)
    assert block.path.stat().st_size == SLOTS * 8
    assert block.path.stat().st_blocks * 512 >= SLOTS * 8
    block.close()


def test_two_blocks_have_two_names(tmp_path: Path) -> None:
    with other(OWNER, tmp_path) as (_, one), other(OWNER, tmp_path) as (_, two):
        assert one != two
        assert {str(block.path) for block in living(tmp_path)} == {one, two}


def test_the_block_of_a_killed_process_is_stale_and_swept(tmp_path: Path) -> None:
    with other(OWNER, tmp_path) as (dead, stale), other(OWNER, tmp_path) as (_, alive):
        dead.kill()
        dead.wait()
        assert Path(stale).exists()
        assert [str(block.path) for block in living(tmp_path)] == [alive]
        counter_block.sweep(tmp_path)
        assert list(tmp_path.iterdir()) == [Path(alive).parent]


def test_looking_takes_no_lock_from_its_owner(tmp_path: Path) -> None:
    with other(OWNER, tmp_path) as (_, path):
        for _ in range(3):
            assert [str(block.path) for block in living(tmp_path)] == [path]
            counter_block.sweep(tmp_path)


def test_a_closed_block_is_gone_and_may_have_been_removed_before(tmp_path: Path) -> None:
    block = counter_block.create(memory.create().shown(), os.geteuid(), tmp_path)
    block.path.unlink()
    block.path.parent.rmdir()
    block.write(memoryview(bytes(SLOTS * 8)).cast("Q"))  # nobody reads it, and nothing happens
    block.close()
    assert not list(tmp_path.iterdir())


def test_a_block_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        counter_block.create(memory.create().shown(), os.geteuid(), tmp_path / "missing")


def test_no_folder_no_blocks(tmp_path: Path) -> None:
    assert not living(tmp_path / "missing")
    counter_block.sweep(tmp_path / "missing")


@given(st.text(min_size=1).filter(lambda name: len(name.encode()) <= 15 and "\0" not in name))
def test_a_name_is_loaded_as_it_was_stored_or_without_what_a_terminal_would_obey(name: str) -> None:
    slots = memoryview(bytearray(SLOTS * 8)).cast("Q")
    counters.store_name(slots, name)
    assert counters.load_name(slots) == "".join(letter if letter.isprintable() else "?" for letter in name)


@given(st.binary(min_size=16, max_size=16))
def test_a_forged_name_does_no_harm_to_a_terminal(name: bytes) -> None:
    slots = memoryview(bytearray(SLOTS * 8)).cast("Q")
    slots[Slot.INTERFACE], slots[Slot.INTERFACE + 1] = struct.unpack("=QQ", name)
    assert counters.load_name(slots).isprintable()


def test_slots_do_not_overlap() -> None:
    wide = {Slot.INTERFACE: 2, Slot.LOCAL: ENDPOINT_SLOTS, Slot.PEER: ENDPOINT_SLOTS}
    slots = sorted(value for name, value in vars(Slot).items() if name.isupper())
    ends = [slot + wide.get(slot, 1) for slot in slots]
    assert all(end <= following for end, following in zip(ends, [*slots, counters.HEADER_SLOTS][1:], strict=True))
    assert Count.DROPPED + len(Drop) <= counters.SHOWN


def fifo(path: Path) -> None:
    """A pipe that nobody writes to: opening it must not wait."""
    os.mkfifo(path)


def symlink(path: Path) -> None:
    """A link to a block that is fine."""
    path.symlink_to(forged(path.parent / "elsewhere"))


def huge(path: Path) -> None:
    """A terabyte of nothing."""
    path.touch()
    with contextlib.suppress(OSError):  # more than some file systems have
        os.truncate(path, 1 << 40)


def header_only(path: Path) -> None:
    """A block that ends too soon."""
    path.write_bytes(struct.pack("=QQ", MAGIC, VERSION))


def garbage(path: Path) -> None:
    """A file of the right size."""
    path.write_bytes(os.urandom(SLOTS * 8))


def other_magic(path: Path) -> None:
    """Nearly a block."""
    forged(path, magic=MAGIC ^ 1)


def other_version(path: Path) -> None:
    """A block of another release."""
    forged(path, version=VERSION + 1)


STRANGE: list[Callable[[Path], object]] = [fifo, symlink, huge, Path.touch, garbage, other_magic, other_version]
STALE: list[Callable[[Path], object]] = [forged, header_only, Path.mkdir]


@pytest.mark.parametrize("make", STRANGE + STALE)
def test_a_strange_file_is_no_block_and_hides_none(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(place(tmp_path, "0"))
    make(place(tmp_path, "zzzzzzzzz"))
    with other(OWNER, tmp_path) as (_, path):
        assert [str(block.path) for block in living(tmp_path)] == [path]
        counter_block.sweep(tmp_path)
        assert [str(block.path) for block in living(tmp_path)] == [path]


@pytest.mark.parametrize("make", STRANGE)
def test_a_strange_file_is_no_block_although_somebody_locks_it(tmp_path: Path, make: Callable[[Path], object]) -> None:
    path = place(tmp_path, "0")
    make(path)
    with other(LOCKER, path) as (_, said):
        assert said == "locked"
        assert not living(tmp_path)


def test_a_file_that_its_owner_cuts_short_while_it_is_read_does_no_harm(tmp_path: Path) -> None:
    path = forged(place(tmp_path, "0"))
    with other(LOCKER, path):
        blocks = counter_block.live(tmp_path)
        block = next(blocks)
        os.truncate(path, 0)
        assert block.slots[SLOTS - 1] == 2**64 - 1
        assert not list(blocks)


def test_a_file_without_permission_to_read_is_passed_over(tmp_path: Path) -> None:
    forged(place(tmp_path, "0")).chmod(0)
    assert not living(tmp_path)


@pytest.mark.parametrize("make", STRANGE)
def test_sweeping_removes_nothing_but_blocks(tmp_path: Path, make: Callable[[Path], object]) -> None:
    strange, stale = place(tmp_path, "0"), place(tmp_path, "1")
    make(strange)
    forged(stale)
    counter_block.sweep(tmp_path)
    assert not stale.exists()
    assert os.path.lexists(strange)


@pytest.mark.usefixtures("root")
def test_sweeping_leaves_what_belongs_to_another_user(tmp_path: Path) -> None:
    path = forged(place(tmp_path, "0"))
    os.chown(path, 65534, -1)
    counter_block.sweep(tmp_path)
    assert path.exists()


def test_files_of_others_stay_where_they_are(tmp_path: Path) -> None:
    for name in ("other-thing", ".tap2tap-draft", "tap2tap"):
        (tmp_path / name).touch()
    counter_block.sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_only_one_process_can_hold_a_block(tmp_path: Path) -> None:
    with other(OWNER, tmp_path) as (_, path), Path(path).open("r+b") as file, pytest.raises(BlockingIOError):
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
