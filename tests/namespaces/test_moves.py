"""A peer that seems to move is followed at once, is sent little, and is not believed for long if it does not answer."""

from pathlib import Path

from tap2tap.demo.lab import Lab
from tap2tap.protocols.secure import wire
from tests.processes.test_secure_presence import wait_peer
from tests.processes.test_secure_tunnel import load
from tests.support.secured import Fate, Relay, secured
from tests.support.tunnel import LEFT, wait_ping

PATH_CHECK = 36  # bytes, as no other control datagram; and its answer
LIMIT = 256 << 10  # bytes


def test_an_address_that_does_not_answer_is_sent_little_and_left_again(road: Lab, tmp_path: Path) -> None:
    middle = road["middle"].ipv4
    with (
        Relay(road["middle"], road.right.ipv4) as nat,
        secured(road.left, road.right, tmp_path, "--keepalive", "1", remote=middle) as (_, server),
    ):
        first = f"{middle}:{nat.port}"
        wait_peer(server, first)
        server.wait_said(": path mtu ")
        limited = len(nat.recorded)

        def deaf(datagram: bytes, outward: bool) -> list[Fate]:
            check = datagram[0] == wire.TYPE_CONTROL and len(datagram) == PATH_CHECK
            return [] if check and not outward else [(datagram, outward)]

        nat.policy = deaf
        with load((road.right, LEFT)):
            other = f"{middle}:{nat.rebind()}"
            server.wait_said(f"peer moved endpoint={other}")
            server.wait_said(f"peer moved endpoint={first}")
        nat.forget()  # the mapping of before is the one again
        assert sum(len(datagram) for datagram, outward in nat.recorded[limited:] if not outward) < 2 * LIMIT
        assert server.worker("outbound")["dropped"].get("unchecked", 0) > 0
        assert server.stats()["peer"] == first
        nat.policy = lambda datagram, outward: [(datagram, outward)]
        wait_ping(road.right, LEFT)
