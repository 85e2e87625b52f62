"""The tap's system calls on the arena: read, write, writev and poll.

This is one of two implementations: tap.pyx is the compiled one, and does the same. A call that fails gives the negative
errno: a failure is an ordinary thing here, and an exception for each would be slow.
"""

import os
import select

from tap2tap.workers.arena import Arena


class Tap:
    """The tap's descriptor, which is borrowed, like `channel`, another one to wait for (-1: none)."""

    def __init__(self, fd: int, arena: Arena, channel: int = -1) -> None:
        self._fd = fd
        self._view = arena.view
        self._pieces: list[memoryview] = []
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        if channel >= 0:
            self._poll.register(channel, select.POLLIN)

    def read(self, at: int, length: int) -> int:
        """Read a frame behind its virtio_net_hdr, at most `length` bytes; how many came, or the negative errno."""
        try:
            return os.readv(self._fd, [self._view[at : at + length]])
        except OSError as error:
            return -(error.errno or 0)

    def write(self, at: int, length: int) -> int:
        """Write a frame behind its virtio_net_hdr; how many bytes went, or the negative errno."""
        try:
            return os.write(self._fd, self._view[at : at + length])
        except OSError as error:
            return -(error.errno or 0)

    def add(self, at: int, length: int) -> None:
        """Add a piece to what `write_added` writes: 66 at the most."""
        if len(self._pieces) == 66:
            raise IndexError("too many pieces")
        self._pieces.append(self._view[at : at + length])

    def write_added(self) -> int:
        """Write the pieces as one frame, and forget them; how many bytes went, or the negative errno."""
        pieces, self._pieces = self._pieces, []
        try:
            return os.writev(self._fd, pieces)
        except OSError as error:
            return -(error.errno or 0)

    def wait(self, timeout: int) -> bool:
        """Wait at most `timeout` ms for a frame, or for something in the channel; whether there is any."""
        return bool(self._poll.poll(timeout))
