"""Bounded memories: what has been seen lately, and what has been said lately."""

from collections import OrderedDict

from tap2tap.protocols.secure.limits import REMEMBERED


class Seen:
    """The last `size` distinct things, each told apart by some bytes."""

    __slots__ = ("_order", "_size")

    def __init__(self, size: int = REMEMBERED) -> None:
        self._order: OrderedDict[bytes, None] = OrderedDict()
        self._size = size

    def add(self, thing: bytes) -> bool:
        """Remember it; False if it was remembered already."""
        if thing in self._order:
            return False
        self._order[thing] = None
        if len(self._order) > self._size:
            self._order.popitem(last=False)
        return True

    def __contains__(self, thing: bytes) -> bool:
        return thing in self._order


class Sparingly:
    """Lets each kind of log line through once in `interval` seconds. Kinds are constants, so few."""

    __slots__ = ("_interval", "_next")

    def __init__(self, interval: float = 300.0) -> None:
        self._interval = interval
        self._next: dict[str, float] = {}

    def allows(self, now: float, kind: str) -> bool:
        """Tell whether such a line is due, and count it as written."""
        if now < self._next.get(kind, float("-inf")):
            return False
        self._next[kind] = now + self._interval
        return True
