"""A tap that existed before is left as it was found, by a process that keeps the privileges for that."""

import fcntl
import struct
from pathlib import Path

import pytest

from tap2tap import device
from tap2tap.demo.lab import Lab, wait_for
from tap2tap.privileges import CAP_NET_ADMIN
from tests.processes.test_ends import script
from tests.processes.test_privileges import limited_to, shares_memory
from tests.support.planted import planted
from tests.support.taps import attached, make, state
from tests.support.tunnel import COMMAND, LEFT6, RIGHT, Tunnel, address, wait_gone, wait_ping

ALL = device.TUN_F_CSUM | device.TUN_F_TSO4 | device.TUN_F_TSO6
OTHER = "02:00:00:00:00:17"
NOT_AS_FOUND = "the interface is not as it was found"


def lines(tunnel: Tunnel, words: str) -> list[str]:
    """What its log says behind these words, each time."""
    return [line.partition(words)[2].strip() for line in tunnel.log if words in line]


HANGING = (
    "import tap2tap.supervisor.tap_setup as setup\nreal = setup.apply\n"
    "setup.apply = lambda *facts: (real(*facts), time.sleep(600))"
)


@pytest.mark.parametrize(
    ("made", "end"),
    [("new", "SIGTERM"), ("set-up", "SIGTERM"), ("set-up", "SIGKILL"), ("set-up", "set-up"), ("set-up", "hook")],
)
def test_an_existing_tap_is_left_as_it_was_found(lab: Lab, tmp_path: Path, made: str, end: str) -> None:
    make(lab.left, *(["multi_queue"] if made == "set-up" else []), offloads=ALL if made == "set-up" else 0)
    if made == "set-up":
        lab.left.link("tap0", mtu=1234, address="02:00:00:00:00:01", gso_max_segs=5, gso_max_size=9000, state="up")
    before = state(lab.left)
    options = ["--mtu", "1400", "--mac", OTHER, "--up", script(tmp_path / "hook", f"exit {int(end == 'hook')}")]
    command = planted(HANGING) if end == "set-up" else COMMAND
    tunnel = Tunnel(lab.left, *options, command=command, wait=end.startswith("SIG"))
    if end == "hook":
        assert tunnel.wait() == 1
    else:
        wait_for(lambda: state(lab.left).gso[1] > 9000, what="set-up")
        during, descendants = state(lab.left), tunnel.descendants()
        assert (during.mtu, during.address, during.up) == (1400, OTHER, True)
        assert during.gso != before.gso
        assert during.offloads > before.offloads
        if end == "SIGKILL":
            tunnel.process.kill()
            wait_gone(descendants)
        else:
            assert tunnel.stop() == 0
    assert state(lab.left) == before._replace(up=True)
    assert not tunnel.said("as it was found")


def test_what_its_administrator_has_changed_meanwhile_stays(lab: Lab) -> None:
    make(lab.left)
    before = state(lab.left)
    with Tunnel(lab.left):
        lab.left.link("tap0", mtu=1300, ifname="lan7")
        lab.left.address("lan7", f"{LEFT6}/64")
        lab.left.run(["ip", "route", "add", "192.0.2.0/24", "dev", "lan7"])
    assert state(lab.left, "lan7") == before._replace(mtu=1300, up=True)
    assert LEFT6 in lab.left.run(["ip", "-6", "addr", "show", "dev", "lan7"]).stdout
    assert "192.0.2.0/24" in lab.left.run(["ip", "route", "show", "dev", "lan7"]).stdout


