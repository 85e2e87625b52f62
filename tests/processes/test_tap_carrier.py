"""The carrier of a tap whose tunnel has a key: never on before the peer, not for a moment, whoever made the tap."""

import contextlib
from pathlib import Path

import pytest

from tap2tap import device
from tap2tap.demo.lab import Host, Lab
from tests.support.secured import make_keys, plugged_in
from tests.support.tunnel import Tunnel

MADE = {
    "ours": "true",
    "multi-queue": "ip tuntap add tap0 mode tap multi_queue; ip link set tap0 up",
    "bridged": "ip tuntap add tap0 mode tap; ip link add br0 type bridge; ip link set br0 up;"
    "ip link set tap0 up master br0",
}


def times_plugged_in(host: Host) -> int:
    """How often the carrier of tap0 came, in all its life."""
    with host.netlink() as netlink, contextlib.suppress(IndexError):
        return int(netlink.link("get", index=host.index("tap0"))[0].get_attr("IFLA_CARRIER_UP_COUNT"))
    return 0


@pytest.mark.parametrize("made", MADE)
def test_without_the_peer_there_never_was_a_carrier(lab: Lab, tmp_path: Path, made: str) -> None:
    lab.left.run(["sh", "-ec", MADE[made]])
    before = times_plugged_in(lab.left) if made != "ours" else 0
    with Tunnel(lab.left, "--key", make_keys(tmp_path)[0], "--remote", lab.right.ipv4):
        assert not plugged_in(lab.left)
        assert times_plugged_in(lab.left) == before


def test_without_a_key_it_is_there_from_the_first(lab: Lab) -> None:
    lab.left.run(["sh", "-ec", MADE["bridged"]])
    with Tunnel(lab.left):
        assert plugged_in(lab.left)


@pytest.mark.parametrize("known", [True, False], ids=["flag", "no-flag"])
@pytest.mark.parametrize("made", MADE)
def test_where_the_kernel_lacks_the_flag_it_is_pulled_at_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, made: str, *, known: bool
) -> None:
    lab.left.run(["sh", "-ec", MADE[made]])
    if not known:
        monkeypatch.setattr(device, "_features", lambda _: 0)
    with lab.left.inside():
        tap = device.open_tap("tap0", carrier=False)
    with open(tap.fd, "rb", buffering=0):
        lab.left.link("tap0", state="up")
        assert not plugged_in(lab.left)
        device.set_carrier(tap.fd, on=True)
        assert plugged_in(lab.left)
