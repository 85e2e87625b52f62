"""The limit of this design as a peer of the benchmark: relay.c, compiled on the spot, passes trains on unread."""

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tap2tap.demo.lab import Lab, wait_for
from tests.bench.peers import DEVICE, PORT, Cable, MissingError, Peer, first_line, program

SOURCE = Path(__file__).with_name("relay.c")
MTU = 1448  # a virtio_net_hdr of 10 bytes travels with each frame
# TCP's super-frames have 44 segments, as those of tap2tap, so that a train of them fits one send.
GSO_MAX_SIZE, GSO_MAX_SEGS = 45 * (MTU - 72) + 192, 64


@cache
def compiled() -> bytes:
    """The program; raises MissingError where there is no compiler or it does not like the kernel's headers."""
    folder = Path(tempfile.mkdtemp(prefix="tap2tap-bench-"))
    try:
        done = subprocess.run(
            [program("gcc", "cc"), "-O2", "-o", "relay", SOURCE], cwd=folder, capture_output=True, text=True
        )
        if done.returncode:
            raise MissingError(f"relay.c does not compile here: {done.stderr.partition(chr(10))[0]}")
        return (folder / "relay").read_bytes()
    finally:
        shutil.rmtree(folder)


class KernelAlone(Peer):
    """What the kernel's part of such a tunnel allows: the same calls, copies and datagrams; no work on the bytes."""

    name = "kernel-alone"
    label = "kernel alone (limit)"
    group = "limit"

    def version(self) -> str:
        """Which compiler made it."""
        compiled()
        return first_line([program("gcc", "cc"), "--version"], "")

    def lay(self, lab: Lab) -> Cable:
        """Both ends, and super-frames of a size that fits one send."""
        cable = Cable(lab, mtu=MTU)
        relay = cable.folder / "relay"
        relay.write_bytes(compiled())
        relay.chmod(0o700)
        for side, here, there in (("left", lab.left, lab.right), ("right", lab.right, lab.left)):
            cable.start(side, [str(relay), DEVICE, here.ipv4, there.ipv4, str(PORT)])
        for host in (lab.left, lab.right):
            wait_for(lambda host=host: host.has_link(DEVICE), 5, "device")  # type: ignore[misc]
            host.link(DEVICE, gso_max_size=GSO_MAX_SIZE, gso_max_segs=GSO_MAX_SEGS)
        return cable
