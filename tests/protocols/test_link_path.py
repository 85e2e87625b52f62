"""What two real links measure of the path between them, and do about it: path MTU, reports, trains that vanish."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from tap2tap.endpoint import Endpoint
from tap2tap.protocols.secure.actions import PathMtu, PeerUp, SendControl, SendTrains
from tap2tap.protocols.secure.control import Kind
from tap2tap.protocols.secure.segmentation import VANISH
from tests.support.simulated import Host
from tests.support.simulated_cable import Cable, both, notes
from tests.support.simulated_ends import HOME, at
from tests.support.simulated_network import Fate

FULL = 1440  # bytes of a frame, which fits one datagram on a path of 1500
HOME_6, VPS_6 = at("2001:db8::1"), at("2001:db8::2")


@dataclass
class Path:
    """The policy of a network whose path has this MTU; datagrams of which `vanish` says so are lost, too."""

    mtu: int
    delay: float = 0.01
    dead: bool = False
    trains_vanish: bool = False
    in_train: bool = False  # what is being sent

    def __call__(self, datagram: bytes, source: Endpoint, destination: Endpoint) -> Iterable[Fate]:
        headers = 28 if isinstance(destination.address, ipaddress.IPv4Address) else 48
        if len(datagram) + headers > self.mtu or self.dead or (self.trains_vanish and self.in_train):
            return []
        return [(self.delay, datagram, source, destination)]


def cable_over(path: Path) -> Cable:
    cable = Cable()
    cable.network.policy = path
    return cable


def changes(host: Host) -> list[tuple[float, PathMtu]]:
    return [(when, action) for when, action in host.log if isinstance(action, PathMtu)]


def told(host: Host) -> list[int]:
    return [change.payload for _, change in changes(host) if change.told]


def in_trains(host: Host) -> bool:
    switches = [action.on for _, action in host.log if isinstance(action, SendTrains)]
    return not switches or switches[-1]


def controls(host: Host, kind: Kind) -> list[float]:
    return [when for when, what in host.actions(SendControl) if isinstance(what, SendControl) and what.text[0] == kind]


def bulk(cable: Cable, path: Path, seconds: float, *, full: bool = True) -> None:
    """Frames of home, at a hundred a second in trains of ten, each of which is echoed by a small one."""

    def send() -> None:
        path.in_train = in_trains(cable.home)
        for _ in range(10):
            before = cable.home.sealed
            cable.home.send_frame(length=FULL if full else 600)
            if path.in_train and cable.home.sealed > before:
                cable.home.in_trains += 1
        path.in_train = False
        cable.home.send_frame(length=60)
        cable.vps.send_frame(length=60)

    cable.network.every(0.1, seconds, send)
    cable.network.run(seconds)


@pytest.mark.parametrize("mtu", [1500, 1492, 1480, 1472, 1400, 1280])
def test_both_ends_find_the_path_within_four_seconds_and_say_so_once(mtu: int) -> None:
    cable = cable_over(Path(mtu))
    cable.network.run(4.5)
    for host in cable.hosts:
        assert host.payload == mtu - 28
        assert told(host) == [mtu - 28]


def test_a_path_of_1500_takes_one_round_trip() -> None:
    cable = cable_over(Path(1500, delay=0.2))
    cable.network.run(2)
    assert all(host.up for host in cable.hosts)
    for host in cable.hosts:
        (began, first), *later = changes(host)
        assert first == PathMtu(1252, told=False)
        assert min(when for when, change in later if change.payload == 1472) <= began + 0.41


def test_over_ipv6_it_is_20_bytes_less() -> None:
    cable = Cable(home={"remote": VPS_6})
    cable.home.address, cable.vps.address = HOME_6, VPS_6
    cable.network.policy = Path(1492)
    cable.network.run(5)
    assert [host.payload for host in cable.hosts] == [1444, 1444]


@pytest.mark.parametrize("mtu", [1000, 576])
def test_a_path_below_1280_is_found_over_ipv4(mtu: int) -> None:
    cable = cable_over(Path(mtu))
    cable.network.run(60)
    for host in cable.hosts:
        assert told(host) == [mtu - 28]
        assert host.payload == mtu - 28


def test_what_was_found_is_told_when_the_peer_is_up() -> None:
    """A search for what such a small tap needs ends at once."""
    cable = Cable(home={"mtu": 500}, vps={"mtu": 500})
    cable.network.run(1)
    for host in cable.hosts:
        said = [type(action) for _, action in host.log if isinstance(action, PathMtu | PeerUp)]
        assert said[0] is PeerUp
        assert len(told(host)) == 1


@pytest.mark.parametrize("seconds", [30, 150])
def test_ends_that_called_at_once_report_to_each_other(seconds: int) -> None:
    """Each sends on a session of its own, so what a report is about is another one than what it travels on."""
    path = Path(1500)
    cable = Cable(**both())
    cable.network.policy = path
    cable.network.run(5)
    one, other = (host.link._sessions.current for host in cable.hosts)
    assert one
    assert other
    assert one.peer_index != other.index
    probes = [len(controls(host, Kind.PROBE)) for host in cable.hosts]
    bulk(cable, path, seconds)
    for host, before in zip(cable.hosts, probes, strict=True):
        assert len(controls(host, Kind.REPORT)) > seconds / 2
        assert not host.actions(SendTrains)
        assert len(controls(host, Kind.PROBE)) - before < 12  # of two searches; a check every 2 s takes more
        status = host.link.status()
        assert status.round_trip == pytest.approx(0.02, abs=0.001)
        assert status.jitter < 0.001
        assert status.loss_out == 0
        assert status.loss_in < 0.01  # probes that were too long


def test_a_rekey_does_not_search_anew_and_probes_go_on_after_it() -> None:
    cable = cable_over(Path(1400))
    cable.network.run(400)
    assert cable.home.link.status().rekeys >= 3
    for host in cable.hosts:
        assert told(host) == [1372]
        assert [change.payload for _, change in changes(host)].count(1252) == 1
    path = Path(1500)
    cable.network.policy = path
    cable.network.run(620)
    assert [told(host) for host in cable.hosts] == [[1372, 1472]] * 2


def test_a_black_hole_is_noticed_within_three_seconds_of_traffic() -> None:
    path = Path(1500)
    cable = cable_over(path)
    cable.network.run(30)
    path.mtu = 1400
    began = cable.network.now
    bulk(cable, path, 10)
    assert min(when for when, change in changes(cable.home) if when > began) - began < 3
    assert told(cable.home) == [1472, 1372]
    assert cable.home.payload == 1372
    assert VANISH not in notes(cable.home)
    assert in_trains(cable.home)
    before = len(cable.vps.heard_frames)
    bulk(cable, path, 1)
    assert len(cable.vps.heard_frames) - before >= 109


def test_a_dead_path_lowers_nothing() -> None:
    path = Path(1500)
    cable = cable_over(path)
    cable.network.run(30)
    path.dead = True
    bulk(cable, path, 10)
    assert cable.home.payload == 1472
    sent = len(controls(cable.home, Kind.PROBE))
    assert sent < 50
    path.dead = False
    cable.network.run(60)
    assert cable.home.payload == 1472
    assert told(cable.home) == [1472]


def test_a_move_begins_at_the_floor_and_searches_the_new_path() -> None:
    path = Path(1500)
    cable = cable_over(path)
    cable.network.run(30)
    path.mtu = 1400
    cable.home.address = at("203.0.113.77")
    cable.home.send_frame()
    cable.network.run(6)
    assert told(cable.vps) == [1472, 1372]
    assert [change.payload for _, change in changes(cable.vps)].count(1252) == 2


def test_an_idle_tunnel_sends_no_reports_and_few_probes() -> None:
    cable = cable_over(Path(1400))
    cable.network.run(100)
    before = [len(controls(host, Kind.PROBE)) for host in cable.hosts]
    cable.network.run(1200)
    for host, probes in zip(cable.hosts, before, strict=True):
        assert not controls(host, Kind.REPORT)
        assert len(controls(host, Kind.PROBE)) - probes <= 20


def test_traffic_tells_round_trip_and_no_loss_for_a_hundredth_of_its_bytes() -> None:
    path = Path(1500, delay=0.03)
    cable = cable_over(path)
    cable.network.run(10)
    bulk(cable, path, 20)
    for host in cable.hosts:
        status = host.link.status()
        assert status.round_trip == pytest.approx(0.06, abs=0.001)
        assert status.jitter < 0.001
        assert status.loss_out == 0
        assert status.loss_in < 0.01  # of the peer's probes some are too long
        assert 17 <= len(controls(host, Kind.REPORT)) <= 21
    assert not cable.home.actions(SendTrains)


def test_loss_is_told_by_direction() -> None:
    path = Path(1500)
    cable = cable_over(path)
    cable.network.run(10)
    dice = cable.network.random

    def lossy(datagram: bytes, source: Endpoint, destination: Endpoint) -> Iterable[Fate]:
        return [] if source == HOME and dice.random() < 0.1 else path(datagram, source, destination)

    cable.network.policy = lossy
    bulk(cable, path, 30)
    assert cable.home.link.status().loss_out == pytest.approx(0.1, abs=0.06)
    assert cable.vps.link.status().loss_in == pytest.approx(0.1, abs=0.06)
    assert cable.home.link.status().loss_in < 0.01
    assert cable.home.payload == 1472


@pytest.mark.parametrize("rest", [0.0, 0.35, 0.7])
def test_trains_that_vanish_are_found_within_three_seconds(rest: float) -> None:
    path = Path(1500, trains_vanish=True)
    cable = cable_over(path)
    cable.network.run(30 + rest)
    began = cable.network.now
    bulk(cable, path, 5)
    (when, switch), *more = cable.home.actions(SendTrains)
    assert switch == SendTrains(False)
    assert when - began < 3
    assert not more
    assert notes(cable.home) == [VANISH]
    assert cable.home.payload == 1472
    assert not cable.vps.actions(SendTrains)


def test_trains_that_arrive_are_left_alone_over_rekeys() -> None:
    path = Path(1500)
    cable = cable_over(path)
    cable.network.run(5)
    bulk(cable, path, 130)
    assert cable.home.link.status().rekeys >= 1
    assert not cable.home.actions(SendTrains)
    assert told(cable.home) == [1472]
    assert len(changes(cable.home)) <= 4


def test_the_kernel_knows_that_a_datagram_is_too_long() -> None:
    path = Path(1400)
    cable = cable_over(path)
    cable.network.run(0.05)
    cable.home.act(cable.home.link.too_long(cable.network.now, 1472))
    cable.network.run(5)
    assert told(cable.home) == [1372]
    cable.home.act(cable.home.link.too_long(cable.network.now, 1372))
    assert cable.home.payload == 1252
