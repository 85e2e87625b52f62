"""The command line: every option is understood, and every mistake gets one line that says what to do."""

import configparser
import importlib
import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tap2tap as package
from tap2tap import device
from tap2tap.cli import COMMANDS
from tap2tap.commands.tunnel import tunnel_parser
from tap2tap.demo.lab import Lab, wait_for
from tests.processes.test_ends import port_is_free
from tests.support.command import AS_NOBODY, mistake, private, tap2tap
from tests.support.tunnel import COMMAND, Tunnel

SUPERVISOR = [sys.executable, "-c", "import sys; from tap2tap.cli import supervisor; sys.exit(supervisor())"]
NO_DEVICES = "mount -t tmpfs none /dev/net"

OPTIONS = [
    *("-i", "--iface", "--remote", "--port", "--bind", "--mtu", "--up", "--down", "-u", "--uid", "-g", "--gid"),
    *("--cpus", "--keepalive", "-v", "-q", "-h", "-V"),
]


def test_version_is_told() -> None:
    done = tap2tap("--version")
    assert (done.returncode, done.stdout) == (0, f"tap2tap v{package.__version__}\n")
    assert tap2tap("-V").stdout == done.stdout


def test_help_teaches() -> None:
    text = tap2tap("--help").stdout
    assert tap2tap("-h").stdout == text
    assert not [option for option in OPTIONS if option not in text]
    assert "tap2tap -i tap0 --remote" in text  # an example to copy
    assert "mtu = path MTU - 42 (IPv6: - 62)" in text  # the arithmetic
    assert "1458" in text
    assert not [command for command in COMMANDS if f"\n  tap2tap {command} " not in text]
    assert "exit codes: 0 clean end, 1 failure, 2 bad arguments, 4 no permission, 7 no such tunnel" in text


def test_help_of_stats_teaches() -> None:
    text = tap2tap("stats", "--help").stdout
    assert not [option for option in ("IFACE", "--all", "--json", "--watch") if option not in text]
    assert "exit code is 7" in text


def test_the_installed_commands_are_these() -> None:
    settings = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    scripts = settings["project"]["scripts"]
    assert set(scripts) == {"tap2tap", "tap2tap-supervisor"}
    for target in scripts.values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_both_commands_know_the_same_options() -> None:
    one, other = tap2tap("--help").stdout, tap2tap("--help", command=SUPERVISOR).stdout
    assert one.split("options:")[1] == other.split("options:")[1]
    assert other.startswith("usage: tap2tap-supervisor")


