"""Which of our own addresses a datagram leaves from: the one that the peer has called, however it is sent."""

import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tap2tap import udp_socket
from tap2tap.counters import Count, Drop
from tap2tap.demo.lab import Lab, wait_for
from tap2tap.endpoint import Endpoint, from_raw, from_sockaddr
from tap2tap.memory import GROUP, Private
from tap2tap.workers.arena import Arena
from tap2tap.workers.receive import Receiver
from tap2tap.workers.send import Sender
from tap2tap.workers.train import ROOM, Train
from tap2tap.workers.udp import AREA
from tests.conftest import lacking, make_lab
from tests.support.lone import roomy
from tests.support.sending import lay

INET, INET6 = socket.AF_INET, socket.AF_INET6
V4, V6, LINK = ("10.213.0.2", "10.213.0.66"), ("fd00:d213::2", "fd00:d213::66"), ("fe80::66", "fe80::67")
PORT = 1234


@pytest.fixture(scope="module")
def wire() -> Iterator[Lab]:
    """Two hosts, the right of which has several addresses of each kind."""
    with make_lab("left", "right") as made:
        if not made.right.ipv6:
            lacking("no IPv6")
        for address in (V4[1] + "/24", V6[1] + "/64", *(each + "/64" for each in LINK)):
            made.right.address("eth0", address)
        made.left.address("eth0", "fe80::1/64")
        yield made


class Right:
    """The right host's socket on any address, with what the workers receive and send with."""

    def __init__(self, lab: Lab, family: int) -> None:
        self._lab = lab
        with lab.right.inside():
            bind = "0.0.0.0" if family == INET else None
            self.sock = udp_socket.open_socket(bind, PORT)
        udp_socket.tell_local(self.sock)
        udp_socket.enable_gro(self.sock)
        self.counts = memoryview(bytearray(GROUP * 8)).cast("Q")
        self.arena, self.train = Arena(AREA + ROOM), Train()
        self.receiver = Receiver(self.sock, self.arena, 0)
        self.sender = Sender(self.sock, self.arena, self.counts, True, lambda _: None)

    def heard(self) -> tuple[bytes, list[bytes]]:
        """The source of what came next, and its datagrams."""
        while not self.receiver.next(self.train):
            assert self.receiver.receive()
        train = self.train
        places = [(train.at + number * train.size, train.size_of(number)) for number in range(train.count)]
        return self.receiver.source, [self.arena.take(*place) for place in places]

    def send(self, to: bytes, datagrams: list[bytes]) -> None:
        self.sender.send(lay(self.arena, datagrams, AREA), to)

    @property
    def drops(self) -> dict[str, int]:
        """Reason to count."""
        found = {drop.name: self.counts[Count.DROPPED + drop] for drop in Drop}
        return {name: number for name, number in found.items() if number}


@contextmanager
def ends(lab: Lab, family: int, host: str) -> Iterator[tuple[Right, socket.socket]]:
    """The right host, and a caller on the left one for that kind of address."""
    with lab.left.socket(INET6 if ":" in host else INET, socket.SOCK_DGRAM) as caller:
        right = Right(lab, family)
        with right.sock:
            roomy(caller)
            yield right, caller


def name(lab: Lab, host: str) -> tuple[str, int] | tuple[str, int, int, int]:
    """What the caller's socket takes for an address of the right host."""
    if ":" not in host:
        return host, PORT
    return host, PORT, 0, lab.left.index("eth0") if host.startswith("fe80") else 0


def came(caller: socket.socket, count: int) -> tuple[set[str], list[bytes]]:
    """The next datagrams, and the addresses that they left from."""
    found = [caller.recvfrom(1 << 16) for _ in range(count)]
    return {source[0].partition("%")[0] for _, source in found}, [data for data, _ in found]


def numbered(count: int, size: int = 700) -> list[bytes]:
    """A train of different datagrams, the last of which is shorter."""
    return [bytes((number,)) * (size - (number == count - 1)) for number in range(count)]


