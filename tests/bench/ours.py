"""tap2tap itself as a peer of the benchmark, in each protocol that it has, and the C program that it follows."""

import os
import subprocess
import sys

import tap2tap
from tap2tap.demo import rootless
from tap2tap.demo.lab import Lab
from tests.bench.peers import DEVICE, ROOT, Cable, MissingError, Peer, first_line


class Tap2tap(Peer):
    """Ourselves, plain: as started by hand, with every default."""

    name = "tap2tap"
    label = "tap2tap plain"
    group = "ours"

    def command(self) -> list[str]:
        """How the program is started."""
        return [sys.executable, "-m", "tap2tap"]

    def version(self) -> str:
        """Our version; which commit it is, the report says."""
        done = subprocess.run([*self.command(), "--version"], capture_output=True, text=True, cwd=ROOT)
        if done.returncode:
            raise MissingError("this checkout does not run")
        return f"tap2tap {tap2tap.__version__}"

    def arguments(self, cable: Cable) -> tuple[list[str], list[str]]:
        """Options of the left and of the right end."""
        del cable
        return [], []

    def lay(self, lab: Lab) -> Cable:
        """Left calls right."""
        cable = Cable(lab)
        left, right = self.arguments(cable)
        user = rootless.user()
        cable.start("right", [*self.command(), "-i", DEVICE, *user, *right])
        cable.start("left", [*self.command(), "-i", DEVICE, "--remote", lab.right.ipv4, *user, *left])
        return cable


class Tap2tapSecure(Tap2tap):
    """Ourselves with keys."""

    name = "tap2tap-secure"
    label = "tap2tap secure"

    def version(self) -> str:
        """Only if this version can make keys."""
        if subprocess.run([*self.command(), "genkey", "--help"], capture_output=True, cwd=ROOT).returncode:
            raise MissingError("this version has no `tap2tap genkey`")
        return super().version()

    def arguments(self, cable: Cable) -> tuple[list[str], list[str]]:
        """A fresh pair of key files."""
        left, right = str(cable.folder / "left.key"), str(cable.folder / "right.key")
        subprocess.run([*self.command(), "genkey", left, right], check=True, capture_output=True, cwd=ROOT)
        return ["--key", left], ["--key", right]


class CTap2tap(Tap2tap):
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
