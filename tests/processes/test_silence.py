"""What a secure end shows to others: nothing to read on the wire, and no answer to a wrong key or to no key."""

import random
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tap2tap.demo.lab import Lab, wait_for
from tap2tap.protocols.secure import wire
from tests.support.secured import IMPATIENT, Sniffer, make_keys, secure, secured
from tests.support.traffic import bulk
from tests.support.tunnel import LEFT, RIGHT, Tunnel, address, joined, ping


def silent(told: Iterable[bytes]) -> bool:
    """Whether there were initiations on the wire, and nothing else."""
    return {(each[0], len(each)) for each in told} == {(wire.TYPE_INITIATION, 100)}


@pytest.mark.parametrize("fault", ["wrong-key", "same-file"])
def test_a_wrong_key_is_silence_on_the_wire_and_one_line_at_home(lab: Lab, tmp_path: Path, fault: str) -> None:
    home, _ = make_keys(tmp_path)
    vps = make_keys(tmp_path, "other-")[1] if fault == "wrong-key" else home
    line = "a handshake failed authentication" if fault == "wrong-key" else "do both ends use the same key file"
    with (
        Sniffer(lab.right) as sniffer,
        secure(lab.right, vps, timers=IMPATIENT) as server,
        secure(lab.left, home, "--remote", lab.right.ipv4, timers=IMPATIENT) as client,
    ):
        address(lab.left, lab.right)
        server.wait_said(line)
        client.wait_said("no answer from the peer")
        wait_for(lambda: len(sniffer.datagrams) >= 3, 30, "further attempts")
        assert len([each for each in server.log if line in each]) == 1
        assert len([each for each in client.log if "no answer from the peer" in each]) == 1
        assert not any(tunnel.said("peer is up") for tunnel in (client, server))
        assert not any(tunnel.worker("inbound")["frames"] for tunnel in (client, server))
        told = sniffer.stop()
    assert silent(each.payload for each in told)
    assert {each.source[0] for each in told} == {lab.left.ipv4}


@pytest.mark.parametrize("plain", ["client", "server"])
def test_a_plain_peer_cannot_talk_a_secure_one_into_anything(lab: Lab, tmp_path: Path, plain: str) -> None:
    home, vps = make_keys(tmp_path)
    keys = [["--key", key] for key in (home, vps)]
    keys[plain == "server"] = []
    with (
        Sniffer(lab.right) as sniffer,
        Tunnel(lab.right, *keys[1]) as right,
        Tunnel(lab.left, "--remote", lab.right.ipv4, *keys[0]) as left,
    ):
        address(lab.left, lab.right)
        secured_end, plain_end = (right, left) if plain == "client" else (left, right)
        host, target = (lab.left, RIGHT) if plain == "client" else (lab.right, LEFT)
        wait_for(lambda: not ping(host, target) and secured_end.worker("inbound")["datagrams"], 30, "plain frames")
        assert secured_end.worker("inbound")["frames"] == 0
        assert secured_end.worker("inbound")["dropped"]
        assert not secured_end.said("peer is up")
        assert plain_end.stats()["session"] is None
        told = [each.payload for each in sniffer.stop() if each.source[0] == secured_end.host.ipv4]
    assert not told if plain == "client" else silent(told)


@pytest.mark.parametrize("join", [secured, joined], ids=["secure", "plain"])
def test_the_wire_shows_plaintext_only_without_a_key(lab: Lab, tmp_path: Path, join: Any) -> None:
    marker, size = b"tap2tap-marker-" * 8, 1 << 20
    options = [tmp_path] if join is secured else []
    with Sniffer(lab.right) as sniffer, join(lab.left, lab.right, *options):
        with (
            lab.right.socket(socket.AF_INET, socket.SOCK_DGRAM) as into,
            lab.left.socket(socket.AF_INET, socket.SOCK_DGRAM) as out,
        ):
            into.bind((RIGHT, 7777))
            into.settimeout(20)
            for _ in range(50):
                out.sendto(marker, (RIGHT, 7777))
                assert into.recv(4096) == marker
        bulk(lab.left, lab.right, RIGHT, size=size)
    text = b"\n".join(each.payload for each in sniffer.stop())
    assert len(text) > size
    addresses = socket.inet_aton(LEFT) + socket.inet_aton(RIGHT)
    for plaintext in (marker[:15], addresses, random.Random(size).randbytes(size)[:64]):
        assert (plaintext in text) == (join is joined)
