"""The kernel's interface where it differs from machine to machine: numbers of ioctls and socket options, timeouts.

Python spells most of it (errno, socket, termios); here is the rest. `machine` is what uname(2) says, and this one's
unless it is given.
"""

import os
import socket
import sys

NONE, WRITE, READ = "none", "write", "read"  # whether user space passes an argument to the ioctl, or gets one back

_MACHINE = os.uname().machine

# Which bits say the direction, and where they begin: asm-generic/ioctl.h, and asm/ioctl.h of those that have their own.
_DIRECTIONS = {NONE: 0, WRITE: 1, READ: 2}, 30
_DIRECTIONS_OF = {
    "alpha": ({NONE: 1, READ: 2, WRITE: 4}, 29),
    "mips": ({NONE: 1, READ: 2, WRITE: 4}, 29),
    "parisc": ({NONE: 0, READ: 1, WRITE: 2}, 30),
    "ppc": ({NONE: 1, READ: 2, WRITE: 4}, 29),
    "sparc": ({NONE: 1, READ: 2, WRITE: 4}, 29),
}

# SO_SNDBUFFORCE and SO_RCVBUFFORCE: asm-generic/socket.h, and asm/socket.h of those that have their own.
_FORCE = 32, 33
_FORCE_OF = {
    "alpha": (0x100A, 0x100B),
    "mips": (31, 33),
    "parisc": (0x100A, 0x100B),
    "sparc": (0x100A, 0x100B),
}


# SO_ATTACH_FILTER: asm-generic/socket.h, and asm/socket.h of the one that has its own.
_ATTACH_FILTER = 26
_ATTACH_FILTER_OF = {"parisc": 0x401A}


def _family(machine: str) -> str:
    """What the names of the 32 and 64 bit, big and little endian machines of one kind begin with."""
    return next((family for family in _DIRECTIONS_OF if machine.startswith(family)), "")


def ioctl_number(direction: str, kind: str, number: int, size: int, machine: str = _MACHINE) -> int:
    """The number of an ioctl: the kernel's _IO, _IOW and _IOR. `kind` is a letter, `size` in bytes."""
    directions, shift = _DIRECTIONS_OF.get(_family(machine), _DIRECTIONS)
    return directions[direction] << shift | size << 16 | ord(kind) << 8 | number


def force_options(machine: str = _MACHINE) -> tuple[int, int]:
    """SO_SNDBUFFORCE and SO_RCVBUFFORCE."""
    return _FORCE_OF.get(_family(machine), _FORCE)


def attach_filter_option(machine: str = _MACHINE) -> int:
    """SO_ATTACH_FILTER."""
    return _ATTACH_FILTER_OF.get(_family(machine), _ATTACH_FILTER)


def set_timeout(sock: socket.socket, option: int, seconds: int) -> None:
    """Set SO_RCVTIMEO or SO_SNDTIMEO, `option`, of `sock`. Raises OSError.

    The option takes seconds and microseconds (struct __kernel_old_timeval and __kernel_sock_timeval in
    linux/time_types.h), of 32 or 64 bits each. Which it is depends on the machine and on the time_t of the C library
    that Python was built with, and the kernel reads half a number without complaint; but it gives back what it takes.
    Whole seconds, as the width of the microseconds is another matter on SPARC.
    """
    width = len(sock.getsockopt(socket.SOL_SOCKET, option, 16)) // 2
    sock.setsockopt(socket.SOL_SOCKET, option, seconds.to_bytes(width, sys.byteorder) + bytes(width))
