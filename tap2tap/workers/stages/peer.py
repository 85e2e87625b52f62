"""Who the peer is: the rules of the plain protocol, which cannot tell a friend from a forger by anything but this.

Client mode: where the supervisor says that the remote is. Server mode: the first sender of something valid; another
only when the present one has been silent for a while, so that a stray or forged datagram cannot steal a live tunnel.

Frames to the peer leave from the address of ours that it sends to. A server answers from where it was called, as a NAT
or firewall before the client expects. A client goes on from the address that the server knows it by, though the kernel
would choose a new one by now.
"""

from socket import AddressFamily

from tap2tap.endpoint import ENDPOINT_SLOTS, SOCKADDR_LENGTH, Endpoint, from_raw, load, store

CHECK = ENDPOINT_SLOTS - 1
SILENCE = 30 * 10**9  # ns without a word from the peer before another may take its place
QUIET = 5 * 10**9  # ns between answers, and
BURST = 3  # at once after a pause: two servers that were made each other's peers do not go on for ever


class PeerFilter:
    """Decides whose datagrams come in, and keeps the peer's slots of the memory: those from `at` on, and `heard`.

    A successor of a killed worker reads there who the peer is. Times are those of the clock in ns, sources as
    Endpoint.raw writes them for `family`. `here` is what our socket is bound to: we are nobody's peer but others'.

    `fixed` is client mode, where the supervisor writes the same slots when it turns to another remote. Should both
    write at once, nothing or the remote before may be there until the supervisor looks again, within a second.
    """

    def __init__(self, slots: memoryview, at: int, heard: int, family: int, here: Endpoint, *, fixed: bool) -> None:
        self._slots = self._words = slots
        self._at = at
        self._heard = heard
        self._here = here
        self._fixed = fixed
        self._peer = Address(slots, at, family)
        self._length = SOCKADDR_LENGTH[AddressFamily(family)]
        self._confirmed = 0  # when something came to the address of ours that frames leave from
        self._paid_until = 0  # QUIET for each answer

    def admits(self, source: bytes, now: int) -> bool:
        """Whether something valid from `source` comes in at `now`; it is noted that the peer was heard then."""
        if source != self._peer.current():
            if not self._moves(source, now):
                return False
        else:
            self._confirmed = now
        self._words[self._heard] = now
        return True

    def answers(self, now: int) -> bool:
        """Whether an empty datagram that has come in at `now` is to be answered; that which made the peer always is."""
        paid = max(self._paid_until, now) + QUIET
        if self._fixed or paid > now + BURST * QUIET:
            return False
        self._paid_until = paid
        return True

    def rest(self, now: int) -> None:
        """Let the kernel choose a client's address again when nothing has come to the present one for long.

        The way to the remote may be another one by now, and the server takes another address of its peer from now on.
        """
        if self._fixed and now - self._words[self._heard] >= SILENCE:
            peer = load(self._slots, self._at)
            if peer and peer.local:
                store(self._slots, self._at, peer.from_anywhere)

    def _moves(self, source: bytes, now: int) -> bool:
        """Whether what comes from elsewhere, or to another address of ours, comes in: the slots say so then.

        But a client goes on from an address that the server has used lately: only a forger would choose another one.
        """
        peer = self._peer.current()
        elsewhere = peer is None or source[: self._length] != peer[: self._length]
        if elsewhere and (self._fixed or (peer is not None and now - self._words[self._heard] < SILENCE)):
            return False
        if self._fixed and peer is not None and any(peer[self._length :]) and now - self._confirmed < SILENCE:
            return True
        found = from_raw(source)
        if found.port == self._here.port and found.address in (found.local, self._here.address):
            return False  # forged, or our own
        if self._fixed and self._peer.current() is not peer:
            return False  # the supervisor has turned to another remote meanwhile
        store(self._slots, self._at, found)
        self._confirmed = now
        return True


class Address:
    """The peer's address, as Endpoint.raw writes it for `family`: read again only when someone has changed it."""

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
