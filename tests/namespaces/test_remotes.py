"""Where the peer may be: names with several addresses, and names, interfaces and routes that come late."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tap2tap.demo.host import IPV6
from tap2tap.demo.lab import Host, Lab, wait_for
from tests.conftest import lacking
from tests.support import timed
from tests.support.command import mistake, tap2tap
from tests.support.nft import nft
from tests.support.planted import names, planted
from tests.support.secured import IMPATIENT, make_keys, plugged_in
from tests.support.tunnel import COMMAND, RIGHT, Tunnel, address, ping, wait_ping

NAME = "far-end.example"
NO_SUCH_NAME = f"cannot resolve the remote '{NAME}': Name or service not known: check the name, or give an address"


QUICK = planted("from tap2tap.supervisor import turns\nturns.UNANSWERED = turns.GRACE = 1.0")
IMPATIENT_START = planted("from tap2tap.supervisor import candidates\ncandidates.FIRST_WAIT = 0.0")
KEY = pytest.mark.parametrize("key", [False, True], ids=["plain", "key"])


@contextmanager
def tunnels(lab: Lab, folder: Path, remote: str, *, key: bool, hosts: str = "", resolv: str = "") -> Iterator[Tunnel]:
    """A server on the right, and a client on the left, which finds its names in files of its own."""
    home, vps = make_keys(folder) if key else ("", "")
    one, two = (["--key", home], ["--key", vps]) if key else ([], [])
    command = timed.command(IMPATIENT) if key else COMMAND
    with (
        Tunnel(lab.right, *two, command=command),
        Tunnel(lab.left, *one, "--remote", remote, prefix=names(folder, hosts, resolv), command=command) as client,
    ):
        address(lab.left, lab.right)
        yield client


def dead(host: Host, *addresses: str) -> None:
    """Have these addresses of a host neither hear nor say anything on port 1234, and all others do."""
    with suppress(subprocess.CalledProcessError):
        host.run(["nft", "delete", "table", "inet", "dead"])
    rules = []
    for each in addresses:
        version = "ip6" if ":" in each else "ip"
        rules.append(f"add rule inet dead in {version} daddr {each} udp dport 1234 drop")
        rules.append(f"add rule inet dead out {version} saddr {each} udp sport 1234 drop")
    chains = [f"add chain inet dead {hook} {{ type filter hook {hook}put priority 0 ; }}" for hook in ("in", "out")]
    nft(host, "add table inet dead", *chains, *rules)


def test_an_address_that_does_not_answer_is_left_for_another(lab: Lab, tmp_path: Path) -> None:
    one, other = both_addresses(lab.right)
    dead(lab.right, one)
    with tunnels(lab, tmp_path, NAME, key=True, hosts=f"{one} {NAME}\n{other} {NAME}\n") as client:
        wait_ping(lab.left, RIGHT)
        assert client.stats()["peer"] == f"{other}:1234"
        dead(lab.right, other)
        wait_for(lambda: client.stats()["peer"] == f"[{one}]:1234" and ping(lab.left, RIGHT), what="echo")


def both_addresses(host: Host) -> tuple[str, str]:
    """The IPv6 and the IPv4 address."""
    if not IPV6.exists():
        lacking("IPv6")
    return host.ipv6, host.ipv4


@contextmanager
def far_end(host: Host, *addresses: str) -> Iterator[set[str]]:
    """Something that answers an empty datagram to any of `addresses` which is in the set at that time."""
    answering: set[str] = set()
    sockets = {}
    for each in addresses:
        family = socket.AF_INET6 if ":" in each else socket.AF_INET
        sockets[each] = host.socket(family, socket.SOCK_DGRAM)
        sockets[each].bind((each, 1234))

    def serve(own: str, sock: socket.socket) -> None:
        while True:
            data, client = sock.recvfrom(2048)
            if data == b"end":
                return
            if own in answering and not data:
                sock.sendto(b"", client)

    threads = [threading.Thread(target=serve, args=each) for each in sockets.items()]
    for thread in threads:
        thread.start()
    try:
        yield answering
    finally:
        for each, sock in sockets.items():
            sock.sendto(b"end", (each, 1234))
        for thread in threads:
            thread.join()
        for sock in sockets.values():
            sock.close()


def test_without_a_key_one_that_stops_answering_is_left_again(lab: Lab, tmp_path: Path) -> None:
    """And one that comes to answer late is found."""
    one, other = both_addresses(lab.right)
    prefix = names(tmp_path, f"{one} {NAME}\n")
    with (
        far_end(lab.right, one, other) as answering,
        Tunnel(
            lab.left, "--remote", NAME, "--remote", other, "--keepalive", "1", prefix=prefix, command=QUICK
        ) as client,
    ):
        answering.add(other)
        client.wait_said(f"the remote answers remote={other}:1234")
        answering.add(one)
        answering.remove(other)
        client.wait_said(f"the remote answers remote=[{one}]:1234")
        assert client.stats()["peer"] == f"[{one}]:1234"


@KEY
def test_a_name_that_is_not_known_yet_is_waited_for(lab: Lab, tmp_path: Path, key: bool) -> None:
    with tunnels(lab, tmp_path, NAME, key=key, hosts="127.0.0.1 localhost\n") as client:
        assert client.said(f"waiting for a name service that knows '{NAME}'")
        assert client.said("remote='not known yet'")
        assert plugged_in(lab.left) is not key
        (tmp_path / "hosts").write_text(f"{lab.right.ipv4} {NAME}\n")
        wait_ping(lab.left, RIGHT)
        assert client.said("the name of the remote is known now")
        assert sum("name service" in line for line in client.log) == 1


class NameService:
    """Knows no name, and says so once `answers` is set; `asked` is when it was asked."""

    def __init__(self, sock: socket.socket) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()
        self._sock = sock
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while query := self._sock.recvfrom(512):
            data, client = query
            if not data:
                return
            self.asked.set()
            if self.answers.wait(30):  # RFC 1035, 4.1.1: QR, RD, RA, and RCODE 3: the name does not exist
                self._sock.sendto(data[:2] + b"\x81\x83" + data[4:6] + bytes(6) + data[12:], client)

    def close(self) -> None:
        """End it."""
        self.answers.set()
        self._sock.sendto(b"", self._sock.getsockname())
        self._thread.join()


@pytest.fixture
def name_service(lab: Lab) -> Iterator[NameService]:
    """One on the right host."""
    with lab.right.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((lab.right.ipv4, 53))
        with closing(NameService(sock)) as service:
            yield service


def test_a_name_that_does_not_exist_ends_the_start(lab: Lab, tmp_path: Path, name_service: NameService) -> None:
    name_service.answers.set()
    prefix = names(tmp_path, "", f"nameserver {lab.right.ipv4}\n")
    mistake(tap2tap("--remote", NAME, host=lab.left, prefix=prefix), 1, NO_SUCH_NAME)


def test_and_also_when_that_is_known_late(lab: Lab, tmp_path: Path, name_service: NameService) -> None:
    prefix = names(tmp_path, "", f"nameserver {lab.right.ipv4}\noptions timeout:30\n")
    client = Tunnel(lab.left, "--remote", NAME, prefix=[*prefix, "env", "RES_OPTIONS="], command=IMPATIENT_START)
    name_service.answers.set()
    assert client.wait() == 1
    assert client.said(NO_SUCH_NAME)


def test_while_a_name_service_is_silent_signals_are_obeyed(lab: Lab, tmp_path: Path, name_service: NameService) -> None:
    prefix = [*names(tmp_path, "", f"nameserver {lab.right.ipv4}\n"), "env", "RES_OPTIONS=timeout:30"]
    patient = planted("from tap2tap.supervisor import candidates\ncandidates.FIRST_WAIT = 60.0")
    client = Tunnel(lab.left, "--remote", NAME, prefix=prefix, command=patient, wait=False)
    assert name_service.asked.wait(30)
    assert client.stop() == 0
    assert client.wait() == 0
    assert not client.said("waiting for a name service")


def test_a_route_that_is_not_there_yet_is_waited_for(lab: Lab, tmp_path: Path) -> None:
    lab.left.route("del", "10.213.0.0/24")
    with tunnels(lab, tmp_path, lab.right.ipv4, key=True) as client:
        client.wait_said(
            f"no route to the peer, waiting for one (ip route get tells more) remote={lab.right.ipv4}:1234"
        )
        lab.left.route("add", "10.213.0.0/24")
        client.wait_said(f"there is a route to the peer remote={lab.right.ipv4}:1234")
        wait_ping(lab.left, RIGHT)


def test_an_interface_that_was_made_anew_is_found(lab: Lab, tmp_path: Path) -> None:
    if not IPV6.exists():
        lacking("IPv6")

    def wire() -> None:
        for host, own in ((lab.left, "fe80::1"), (lab.right, "fe80::2")):
            host.address("eth0", f"{own}/64")

    wire()
    with tunnels(lab, tmp_path, "fe80::2%eth0", key=True) as client:
        wait_ping(lab.left, RIGHT)
        before = lab.left.index("eth0")
        lab.left.delete_link("eth0")
        client.wait_said("waiting for the interface of the remote")
        lab._veth(lab.left, "other", lab.right, "eth0")
        lab.left.link("other", state="down")
        lab.left.link("other", ifname="eth0", state="up")
        assert lab.left.index("eth0") != before
        wire()
        wait_ping(lab.left, RIGHT)


def test_an_address_to_which_there_is_no_route_any_more_is_left_at_once(lab: Lab, tmp_path: Path) -> None:
    """The keepalive of 25 seconds would tell much later."""
    one, other = both_addresses(lab.right)
    home, vps = make_keys(tmp_path)
    prefix = names(tmp_path, f"{one} {NAME}\n{other} {NAME}\n")
    with Tunnel(lab.right, "--key", vps), Tunnel(lab.left, "--key", home, "--remote", NAME, prefix=prefix) as client:
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        lost, kept = (one, other) if one in client.stats()["peer"] else (other, one)
        lab.left.run(["ip", "route", "add", "unreachable", lost])
        client.wait_said("peer moved endpoint=", 10)
        assert kept in client.stats()["peer"]
        wait_ping(lab.left, RIGHT)
        assert not client.said("no route to the peer")


@KEY
def test_a_route_into_the_tunnel_itself_is_told_and_does_no_harm(lab: Lab, tmp_path: Path, key: bool) -> None:
    """Each datagram would come back as a longer frame, and then as two, without end."""
    with tunnels(lab, tmp_path, lab.right.ipv4, key=key) as client:
        wait_ping(lab.left, RIGHT)
        lab.left.route("add", f"{lab.right.ipv4}/32", "tap0")
        client.wait_said(f"the route to {lab.right.ipv4} leads into this tunnel: ")
        lab.left.run(["ip", "neigh", "replace", lab.right.ipv4, "dev", "tap0", "lladdr", "02:00:00:00:00:01"])
        assert not ping(lab.left, RIGHT)
        wait_for(lambda: not plugged_in(lab.left), what="end of the loop")
        lab.left.route("del", f"{lab.right.ipv4}/32", "tap0")
        wait_for(lambda: plugged_in(lab.left), what="carrier")
        wait_ping(lab.left, RIGHT)
        assert sum("leads into this tunnel: " in line for line in client.log) == 1
        assert not client.said("frames are too long")
