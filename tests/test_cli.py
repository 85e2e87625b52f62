"""The command line: every option is understood, and every mistake gets one line that says what to do."""

import configparser
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tap2tap as package
from tap2tap.cli import COMMANDS
from tap2tap.commands.tunnel import tunnel_parser
from tap2tap.demo.lab import Lab, wait_for
from tests.processes.test_ends import port_is_free
from tests.support.command import mistake, tap2tap
from tests.support.tunnel import COMMAND, Tunnel

SUPERVISOR = [sys.executable, "-c", "import sys; from tap2tap.cli import supervisor; sys.exit(supervisor())"]

OPTIONS = [
    *("-i", "--iface", "--remote", "--port", "--bind", "--mtu", "--up", "--down", "-u", "--uid", "-g", "--gid"),
    *("--cpus", "--keepalive", "--mac", "--no-segmentation", "--no-clamp", "--no-call-back", "-v", "-q", "-h", "-V"),
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
    assert "1500 works over any path" in text
    assert "path MTU - 42\n  bytes (IPv6: - 62)" in text  # the arithmetic
    assert "with --key 1500, without 1458" in " ".join(text.split())
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
    assert (options.iface, options.key, options.remote) == ("tap0", "/etc/tap2tap/tap0.key", ["far-end"])
    assert options.uid == options.gid == "tap2tap"
    assert unit["Service"]["ExecReload"] == "kill -HUP $MAINPID"
    assert (unit["Service"]["StateDirectory"], unit["Service"]["StateDirectoryMode"]) == ("tap2tap", "0700")


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
        (["--port=-1"], "--port -1: a port is a number from 1 to 65535"),
        (["--port=--1"], "--port: '--1' is no whole number"),
        (["--mtu", "67"], "--mtu 67: the mtu is a number from 68 to"),
        (["--mtu", "65486"], "--mtu 65486: the mtu is a number from 68 to 65485"),
        (["--mtu", "1e3"], "--mtu: '1e3' is no whole number"),
        (["--mtu", "0"], "--mtu 0: the mtu is a number from 68 to"),
        (["--mac", "nonsense"], "--mac nonsense: six pairs of hexadecimal digits"),
        (["--mac", "01:00:5e:00:00:01"], "--mac 01:00:5e:00:00:01: no device may have this address"),
        (["--keepalive", "3601"], "--keepalive 3601: seconds from 1 to 3600, or 0 for none"),
        (["--keepalive", "-1"], "--keepalive -1: seconds from 1 to 3600, or 0 for none"),
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


def test_the_supervisor_command_speaks_in_its_own_name() -> None:
    mistake(tap2tap("--port", "0", command=SUPERVISOR), 2, "^tap2tap-supervisor: --port 0")


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


@pytest.mark.parametrize("argv", [("pubkey", "a.key"), ("stats", "--json")])
def test_output_that_finds_no_room_is_one_line(lab: Lab, tmp_path: Path, argv: tuple[str, ...]) -> None:
    assert tap2tap("genkey", str(tmp_path / "a.key"), str(tmp_path / "b.key")).returncode == 0
    words = [str(tmp_path / word) if word.endswith(".key") else word for word in argv]
    with Tunnel(lab.left), Path("/dev/full").open("w") as full:
        done = subprocess.run(lab.left.command([*COMMAND, *words]), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == f"tap2tap {argv[0]}: cannot write: No space left on device\n"
