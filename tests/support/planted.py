"""`tap2tap` with something in it changed beforehand, or with files of its own for the names that it looks up."""

import sys
from pathlib import Path

from tests.support.command import private


def planted(code: str) -> list[str]:
    """The command tap2tap after these lines of Python."""
    modules = "os, sys, time, tap2tap.cli, tap2tap.cpus, tap2tap.supervisor.main as main"
    return [sys.executable, "-c", f"import {modules}\n{code}\nsys.exit(tap2tap.cli.main())"]


def names(folder: Path, hosts: str, resolv: str = "") -> list[str]:
    """The prefix of a command that looks names up in `folder`/hosts and `folder`/resolv, which may change later."""
    (folder / "hosts").write_text(hosts)
    (folder / "resolv").write_text(resolv)
    return private(f"mount --bind {folder}/hosts /etc/hosts", f"mount --bind {folder}/resolv /etc/resolv.conf")