def called(right: Right, caller: socket.socket, to: tuple[str, int] | tuple[str, int, int, int]) -> bytes:
    """Call the right host; who has called, as it hears that."""
    caller.sendto(b"hello", to)
    source, datagrams = right.heard()
    assert datagrams == [b"hello"]
    return source


@pytest.mark.parametrize(
    ("family", "hosts"), [(INET, V4), (INET6, V4), (INET6, V6), (INET6, LINK)], ids=["inet", "mapped", "inet6", "link"]
)
def test_answers_leave_from_the_address_that_was_called(wire: Lab, family: int, hosts: tuple[str, ...]) -> None:
    with ends(wire, family, hosts[0]) as (right, caller):
        port = 0
        for host in (*hosts, hosts[0]):
            source = called(right, caller, name(wire, host))
            port = port or caller.getsockname()[1]
            ours = {INET6: "fd00:d213::1", INET: "10.213.0.1"}[caller.family] if hosts != LINK else "fe80::1"
            found = from_raw(source)
            scope = wire.right.index("eth0") if hosts == LINK else 0
            if hosts == LINK:  # the kernel has given it one of its own, too
                ours = str(found.address)
            local = ipaddress.ip_address(host)
            assert found == Endpoint(ipaddress.ip_address(ours), port, scope, local)
            assert source == found.raw(family)
            assert called(right, caller, name(wire, host)) is source
            caller.sendmsg([b"x" * 250], [(udp_socket.SOL_UDP, udp_socket.UDP_SEGMENT, b"\x64\0")], 0, name(wire, host))
            assert right.heard() == (source, [b"x" * 100, b"x" * 100, b"x" * 50])  # beside UDP_GRO
            for singly, datagrams in ((0, [b"alone"]), (0, numbered(9)), (1, numbered(70)), (0, [b""])):
                right.counts[Private.SINGLY] = singly
                right.send(source, datagrams)
                assert came(caller, len(datagrams)) == ({host}, datagrams)
            udp_socket.send(right.sock, b"control", found)
            assert came(caller, 1) == ({host}, [b"control"])
        assert right.counts[Count.FALLBACKS] == 0
        assert not right.drops


def test_without_a_local_address_the_kernel_chooses(wire: Lab) -> None:
    with ends(wire, INET6, V4[0]) as (right, caller):
        pinned = called(right, caller, name(wire, V4[1]))
        free = from_raw(pinned).from_anywhere.raw(INET6)
        for to, host in ((pinned, V4[1]), (free, V4[0]), (pinned, V4[1])):
            for datagrams in ([b"alone"], numbered(9)):
                right.send(to, datagrams)
                assert came(caller, len(datagrams)) == ({host}, datagrams)


@pytest.mark.parametrize(("bind", "told"), [(None, True), ("0.0.0.0", True), ("::", True), (V4[1], False)])
def test_the_kernel_tells_where_there_may_be_several(wire: Lab, bind: str | None, told: bool) -> None:
    with wire.right.inside():
        sock = udp_socket.open_socket(bind, 0)
    version = 6 if bind == "::" else 4
    with sock, wire.left.socket(INET if version == 4 else INET6, socket.SOCK_DGRAM) as caller:
        udp_socket.tell_local(sock)
        host = V4[1] if version == 4 else V6[1]
        caller.sendto(b"hello", (host, sock.getsockname()[1]))
        receiver = Receiver(sock, Arena(AREA), 0)
        assert receiver.receive()
        assert receiver.next(Train())
        assert from_raw(receiver.source).local == (ipaddress.ip_address(host) if told else None)


