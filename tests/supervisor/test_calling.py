"""What the remotes stand for reaches the link, or, without one, the peer."""

import ipaddress
import socket
from collections.abc import Iterator

import pytest

from tap2tap import endpoint, memory, udp_socket
from tap2tap.config import Config
from tap2tap.counters import Slot
from tap2tap.endpoint import Endpoint
from tap2tap.supervisor.calling import Calling
from tap2tap.supervisor.candidates import Candidates
from tap2tap.workers.worker import Cable

HERE = Endpoint(ipaddress.ip_address("127.0.0.1"), 9)
SIX = Endpoint(ipaddress.ip_address("::1"), 9)
ZONED = Endpoint(ipaddress.ip_address("fe80::1"), 9, 3)


class FakeCandidates(Candidates):
    """Candidates that a test changes."""

    def __init__(self, *known: Endpoint) -> None:
        super().__init__(Config(), (0, 0))
        self.now = list(known)

    @property
    def known(self) -> list[Endpoint]:
        """As the test says."""
        return self.now


class FakeLink:
    """What the link is told."""

    def __init__(self, *known: Endpoint) -> None:
        self.known = [*known]
        self.told: list[object] = []

    def move(self, remotes: list[Endpoint]) -> None:
        """The candidates, which are compared."""
        if remotes != self.known:
            self.told.append(remotes)
        self.known = remotes

    def call(self) -> None:
        """An order to call."""
        self.told.append("call")


@pytest.fixture
def cable() -> Iterator[Cable]:
    """One with an IPv4 socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield Cable("tap0", -1, sock, memory.create(), 1500, True, 0, True, True, True, True)


def test_the_link_is_told_what_changes_and_called_when_an_interface_was_made_anew(cable: Cable) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        link, candidates = FakeLink(ZONED), FakeCandidates(ZONED)
        remotes = Calling(cable._replace(sock=sock), candidates, link)  # type: ignore[arg-type]
        remotes.look()
        assert link.told == []
        for now, told in (([], [[]]), ([SIX], [[SIX]]), ([ZONED], [[ZONED], "call"])):
            candidates.now, link.told = now, []
            remotes.look()
            remotes.look()
            assert link.told == told
        remotes.wake()
        assert link.told[-1] == "call"


def test_without_a_link_the_one_whose_turn_it_is_is_asked(cable: Cable) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        far.settimeout(30)
        there = endpoint.from_sockaddr(far.getsockname())
        candidates = FakeCandidates()
        remotes = Calling(cable, candidates, None)
        remotes.look()
        assert endpoint.load(cable.memory.slots, Slot.PEER) is None
        candidates.now = [there]
        remotes.look()
        assert endpoint.load(cable.memory.slots, Slot.PEER) == there
        assert far.recv(1) == b""
        remotes.wake()
        assert far.recv(1) == b""
        own = there._replace(local=ipaddress.ip_address("127.0.0.2"))
        endpoint.store(cable.memory.slots, Slot.PEER, own)  # which the workers keep to
        remotes.wake()
        assert far.recvfrom(1)[1][0] == "127.0.0.2"


def test_a_peer_that_a_worker_wrote_in_between_is_written_again(cable: Cable) -> None:
    remotes = Calling(cable, FakeCandidates(HERE), None)
    remotes.look()
    endpoint.store(cable.memory.slots, Slot.PEER, HERE._replace(port=7))
    remotes.look()
    assert endpoint.load(cable.memory.slots, Slot.PEER) == HERE
    own = HERE._replace(local=ipaddress.ip_address("127.0.0.1"))
    endpoint.store(cable.memory.slots, Slot.PEER, own)
    remotes.look()
    assert endpoint.load(cable.memory.slots, Slot.PEER) == own


def test_what_the_socket_cannot_send_to_is_no_candidate(cable: Cable, capfd: pytest.CaptureFixture[str]) -> None:
    candidates = FakeCandidates(SIX)
    remotes = Calling(cable, candidates, None)
    remotes.look()
    remotes.look()
    assert remotes.known == []
    assert len(capfd.readouterr().err.splitlines()) == 1
    candidates.now = [SIX, HERE]
    remotes.look()
    assert remotes.known == [HERE]


@pytest.mark.parametrize("key", [False, True], ids=["plain", "key"])
def test_we_do_not_call_ourselves(cable: Cable, key: bool, capfd: pytest.CaptureFixture[str]) -> None:
    with udp_socket.open_socket(None, 0) as sock:
        own = HERE._replace(port=sock.getsockname()[1])
        link, candidates = FakeLink(HERE), FakeCandidates(own, HERE)
        calling = Calling(cable._replace(sock=sock), candidates, link if key else None)  # type: ignore[arg-type]
        calling.look()
        calling.look()
        assert calling.known == [HERE]
        (line,) = [each for each in capfd.readouterr().err.splitlines() if "host itself" in each]
        assert f"the remote {own} is this host itself: " in line
        if key:
            assert link.told == []
        else:
            assert endpoint.load(cable.memory.slots, Slot.PEER) == HERE
        candidates.now = [own]
        calling.look()
        assert calling.known == []