@pytest.mark.parametrize("end", ["deleted", "moved"])
def test_a_tap_that_is_gone_in_the_end_is_left_alone_without_a_word(lab: Lab, end: str) -> None:
    make(lab.left)
    with Tunnel(lab.left) as tunnel:
        descendants = tunnel.descendants()
        if end == "deleted":
            lab.left.delete_link("tap0")
            assert tunnel.wait() == 1
        else:
            lab.left.run(["ip", "link", "set", "tap0", "netns", str(lab.right.pid)])
            make(lab.left)  # another one
            lab.left.link("tap0", mtu=1438, state="up")
            before = state(lab.left)
            assert state(lab.right).offloads
            assert tunnel.stop() == 0
            assert not state(lab.right).offloads
    wait_gone(descendants)
    assert not tunnel.said("tap2tap tap")
    if end == "moved":
        assert state(lab.left) == before


def test_only_an_existing_tap_has_a_process_that_keeps_the_privileges(lab: Lab) -> None:
    make(lab.left)
    with Tunnel(lab.left) as existing, Tunnel(lab.left, "--port", "1235", interface="tap1") as own:
        (keeper,) = [each for each in existing.descendants() if each.name() == "tap2tap:tap"]
        assert "tap2tap:tap" not in {each.name() for each in own.descendants()}
        held = [str(each.readlink()) for each in Path(f"/proc/{keeper.pid}/fd").iterdir() if int(each.name) > 2]
        assert sorted(each.split(":")[0] for each in held) == ["/dev/net/tun", "socket"]
        assert not keeper.net_connections("inet")
        assert limited_to(keeper.pid, CAP_NET_ADMIN)
        assert shares_memory(existing.pid)
        assert not shares_memory(keeper.pid)
        keeper.kill()
        wait_for(lambda: not keeper.is_running(), what="end of the zombie")
        assert existing.stop() == 0
    assert lines(existing, NOT_AS_FOUND) == ["interface=tap0 reason='killed by SIGKILL'"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("def refuse(*_): raise PermissionError(1, 'Not permitted')\nnetlink.set_link = refuse", "'Not permitted'"),
        ("keeper.PATIENCE = 0.1\nnetlink.set_link = lambda *_: time.sleep(600)", "'not done after 0 seconds'"),
    ],
    ids=["refused", "hangs"],
)
def test_a_tap_that_is_not_as_it_was_found_is_one_warning(lab: Lab, change: str, reason: str) -> None:
    make(lab.left)
    modules = "import tap2tap.supervisor.tap_keeper as keeper, tap2tap.supervisor.netlink as netlink\n"
    with Tunnel(lab.left, "--mtu", "1400", "--mac", OTHER, command=planted(modules + change)) as tunnel:
        (process,) = [each for each in tunnel.descendants() if each.name() == "tap2tap:tap"]
        assert tunnel.stop() == 0
        if process.is_running():
            process.kill()
    wait_for(lambda: tunnel.ended, what="end")
    assert lines(tunnel, NOT_AS_FOUND) == [f"interface=tap0 reason={reason}"]


@pytest.mark.parametrize("persistent", [False, True], ids=["own", "existing"])
def test_a_hook_that_deletes_the_tap_ends_the_tunnel_with_one_line(
    lab: Lab, tmp_path: Path, *, persistent: bool
) -> None:
    if persistent:
        make(lab.left)
    tunnel = Tunnel(lab.left, "--up", script(tmp_path / "up", "ip link delete $1"), wait=False)
    assert tunnel.wait() == 1
    assert tunnel.log[-1].endswith(": the tap device was deleted: the tunnel has ended")
    assert not tunnel.said("Traceback")
    assert not tunnel.said(NOT_AS_FOUND)


def test_what_the_last_program_has_left_in_it_loses_no_frames(lab: Lab) -> None:
    make(lab.left)
    with attached(lab.left) as fd:
        fcntl.ioctl(fd, device.TUNSETVNETHDRSZ, struct.pack("i", 12))
        only = struct.pack("HH6s", 0, 1, bytes.fromhex("020000000099"))  # struct tun_filter
        fcntl.ioctl(fd, device.TUNSETTXFILTER, only)
    with Tunnel(lab.right), Tunnel(lab.left, "--remote", lab.right.ipv4):
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
