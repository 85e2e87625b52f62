"""`tap2tap demo`: the product on one machine in half a minute, or a clear word about what did not work.

Two hosts joined by a virtual wire; a cable between them, laid by the very commands that a user would type; ping and a
bulk transfer through it, the live counters, a worker killed and replaced under traffic, a clean end. Nothing is assumed
to have worked: every step waits for its own effect, and the exit code is 0 only if all of them came.
"""

import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil

from tap2tap import errors
from tap2tap.commands.arguments import Parser, seconds
from tap2tap.demo import rootless
from tap2tap.demo.echo import Echoes, Pinger
from tap2tap.demo.lab import Host, Lab, wait_for

TAP = "tap0"
SERVER, CLIENT = "10.9.0.1", "10.9.0.2"  # inside the cable
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOST_LOST = 50  # of pings every 2 ms: a tenth of a second; anything like that is a broken cable and no hiccup


@dataclass
class Tunnel:
    """One kind of cable to show: a headline, and options for its two ends."""

    title: str
    server: list[str] = field(default_factory=list)
    client: list[str] = field(default_factory=list)


def tunnels(lab: Lab, folder: Path) -> list[Tunnel]:
    """The cables that the demo shows; the files that they need are made in the folder."""
    client, server = str(folder / "client.key"), str(folder / "server.key")
    say("\nThe two ends of an encrypted cable, one file each")
    show(lab.left, ["tap2tap", "genkey", client, server])
    lab.left.run([sys.executable, "-m", "tap2tap", "genkey", client, server])
    return [
        Tunnel("An encrypted cable", ["--key", server, "--no-call-back"], ["--key", client]),
        Tunnel("A plain cable, as C tap2tap and QuickTun speak it"),
    ]


