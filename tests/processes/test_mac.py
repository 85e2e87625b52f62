"""The hardware address of the tap: the same at each start, another at the far end, or as told."""

from pathlib import Path

import pytest

from tap2tap import hardware_address
from tap2tap.config import Config
from tap2tap.demo.lab import Host, Lab
from tap2tap.supervisor.tap_setup import mac_of
from tests.conftest import lacking
from tests.support.command import private
from tests.support.secured import make_keys
from tests.support.tunnel import Tunnel

NO_MACHINE_ID = private("{ [ ! -e /etc/machine-id ] || mount --bind /dev/null /etc/machine-id; }")
ADDRESS = "02:00:00:00:00:17"


def mac(host: Host, *options: str, **popen: object) -> str:
    """The address of the tap of a tunnel with these options."""
    with Tunnel(host, *options, **popen):  # type: ignore[arg-type]
        return address(host)


def address(host: Host, interface: str = "tap0") -> str:
    """The address of a device."""
    words = host.run(["ip", "-o", "link", "show", interface]).stdout.split()
    return words[words.index("link/ether") + 1]


@pytest.mark.parametrize("keyed", [False, True], ids=["plain", "key"])
def test_it_is_the_same_after_a_restart_and_another_at_the_far_end(lab: Lab, tmp_path: Path, *, keyed: bool) -> None:
    if not keyed and not hardware_address.machine_id():
        lacking("no /etc/machine-id")
    home, vps = (["--key", key] if keyed else [] for key in make_keys(tmp_path))
    client = [*home, "--remote", lab.right.ipv4]
    before = mac(lab.left, *client)
    assert mac(lab.left, *client) == before
    assert mac(lab.right, *vps) != before


def test_whatever_differs_between_two_ends_on_clones_of_one_machine_tells_them_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware_address, "machine_id", lambda: b"m" * 16)
    tunnels = [
        mac_of(interface, config, identity)
        for interface in ("tap0", "tap1")
        for config, identity in (
            (Config(), b""),
            (Config(port=1235), b""),
            (Config(remotes=(("192.0.2.1", 1234),)), b""),
            (Config(remotes=(("192.0.2.2", 1234),)), b""),  # both ends may call
            (Config(key="a"), b"1" * 16),
            (Config(key="b"), b"2" * 16),
        )
    ]
    assert None not in tunnels
    assert len(set(tunnels)) == len(tunnels)


def test_a_key_keeps_its_address_on_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    one = mac_of("tap0", Config(key="a"), b"1" * 16)
    monkeypatch.setattr(hardware_address, "machine_id", lambda: b"")
    assert mac_of("tap0", Config(key="elsewhere", port=7, remotes=(("192.0.2.1", 1),)), b"1" * 16) == one
    assert mac_of("tap0", Config(), b"") is None


def test_without_a_machine_id_the_kernel_gives_one(lab: Lab) -> None:
    assert mac(lab.left, prefix=NO_MACHINE_ID) != mac(lab.left, prefix=NO_MACHINE_ID)


@pytest.mark.parametrize("text", ["uninitialized\n", "", "x", "ab" * 40])
def test_a_machine_id_of_any_form_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    file = tmp_path / "machine-id"
    file.write_text(text)
    monkeypatch.setattr(hardware_address, "_MACHINE_ID", file)
    assert (mac_of("tap0", Config(), b"") is None) == (not text.startswith("ab"))


def test_it_is_as_told(lab: Lab) -> None:
    assert mac(lab.left, "--mac", ADDRESS) == ADDRESS


@pytest.mark.parametrize("options", [[], ["--mac", ADDRESS]], ids=["own", "told"])
def test_a_persistent_tap_keeps_its_own_unless_told(lab: Lab, options: list[str]) -> None:
    lab.left.run(["ip", "tuntap", "add", "dev", "tap0", "mode", "tap"])
    before = address(lab.left)
    assert mac(lab.left, *options) == (ADDRESS if options else before)
