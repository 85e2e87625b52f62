"""Where the peer is configured to be: the endpoints that its addresses and names stand for, the best first."""

from collections.abc import Iterator, Sequence

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.limits import CANDIDATES


class Home:
    """At most CANDIDATES endpoints, none twice, without addresses of ours, as a client lets the kernel choose those.

    The one that answered last is kept: it is called the best as long as it is among them.
    """

    __slots__ = ("_kept", "_listed")

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._listed: tuple[Endpoint, ...] = ()
        self._kept: Endpoint | None = None
        self.replace(endpoints)

    def replace(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """These are they now; returns those that are new."""
        known = self._listed
        self._listed = tuple(dict.fromkeys(each.from_anywhere for each in endpoints))[:CANDIDATES]
        return [each for each in self._listed if each not in known]

    def keep(self, endpoint: Endpoint | None) -> None:
        """The peer has answered here, if that is one of them."""
        if endpoint is not None and endpoint in self:
            self._kept = endpoint.from_anywhere

    @property
    def best(self) -> Endpoint | None:
        """The one that answered last, or the most preferred one."""
        return next(iter(self), None)

    def __iter__(self) -> Iterator[Endpoint]:
        if self._kept in self._listed:
            yield self._kept
        yield from (each for each in self._listed if each != self._kept)

    def __contains__(self, endpoint: object) -> bool:
        return isinstance(endpoint, Endpoint) and endpoint.from_anywhere in self._listed

    def __len__(self) -> int:
        return len(self._listed)
