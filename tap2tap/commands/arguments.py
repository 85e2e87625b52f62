"""Reading a command line, as all commands do it."""

import argparse
import contextlib
from typing import Any, NoReturn

from tap2tap import errors
from tap2tap.numbers import whole_number


class Parser(argparse.ArgumentParser):
    """Knows options by their whole names only, and says a mistake in one line, with the way to the help."""

    def __init__(self, prog: str, **options: Any) -> None:
        # An abbreviation in a script would mean something else, or nothing, as soon as there is one more option.
        super().__init__(prog, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Print `message` and exit with the code of bad arguments."""
        self.exit(errors.USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def number(text: str) -> int:
    """Read a whole number, for `type=` of an option."""
    found = whole_number(text.removeprefix("-"), 10**11 - 1)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return -found if text.startswith("-") else found  # whoever checks the range tells it


def seconds(text: str) -> float:
    """Read a duration, for `type=` of an option."""
    with contextlib.suppress(ValueError):
        if 0.1 <= float(text) <= 3600:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 to 3600")
