"""Every way to install: with a compiler and without, from what was built, git or make, beside Debian's packages."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tap2tap.demo.lab import Lab
from tests.conftest import lacking
from tests.packaging.test_compiled import MODULES, ROOT
from tests.support.tunnel import RIGHT, Tunnel, address, wait_ping

pytestmark = [pytest.mark.install, pytest.mark.timeout(1200)]

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
SHOW = "from tap2tap.workers.worker import data_plane; print(data_plane().name.lower())"
INTERPRETED = "interpreted"
OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")
NO_COMPILER = {"CC": "/nonexistent/gcc"}
FAILING_COMPILER = {"CC": "false"}


def run(*argv: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a program as nobody who tests would; return what it said. Raises AssertionError unless it ends well."""
    unwanted = ("PYTHONPATH", "CC", "TAP2TAP_INTERPRETED", *OF_MAKE)
    usual = {name: value for name, value in os.environ.items() if name not in unwanted}
    done = subprocess.run(
        [str(each) for each in argv],
        cwd=cwd,
        env=usual | environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def venv(folder: Path, *options: str, python: str = sys.executable) -> Path:
    """The programs of a new virtual environment."""
    run(python, "-m", "venv", *options, folder / "venv")
    return folder / "venv/bin"


def said(output: str) -> list[str]:
    """The warnings in `output` that the data plane will be interpreted."""
    return [line for line in output.splitlines() if "will be interpreted" in line]


def left_by(folder: Path) -> list[Path]:
    """The compiled modules in a tree, but for its virtual environment's."""
    return [path for path in folder.rglob("*.so") if ".venv" not in path.parts]


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, ROOT)
    return next(folder.glob("*.tar.gz"))


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from it, with a compiler."""
    folder = tmp_path_factory.mktemp("wheel")
    assert not said(run(sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--wheel-dir", folder, sdist))
    return next(folder.glob("*.whl"))


@pytest.fixture
def tree(sdist: Path, tmp_path: Path) -> Iterator[Path]:
    """What is in the source distribution, unpacked."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    yield next(tmp_path.glob("tap2tap-*"))
    shutil.rmtree(tmp_path)


def works(programs: Path, lab: Lab, folder: Path) -> None:
    """What is installed there says its version, shows tunnels, and makes a secure one that carries frames."""
    command = [str(programs / "tap2tap")]
    assert run(*command, "--version").startswith("tap2tap ")
    home, vps = str(folder / "home.key"), str(folder / "vps.key")
    run(*command, "genkey", home, vps)
    with (
        Tunnel(lab.right, "--key", vps, command=command),
        Tunnel(lab.left, "--key", home, "--remote", lab.right.ipv4, command=command),
    ):
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        stats = lab.left.run([*command, "stats"]).stdout
    assert "state: up" in stats
    assert "protocol: secure" in stats


def test_the_sdist_is_a_checkout_without_what_was_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "tap2tap").rglob("*.p[yx][dx]")}
    there |= {str(path.relative_to(ROOT)) for top in ("tap2tap", "tests") for path in (ROOT / top).rglob("*.py")}
    there |= {"setup.py", "pyproject.toml", "Makefile", "README.md", "LICENSE", ".ci/run", "tap2tap/py.typed"}
    assert not there - names
    assert not [name for name in names if name.endswith((".so", ".pyc")) or name.startswith("build")]
    assert not [name for name in names if name.startswith("tap2tap/") and name.endswith((".c", ".html"))]


def test_the_wheel_has_every_compiled_module_and_needs_no_cython(wheel: Path, lab: Lab, tmp_path: Path) -> None:
    assert "py3-none" not in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.replace(".", "/") + SUFFIX for name in MODULES} <= set(names)
    assert "tap2tap/py.typed" in names
    assert not [name for name in names if name.endswith((".pxd", ".pyx", ".c")) or name.startswith("tests")]
    programs = venv(tmp_path)
    run(programs / "pip", "install", wheel)
    assert run(programs / "python", "-I", "-c", SHOW).strip() == "compiled"
    assert "cython" not in run(programs / "pip", "list").lower()
    works(programs, lab, tmp_path)


