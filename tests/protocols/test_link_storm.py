"""A cable in a storm of everything at once, by chance; afterwards it works."""

from collections.abc import Iterable
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tap2tap.protocols.secure.actions import OpenReceive, UseForSending
from tap2tap.protocols.secure.wire import OVERHEAD
from tests.support.simulated_cable import Cable, both
from tests.support.simulated_ends import at
from tests.support.simulated_network import DELAY, IP_AND_UDP, Fate

INCIDENTS = ["home restarts", "vps restarts", "home leaves", "vps leaves", "home moves", "replay all", "path changes"]
MTUS = [0, 1280, 1400, 1492, 1500]


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.6),
    repeat=st.floats(0, 0.5),
    slowness=st.floats(0, 4),
    reflect=st.floats(0, 0.3),
    flip=st.floats(0, 0.2),
    both_know=st.booleans(),
    sampled=st.booleans(),
    incidents=st.lists(
        st.tuples(st.integers(0, 180), st.sampled_from(INCIDENTS)),
        max_size=5,
    ),
)
@example(
    seed=4053,
    loss=0.0,
    repeat=0.0,
    slowness=0.0,
    reflect=0.0,
    flip=0.0,
    both_know=True,
    sampled=False,
    incidents=[(1, "path changes"), (117, "path changes")],
)
def test_after_any_storm_the_cable_works(
    seed: int,
    loss: float,
    repeat: float,
    slowness: float,
    reflect: float,
    flip: float,
    both_know: bool,
    sampled: bool,
    incidents: list[tuple[int, str]],
) -> None:
    cable = Cable(
        **(both(sampled=sampled) if both_know else {"home": {"sampled": sampled}, "vps": {"sampled": sampled}}),
        seed=seed,
    )
    network = cable.network
    chance = network.random.random

    def storm(datagram: bytes, source: Any, destination: Any) -> Iterable[Fate]:
        fates = []
        while chance() >= loss:
            what = datagram
            if chance() < flip:
                where = network.random.randrange(len(datagram))
                what = (
                    datagram[:where]
                    + bytes([datagram[where] ^ 1 << network.random.randrange(8)])
                    + datagram[where + 1 :]
                )
            fates.append((DELAY + slowness * chance(), what, source, destination))
            if chance() < reflect:
                fates.append((DELAY, datagram, destination, source))
            if chance() >= repeat:
                break
        return fates

    def happen(what: str) -> None:
        if what == "replay all":
            for datagram, source, destination in list(network.wire):
                network.inject(datagram, source, destination, chance())
        elif what == "path changes":
            network.mtu = network.random.choice(MTUS)
        elif what in ("home leaves", "vps leaves"):
            host = cable.home if what == "home leaves" else cable.vps
            if not host.gone:
                host.leave()
                network.after(1, host.restart)
        elif what == "home moves":
            cable.home.address = at("192.0.2.1", 1024 + network.random.randrange(60000))
        else:
            host = cable.home if what == "home restarts" else cable.vps
            if not host.gone:  # or it starts again soon
                host.restart()

    calm, network.policy = network.policy, storm
    for when, what in incidents:
        network.after(when, lambda what=what: happen(what))  # type: ignore[misc]
    for host in cable.hosts:
        network.every(0.7, 200, lambda host=host: host.send_frame(length=network.random.choice([0, 1514])))  # type: ignore[misc]
    network.run(200)
    network.policy = calm
    network.run(60)
    assert cable.works()
    for host in cable.hosts:  # whether the path takes as much as it did, tells what is as long
        network.every(0.2, 20, lambda host=host: host.send_frame(length=max(0, host.payload - OVERHEAD)))  # type: ignore[misc]
    network.run(40)
    for host in cable.hosts:
        assert len(host.inbound) <= 24
        opened = {action.index: action.key for _, action in host.log if isinstance(action, OpenReceive)}
        other = cable.vps if host is cable.home else cable.home
        for _, action in other.actions(UseForSending):
            assert isinstance(action, UseForSending)
            assert opened[action.index] == action.key  # nobody ever sent on what the other had not opened
        if network.mtu:
            assert host.payload <= network.mtu - IP_AND_UDP
    network.run(400)
    assert cable.works(1514)
    assert all(len(host.link._sessions) <= 4 for host in cable.hosts)
