"""`tap2tap` with other durations of the protocol: python timed.py name=seconds,... arguments-of-tap2tap

The product has no way to change them; a test that cannot wait two minutes changes them from outside.
"""

import sys
from functools import partialmethod
from pathlib import Path

from tap2tap import cli
from tap2tap.protocols.secure.limits import Timers


def command(timers: str) -> list[str]:
    """The beginning of a command line: `tap2tap` with these timers, such as "rekey_after=1,poll=0.2"."""
    return [sys.executable, "-P", str(Path(__file__).resolve()), timers]


def change(text: str) -> None:
    """Change what timers begin with in this process and its children."""
    usual = Timers()
    given = dict(part.split("=") for part in text.split(",") if part)
    changed = {name: type(getattr(usual, name))(value) for name, value in given.items()}
    Timers.__init__ = partialmethod(Timers.__init__, **changed)  # type: ignore[assignment]


if __name__ == "__main__":
    change(sys.argv[1])
    sys.exit(cli.main(sys.argv[2:]))