@pytest.mark.parametrize("environment", [NO_COMPILER, FAILING_COMPILER], ids=["no-compiler", "failing-compiler"])
def test_without_compiler_a_wheel_is_for_any_platform(environment: dict[str, str], tree: Path) -> None:
    stale = tree / f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}/tap2tap/workers/arena{SUFFIX}"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier build")
    pip = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation", "--wheel-dir", "wheel", "."]
    assert len(said(run(*pip, cwd=tree, **environment))) == 1
    built = next((tree / "wheel").glob("*.whl"))
    assert "-py3-none-any" in built.name
    assert not [name for name in zipfile.ZipFile(built).namelist() if name.endswith((".so", ".pxd", ".pyx"))]
    assert not left_by(tree)


def test_without_compiler_nothing_compiled_stays_beside_the_sources(tree: Path) -> None:
    stale = tree / f"tap2tap/workers/arena{SUFFIX}"
    stale.write_bytes(b"of an earlier build")
    output = run(sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", cwd=tree, **NO_COMPILER)
    assert output.splitlines() == said(output)
    assert len(output.splitlines()) == 1
    assert not left_by(tree)


def make_compiles_what_changed(tree: Path) -> None:
    """In a tree where all is built, make compiles a module of which the source has changed, and no other."""
    before = {path: path.read_bytes() for path in tree.glob("tap2tap/workers/*.so")}
    assert "up to date" in run("make", ".venv/built", cwd=tree)
    with (tree / "tap2tap/workers/gather.py").open("a") as file:
        file.write("\n\nCHANGED = 1\n")
    assert run("make", ".venv/built", cwd=tree) == ""
    changed = [path.name.partition(".")[0] for path, content in before.items() if path.read_bytes() != content]
    assert changed == ["gather"]


@pytest.mark.parametrize("environment", [{}, NO_COMPILER], ids=["compiler", "no-compiler"])
def test_make_works_in_an_unpacked_sdist(environment: dict[str, str], tree: Path, lab: Lab) -> None:
    assert lab
    built = run("make", ".venv/built", cwd=tree, **environment)
    assert len(said(built)) == bool(environment)
    assert run(".venv/bin/python", "-c", SHOW, cwd=tree).strip() == (INTERPRETED if environment else "compiled")
    assert bool(left_by(tree)) is not bool(environment)
    run("make", "demo", cwd=tree, **environment)
    tests = "TESTS=tests/test_layout.py tests/test_cli.py tests/packaging"
    assert " passed" in run("make", "test", tests, cwd=tree, **environment, CI="false")
    if not environment:
        make_compiles_what_changed(tree)


def test_git_installs_compiled(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        lacking("no git, or no checkout of it")
    programs = venv(tmp_path)
    run(programs / "pip", "install", "--no-deps", f"git+file://{ROOT}")
    found = list((tmp_path / "venv/lib").rglob("tap2tap/**/*.so"))
    assert {path.name.partition(".")[0] for path in found} >= {name.rpartition(".")[2] for name in MODULES}


def test_it_runs_beside_the_packages_of_this_debian(sdist: Path, lab: Lab, tmp_path: Path) -> None:
    python = "/usr/bin/python3"
    packages = "import cryptography, psutil, pyroute2, venv, ensurepip"
    if not Path(python).exists() or subprocess.run([python, "-c", packages], capture_output=True).returncode:
        lacking("no python3-cryptography, python3-psutil, python3-pyroute2, python3-venv of Debian")
    programs = venv(tmp_path, "--system-site-packages", python=python)
    run(programs / "pip", "install", "--no-deps", sdist)
    assert run(programs / "python", "-I", "-c", SHOW).strip() == "compiled"
    works(programs, lab, tmp_path)


@pytest.mark.parametrize(
    "versions",
    [
        ("cryptography==38.0.4", "psutil==5.9.4", "pyroute2==0.7.2"),
        ("cryptography==43.0.0", "psutil==7.0.0", "pyroute2==0.7.7"),
    ],
    ids=["debian-12", "debian-13"],
)
def test_it_runs_beside_these_versions(versions: tuple[str, ...], wheel: Path, lab: Lab, tmp_path: Path) -> None:
    programs = venv(tmp_path)
    run(programs / "pip", "install", *versions, wheel)
    works(programs, lab, tmp_path)
