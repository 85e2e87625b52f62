"""Reading a command line, as all commands do it."""

import argparse
from typing import NoReturn

from tap2tap import errors


class Parser(argparse.ArgumentParser):
    """Says a mistake in one line, with the way to the help."""

    def error(self, message: str) -> NoReturn:
        """Print `message` and exit with the code of bad arguments."""
        self.exit(errors.USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")
