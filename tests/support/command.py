"""tap2tap as a command that runs to its end: its exit code, and what it says."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence

from tap2tap.demo.lab import Host
from tests.support.tunnel import COMMAND

Done = subprocess.CompletedProcess[str]

# Everything is imported before the privileges go: the interpreter may live where only root can read.
AS_NOBODY = [
    sys.executable,
    "-c",
    "import os, sys, encodings.idna, pyroute2, tap2tap.cli, tap2tap.commands.stats, tap2tap.commands.tunnel, "
    "tap2tap.supervisor.main, tap2tap.supervisor.tunnel; "
    "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534); "
    "sys.exit(tap2tap.cli.main(sys.argv[1:]))",
]


def private(*steps: str) -> list[str]:
    """A prefix for a command: run it in mounts of its own, after these `steps` of a shell."""
    return ["unshare", "--mount", "sh", "-c", " && ".join([*steps, 'exec "$@"']), "sh"]


def tap2tap(*argv: str, host: Host | None = None, prefix: Sequence[str] = (), command: Sequence[str] = COMMAND) -> Done:
    """Run `tap2tap argv`, on `host` if there is one, and wait for its end."""
    line = [*prefix, *command, *argv]
    env = {**os.environ, "COLUMNS": "100"}
    if host is not None:
        return host.run(line, check=False, timeout=60, env=env)
    return subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, env=env)


def mistake(done: Done, code: int, words: str) -> None:
    """It ended with `code` after one line that matches `words` and nothing else."""
    assert done.stdout == ""
    assert re.fullmatch(r"tap2tap[a-z -]*: [^\n]+\n", done.stderr), done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert done.returncode == code
