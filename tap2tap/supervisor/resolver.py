"""Looking the remote's name up again when the peer has been silent: servers with dynamic DNS change their address.

The lookup runs in a fork, for it may take as long as it likes.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable

from tap2tap import endpoint, log, privileges
from tap2tap.endpoint import Endpoint
from tap2tap.errors import Tap2tapError
from tap2tap.supervisor import signals

SILENCE = 30.0  # seconds without a word from the peer before its name is looked up again
EVERY = 60.0  # seconds between two lookups, at least

_PACKED = 24  # bytes of a packed endpoint


class Resolver:
    """Watches over one name; `known` is what it stands for.

    `lookup` gives all its endpoints; it runs in a fork, and raises Tap2tapError when there are none.
    """

    def __init__(self, lookup: Callable[[], Iterable[Endpoint]], known: Endpoint) -> None:
        self.known = known
        self._lookup = lookup
        self._next = 0.0
        self._pid = 0
        self._pipe = -1

    def look(self, now: float, heard: float) -> None:
        """Begin a lookup if one is due; `heard` is when the peer was last heard, or when the tunnel began."""
        if self._pid or now - heard < SILENCE or now < self._next:
            return
        self._next = now + EVERY
        read, write = os.pipe()
        parent = os.getpid()
        self._pid = signals.fork()
        if not self._pid:
            os._exit(self._report(parent, write))
        os.close(write)
        self._pipe = read

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when the descriptor of a lookup under way is readable; empty when there is none."""
        return {self._pipe: self._take} if self._pid else {}

    def close(self) -> None:
        """Give up a lookup under way."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._finish()

    def _take(self) -> None:
        data = os.read(self._pipe, 64 * _PACKED)
        self._finish()
        found = [endpoint.unpack(data[at : at + _PACKED]) for at in range(0, len(data) - _PACKED + 1, _PACKED)]
        if found and self.known not in found:  # a name may have several addresses, and give them in any order
            log.info("the remote has another address", was=self.known, now=found[0])
            self.known = found[0]

    def _finish(self) -> None:
        os.close(self._pipe)
        os.waitpid(self._pid, 0)
        self._pid, self._pipe = 0, -1

    def _report(self, parent: int, write: int) -> int:
        """Be the fork."""
        signals.forget()
        signals.released()
        privileges.die_with_parent(parent)
        try:
            found = b"".join(endpoint.pack(each) for each in self._lookup())
        except Tap2tapError:
            return 1
        os.write(write, found[: 64 * _PACKED])
        return 0
