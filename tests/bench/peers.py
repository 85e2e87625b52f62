"""What is compared: each peer knows whether it is here, its version, and how to lay its cable between two hosts.

Every cable ends in a device named `bench0` (but see WireGuard) with the MTU that just fills a path of 1500 bytes. The
peers run with their own defaults for buffers, queues and threads, without compression.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tap2tap.demo.lab import Lab

DEVICE = "bench0"
PORT = 1234
ROOT = Path(__file__).parents[2]


class MissingError(Exception):
    """A peer cannot take part; the message says why."""


@dataclass
class Cable:
    """A tunnel between the hosts of a lab: its device on either side and the processes that carry it."""

    lab: Lab
    left: str = DEVICE
    right: str = DEVICE
    mtu: int | None = None  # None: as the tunnel set it
    programs: dict[str, list["subprocess.Popen[str]"]] = field(default_factory=lambda: {"left": [], "right": []})
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="tap2tap-bench-")))
    began: float = field(default_factory=time.monotonic)  # when the first program was started
    further: list[str] = field(default_factory=list)  # starts one more end, which says "tunnel is up"; [] is none

    def start(self, side: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a program of the tunnel on one side; what it prints is kept in case it fails."""
        if not any(self.programs.values()):
            self.began = time.monotonic()
        with (self.folder / f"{side}.log").open("ab") as log:
            program = self.lab[side].popen(
                argv, stdout=log, stderr=log, cwd=ROOT, env={**os.environ, **(environment or {})}
            )
        self.programs[side].append(program)

    def file(self, name: str, content: str) -> str:
        """Put a private file where the programs find it; return its path."""
        path = self.folder / name
        path.touch(0o600)
        path.write_text(content)
        return str(path)

    def failure(self) -> str:
        """What the programs said last, for an error message."""
        lines = [
            f"{log.stem}: {line}" for log in self.folder.glob("*.log") for line in log.read_text().splitlines()[-4:]
        ]
        return "; ".join(lines)

    def close(self) -> None:
        """End the programs (the lab kills those that do not mind) and forget the files."""
        everyone = [program for programs in self.programs.values() for program in programs]
        for program in everyone:
            program.terminate()
        for program in everyone:
            try:
                program.wait(5)
            except subprocess.TimeoutExpired:
                program.kill()
        shutil.rmtree(self.folder)


class Peer:
    """No tunnel at all: the two ends of the veth pair themselves, the ceiling of this machine."""

    name = "none"
    label = "no tunnel (veth)"
    group = "baseline"  # for the picture: baseline, kernel, limit, other, before, interpreted, ours
    frames = True  # whether it carries Ethernet frames

    def version(self) -> str:
        """The version that takes part; raises MissingError."""
        return os.uname().release

    def lay(self, lab: Lab) -> Cable:
        """Start the tunnel on both hosts without waiting for it."""
        return Cable(lab, "eth0", "eth0")


@contextlib.contextmanager
def laid(peer: Peer) -> Iterator[Cable]:
    """A peer's cable in a fresh lab; an error that ends its use is told what the programs said last."""
    with Lab() as lab:
        cable = peer.lay(lab)
        try:
            yield cable
        except Exception as error:
            if said := cable.failure():
                error.add_note(said)
            raise
        finally:
            cable.close()


def told(error: Exception) -> str:
    """An error in one line, with its notes."""
    notes = "; ".join(getattr(error, "__notes__", []))
    return f"{type(error).__name__}: {error}" + (f" ({notes})" if notes else "")


def program(*names: str) -> str:
    """The path of a program under one of its names; raises MissingError."""
    for name in names:
        # Daemons are not in everybody's PATH.
        if found := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"):
            return found
    raise MissingError(f"{names[0]} is not installed")


def first_line(argv: Sequence[str], mark: str) -> str:
    """The first line of a program's output that has `mark` in it, whatever the program's exit code."""
    output = subprocess.run(argv, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    lines = (output.stdout + output.stderr).splitlines()
    return next((line.strip() for line in lines if mark in line), "unknown version")


class Vxlan(Peer):
    """VXLAN in the kernel: no process, no copy to user space."""

    name = "vxlan"
    label = "kernel VXLAN"
    group = "kernel"

    def lay(self, lab: Lab) -> Cable:
        """Make the device on both hosts, each pointing at the other."""
        for here, there in ((lab.left, lab.right), (lab.right, lab.left)):
            with here.netlink() as route:
                try:
                    route.link(
                        "add",
                        ifname=DEVICE,
                        kind="vxlan",
                        vxlan_id=1,
                        vxlan_local=here.ipv4,
                        vxlan_group=there.ipv4,
                        vxlan_port=4789,
                        vxlan_link=here.index("eth0"),
                    )
                except Exception as error:
                    raise MissingError(f"this kernel has no VXLAN: {error}") from error
        return Cable(lab, mtu=1450)


class QuickTun(Peer):
    """QuickTun: one small C program, one frame a datagram, as simple as tap2tap. Protocol raw: nothing added."""

    name = "quicktun-raw"
    label = "QuickTun raw"
    group = "other"
    protocol = "raw"
    mtu = 1458

    def version(self) -> str:
        """QuickTun says it with --version."""
        return first_line([program("quicktun"), "--version"], "QuickTun").partition(" (c)")[0].removeprefix("UCIS ")

    def keys(self) -> tuple[dict[str, str], dict[str, str]]:
        """The variables with the keys of both ends."""
        return {}, {}

    def lay(self, lab: Lab) -> Cable:
        """Start both ends; all configuration is in the environment."""
        cable = Cable(lab, mtu=self.mtu)
        for side, here, there, keys in zip(
            ("left", "right"), (lab.left, lab.right), (lab.right, lab.left), self.keys(), strict=True
        ):
            facts = {
                "PROTOCOL": self.protocol,
                "LOCAL_ADDRESS": here.ipv4,
                "LOCAL_PORT": str(PORT),
                "REMOTE_ADDRESS": there.ipv4,
                "REMOTE_PORT": str(PORT),
                "TUN_MODE": "0",
                **keys,
            }
            # With IFACE it takes its variables with this prefix, and only so does the packaged program see PROTOCOL.
            cable.start(
                side,
                [program("quicktun")],
                {"IFACE": DEVICE, **{f"IF_QT_{key}": value for key, value in facts.items()}},
            )
        return cable


class QuickTunNacltai(QuickTun):
    """The same, encrypted: Curve25519, Salsa20 and Poly1305 of NaCl, with a time stamp against replay."""

    name = "quicktun-nacltai"
    label = "QuickTun nacltai"
    protocol = "nacltai"
    mtu = 1426  # 32 bytes are added

    def keys(self) -> tuple[dict[str, str], dict[str, str]]:
        """Two fresh key pairs, crosswise."""
        pairs = []
        for _ in range(2):
            output = subprocess.run([program("keypair")], capture_output=True, text=True, check=True, input="").stdout
            words = output.split()
            pairs.append((words[words.index("SECRET:") + 1], words[words.index("PUBLIC:") + 1]))
        (left, left_public), (right, right_public) = pairs
        return (
            {"PRIVATE_KEY": left, "PUBLIC_KEY": right_public, "TIME_WINDOW": "5"},
            {"PRIVATE_KEY": right, "PUBLIC_KEY": left_public, "TIME_WINDOW": "5"},
        )
