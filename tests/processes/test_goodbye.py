"""A clean end says goodbye, and the far end knows at once; what comes too late, or from a crash, is none."""

import os
import signal
from pathlib import Path

import pytest

from tap2tap.demo.lab import Lab, wait_for
from tap2tap.protocols.secure import wire
from tests.processes.test_ends import script
from tests.processes.test_secure_presence import Diary
from tests.processes.test_secure_tunnel import load
from tests.support.datagrams import take_apart
from tests.support.link import kill_link
from tests.support.secured import (
    Datagram,
    Fate,
    Relay,
    Sniffer,
    assert_no_nonce_repeats,
    make_keys,
    plugged_in,
    secure,
    secured,
    wait_up,
)
from tests.support.tunnel import LEFT, RIGHT, address, ping, wait_ping

LENGTH = 28  # bytes of a goodbye: no other control datagram is so short
SOON = 10.0  # seconds; without a goodbye it takes a minute


def is_goodbye(payload: bytes) -> bool:
    """Whether it looks like one, to somebody without the keys."""
    return len(payload) == LENGTH and payload[0] == wire.TYPE_CONTROL


@pytest.mark.parametrize(("leaves", "number"), [("client", signal.SIGINT), ("server", signal.SIGTERM)])
def test_the_far_end_is_unplugged_at_once(lab: Lab, tmp_path: Path, leaves: str, number: signal.Signals) -> None:
    diary = Diary(tmp_path, "both")
    with (
        Sniffer(lab.left) as wire_,
        secured(lab.left, lab.right, tmp_path, "--on-peer", diary.hook) as (client, server),
    ):
        wait_up(client, server)
        leaving, staying = (client, server) if leaves == "client" else (server, client)
        gone, host = (lab.left, lab.right) if leaves == "client" else (lab.right, lab.left)
        assert plugged_in(host)
        with load((lab.left, RIGHT), (lab.right, LEFT)):
            assert leaving.stop(number) == 0
        wait_for(lambda: not plugged_in(host), SOON, f"end of the carrier: {staying.log}")
        staying.wait_said("peer is down reason='it said goodbye'")
        wait_for(lambda: ("peer-down", f"{gone.ipv4}:1234", "tap0") in diary.entries, SOON, "hook")
        assert staying.stats()["session"]["cipher"] is None
        sent = wire_.stop()
    assert_no_nonce_repeats(sent)
    told = last_of(sent, (gone.ipv4, 1234))
    assert [is_goodbye(each.payload) for each in told[-3:]] == [False, True, True]


def last_of(datagrams: list[Datagram], source: tuple[str, int]) -> list[Datagram]:
    """The data datagrams of one end on its last session, in the order of their counters."""
    sent = [each for each in datagrams if each.source == source and each.payload[0] >= wire.TYPE_DATA]
    last = take_apart(sent[-1].payload)[1]
    return sorted(
        (each for each in sent if take_apart(each.payload)[1] == last), key=lambda each: take_apart(each.payload)[2]
    )


def test_it_comes_before_the_down_hook_and_after_the_workers(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    left, gate = tmp_path / "left", tmp_path / "gate"
    os.mkfifo(gate)
    down = script(tmp_path / "hook", f"ps -o comm= --ppid $TAP2TAP_PID > {left}; read line < {gate}")
    with (
        secure(lab.right, vps, "--down", down) as server,
        secure(lab.left, home, "--remote", lab.right.ipv4) as client,
    ):
        wait_up(client, server)
        before = {child.name() for child in server.descendants()}
        assert {"outbound:tap0", "inbound:tap0"} < before
        server.process.terminate()
        client.wait_said("peer is down reason='it said goodbye'", SOON)
        gate.write_text("\n")  # not before the hook reads
        assert server.wait() == 0
        assert not {"outbound:tap0", "inbound:tap0"} & {*left.read_text().split()}


def test_one_that_was_held_back_does_nothing_to_the_next_life(road: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    held: list[Fate] = []

    def hold(datagram: bytes, outward: bool) -> list[Fate]:
        if is_goodbye(datagram):
            held.append((datagram, outward))
            return []
        return [(datagram, outward)]

    with (
        Relay(road["middle"], road.right.ipv4) as relay,
        secure(road.left, home, "--remote", road["middle"].ipv4) as client,
    ):
        relay.policy = hold
        with secure(road.right, vps) as server:
            wait_up(client, server)
        wait_for(lambda: len(held) == 2, what="goodbyes")
        assert not client.said("peer is down")
        before = client.stats()["session"]["rekeys"]
        with secure(road.right, vps) as server:
            wait_for(lambda: client.stats()["session"]["rekeys"] > before, 60, f"new session: {client.log}")
            wait_up(server)
            address(road.left, road.right)
            wait_ping(road.left, RIGHT)
            for fate in held:
                relay.send(*fate)
            assert ping(road.left, RIGHT)
            assert ping(road.right, LEFT)
            assert plugged_in(road.left)
            assert not client.said("peer is down")
            relay.policy = lambda datagram, outward: [(datagram, outward)]


def test_a_crash_says_none_and_a_link_that_hangs_holds_up_no_end(lab: Lab, tmp_path: Path) -> None:
    with Sniffer(lab.left) as wire_, secured(lab.left, lab.right, tmp_path) as (client, server):
        wait_up(client, server)
        kill_link(client, signal.SIGSTOP)
        assert client.stop() == 0
        server.process.kill()
        server.wait()
        assert not any(is_goodbye(each.payload) for each in wire_.stop())


def test_an_end_without_a_peer_has_nobody_to_tell(lab: Lab, tmp_path: Path) -> None:
    home, _ = make_keys(tmp_path)
    with Sniffer(lab.right) as wire_, secure(lab.left, home, "--remote", lab.right.ipv4) as client:
        assert client.stop() == 0
        assert {len(each.payload) for each in wire_.stop()} <= {wire.INITIATION_LENGTH}