@pytest.mark.parametrize(("family", "host"), [(INET, V4[1]), (INET6, V4[1]), (INET6, V6[1])])
def test_where_the_address_is_gone_another_one_is_used_until_it_is_back(wire: Lab, family: int, host: str) -> None:
    prefix = host + ("/64" if ":" in host else "/24")
    with ends(wire, family, host) as (right, caller):
        source = called(right, caller, name(wire, host))
        free = from_raw(source).from_anywhere.raw(family)
        for singly, datagrams in ((0, [b"alone"]), (0, numbered(9)), (1, numbered(70))):
            right.counts[Private.SINGLY] = singly
            right.send(source, datagrams)
            assert came(caller, len(datagrams))[0] == {host}
            wire.right.address("eth0", prefix, "del")
            try:
                for _ in range(3):
                    right.send(source, datagrams)
                    addresses, data = came(caller, len(datagrams))
                    assert host not in addresses
                    assert data == datagrams
                udp_socket.send(right.sock, b"control", from_raw(source))
                assert came(caller, 1)[0] == addresses
            finally:
                wire.right.address("eth0", prefix)
            right.send(free, [b"aimed elsewhere"])
            assert came(caller, 1)[1] == [b"aimed elsewhere"]
            right.send(source, datagrams)
            assert came(caller, len(datagrams)) == ({host}, datagrams)
        assert right.counts[Count.FALLBACKS] == 0
        assert not right.drops


def test_an_address_that_is_back_is_used_again_though_nobody_says_so(wire: Lab) -> None:
    with ends(wire, INET6, V4[1]) as (right, caller):
        source = called(right, caller, name(wire, V4[1]))
        wire.right.address("eth0", V4[1] + "/24", "del")
        try:
            right.send(source, [b"gone"])
            assert V4[1] not in came(caller, 1)[0]
        finally:
            wire.right.address("eth0", V4[1] + "/24")

        def back() -> bool:
            right.send(source, [b"back?"])
            return came(caller, 1)[0] == {V4[1]}

        wait_for(back, 10, "sends from the address that is back")


def test_what_is_refused_for_another_reason_still_leaves_from_there_afterwards(wire: Lab) -> None:
    with ends(wire, INET6, V4[1]) as (right, caller):
        source = called(right, caller, name(wire, V4[1]))
        client = str(from_raw(source).address)
        wire.right.address("eth0", V4[1] + "/24", "del")
        right.send(source, [b"gone"])
        wire.right.address("eth0", V4[1] + "/24")
        right.send(from_raw(source).from_anywhere.raw(INET6), [b"elsewhere"])
        right.send(source, [b"and back"])
        assert came(caller, 3)[1] == [b"gone", b"elsewhere", b"and back"]
        wire.right.run(["ip", "route", "add", "blackhole", client])
        try:
            right.send(source, [b"lost"])
            right.send(source, numbered(9))
        finally:
            wire.right.run(["ip", "route", "del", "blackhole", client])
        assert right.drops == {"UNREACHABLE": 10}
        right.send(source, [b"alone"])
        assert came(caller, 1) == ({V4[1]}, [b"alone"])


def test_trains_that_are_too_long_for_the_way_go_by_datagram_from_there(wire: Lab) -> None:
    with ends(wire, INET6, V4[1]) as (right, caller):
        source = called(right, caller, name(wire, V4[1]))
        wire.right.link("eth0", mtu=1300)
        try:
            datagrams = numbered(9, 1400)
            right.send(source, datagrams)
            assert came(caller, 9) == ({V4[1]}, datagrams)  # in IP fragments
            assert right.counts[Count.FALLBACKS] == 1
            datagrams = numbered(9, 1200)
            right.send(source, datagrams)
            assert came(caller, 9) == ({V4[1]}, datagrams)
            assert right.counts[Private.IN_TRAINS] == 9
        finally:
            wire.right.link("eth0", mtu=1500)
        assert not right.drops


def test_a_form_of_another_family_is_refused() -> None:
    with udp_socket.open_socket("127.0.0.1", 0) as sock:
        sender = Sender(sock, Arena(ROOM), memoryview(bytearray(GROUP * 8)).cast("Q"), True, lambda _: None)
        right = from_sockaddr(sock.getsockname()).raw(INET)
        for wrong in (b"", right[:16], right + b"\0", from_raw(right).raw(INET6)):
            with pytest.raises(ValueError, match="no address and local"):
                sender.out.aim(wrong)
