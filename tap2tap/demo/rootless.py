"""The lab for ordinary users: root in a user namespace of one's own where the machine allows that, else good advice."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

TUN = Path("/dev/net/tun")
OWN = ("unshare", "--user", "--map-root-user", "--net", "--mount", "--")
MARK = "TAP2TAP_IN_OWN_NAMESPACE"  # set for the second start, so that there is never a third


def inside() -> bool:
    """Whether root here is somebody else outside."""
    return Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]


def user() -> list[str]:
    """The options with which a tunnel runs here: inside, no other user exists that its processes could become."""
    return ["--uid", "0", "--gid", "0"] if inside() else []


def missing(command: str, argv: list[str]) -> str:
    """What is missing for a lab and a tap, as advice, or "" if nothing is.

    Called without root, it starts `tap2tap COMMAND ARGV` again in place of this process, as root of a user namespace.
    """
    program = shutil.which(sys.argv[0]) or ""
    again = [program] if Path(program).name == "tap2tap" else [sys.executable, "-m", "tap2tap"]
    advice = f"run it as root: sudo {shlex.join([*again, command, *argv])}"
    if not TUN.exists():
        return f"{TUN} is missing: load it with `modprobe tun` (in a container: pass the device in)"
    if not os.access(TUN, os.R_OK | os.W_OK):
        return f"this user may not open {TUN}; {advice}"
    if not all(shutil.which(tool) for tool in ("unshare", "nsenter")):
        return "the programs unshare and nsenter are missing: install util-linux"
    if os.geteuid() != 0 and MARK not in os.environ:
        # The second unshare tells whether one has any rights in there: some distributions grant none.
        if subprocess.run([*OWN, "unshare", "--net", "true"], capture_output=True).returncode:
            return f"this machine lets no ordinary user make namespaces; {advice}"
        print("Not root: going on in a user namespace of our own", flush=True)
        os.environ[MARK] = "1"
        os.execvp(OWN[0], [*OWN, sys.executable, "-m", "tap2tap", command, *argv])  # noqa: S606
    return ""
