"""What the configured remotes stand for: addresses, names, and link-local addresses on an interface by its name."""

import contextlib
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tap2tap import clock, endpoint, udp_socket
from tap2tap.config import Config
from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.limits import CANDIDATES
from tap2tap.supervisor.process import Identity
from tap2tap.supervisor.remote import Literal, Name, Remote
from tap2tap.supervisor.resolver import Lookups
from tap2tap.supervisor.signals import Interrupted, Signals

FIRST_WAIT = 2.0  # seconds that a start waits for the first answers of name services


def interleave(found: Sequence[Endpoint]) -> list[Endpoint]:
    """The same, the versions of IP by turns for as long as there are both, the best first (RFC 8305, 4).

    Where one of them does not work, the second address tried is of the other.
    """
    first = [each for each in found if each.address.version == found[0].address.version]
    second = [each for each in found if each.address.version != found[0].address.version]
    both = [each for pair in zip(first, second, strict=False) for each in pair]
    pairs = len(both) // 2
    return both + first[pairs:] + second[pairs:]


def in_order(remotes: Sequence[Sequence[Endpoint]], most: int = CANDIDATES) -> list[Endpoint]:
    """All that the remotes stand for, at most `most`: the preferred remote first, each with a fair share."""
    share = max(1, most // max(1, len(remotes)))
    return list(dict.fromkeys(each for remote in remotes for each in interleave(remote)[:share]))[:most]


def is_own(sock: socket.socket, remote: Endpoint) -> bool:
    """Whether what `sock` sends to `remote` comes to `sock` itself: the port is ours, and so is the address."""
    here = endpoint.from_sockaddr(sock.getsockname())
    if remote.port != here.port or not here.address.is_unspecified:
        return remote == here
    family = socket.AF_INET if remote.address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        udp_socket.restrict(probe, None, udp_socket.bound_device(sock) or None)
        probe.bind(remote._replace(port=0).sockaddr(family))
        # Where any address can be bound, nobody knows.
        return not int(Path(f"/proc/sys/net/ipv{remote.address.version}/ip_nonlocal_bind").read_text())
    return False


class Candidates:
    """Where the peer may be, by all its remotes, from the creation of this, before any key is read, to `close`."""

    def __init__(self, config: Config, become: Identity) -> None:
        self._remotes: list[Remote] = []
        self._starting = True
        self.fixed = True  # whether they are addresses, all of them: they do not change
        try:
            for host, port in config.remotes:
                found = endpoint.literal(host, port)
                self._remotes.append(
                    Literal(*found) if found else Name(host, Lookups(host, port, become), clock.now(), self._end)
                )
                self.fixed = self.fixed and found is not None
        except BaseException:
            self.close()
            raise

    @property
    def known(self) -> list[Endpoint]:
        """They, the best first."""
        return in_order([remote.known for remote in self._remotes])

    def reached(self, sock: socket.socket) -> list[Endpoint]:
        """Those of them that `sock` reaches."""
        return [each for each in self.known if udp_socket.reaches(sock, each)]

    def to_call(self, sock: socket.socket) -> list[Endpoint]:
        """Those of them that the peer may be at, as far as `sock` is concerned: it reaches them, and they are others'.

        Whoever calls himself hears an answer, of which nobody is the wiser.
        """
        return [each for each in self.reached(sock) if not is_own(sock, each)]

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when a lookup has answered; it may raise StartError, which ends the tunnel."""
        return {fd: take for remote in self._remotes for fd, take in remote.waiting.items()}

    def _end(self) -> bool:
        """Whether a name that does not exist is reason to end: in the start, and while there is nobody else to call."""
        return self._starting or not self.known

    def await_first(self, stop: Signals) -> None:
        """Wait for the answers that are due, for FIRST_WAIT at the most. Raises NoSuchNameError, Interrupted."""
        until = clock.now() + FIRST_WAIT
        while (waiting := self.waiting) and (left := until - clock.now()) > 0:
            poll = select.poll()
            for fd in (stop.fd, *waiting):
                poll.register(fd, select.POLLIN)
            ready = [fd for fd, _ in poll.poll(left * 1000)]
            if stop.fd in ready and stop.stop():
                raise Interrupted
            for fd in ready:
                waiting.get(fd, lambda: None)()
        self._starting = False

    def look(self, now: float, heard: float) -> None:
        """See what is due."""
        for remote in self._remotes:
            remote.look(now, heard)

    def ask(self, now: float) -> None:
        """Find out again what all of them stand for."""
        for remote in self._remotes:
            remote.ask(now)

    def close(self) -> None:
        """Look up no more."""
        for remote in self._remotes:
            remote.close()


@contextlib.contextmanager
def make_candidates(config: Config, become: Identity) -> Iterator[Candidates]:
    """Make them, and see to their end. Raises StartError."""
    with contextlib.closing(Candidates(config, become)) as candidates:
        yield candidates
