"""The life of a cable on a simulated network: a session ends on time, also when nobody is there to end it."""

import pytest

from tap2tap.protocols.secure.actions import OpenReceive, UseForSending
from tap2tap.protocols.secure.limits import Timers
from tests.support.simulated_cable import Cable, both
from tests.support.simulated_network import DELAY

TIMERS = Timers()


def test_every_order_says_until_when_it_holds() -> None:
    cable = Cable(**both())
    cable.network.run(1000)
    for host in cable.hosts:
        opened = [(when, action) for when, action in host.log if isinstance(action, OpenReceive)]
        used = [(when, action) for when, action in host.log if isinstance(action, UseForSending)]
        assert len(opened) > 7
        assert len(used) > 7
        for when, open_ in opened:
            assert open_.until == when + TIMERS.reject_after
        for when, use in used:  # which comes a round trip after the handshake, at most
            life = TIMERS.reject_after - TIMERS.stop_before_reject
            assert when + life - 4 * DELAY < use.until <= when + life


@pytest.mark.parametrize("who", ["home", "vps", "both"])
def test_without_its_link_process_an_end_seals_and_accepts_nothing_when_the_session_is_over(who: str) -> None:
    """As when it is stopped, or blocked, for hours; the datagrams are on their way for half a minute."""
    cable = Cable()
    network = cable.network
    network.run(5)
    stopped = cable.hosts if who == "both" else (getattr(cable, who),)
    for host in stopped:
        host.stopped = True
    network.policy = lambda datagram, source, destination: [(30.0, datagram, source, destination)]
    for host in cable.hosts:
        network.every(1, 3 * 3600, host.send_frame)
    began = min(when for host in cable.hosts for when, _ in host.actions(OpenReceive))
    network.run(3 * 3600)
    for host in cable.hosts:
        assert began + TIMERS.reject_after - 5 < host.last_heard < began + TIMERS.reject_after + 1
    for host in stopped:
        (_, use), *others = host.actions(UseForSending)
        assert not others
        assert isinstance(use, UseForSending)
        assert host.last_sent < use.until < began + TIMERS.reject_after
        assert not host.seal(b"")
