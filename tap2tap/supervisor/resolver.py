"""Looking the remote's name up: at the start, and again when the peer has been silent (dynamic DNS changes addresses).

What answers is written by strangers and read by a large C library. So a lookup runs in a child that has become nobody
and holds no descriptor but the pipe for its answer, and what comes through the pipe is believed to be endpoints only
when it has their form.
"""

import encodings.idna  # noqa: F401  (else loaded by the first lookup, as somebody who may not read the interpreter's files)
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from tap2tap import endpoint, log
from tap2tap.endpoint import Endpoint
from tap2tap.errors import StartError
from tap2tap.supervisor.aside import Aside
from tap2tap.supervisor.signals import Signals

SILENCE = 30.0  # seconds without a word from the peer before its name is looked up again
EVERY = 60.0  # seconds between two lookups, at least; also the longest that one may take
MOST = 64  # endpoints of a name

_PACKED = 24  # bytes of a packed endpoint

Find = Callable[[], Iterable[Endpoint]]
Identity = tuple[int, int]  # uid and gid


def begin(name: str, find: Find, identity: Identity | None) -> Aside:
    """Begin the lookup of `name`: `find` gives its endpoints, in a child that becomes `identity`. Raises StartError."""
    return Aside("lookup", f"looking up {name!r}", lambda: b"".join(map(endpoint.pack, find())), identity)


def read(answer: bytes, port: int) -> list[Endpoint]:
    """The endpoints, at most MOST, in what a lookup answered; empty unless every one is as it should be."""
    pieces = [answer[at : at + _PACKED] for at in range(0, len(answer), _PACKED)][:MOST]
    found = [endpoint.unpack(piece) for piece in pieces if len(piece) == _PACKED]
    sound = [endpoint.pack(each) for each in found] == pieces and all(each.port == port for each in found)
    return found if sound else []


class FirstLookup:
    """The lookup at the start, from the beginning of a `with` block to its end at the latest.

    `remote` is the host and the port, or None. Addresses need no child.
    """

    def __init__(self, remote: tuple[str, int] | None, identity: Identity) -> None:
        self._remote = remote
        self._identity = identity
        self._aside: Aside | None = None

    def __enter__(self) -> Self:
        """Begin. Raises StartError."""
        if self._remote and not endpoint.is_address(self._remote[0]):
            host, port = self._remote
            self._aside = begin(host, lambda: endpoint.resolve(host, port), self._identity)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._aside:
            self._aside.close()

    def result(self, stop: Signals) -> list[Endpoint]:
        """Wait for the endpoints, the best first; none without a remote. Raises StartError, Interrupted."""
        if self._remote is None:
            return []
        host, port = self._remote
        if self._aside is None:
            return endpoint.resolve(host, port)
        stop.wait(self._aside.fd)
        if found := read(self._aside.take(), port):
            return found
        raise StartError(f"cannot resolve the remote {host!r}: the answer makes no sense: give an address")


class Resolver:
    """Watches over one name; `known` is what it stands for.

    `find` gives all its endpoints, and raises Tap2tapError when there are none; it runs in a child that becomes
    `identity`. Only those that are `usable` count.
    """

    def __init__(
        self,
        find: Find,
        known: Endpoint,
        identity: Identity | None = None,
        usable: Callable[[Endpoint], bool] = lambda _: True,
    ) -> None:
        self.known = known
        self._find = find
        self._identity = identity
        self._usable = usable
        self._next = 0.0
        self._aside: Aside | None = None

    def look(self, now: float, heard: float) -> None:
        """Begin a lookup if one is due; `heard` is when the peer was last heard, or when the tunnel began."""
        if now < self._next or now - heard < SILENCE:
            return
        self.close()  # the last one, should it hang
        self._next = now + EVERY
        try:
            self._aside = begin("the remote", self._find, self._identity)
        except StartError as error:
            log.warning(str(error))

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when the descriptor of a lookup under way is readable; empty when there is none."""
        return {self._aside.fd: self._take} if self._aside else {}

    def close(self) -> None:
        """Give up a lookup under way."""
        if self._aside:
            self._aside.close()
            self._aside = None

    def _take(self) -> None:
        assert self._aside is not None
        task, self._aside = self._aside, None
        try:
            answer = task.take()
        except StartError as error:
            log.debug(str(error))
            return
        found = [each for each in read(answer, self.known.port) if self._usable(each)]
        if found and self.known not in found:  # a name may have several addresses, and give them in any order
            log.info("the remote has another address", was=self.known, now=found[0])
            self.known = found[0]
