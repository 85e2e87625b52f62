"""The file that remembers where the peer was: root's alone, in a folder that is root's alone, or not used at all."""

import os
import time
from pathlib import Path

import pytest

from tap2tap.config import Config
from tap2tap.peer_record import LIFE
from tap2tap.supervisor import call_back

pytestmark = pytest.mark.usefixtures("root")

SERVER = Config(key="/etc/tap2tap/vps.key")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the record of SERVER is to be."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    assert SERVER.key is not None
    return tmp_path / "state" / call_back.name(SERVER.key)


def refused(capfd: pytest.CaptureFixture[str], why: str) -> None:
    """No file is opened, and one line says why."""
    with call_back.opened(SERVER) as fd:
        assert fd is None
    (line,) = capfd.readouterr().err.splitlines()
    assert "warning: cannot remember where to call the peer: --no-call-back does without" in line
    assert why in line


def test_folder_and_file_are_made_for_root_alone(place: Path) -> None:
    old = os.umask(0)
    try:
        with call_back.opened(SERVER) as fd:
            assert fd is not None
            assert os.path.samestat(os.fstat(fd), place.stat())
            assert not os.get_inheritable(fd)
    finally:
        os.umask(old)
    assert place.stat().st_mode & 0o7777 == 0o600
    assert place.parent.stat().st_mode & 0o7777 == 0o700
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("config", [Config(), Config(key="a", remotes=(("h", 1),)), Config(key="a", call_back=False)])
def test_there_is_none_where_nobody_would_be_called(place: Path, config: Config) -> None:
    with call_back.opened(config) as fd:
        assert fd is None
    assert not place.parent.exists()


def test_there_is_none_for_whoever_is_not_root(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with call_back.opened(SERVER) as fd:
        assert fd is None
    assert not place.parent.exists()
    assert capfd.readouterr().err == ""  # with -v alone


def test_systemd_may_say_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY")
    assert call_back.folder() == Path("/var/lib/tap2tap")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    assert call_back.folder() == Path("/var/lib/one")


def test_a_key_file_has_one_record_by_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "vps.key")
    assert call_back.name(str(tmp_path / "link")) == call_back.name(str(tmp_path / "vps.key"))
    assert call_back.name(str(tmp_path / "home.key")) != call_back.name(str(tmp_path / "vps.key"))


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o720])
def test_a_folder_that_others_may_write_to_is_refused(
    place: Path, mode: int, capfd: pytest.CaptureFixture[str]
) -> None:
    place.parent.mkdir()
    place.parent.chmod(mode)
    refused(capfd, "others may write to the folder")
    assert not place.exists()


def test_a_folder_of_another_user_is_refused(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place.parent.mkdir(0o700)
    os.chown(place.parent, 65534, 0)
    refused(capfd, "others may write to the folder")


def test_a_folder_that_is_a_link_is_refused(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place.parent.parent / "elsewhere").mkdir(0o700)
    place.parent.symlink_to(place.parent.parent / "elsewhere")
    refused(capfd, "Not a directory")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("symlink", "Too many levels of symbolic links"),
        ("fifo", "not a regular file"),
        ("folder", "Is a directory"),
        ("hard link", "not a regular file with one name"),
        ("readable", "others can get at the file"),
        ("another's", "others can get at the file"),
    ],
)
def test_what_is_no_file_of_root_alone_is_refused_and_left(
    place: Path, kind: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    place.parent.mkdir(0o700)
    target = place.parent / "target"
    target.touch(0o600)
    match kind:
        case "symlink":
            place.symlink_to(target)
        case "fifo":
            os.mkfifo(place, 0o600)
        case "folder":
            place.mkdir()
        case "hard link":
            place.hardlink_to(target)
        case "readable":
            place.touch(0o644)
        case _:
            place.touch(0o600)
            os.chown(place, 65534, 0)
    before = place.lstat()
    refused(capfd, why)
    assert place.lstat() == before


def test_old_records_go_but_for_those_of_tunnels_that_live(place: Path) -> None:
    old = (time.time() - LIFE - 60,) * 2
    with call_back.opened(Config(key="lives")):
        gone, lives, fresh = (place.with_name(call_back.name(key)) for key in ("gone", "lives", "fresh"))
        link, other = place.with_name("0" * 32 + ".peer"), place.with_name("notes")
        for path in (gone, fresh, other):
            path.touch()
        link.symlink_to(other)
        for path in (gone, lives, other, link):
            os.utime(path, old, follow_symlinks=False)
        with call_back.opened(SERVER):
            assert {*place.parent.iterdir()} == {place, lives, fresh, link, other}


@pytest.mark.usefixtures("place")
def test_two_tunnels_may_share_one() -> None:
    with call_back.opened(SERVER) as one, call_back.opened(SERVER) as other:
        assert one is not None
        assert other is not None
        assert os.path.sameopenfile(one, other)