class End:
    """One running end of the cable."""

    def __init__(self, host: Host, options: list[str], folder: Path) -> None:
        self.host, self.file = host, folder / f"{host.name}.log"
        show(host, ["tap2tap", *options])
        with self.file.open("wb") as log:
            self.process = host.popen(
                [sys.executable, "-m", "tap2tap", *options, *rootless.user()], stdout=log, stderr=log
            )

    def log(self) -> str:
        """What it has said so far."""
        return self.file.read_text()

    def is_up(self) -> bool:
        """Whether it says so; raises StartError when it ended instead."""
        if self.process.poll() is not None:
            raise errors.StartError(f"the {self.host.name} ended with exit code {self.process.returncode}")
        return "tunnel is up" in self.log()

    def stats(self) -> dict[str, Any]:
        """Its counters: the contract of `tap2tap stats --json`."""
        output = self.host.run([sys.executable, "-m", "tap2tap", "stats", TAP, "--json"]).stdout
        tunnel: dict[str, Any] = json.loads(output)[0]
        return tunnel

    def stop(self) -> int:
        """End it as a service manager would; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def say(text: str = "") -> None:
    """A line of the story, at once even into a pipe."""
    print(text, flush=True)


def show(host: Host, argv: list[str]) -> None:
    """The command that runs now, and on which host."""
    say(f"    {host.name}# {shlex.join(argv)}")


def check(condition: object, complaint: str) -> None:
    """Raise StartError unless the condition holds."""
    if not condition:
        raise errors.StartError(complaint)


def show_ping(lab: Lab) -> None:
    """A few echoes through the cable."""
    show(lab.left, ["ping", "-c5", "-i0.2", SERVER])
    with Pinger(lab.left) as pinger:
        echoes = pinger.run(SERVER, 0.9, 0.2)
    check(not echoes.lost, f"{echoes.lost} of {echoes.sent} pings got no answer")
    say(f"    {echoes.sent} sent, none lost, {statistics.median(echoes.times) / 1e6:.2f} ms in the middle")


def show_bulk(lab: Lab, seconds: float) -> None:
    """One TCP stream from client to server at full speed; every byte must arrive."""
    received, buffer = 0, bytearray(1 << 20)
    with lab.right.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((SERVER, 0))
        listener.listen()
        listener.settimeout(10)
        sent: list[int] = []
        sender = threading.Thread(target=pour, args=(lab.left, listener.getsockname(), seconds, sent), daemon=True)
        sender.start()
        stream, _ = listener.accept()
        with stream:
            stream.settimeout(10)
            begin = time.monotonic()
            while count := stream.recv_into(buffer):
                received += count
            took = time.monotonic() - begin
        sender.join(10)
    check(sent == [received], f"{received} bytes arrived of {sum(sent)}")
    say(f"    {received / 1e6:.0f} MB in {took:.1f} s: {received * 8 / took / 1e9:.2f} Gbit/s")


def pour(host: Host, where: tuple[str, int], seconds: float, sent: list[int]) -> None:
    """Send zeros for some seconds (a thread of its own), then append how many."""
    count, block = 0, bytes(1 << 20)
    with host.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        stream.settimeout(10)
        stream.connect(where)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            stream.sendall(block)
            count += len(block)
    sent.append(count)


def show_stats(end: End) -> None:
    """The table as a user sees it."""
    show(end.host, ["tap2tap", "stats"])
    table = end.host.run([sys.executable, "-m", "tap2tap", "stats"]).stdout
    check(TAP in table, "`tap2tap stats` does not show the tunnel")
    say("\n".join(f"    {line}" for line in table.rstrip().splitlines()))


def show_restart(lab: Lab, end: End, direction: str) -> None:
    """Kill a worker while pings run every 2 ms; it must be replaced, and little may get lost."""
    before = end.stats()["workers"][direction]
    result: list[Echoes] = []
    with Pinger(lab.left) as pinger:
        pinging = threading.Thread(
            target=lambda: result.append(pinger.run(SERVER, 2.0, 0.002, timeout=0.05)), daemon=True
        )
        pinging.start()
        time.sleep(0.5)  # in the middle of them
        show(end.host, ["kill", "-KILL", str(before["pid"])])
        os.kill(before["pid"], signal.SIGKILL)

        def successor() -> Any:
            worker = end.stats()["workers"][direction]
            return worker if worker["pid"] and worker["pid"] != before["pid"] else None

        after = wait_for(successor, 30, f"new {direction} worker")
        pinging.join(10)
    check(result, "the pings do not end")
    echoes = result[0]
    check(after["restarts"] == before["restarts"] + 1, f"{after['restarts']} restarts are counted instead of one")
    check(after["frames"] >= before["frames"], "its counters started anew")
    check(echoes.lost <= MOST_LOST, f"{echoes.lost} of {echoes.sent} pings were lost")
    say(
        f"    {direction} worker {before['pid']} is dead, {after['pid']} has taken over; restarts: {after['restarts']};"
    )
    say(f"    of {echoes.sent} pings, one every 2 ms, {echoes.lost} {'was' if echoes.lost == 1 else 'were'} lost")


def show_tunnel(lab: Lab, tunnel: Tunnel, seconds: float, folder: Path) -> None:
    """Everything about one cable."""
    ends: list[End] = []
    try:
        say(f"\n{tunnel.title}: the server waits, the client calls")
        begin = time.monotonic()
        for host, options in (
            (lab.right, ["-i", TAP, *tunnel.server]),
            (lab.left, ["-i", TAP, "--remote", lab.right.ipv4, *tunnel.client]),
        ):
            ends.append(End(host, options, folder))
        server, client = ends
        for end in ends:
            wait_for(end.is_up, 30, f"word from the {end.host.name} that the tunnel is up")
        wait_for(lambda: server.stats()["peer"], 30, "peer at the server")
        say(f"    up in {time.monotonic() - begin:.1f} s, and the server knows its peer: {server.stats()['peer']}")

        say("\nAddresses, as on any network card")
        for end, address in ((server, SERVER), (client, CLIENT)):
            show(end.host, ["ip", "address", "add", f"{address}/24", "dev", TAP])
            end.host.address(TAP, f"{address}/24")

        say("\nPing through the cable")
        show_ping(lab)
        say(f"\nOne TCP stream through the cable, {seconds:g} s, both ends on this one machine")
        show_bulk(lab, seconds)
        say("\nWhat the cable has done")
        show_stats(client)
        say("\nA worker dies in the middle of a ping, first one, then the other")
        show_restart(lab, client, "outbound")
        show_restart(lab, client, "inbound")
        say("\nThe end")
        supervisors = [psutil.Process(end.process.pid) for end in ends]
        pids = [process.pid for parent in supervisors for process in (parent, *parent.children(recursive=True))]
        for end in ends:
            show(end.host, ["kill", "-TERM", str(end.process.pid)])
            code = end.stop()
            check(code == 0, f"the {end.host.name} ended with exit code {code}")
            check(not end.host.has_link(TAP), f"the {end.host.name} left its {TAP} behind")
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids), 30, "end of every process")
        say("    both ended with exit code 0; no device and no process is left")
    except Exception:
        for end in ends:
            say(f"\n--- the last words of the {end.host.name}:")
            say("\n".join(end.log().splitlines()[-10:]))
        raise


def stop(number: int, _: FrameType | None) -> NoReturn:
    """End the demo on a signal, but take down first what was made, the files of the keys with it."""
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def demo(argv: list[str]) -> int:
    """Run the demo; return its exit code."""
    parser = Parser(prog="tap2tap demo", description="Show a tunnel at work on this one machine.")
    parser.add_argument(
        "--seconds",
        metavar="N",
        type=seconds,
        default=3.0,
        help="length of the bulk transfer (default: %(default)g)",
    )
    options = parser.parse_args(argv)
    if missing := rootless.missing("demo", argv):
        say(f"tap2tap demo: {missing}")
        return errors.NO_PERMISSION
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        with tempfile.TemporaryDirectory(prefix="tap2tap-demo-") as folder, Lab(("client", "server")) as lab:
            say(f"Two hosts, joined by a virtual wire: client {lab.left.ipv4}, server {lab.right.ipv4}")
            for tunnel in tunnels(lab, Path(folder)):
                show_tunnel(lab, tunnel, options.seconds, Path(folder))
    except PermissionError as error:
        say(f"tap2tap demo: {error}")
        return errors.NO_PERMISSION
    except subprocess.CalledProcessError as error:
        say(f"tap2tap demo: {shlex.join(error.cmd)} failed: {(error.stderr or error.stdout or '').strip()}")
        return errors.FAILURE
    except (errors.Tap2tapError, OSError, LookupError, ValueError, subprocess.TimeoutExpired) as error:
        say(f"tap2tap demo: {error}")
        return errors.FAILURE
    say("\nAll of it worked.")
    return errors.OK
