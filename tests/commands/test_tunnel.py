"""The tunnel as a command: its options do what they say, and what this host or this user cannot do gets one line."""

import os
import socket

import pytest

from tap2tap import device
from tap2tap.demo.lab import Lab, wait_for
from tests.processes.test_ends import port_is_free
from tests.support.command import AS_NOBODY, mistake, private, tap2tap
from tests.support.tunnel import Tunnel

NO_DEVICES = "mount -t tmpfs none /dev/net"


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--bind", "nonsense"], 2, "--bind nonsense: not an IPv4 or IPv6 address of this host"),
        (["--bind", "127.0.0.1", "--remote", "[::1]"], 2, r"--remote \[::1\]:1234 cannot be reached .* one is IPv4"),
        (["--bind", "::1", "--remote", "127.0.0.1"], 2, "--remote 127.0.0.1:1234 cannot be reached .* one is IPv4"),
        (["--bind", "fe80::1"], 2, "--bind fe80::1: a link-local address needs its network device"),
        (["--device", "a/b"], 2, "'a/b' is no interface name"),
        (["--mark", "x"], 2, "--mark x: a number from 0 to 4294967295"),
        (["--remote", "two..dots"], 1, "cannot resolve the remote 'two..dots': "),
        (["-i", "eth0"], 1, "interface eth0 exists and is no tap device: choose another name with --iface"),
        (["-i", "lo"], 1, "interface lo exists and is no tap device: choose another name with --iface"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_this_host_cannot_do_gets_one_line(lab: Lab, argv: list[str], code: int, words: str) -> None:
    before = set(lab.left.counters())
    mistake(tap2tap(*argv, host=lab.left), code, words)
    assert set(lab.left.counters()) == before
    assert port_is_free(lab.left)


@pytest.mark.parametrize("bind", [[], ["--bind", "127.0.0.1"], ["--bind", "::1"]])
def test_a_port_in_use_gets_one_line(lab: Lab, bind: list[str]) -> None:
    with lab.left.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.bind(("::", 1234))
        mistake(tap2tap(*bind, host=lab.left), 1, "port 1234 is in use: .*--port")
    assert not lab.left.has_link("tap0")


def test_an_interface_in_use_gets_one_line(lab: Lab) -> None:
    with lab.left.inside():
        tap = device.open_tap("tap0", carrier=True)
    try:
        mistake(tap2tap("-i", "tap0", host=lab.left), 1, "interface tap0 is in use by another program: .*--iface")
    finally:
        os.close(tap.fd)


def test_a_tun_device_is_no_tap_device(lab: Lab) -> None:
    lab.left.run(["ip", "tuntap", "add", "dev", "tun0", "mode", "tun"])
    mistake(tap2tap("-i", "tun0", host=lab.left), 1, "tun0 exists and is no tap device")
    assert lab.left.has_link("tun0")


def test_a_missing_device_file_gets_one_line(lab: Lab) -> None:
    done = tap2tap(host=lab.left, prefix=private(NO_DEVICES))
    mistake(done, 1, "/dev/net/tun is missing: load the driver with 'modprobe tun'")


def test_a_device_file_without_a_driver_gets_one_line(lab: Lab) -> None:
    done = tap2tap(host=lab.left, prefix=private(NO_DEVICES, "mknod /dev/net/tun c 4095 200"))
    mistake(done, 1, "/dev/net/tun is missing: load the driver with 'modprobe tun'")


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("mode", "words"),
    [("600", "no permission to open /dev/net/tun: run as root"), ("666", "no permission to make a tap .*run as root")],
)
def test_an_ordinary_user_gets_one_line_and_exit_code_4(lab: Lab, mode: str, words: str) -> None:
    prefix = private(NO_DEVICES, f"mknod -m {mode} /dev/net/tun c 10 200")
    mistake(tap2tap(host=lab.left, prefix=prefix, command=AS_NOBODY), 4, words)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--mark", "7"], "no permission for --mark 7: run as root, or with CAP_NET_ADMIN"),
        (["--port", "53"], "no permission to use UDP port 53: run as root, or choose a --port above 1023"),
        (["--mtu", "1400"], "no permission to set up tap0: run as root, or with CAP_NET_ADMIN"),
        (["--uid", "0"], "--uid and --gid need root"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_ordinary_user_with_a_tap_of_his_own_learns_what_else_it_takes(
    lab: Lab, argv: list[str], words: str
) -> None:
    lab.left.run(["ip", "tuntap", "add", "dev", "tap0", "mode", "tap", "user", "65534"])
    prefix = private(NO_DEVICES, "mknod -m 666 /dev/net/tun c 10 200")
    mistake(tap2tap("-i", "tap0", *argv, host=lab.left, prefix=prefix, command=AS_NOBODY), 4, words)
    assert lab.left.has_link("tap0")


def test_options_do_what_they_say(lab: Lab) -> None:
    options = ["--port", "4000", "--bind", lab.left.ipv4, "--mtu", "1300", "--remote", f"{lab.right.ipv4}:5000"]
    with Tunnel(lab.left, *options, interface="cable0") as tunnel:
        facts = tunnel.stats()
        assert facts["interface"] == "cable0"
        assert facts["local"] == f"{lab.left.ipv4}:4000"
        assert facts["peer"] == f"{lab.right.ipv4}:5000"
        assert facts["mtu"] == 1300
        assert " mtu 1300 " in lab.left.run(["ip", "link", "show", "cable0"]).stdout
        assert not port_is_free(lab.left, 4000)
        assert port_is_free(lab.left, 1234)


@pytest.mark.parametrize("port", ["", ":99"])
def test_a_remote_in_ipv6_is_written_in_brackets(lab: Lab, port: str) -> None:
    with Tunnel(lab.left, "--remote", f"[{lab.right.ipv6}]{port}") as tunnel:
        assert tunnel.stats()["peer"] == f"[{lab.right.ipv6}]{port or ':1234'}"


def test_keepalives_go_out_as_often_as_told(lab: Lab) -> None:
    lab.left.sysctl("net/ipv6/conf/default/disable_ipv6", "1")  # else the tap itself has something to say
    options = ["--remote", lab.right.ipv4, "--keepalive"]
    with (
        Tunnel(lab.left, *options, "1") as often,
        Tunnel(lab.left, *options, "0", "--port", "1", interface="t1") as off,
    ):
        wait_for(lambda: often.worker("outbound")["keepalives"] >= 3, 30, "three keepalives")
        assert off.worker("outbound")["datagrams"] == 0


def test_a_server_learns_its_client_by_the_first_keepalive(lab: Lab) -> None:
    lab.left.sysctl("net/ipv6/conf/default/disable_ipv6", "1")
    with Tunnel(lab.right) as server:
        assert server.stats()["peer"] is None
        with Tunnel(lab.left, "--remote", lab.right.ipv4):
            wait_for(lambda: server.stats()["peer"] == f"{lab.left.ipv4}:1234", what="known client")
        assert server.worker("inbound")["keepalives"] == 1


def test_an_empty_name_of_a_key_file_is_no_tunnel_in_the_clear(lab: Lab) -> None:
    for option in (["--key", ""], ["--key="]):
        mistake(tap2tap("-i", "tap0", *option, host=lab.left), 2, "--key names no file")
    assert not lab.left.has_link("tap0")


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("option", ["--uid", "--gid"])
def test_processes_that_stay_root_get_a_warning(lab: Lab, option: str) -> None:
    with Tunnel(lab.left, option, "0") as tunnel:
        assert tunnel.log[0].startswith("tap2tap: warning: with --uid 0 or --gid 0 ")
