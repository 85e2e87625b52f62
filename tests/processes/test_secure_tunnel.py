"""Two real tunnels with keys: frames pass, rekeys and deaths of workers and supervisors lose no more than they must."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tap2tap.demo.lab import Host, Lab, wait_for
from tap2tap.keys import encode, read_keys
from tests.processes.test_ends import script
from tests.processes.test_privileges import kinds, powerless, status
from tests.support.secured import Sniffer, assert_no_nonce_repeats, make_keys, plugged_in, secure, secured, wait_up
from tests.support.traffic import Stream, bulk
from tests.support.tunnel import COMMAND, LEFT, LEFT6, RIGHT, RIGHT6, Tunnel, address, ping, wait_ping

DIRECTIONS = ("outbound", "inbound")


def drops(*tunnels: Tunnel) -> dict[str, int]:
    """Everything that these tunnels dropped."""
    found: dict[str, int] = {}
    for tunnel in tunnels:
        for direction in DIRECTIONS:
            for reason, count in tunnel.worker(direction)["dropped"].items():
                found[reason] = found.get(reason, 0) + count
    return found


@contextmanager
def load(*routes: tuple[Host, str]) -> Iterator[None]:
    """UDP datagrams of many sizes from hosts to addresses, as many as they can for as long as it lasts."""
    ended = threading.Event()

    def send(host: Host, target: str) -> None:
        with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            size = 0
            while not ended.wait(0.0005):
                size = (size + 97) % 1400
                for _ in range(8):
                    try:
                        sock.sendto(bytes(size), (target, 9))
                    except OSError:  # no such address now, or nobody there
                        break

    threads = [threading.Thread(target=send, args=route, daemon=True) for route in routes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(10)


def holds(pid: int, what: set[str]) -> bool:
    """Whether these are the kinds of the descriptors of a process."""
    return kinds(pid) == what


def flows(tunnel: Tunnel, direction: str, before: int) -> bool:
    """Whether a worker has carried more trains than `before`."""
    return bool(tunnel.worker(direction)["trains"] > before)


@pytest.mark.parametrize(
    ("version", "options"), [(4, ()), (6, ("--no-offload",))], ids=["4-offload", "6-frame-by-frame"]
)
def test_ping_and_tcp_pass_both_ways(lab: Lab, tmp_path: Path, version: int, options: tuple[str, ...]) -> None:
    remote = lab.right.ipv4 if version == 4 else lab.right.ipv6
    with secured(lab.left, lab.right, tmp_path, *options, remote=remote) as (client, server):
        before = drops(client, server)
        for host, target in ((lab.left, RIGHT), (lab.left, RIGHT6), (lab.right, LEFT), (lab.right, LEFT6)):
            assert ping(host, target)
        bulk(lab.left, lab.right, RIGHT, RIGHT6)
        bulk(lab.right, lab.left, LEFT, LEFT6)
        assert drops(client, server) == before
        for tunnel in (client, server):
            assert not tunnel.worker("inbound")["dropped"]
            if version == 4:  # the default mtu leaves room for header and tag
                assert not tunnel.worker("outbound")["fallbacks"]


def test_an_end_without_aes_instructions_makes_it_chacha(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu sse2\n")
    private = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /proc/cpuinfo && exec "$@"', f"{tmp_path}/cpuinfo"]
    with (
        secure(lab.right, vps) as server,
        secure(lab.left, home, "--remote", lab.right.ipv4, prefix=private) as client,
    ):
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        bulk(lab.left, lab.right, RIGHT)
        assert {tunnel.stats()["session"]["cipher"] for tunnel in (client, server)} == {"ChaCha20-Poly1305"}


def test_stats_tell_of_the_session(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    with secure(lab.right, vps) as server:
        session = server.stats()["session"]
        assert (session.pop("state"), session.pop("rekeys")) == ("down", 0)
        assert session.keys() >= {"cipher", "last_handshake_seconds", "peer_mtu", "round_trip_seconds", "loss_outbound"}
        assert set(session.values()) == {None}
        with secure(lab.left, home, "--remote", lab.right.ipv4) as client:
            wait_up(client, server)
            for tunnel in (client, server):
                session = tunnel.stats()["session"]
                assert 0 <= session["last_handshake_seconds"] < 60
                assert session["cipher"] in ("AES-256-GCM", "ChaCha20-Poly1305")
                assert session["rekeys"] == 0
                assert session["peer_mtu"] == 1500
            shown = lab.left.run([*COMMAND, "stats"], cwd=Path(__file__).parents[2]).stdout
            assert f"protocol: secure, {session['cipher']}" in shown
            assert "session: up, 0 rekeys" in shown


def test_rekeys_under_load_lose_nothing(lab: Lab, tmp_path: Path) -> None:
    timers = "rekey_after=1,reject_after=5,stop_before_reject=1"
    with Sniffer(lab.right) as wire, secured(lab.left, lab.right, tmp_path, timers=timers) as tunnels:
        before = drops(*tunnels)
        counting = [
            host.popen(["ping", "-n", "-q", "-i", "0.01", "-c", "320", "-s", "200", target], stdout=-1)
            for host, target in ((lab.left, RIGHT), (lab.right, LEFT))
        ]
        while any(process.poll() is None for process in counting):
            streams = [Stream(lab.left, lab.right, RIGHT).start(), Stream(lab.right, lab.left, LEFT6).start()]
            for stream in streams:
                stream.check()
        for process in counting:
            assert " 320 received, 0% packet loss" in process.communicate()[0]
        for tunnel in tunnels:
            assert tunnel.stats()["session"]["rekeys"] >= 2
            assert not tunnel.said("peer is down")
        assert drops(*tunnels) == before
    assert assert_no_nonce_repeats(wire.stop()) >= 6


def test_workers_killed_under_load_repeat_no_nonce_and_go_on_with_the_session(lab: Lab, tmp_path: Path) -> None:
    with Sniffer(lab.right) as wire, secured(lab.left, lab.right, tmp_path) as tunnels:
        with load((lab.left, RIGHT), (lab.right, LEFT)):
            streams = [Stream(lab.left, lab.right, RIGHT, 8 << 20).start(), Stream(lab.right, lab.left, LEFT6).start()]
            for _ in range(3):
                killed = [
                    (tunnel, direction, tunnel.kill_worker(direction)) for tunnel in tunnels for direction in DIRECTIONS
                ]
                for tunnel, direction, pid in killed:
                    before = tunnel.wait_replaced(direction, pid)["trains"]
                    wait_for(partial(flows, tunnel, direction, before), 30, f"traffic of the new {direction} worker")
            for stream in streams:
                stream.check()
        assert ping(lab.left, RIGHT)
        for tunnel in tunnels:
            assert tunnel.stats()["session"]["rekeys"] == 0
            assert not tunnel.worker("inbound")["dropped"].keys() - {"replay"}  # late ones, behind a successor's back
    assert assert_no_nonce_repeats(wire.stop()) == 2  # one in each direction


def test_supervisors_restarted_under_load_repeat_no_nonce(lab: Lab, tmp_path: Path) -> None:
    home, vps = make_keys(tmp_path)
    timers = "unanswered=1,poll=0.2"

    def start(host: Host) -> Tunnel:
        if host is lab.right:
            return secure(host, vps, "--remote", lab.left.ipv4, timers=timers)
        return secure(host, home, "--remote", lab.right.ipv4, timers=timers)

    def addressed(host: Host) -> None:
        host.address("tap0", f"{LEFT if host is lab.left else RIGHT}/24")
        for each in (lab.left, lab.right):  # the tap that is made anew has another MAC address
            each.run(["ip", "neighbour", "flush", "dev", "tap0"])

    with Sniffer(lab.right) as wire, load((lab.left, RIGHT), (lab.right, LEFT)):
        tunnels = {host.name: start(host) for host in (lab.left, lab.right)}
        for host in (lab.left, lab.right):
            addressed(host)
        wait_ping(lab.left, RIGHT)
        for host, number in ((lab.left, signal.SIGKILL), (lab.right, signal.SIGKILL), (lab.left, signal.SIGTERM)):
            tunnels[host.name].stop(number)
            wait_for(lambda it=host: not it.has_link("tap0"), what="end of the tap")  # type: ignore[misc]
            tunnels[host.name] = start(host)
            addressed(host)
            wait_up(*tunnels.values())
            wait_ping(lab.left, RIGHT)
        for tunnel in tunnels.values():
            assert tunnel.stop() == 0
    assert assert_no_nonce_repeats(wire.stop()) >= 4


@pytest.mark.usefixtures("root")
def test_all_processes_are_nobody_and_leave_no_core_dump(lab: Lab, tmp_path: Path) -> None:
    with secured(lab.left, lab.right, tmp_path) as tunnels:
        for tunnel in tunnels:
            workers = [tunnel.worker(direction)["pid"] for direction in DIRECTIONS]
            workers += [tunnel.wait_replaced("inbound", tunnel.kill_worker("inbound"))["pid"]]
            for pid in (tunnel.pid, workers[0], workers[2]):
                assert status(pid)["Uid"] == "65534 65534 65534 65534"
                assert powerless(pid)
                # The kernel gives the files of a process that may not be dumped (or traced by its equals) to root.
                assert Path(f"/proc/{pid}/maps").stat().st_uid == 0
                assert "Max core file size 0 0" in " ".join(Path(f"/proc/{pid}/limits").read_text().split())
            for pid in (workers[0], workers[2]):  # its end of a private channel is all that it has besides
                wait_for(partial(holds, pid, {"tun", "udp", "unix"}), 30, "worker without other descriptors")
                assert len(list(Path(f"/proc/{pid}/fd").iterdir())) == 6


def test_secrets_are_in_no_place_that_others_can_read(lab: Lab, tmp_path: Path) -> None:
    hook = script(tmp_path / "hook", f"env >> {tmp_path}/environment")
    options = ("--up", hook, "--down", hook, "--on-peer", hook)
    with secured(lab.left, lab.right, tmp_path, *options) as (client, server):
        keys = [read_keys(tmp_path / name) for name in ("home.key", "vps.key")]
        public = [client.block().read_bytes(), server.block().read_bytes()]
        for tunnel in (client, server):
            tunnel.wait_replaced("inbound", tunnel.kill_worker("inbound", signal.SIGABRT))
            for pid in [tunnel.pid, *(tunnel.worker(direction)["pid"] for direction in DIRECTIONS)]:
                public += [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
            public.append(repr(tunnel.stats()).encode())
    public += ["\n".join(tunnel.log).encode() for tunnel in (client, server)]
    public.append((tmp_path / "environment").read_bytes())
    for end in keys:
        for secret in (end.private, end.psk):
            for spelling in (secret, encode(secret).encode(), secret.hex().encode()):
                assert not any(spelling in text for text in public)


def test_the_cable_is_not_plugged_in_before_the_peer_is_there(lab: Lab, tmp_path: Path) -> None:
    _, vps = make_keys(tmp_path)
    up = script(tmp_path / "up", f'ip -o link show "$1" > {tmp_path}/up.txt')
    with secure(lab.right, vps, "--up", up):
        assert "NO-CARRIER" in (tmp_path / "up.txt").read_text()
        assert not plugged_in(lab.right)


def test_the_environment_says_nothing_about_the_protocol(lab: Lab, tmp_path: Path) -> None:
    home, _ = make_keys(tmp_path)
    with secure(lab.left, home, prefix=["env", "TAP2TAP_TIMERS=reject_after=inf,nonsense"]) as tunnel:
        assert tunnel.stop() == 0
