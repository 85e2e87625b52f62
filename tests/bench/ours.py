"""tap2tap itself as a peer of the benchmark: as it is, as it was, not compiled; and the C program that it follows."""

import os
import subprocess
import sys
from pathlib import Path

from tap2tap.demo import rootless
from tap2tap.demo.lab import Lab
from tests.bench.peers import DEVICE, PORT, ROOT, Cable, MissingError, Peer, first_line

INTERPRETED = ROOT / "tests" / "support" / "interpreted.py"  # runs tap2tap from its sources, whatever is compiled


def compiled() -> bool:
    """Whether this checkout has a compiled data plane."""
    return any((ROOT / "tap2tap" / "workers").rglob("*.so"))


def commit(folder: Path) -> str | None:
    """The commit that is checked out there, with "+changes" if the package differs from it; None: no checkout."""
    git = ["git", "-C", str(folder)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    status = subprocess.run([*git, "status", "--porcelain", ":/tap2tap"], capture_output=True, text=True)
    return head.stdout.strip() + ("+changes" if status.stdout else "") if head.returncode == 0 else None


class Tap2tap(Peer):
    """Ourselves, plain: as started by hand, with every default."""

    name = "tap2tap"
    label = "tap2tap plain"
    group = "ours"
    secure = False

    def command(self) -> list[str]:
        """How the program is started; raises MissingError."""
        return [sys.executable, "-m", "tap2tap"]

    def version(self) -> str:
        """What the program says of itself, and how its data plane runs."""
        done = subprocess.run([*self.command(), "--version"], capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise MissingError("this tap2tap does not run")
        if (
            self.secure
            and subprocess.run([*self.command(), "genkey", "--help"], capture_output=True, cwd=ROOT).returncode
        ):
            raise MissingError("this tap2tap has no `tap2tap genkey`")
        return ", ".join([done.stdout.strip(), *self.details()])

    def details(self) -> list[str]:
        """What the number of the version does not tell."""
        return [f"commit {commit(ROOT)}", "data plane compiled" if compiled() else "data plane not compiled"]

    def keys(self, cable: Cable) -> tuple[list[str], list[str]]:
        """Options of the left and of the right end."""
        if not self.secure:
            return [], []
        left, right = str(cable.folder / "left.key"), str(cable.folder / "right.key")
        subprocess.run([*self.command(), "genkey", left, right], check=True, capture_output=True, cwd=ROOT)
        return ["--key", left], ["--key", right]

    def lay(self, lab: Lab) -> Cable:
        """Left calls right."""
        cable = Cable(lab)
        left, right = self.keys(cable)
        start = [*self.command(), *rootless.user()]
        cable.start("right", [*start, "-i", DEVICE, *right])
        cable.start("left", [*start, "-i", DEVICE, "--remote", lab.right.ipv4, *left])
        cable.further = [*start, "-i", "further0", "--port", str(PORT + 1), *right]
        return cable


class Tap2tapSecure(Tap2tap):
    """Ourselves with keys."""

    name = "tap2tap-secure"
    label = "tap2tap secure"
    secure = True


class Before(Tap2tap):
    """Another tap2tap, to compare with: an older one."""

    name = "before"
    label = "tap2tap before, plain"
    group = "before"

    def command(self) -> list[str]:
        """The program named by the environment (`--before` sets it); raises MissingError."""
        if binary := os.environ.get("TAP2TAP_BENCH_BEFORE"):
            return [binary]
        raise MissingError("neither --before nor TAP2TAP_BENCH_BEFORE names another tap2tap")

    def details(self) -> list[str]:
        """Its commit, if it was installed in a checkout."""
        found = commit(Path(self.command()[0]).resolve().parent)
        return [f"commit {found}"] if found else []


class BeforeSecure(Before):
    """The same with keys."""

    name = "before-secure"
    label = "tap2tap before, secure"
    secure = True


class Interpreted(Tap2tap):
    """Ourselves as it is where there is no compiler."""

    name = "interpreted"
    label = "tap2tap plain, not compiled"
    group = "interpreted"

    def command(self) -> list[str]:
        """The same program, sources before compiled modules; raises MissingError."""
        if not INTERPRETED.exists():
            raise MissingError(f"{INTERPRETED.relative_to(ROOT)} is not there")
        return [sys.executable, str(INTERPRETED)]

    def details(self) -> list[str]:
        """What it is."""
        return ["data plane not compiled"]


class InterpretedSecure(Interpreted):
    """The same with keys."""

    name = "interpreted-secure"
    label = "tap2tap secure, not compiled"
    secure = True


class CTap2tap(Peer):
    """The C program whose wire format and command line ours are, if someone has built it."""

    name = "tap2tap-c"
    label = "C tap2tap"
    group = "other"

    def command(self) -> list[str]:
        """The binary named by the environment; raises MissingError."""
        if binary := os.environ.get("TAP2TAP_BENCH_C"):
            return [binary]
        raise MissingError("TAP2TAP_BENCH_C names no binary")

    def version(self) -> str:
        """It says so itself."""
        return first_line([*self.command(), "--version"], "tap2tap")

    def lay(self, lab: Lab) -> Cable:
        """Left calls right."""
        cable = Cable(lab)
        cable.start("right", [*self.command(), "-i", DEVICE])
        cable.start("left", [*self.command(), "-i", DEVICE, "--remote", lab.right.ipv4])
        return cable
