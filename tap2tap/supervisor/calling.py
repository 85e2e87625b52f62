"""Where the peer is to be called: what the remotes stand for, passed on to the link, or tried by turns without one."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from tap2tap import clock, endpoint, log, udp_socket
from tap2tap.counters import Count, Slot
from tap2tap.endpoint import Endpoint
from tap2tap.supervisor.candidates import Candidates
from tap2tap.supervisor.link_process import LinkProcess
from tap2tap.supervisor.loop import Part, next_second
from tap2tap.supervisor.turns import Turns
from tap2tap.workers.worker import Cable


class Calling(Part):
    """A part of the supervisor's loop. `candidates` stay the caller's; `link` is None in the plain protocol."""

    def __init__(self, cable: Cable, candidates: Candidates, link: LinkProcess | None) -> None:
        self.due = 0.0
        self._cable = cable
        self._candidates = candidates
        self._link = link
        self._turns = Turns(cable.keepalive)
        self.known = candidates.to_call(cable.sock)  # where the peer may be, the best first
        self._own: set[Endpoint] = set()  # that are this end itself
        self._unreached = False  # none of what is known can be
        self._lost = False

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when a lookup has answered."""
        return {fd: partial(self._take, take) for fd, take in self._candidates.waiting.items()}

    def _take(self, take: Callable[[], None]) -> None:
        take()
        self.look()

    def hang_up(self) -> None:
        """Find out now what the remotes stand for."""
        self._candidates.ask(clock.now())

    def look(self) -> None:
        """Do what is due. Raises NoSuchNameError when the first answer is that the only remote does not exist."""
        now, slots = clock.now(), self._cable.memory.slots
        self.due = next_second(now)
        self._candidates.look(now, max(slots[Slot.PEER_HEARD], slots[Slot.STARTED]) / 1e9)
        before, self.known = self.known, self._candidates.to_call(self._cable.sock)
        self._check()
        if self._link is None:
            self._turn(now, self.known)
            return
        self._link.move(self.known)
        if any(each.scope for each in {*self.known}.difference(before)):
            self._link.call()  # the interface was made anew: the session is of no use

    def _check(self) -> None:
        """Tell once what is not called, and why."""
        found = self._candidates.known
        reached = self._candidates.reached(self._cable.sock)
        if found and not reached and not self._unreached:
            words = "waiting for an address of the remote that --bind reaches: one is IPv4, the other IPv6"
            log.warning(words, remote=found[0])
        self._unreached = bool(found) and not reached
        own = {*reached}.difference(self.known)
        for each in sorted(own - self._own, key=found.index):
            log.warning(f"the remote {each} is this host itself: it is not called, give the address of the other one")
        self._own = own

    def _turn(self, now: float, known: list[Endpoint]) -> None:
        """Send to the address whose turn it is."""
        slots, turns, before = self._cable.memory.slots, self._turns, self._turns.present
        begun = turns.look(now, known, slots[Slot.PEER_HEARD] / 1e9, self._cable.memory.outbound[Count.FRAMES])
        self.due = min(self.due, turns.deadline)
        if turns.present is None:
            return
        there = endpoint.load(slots, Slot.PEER)
        if there is None or there.from_anywhere != turns.present:
            endpoint.store(slots, Slot.PEER, turns.present)
        elif begun and before is None and len(known) == 1:
            return  # it stands there from the start: the outbound worker sends a keepalive at once, if it is to
        if begun:
            self._say(turns.present)
            self.due = min(self.due, turns.deadline)
        self._tell(before)

    def _say(self, peer: Endpoint) -> None:
        """Send an empty datagram, which a server answers."""
        try:
            udp_socket.send(self._cable.sock, b"", peer)
        except BlockingIOError:  # there is much to send
            pass
        except OSError:
            self._turns.refused()

    def _tell(self, before: Endpoint | None) -> None:
        """Tell once that one does not answer, and which one does instead."""
        turns = self._turns
        if before not in (None, turns.present) and not self._lost:
            log.info("the remote does not answer, trying its other addresses", was=before, now=turns.present)
            self._lost = True
        elif self._lost and turns.answered:
            log.info("the remote answers", remote=turns.present)
            self._lost = False

    def wake(self) -> None:
        """The way to the peer is another one now: call it, or remind it of us."""
        if self._link:
            self._link.call()
        elif peer := endpoint.load(self._cable.memory.slots, Slot.PEER):
            with suppress(OSError):
                udp_socket.send(self._cable.sock, b"", peer)
