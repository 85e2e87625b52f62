"""The sessions that the inbound worker accepts datagrams of."""

from tap2tap.counters import Counts
from tap2tap.memory import Private
from tap2tap.protocols.secure.mailbox import Order, Task
from tap2tap.workers.ciphers import aead
from tap2tap.workers.stages.secure.parts import Parts
from tap2tap.workers.stages.secure.replay import ReplayWindow

NEVER = 2**63 - 1  # nanoseconds of the clock


class Session:
    """A session that is accepted before `until`, nanoseconds of the clock.

    `slot` holds the counter behind the newest that was accepted; `accepted` and `late` are the slots for how many were.
    `proved`: the link knows of a proof.
    """

    def __init__(self, order: Order, start: int) -> None:
        self.index = order.index
        self.slot = Private.SESSION + order.slot
        self.accepted, self.late = Private.ACCEPTED + order.slot, Private.LATE + order.slot
        self.until = order.until
        self.window = ReplayWindow(start=start)
        self.aead = aead(order.cipher, order.data)
        self.proved = False


class Sessions:
    """Those that the link opened and has not closed, by their index. `parts` has the unfinished frames of them."""

    def __init__(self, counts: Counts, parts: Parts) -> None:
        self._counts = counts
        self._parts = parts
        self._open: dict[int, Session] = {}
        self.until = NEVER  # when the first of them is over, and `expire` is to be called

    def find(self, index: int) -> Session | None:
        """The session of that index."""
        return self._open.get(index)

    def obey(self, order: Order) -> None:
        """Open or close a session."""
        if order.task is Task.CLOSE:
            self._open.pop(order.index, None)
            self._parts.forget(order.index)
        elif order.index not in self._open:
            self._open[order.index] = Session(order, self._start(order))
        self._set_until()

    def expire(self, now: int) -> None:
        """Forget the keys of sessions that are over."""
        for session in [each for each in self._open.values() if now >= each.until]:
            del self._open[session.index]
            self._parts.forget(session.index)
        self._set_until()

    def _set_until(self) -> None:
        self.until = min([each.until for each in self._open.values()], default=NEVER)

    def _start(self, order: Order) -> int:
        """The first counter that is accepted.

        A new session's slot begins at 0: we may have written to it for the session that had it before. But not while
        another is open that has it, opened by a link process that was replaced since: then the slot keeps the higher
        one of their counters, and the worst is that a successor of this worker accepts nothing of the new session.
        """
        slot = Private.SESSION + order.slot
        if order.resumed:
            start: int = self._counts[slot]
            return start
        if not any([session.slot == slot for session in self._open.values()]):
            self._counts[slot] = 0
        return 0
