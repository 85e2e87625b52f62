"""Exit codes, and the errors that a user meets: one line each, which says what to do."""

OK = 0
FAILURE = 1
USAGE = 2
NO_PERMISSION = 4
NO_TUNNEL = 7

# Exit codes of a child that ask the supervisor to end the program: no successor could do better.
CANNOT_START = 70
TAP_GONE = 71


class Tap2tapError(Exception):
    """An error whose text is the one line that the user reads; never shown as a traceback."""

    exit_code = FAILURE


class UsageError(Tap2tapError):
    """Arguments or files that cannot be right."""

    exit_code = USAGE


class StartError(Tap2tapError):
    """The tunnel cannot run on this machine as it is."""


class NoSuchNameError(StartError):
    """A name that certainly does not exist: no name service that can be reached later will know it."""


class TapGoneError(StartError):
    """The tap device was deleted: no worker could go on."""

    def __init__(self) -> None:
        super().__init__("the tap device was deleted: the tunnel has ended")


class NoPermissionError(StartError):
    """The kernel refused what root, or a capability, may do."""

    exit_code = NO_PERMISSION


class NoTunnelError(Tap2tapError):
    """`tap2tap stats` found no tunnel of that name."""

    exit_code = NO_TUNNEL
