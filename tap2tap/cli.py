"""The commands `tap2tap` and `tap2tap-supervisor`: what is to be run, loaded only then, and how it ends."""

import errno
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence

from tap2tap import errors, log

COMMANDS = {  # name: module and function, which takes the arguments and returns the exit code
    "stats": ("tap2tap.commands.stats", "stats"),
    "genkey": ("tap2tap.commands.genkey", "genkey"),
    "pubkey": ("tap2tap.commands.genkey", "pubkey"),
    "demo": ("tap2tap.demo.demo", "demo"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The `tap2tap` command; return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0].startswith("-"):
        return guarded("tap2tap", lambda: _tunnel("tap2tap", argv))
    name, *rest = argv
    return guarded(f"tap2tap {name}" if name in COMMANDS else "tap2tap", lambda: _command(name, rest))


def supervisor(argv: Sequence[str] | None = None) -> int:
    """The `tap2tap-supervisor` command: the tunnel, and no other command; return the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    return guarded("tap2tap-supervisor", lambda: _tunnel("tap2tap-supervisor", argv))


def _tunnel(prog: str, argv: Sequence[str]) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the supervisor, which takes a while to load, catches it
    from tap2tap.commands.tunnel import run_tunnel

    return run_tunnel(prog, argv)


def _command(name: str, argv: list[str]) -> int:
    if name not in COMMANDS:
        raise errors.UsageError(
            f"{name!r} is no command: there are {', '.join(COMMANDS)}; without one, a tunnel runs (see tap2tap --help)"
        )
    module, function = COMMANDS[name]
    code: int = getattr(importlib.import_module(module), function)(argv)
    return code


def _give_output_up() -> None:
    """Lose what is still to be written: the flush at the exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def guarded(prog: str, command: Callable[[], int]) -> int:
    """Run `command`; turn what a user can mend into one line and its exit code."""
    try:
        code = command()
        if sys.stdout is not None:  # closed
            sys.stdout.flush()
        return code
    except errors.Tap2tapError as error:
        log.line(f"{prog}: {error}")  # which a full pipe does not hold up
        return error.exit_code
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        _give_output_up()
        return errors.FAILURE
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _give_output_up()
            log.line(f"{prog}: cannot write: {error.strerror}")
        elif error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            log.line(f"{prog}: {error.strerror}: raise the limits of open files and of memory")
        else:
            raise
        return errors.FAILURE
    except KeyboardInterrupt:
        return 128 + 2
