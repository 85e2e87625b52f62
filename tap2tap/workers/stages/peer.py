"""Who the peer is: the rules of the plain protocol, which cannot tell a friend from a forger by anything but this.

Client mode: the configured remote, for ever. Server mode: the first sender of something valid; another only when the
present one has been silent for a while, so that a stray or forged datagram cannot steal a live tunnel.
"""

from tap2tap.endpoint import ENDPOINT_SLOTS, Endpoint, from_raw, load, store

CHECK = ENDPOINT_SLOTS - 1
SILENCE = 30 * 10**9  # ns without a word from the peer before another may take its place


class PeerFilter:
    """Decides whose datagrams come in, and keeps the peer's slots of the memory: those from `at` on, and `heard`.

    A successor of a killed worker reads there who the peer is. Times are those of the clock in ns, sources are
    `struct sockaddr` of the socket's family.
    """

    def __init__(self, slots: memoryview, at: int, heard: int, family: int, *, fixed: bool) -> None:
        self._slots = self._words = slots
        self._at = at
        self._heard = heard
        self._fixed = fixed
        self._peer = Address(slots, at, family)

    def admits(self, source: bytes, now: int) -> bool:
        """Whether something valid from `source` comes in at `now`; it is noted that the peer was heard then."""
        if source != self._peer.current() and not self._moves(source, now):
            return False
        self._words[self._heard] = now
        return True

    def _moves(self, source: bytes, now: int) -> bool:
        if self._fixed or (self._peer.current() is not None and now - self._words[self._heard] < SILENCE):
            return False
        store(self._slots, self._at, from_raw(source))
        return True


class Address:
    """The peer's address as a `struct sockaddr` of `family`: read again only when someone has changed it."""

    def __init__(self, slots: memoryview, at: int, family: int) -> None:
        self._slots = self._words = slots
        self._at = at
        self._family = family
        self._check = 0
        self._sockaddr: bytes | None = None

    def current(self) -> bytes | None:
        """The peer's address, None while there is none."""
        check = self._words[self._at + CHECK]
        if check != self._check:
            endpoint: Endpoint | None = load(self._slots, self._at)
            if endpoint is not None:
                self._sockaddr = endpoint.raw(self._family)
                self._check = check
        return self._sockaddr