def test_the_unit_for_systemd_gives_options_that_there_are_and_a_user_of_its_own() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(Path(__file__).parents[1] / "docs/tap2tap@.service")
    assert set(unit) == {"DEFAULT", "Unit", "Service", "Install"}
    program, *argv = unit["Service"]["ExecStart"].replace("%i", "tap0").replace("$OPTIONS", "--remote far-end").split()
    assert Path(program).name == "tap2tap"
    options = tunnel_parser("tap2tap").parse_args(argv)
    assert (options.iface, options.key, options.remote) == ("tap0", "/etc/tap2tap/tap0.key", "far-end")
    assert options.uid == options.gid == "tap2tap"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-i", "sixteen-letters!"], "'sixteen-letters!' is 16 bytes long: the kernel takes at most 15"),
        (["-i", "with space"], "is no interface name"),
        (["-i", ""], "is no interface name"),
        (["--iface"], "expected one argument"),
        (["--port", "0"], "--port 0: a port is a number from 1 to 65535"),
        (["--port", "65536"], "--port 65536: a port is a number from 1 to 65535"),
        (["--port", "many"], "--port: 'many' is no whole number"),
        (["--port=-1"], "--port: '-1' is no whole number"),
        (["--mtu", "67"], "--mtu 67: the mtu is a number from 68 to"),
        (["--mtu", "65486"], "--mtu 65486: the mtu is a number from 68 to 65485"),
        (["--mtu", "1e3"], "--mtu: '1e3' is no whole number"),
        (["--mtu", "0"], "--mtu 0: the mtu is a number from 68 to"),
        (["--keepalive", "3601"], "--keepalive 3601: seconds from 1 to 3600, or 0 for none"),
        (["--keepalive", "often"], "--keepalive: 'often' is no whole number"),
        (["--up", "/no/such/program"], "--up /no/such/program: no such program, or not executable"),
        (["--down", "/etc/passwd"], "--down /etc/passwd: no such program, or not executable"),
        (["--uid", "no-such-user"], "--uid no-such-user: there is no such user"),
        (["-u", "4294967295"], "--uid 4294967295: there is no such user"),
        (["--gid", "no-such-group"], "--gid no-such-group: there is no such group"),
        (["--cpus", "1"], "--cpus 1: two CPU numbers, as in --cpus 1,2"),
        (["--cpus", "a,b"], "--cpus a,b: two CPU numbers"),
        (["--cpus", "100000,0"], "--cpus: CPU 100000 is not among those that this process may use"),
        (["--remote", ""], "'' names no host"),
        (["--remote", ":1234"], "':1234' names no host"),
        (["--remote", "host:0"], "the port in 'host:0' must be a number from 1 to 65535"),
        (["--remote", "host:65536"], "the port in 'host:65536' must be a number from 1 to 65535"),
        (["--remote", "[fd00::1"], r"written \[address\]:port"),
        (["--remote", "[fd00::1]1234"], r"written \[address\]:port"),
        (["--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["--no-off"], "unrecognized arguments: --no-off"),
        (["--rem", "far-end"], "unrecognized arguments: --rem far-end"),
        (["status"], "'status' is no command: there are stats, genkey, pubkey, demo; .*see tap2tap --help"),
        (["-v", "stats"], "unrecognized arguments: stats"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments_get_one_line_and_exit_code_2(argv: list[str], words: str) -> None:
    mistake(tap2tap(*argv), 2, words)


@pytest.mark.parametrize(
    "line",
    [
        *("stats --watch 0", "stats --watch soon", "stats --jason", "stats --wat 1", "stats tap0 tap1"),
        *(
            "demo --seconds 0",
            "demo --seconds nan",
            "demo --seconds -1",
            "demo --seconds 1e9",
            "demo --sec 1",
            "demo x",
        ),
        *("genkey", "genkey a b c", "pubkey a b"),
    ],
)
def test_bad_arguments_of_a_command_get_one_line_and_exit_code_2(line: str) -> None:
    command, *argv = line.split()
    mistake(tap2tap(command, *argv), 2, f"tap2tap {command}: .*see tap2tap {command} --help")


HEAVY = {
    *("argparse", "asyncio", "cryptography", "ctypes", "email", "hashlib", "http", "inspect", "ipaddress", "json"),
    *("multiprocessing", "numpy", "psutil", "pyroute2", "shutil", "ssl", "subprocess", "tempfile", "urllib"),
}


def test_the_command_line_loads_nothing_heavy_before_it_knows_what_is_to_be_run() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import tap2tap.cli; print(*sys.modules)"
    root = str(Path(package.__file__).parents[1])
    line = [sys.executable, "-I", "-S", "-c", code, root]  # without what an environment loads at its start
    loaded = subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()
    assert "tap2tap.cli" in loaded
    assert not {module.split(".")[0] for module in loaded} & HEAVY
    ours = {module for module in loaded if module.startswith("tap2tap.")}
    assert ours == {"tap2tap.cli", "tap2tap.errors", "tap2tap.log"}


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("option", ["--uid", "--gid"])
def test_processes_that_stay_root_get_a_warning(lab: Lab, option: str) -> None:
    with Tunnel(lab.left, option, "0") as tunnel:
        assert tunnel.log[0].startswith("tap2tap: warning: with --uid 0 or --gid 0 ")


def test_the_supervisor_command_speaks_in_its_own_name() -> None:
    mistake(tap2tap("--port", "0", command=SUPERVISOR), 2, "^tap2tap-supervisor: --port 0")


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--bind", "nonsense"], 2, "--bind nonsense: not an IPv4 or IPv6 address of this host"),
        (["--bind", "127.0.0.1", "--remote", "[::1]"], 2, r"--remote \[::1\]:1234 cannot be reached .* one is IPv4"),
        (["--bind", "::1", "--remote", "127.0.0.1"], 2, "--remote 127.0.0.1:1234 cannot be reached .* one is IPv4"),
        (["--bind", "192.0.2.1"], 1, "--bind 192.0.2.1: this host has no such address"),
        (["--remote", "no-such-host.invalid"], 1, "cannot resolve the remote 'no-such-host.invalid': .*check the name"),
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
        tap = device.open_tap("tap0")
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


def test_the_supervisor_command_runs_a_tunnel_quietly_on_a_tap_that_the_kernel_names(lab: Lab) -> None:
    process = lab.left.popen([*SUPERVISOR, "-q"], stderr=subprocess.PIPE)
    wait_for(lambda: lab.left.has_link("tap0"), what="tap0")
    wait_for(lambda: not port_is_free(lab.left), what="socket")
    wait_for(lambda: tap2tap("stats", "tap0", host=lab.left).returncode == 0, what="tunnel in the stats")
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert not lab.left.has_link("tap0")
    assert "tunnel is up" not in said  # being quiet is for warnings and errors
    assert all(line.startswith("tap2tap supervisor: warning: ") for line in said.splitlines())


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


@pytest.mark.parametrize("argv", [("pubkey", "a.key"), ("stats", "--json")])
def test_output_that_finds_no_room_is_one_line(lab: Lab, tmp_path: Path, argv: tuple[str, ...]) -> None:
    assert tap2tap("genkey", str(tmp_path / "a.key"), str(tmp_path / "b.key")).returncode == 0
    words = [str(tmp_path / word) if word.endswith(".key") else word for word in argv]
    with Tunnel(lab.left), Path("/dev/full").open("w") as full:
        done = subprocess.run(lab.left.command([*COMMAND, *words]), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == f"tap2tap {argv[0]}: cannot write: No space left on device\n"
