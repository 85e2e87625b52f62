"""The suite can test the sources where compiled modules lie beside them."""

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from tests.support import interpreted

SHOW = "from tap2tap.workers import loop; from tap2tap.workers.room import split; print(loop.__file__, split.__file__)"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package tap2tap in a folder, of which two modules have compiled ones beside them that nobody can load."""
    room = tmp_path / "tap2tap/workers/room"
    room.mkdir(parents=True)
    for folder in (room, room.parent, room.parents[1]):
        (folder / "__init__.py").touch()
    for module in (room / "split", room.parent / "loop"):
        module.with_suffix(".py").touch()
        module.with_suffix(EXTENSION_SUFFIXES[0]).write_bytes(b"compiled")
    (tmp_path / "tap2tap/__main__.py").write_text(f"import sys; {SHOW}; print(*sys.argv[1:])")
    return tmp_path


def run(folder: Path, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder."""
    usual = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, cwd=folder, env=usual | environment)


def test_compiled_modules_come_first_but_for_this(package: Path) -> None:
    usual = run(package, "-m", "tap2tap")
    assert usual.returncode == 1
    assert "ImportError" in usual.stderr
    sources = f"{package}/tap2tap/workers/loop.py {package}/tap2tap/workers/room/split.py\n"
    assert run(package, interpreted.__file__, "-i", "tap0").stdout == f"{sources}-i tap0\n"
    assert run(package, "-c", SHOW, PYTHONPATH=interpreted.environment()["PYTHONPATH"]).stdout == sources


def test_every_module_here_is_what_was_asked_for(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--interpreted"):
        pytest.skip("without --interpreted, modules are what is there")
    assert interpreted.compiled() == []
