"""A server that starts again calls where its client was, and nobody else."""

import time
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

import pytest

from tap2tap.demo.lab import Host, Lab, wait_for
from tap2tap.endpoint import Endpoint
from tap2tap.peer_record import unpack
from tap2tap.protocols.secure import wire
from tap2tap.supervisor import call_back
from tests.support.secured import Datagram, Sniffer, make_keys, plugged_in, secure, secured, wait_up
from tests.support.tunnel import LEFT, RIGHT, Tunnel, address, wait_ping

pytestmark = pytest.mark.usefixtures("root")

SOON = 8.0  # seconds; without a call it takes 17


def record(key: str) -> Path:
    """The record of a tunnel with a key."""
    return call_back.folder() / call_back.name(key)


def remembered(key: str) -> Endpoint | None:
    """Where the peer is, as it tells."""
    return unpack(record(key).read_bytes(), time.time()) if record(key).exists() else None


def remembers(key: str) -> bool:
    """Whether it tells where the peer is."""
    return remembered(key) is not None


def initiations(datagrams: Iterable[Datagram], host: Host) -> int:
    """How many a host sent."""
    return sum(each.source[0] == host.ipv4 and wire.is_initiation(each.payload) for each in datagrams)


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_a_server_that_starts_again_calls_its_client(lab: Lab, tmp_path: Path, how: str) -> None:
    home, vps = make_keys(tmp_path)
    with secure(lab.left, home, "--remote", lab.right.ipv4, "--keepalive", "0") as client:
        with secure(lab.right, vps) as server:
            address(lab.left, lab.right)
            wait_ping(lab.left, RIGHT)
            wait_for(lambda: remembers(vps), what="record")
            assert record(vps).stat().st_mode & 0o777 == 0o600
            assert remembered(vps) == Endpoint(ip_address(lab.left.ipv4), 1234, local=ip_address(lab.right.ipv4))
            if how == "killed":
                server.process.kill()
                server.wait()
                wait_for(lambda: not lab.right.has_link("tap0"), what="end of the tap")
        assert remembers(vps)
        with Sniffer(lab.right) as wire_, secure(lab.right, vps) as server:
            server.wait_said("peer is up", SOON)
            if how == "killed":
                assert not client.said("peer is down")
                assert initiations(wire_.datagrams, lab.right) >= 1
            wait_up(client, server)
            lab.right.address("tap0", f"{RIGHT}/24")
            wait_ping(lab.right, LEFT)


def test_one_that_said_goodbye_is_called_no_more(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    with secure(lab.right, vps) as server:
        with secure(lab.left, home, "--remote", lab.right.ipv4) as client:
            wait_up(client, server)
            wait_for(lambda: remembers(vps), what="record")
        wait_for(lambda: not remembers(vps), what="end of the record")
    with (
        Sniffer(lab.right) as wire_,
        secure(lab.right, vps) as server,
        secure(lab.left, home, "--remote", lab.right.ipv4) as client,
    ):
        wait_up(client, server)
        assert not initiations(wire_.stop(), lab.right)


def test_a_client_and_who_does_not_want_it_write_nothing(lab: Lab, tmp_path: Path) -> None:
    with secured(lab.left, lab.right, tmp_path, "--no-call-back") as tunnels:
        wait_up(*tunnels)
        wait_for(lambda: plugged_in(lab.left), what="carrier")
        assert not record(str(tmp_path / "vps.key")).exists()
        assert not record(str(tmp_path / "home.key")).exists()


def test_rubbish_in_the_record_is_as_good_as_nothing(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    with Tunnel(lab.right, "--key", vps):
        pass
    record(vps).write_bytes(b"T2TPEER\0" + b"\xff" * 100)
    with secure(lab.right, vps) as server, secure(lab.left, home, "--remote", lab.right.ipv4) as client:
        wait_up(client, server)
        wait_for(lambda: remembers(vps), what="record")
        assert not server.said("cannot remember")
