"""What the memory says of the way to the peer: the link process writes it, the workers read it and obey.

A link process that is replaced finds there where its predecessor was. It keeps the path MTU until it knows better, and
a limit until a handshake says where the peer is.
"""

from tap2tap import endpoint
from tap2tap.counters import Slot
from tap2tap.endpoint import Endpoint
from tap2tap.memory import Memory, Private


class PeerPath:
    """The endpoint of the peer, the path MTU, and how the outbound worker is to send."""

    def __init__(self, memory: Memory) -> None:
        self._slots, self._outbound = memory.slots, memory.outbound
        self._outbound[Private.SINGLY] = 0
        self._told = self.payload  # the last one that people were told
        self._inherited = self.payload > 0  # our predecessor found it

    @property
    def endpoint(self) -> Endpoint | None:
        """Where the outbound worker sends."""
        return endpoint.load(self._slots, Slot.PEER)

    @property
    def payload(self) -> int:
        """Bytes that reach the peer in one datagram; 0: not known."""
        return self._slots[Slot.PATH]

    def turn(self, peer: Endpoint, limit: int | None) -> None:
        """Have everything sent to `peer`, `limit` bytes at the most; None: no limit.

        A limit holds before the endpoint does, and the end of one after it: what is sent meanwhile is limited. Another
        address of ours is no other path.
        """
        known = self.endpoint
        if known is None or peer.from_anywhere != known.from_anywhere:
            self._inherited = False
        if limit is not None:
            self._outbound[Private.LIMIT] = self._outbound[Private.SEALED] + limit
        endpoint.store(self._slots, Slot.PEER, peer)
        if limit is None:
            self._outbound[Private.LIMIT] = 0

    def set_payload(self, payload: int, *, told: bool) -> bool:
        """Take a path MTU; return whether that is news for people, who are `told` what a search has found."""
        if not (self._inherited and not told and payload < self.payload):  # where a search begins, not what is found
            self._slots[Slot.PATH] = payload
        self._inherited = self._inherited and not told
        news = told and payload != self._told
        self._told = payload if told else self._told
        return news

    def send_trains(self, *, on: bool) -> None:
        """Have trains sent, or datagram by datagram."""
        self._outbound[Private.SINGLY] = not on
