"""A tap that somebody else has made: an ordinary user may have it, other programs may hold it, and it may move."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tap2tap import device
from tap2tap.demo.lab import Host, Lab
from tests.support.command import mistake, tap2tap
from tests.support.secured import make_keys
from tests.support.taps import ORDINARY, UID, attached, make, state
from tests.support.traffic import bulk
from tests.support.tunnel import LEFT, RIGHT, Tunnel, address, wait_ping

OTHER = "02:00:00:00:00:17"


# An ordinary user


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of that user's."""
    with TemporaryDirectory() as folder:
        os.chown(folder, UID, UID)
        yield Path(folder)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(("keyed", "queues"), [(False, ["multi_queue"]), (True, [])], ids=["plain", "key"])
def test_an_ordinary_user_needs_nothing_but_a_tap_that_is_set_up(
    lab: Lab, home: Path, queues: list[str], *, keyed: bool
) -> None:
    make(lab.left, "user", str(UID), *queues)
    lab.left.link("tap0", mtu=1434, state="up")
    before = state(lab.left)
    client, server = ([], [])
    if keyed:
        client, server = (["--key", key] for key in make_keys(home))
        os.chown(client[1], UID, UID)
    with (
        Tunnel(lab.right, *server),
        Tunnel(lab.left, "--remote", lab.right.ipv4, *client, **ORDINARY) as tunnel,
    ):
        assert tunnel.stats()["mtu"] == 1434
        assert tunnel.said("mtu=1434")
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        assert state(lab.left).gso[1] == before.gso[1]  # super-frames of any size come
        assert state(lab.left).offloads
        bulk(lab.left, lab.right, RIGHT, size=1 << 20)
        bulk(lab.right, lab.left, LEFT, size=1 << 20)
        assert tunnel.stop() == 0
    warnings = [line for line in tunnel.log if "warning: " in line]
    assert not [line for line in warnings if "no --key" not in line and "data plane: interpreted" not in line]
    assert state(lab.left) == before


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("options", "command"),
    [
        ([], "ip link set tap0 up"),
        (["--mtu", "1400", "--mac", OTHER], f"ip link set tap0 address {OTHER} mtu 1400 up"),
    ],
    ids=["down", "other"],
)
def test_what_he_may_not_set_is_a_command_for_root(lab: Lab, options: list[str], command: str) -> None:
    make(lab.left, "user", str(UID))
    lab.left.link("tap0", mtu=1300)
    before = state(lab.left)
    mistake(tap2tap("-i", "tap0", *options, host=lab.left, **ORDINARY), 4, f"have root run '{command}'$")
    assert state(lab.left) == before
    lab.left.run(command.split())
    with Tunnel(lab.left, *options, **ORDINARY):
        pass


@pytest.mark.usefixtures("root")
def test_a_tap_of_somebody_else_is_not_his(lab: Lab) -> None:
    make(lab.left, "user", str(UID + 1))
    done = tap2tap("-i", "tap0", host=lab.left, **ORDINARY)
    mistake(done, 4, f"no permission to use tap0, .* have root run 'ip tuntap add OTHER mode tap user {UID}'")


@pytest.mark.usefixtures("root")
def test_a_tap_that_is_longer_than_any_datagram_is_not_taken_as_it_is(lab: Lab) -> None:
    make(lab.left, "user", str(UID))
    lab.left.link("tap0", mtu=65521, state="up")
    mistake(tap2tap("-i", "tap0", host=lab.left, **ORDINARY), 4, f"'ip link set tap0 mtu {device.MAX_MTU}'")


# In use


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("queues", [[], ["multi_queue"]], ids=["single-queue", "multi-queue"])
def test_a_tap_that_another_program_holds_is_an_error_that_names_it(lab: Lab, queues: list[str]) -> None:
    make(lab.left, "user", str(UID), *queues)
    with Tunnel(lab.left) as tunnel:
        carrier = state(lab.left).carrier
        done = tap2tap("-i", "tap0", "--port", "1235", host=lab.left)
        mistake(done, 1, r"interface tap0 is in use by tap2tap:\S+ \(pid \d+\): choose another name with --iface")
        pid = int(done.stderr.split("(pid ")[1].split(")")[0])
        assert pid in {tunnel.pid, *(each.pid for each in tunnel.descendants())}
        done = tap2tap("-i", "tap0", "--port", "1235", host=lab.left, **ORDINARY)
        mistake(done, 1, "interface tap0 is in use by another program: ")  # he may not look into ours
        assert state(lab.left).carrier == carrier


def test_a_program_that_attaches_later_is_told_of_once(lab: Lab) -> None:
    make(lab.left, "multi_queue")
    line = "another program has attached to this multi-queue tap"
    with Tunnel(lab.left) as tunnel:
        tunnel.wait_settled()
        assert not tunnel.said(line)
        with attached(lab.left, multi_queue=True):
            tunnel.wait_said(line)
        assert tunnel.stop() == 0
    assert len([each for each in tunnel.log if line in each]) == 1


# Moved


def test_a_tap_goes_on_in_another_network_namespace_by_another_name(lab: Lab) -> None:
    with (
        closing(Host("room")) as room,
        Tunnel(lab.right) as server,
        Tunnel(lab.left, "--remote", lab.right.ipv4) as tunnel,
    ):
        workers = {each["pid"] for each in tunnel.stats()["workers"].values()}
        lab.left.run(["ip", "link", "set", "tap0", "netns", str(room.pid), "name", "lan7"])
        room.link("lan7", state="up")
        room.address("lan7", f"{LEFT}/24")
        lab.right.address("tap0", f"{RIGHT}/24")
        wait_ping(room, RIGHT)
        bulk(room, lab.right, RIGHT, size=1 << 20)
        assert {each["pid"] for each in tunnel.stats()["workers"].values()} == workers
        assert tunnel.stop() == 0
        assert server.stop() == 0
        assert not room.has_link("lan7")
    assert not [line for line in tunnel.log if "error" in line]
