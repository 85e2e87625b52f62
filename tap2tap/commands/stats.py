"""`tap2tap stats`: what the running tunnels do, read from their counter blocks without disturbing them."""

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil

from tap2tap import clock, counter_block, counters, endpoint
from tap2tap.commands.arguments import Parser, seconds
from tap2tap.commands.render import render
from tap2tap.counter_block import Reading
from tap2tap.counters import INTERPRETED, Count, Counts, DataPlane, Drop, Link, Slot, State
from tap2tap.endpoint import Endpoint
from tap2tap.errors import OK, NoTunnelError, Tap2tapError

DESCRIPTION = """\
Show the tunnels of this network namespace: who they connect, and what each of their two workers has carried.
Needs no root, and disturbs nothing."""

EPILOG = """\
Frames and bytes are Ethernet frames as they cross the tap (a super-frame counts as the frames that it stands for);
datagrams are what crosses the UDP socket. The exit code is 7 when there is no such tunnel."""

OURS = "/proc/self/ns/net"
CIPHERS = {1: "AES-256-GCM", 2: "ChaCha20-Poly1305"}  # by their numbers in the secure protocol

_CLEAR = "\x1b[H\x1b[J"

Facts = dict[str, Any]  # one tunnel; the keys are a contract with those who read --json


def parser() -> Parser:
    """The options of `tap2tap stats`."""
    result = Parser(
        "tap2tap stats",
        usage="tap2tap stats [IFACE] [--all] [--json] [--watch [SECONDS]]",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    result.add_argument("interface", nargs="?", metavar="IFACE", help="show this tunnel only")
    result.add_argument("--all", action="store_true", help="show the tunnels of every network namespace")
    result.add_argument("--json", action="store_true", help="print an array with one object a tunnel")
    result.add_argument(
        "--watch",
        nargs="?",
        const=1.0,
        type=seconds,
        metavar="SECONDS",
        help="refresh in place, with rates, until interrupted (every second, if not said)",
    )
    return result


def stats(argv: Sequence[str]) -> int:
    """Run the command; return the exit code. Raises NoTunnelError."""
    options = parser().parse_args(argv)
    try:
        return _show(options)
    except KeyboardInterrupt:
        if not options.watch:
            raise
        return OK


def _show(options: argparse.Namespace) -> int:
    before: dict[int, Facts] = {}
    while True:
        tunnels = [
            facts
            for facts in (read(None) if options.all else read())
            if options.interface in (None, facts["interface"])
        ]
        if options.json:
            print(json.dumps(tunnels, indent=None if options.watch else 2), flush=True)
        elif tunnels:
            screen = "\n".join(render(facts, before.get(facts["pid"]), where=options.all) for facts in tunnels)
            print((_CLEAR if options.watch and sys.stdout.isatty() else "") + screen, end="", flush=True)
        if not tunnels:
            named = f" named {options.interface}" if options.interface else ""
            where = "" if options.all else " in this network namespace (--all looks in every one)"
            blind = counter_block.why_none()
            reason = f"; one that does could not be seen: {blind}" if blind else ""
            raise NoTunnelError(f"no tunnel{named} runs{where}{reason}")
        if not options.watch:
            return OK
        before = {facts["pid"]: facts for facts in tunnels}
        time.sleep(options.watch)


def read(netns: str | None = OURS) -> list[Facts]:
    """Read the tunnels of a network namespace, or of every one (None), sorted by interface."""
    try:
        status = os.stat(netns) if netns else None
    except OSError as error:
        raise Tap2tapError(f"cannot tell which network namespace this is: {netns}: {error.strerror}") from error
    found = [
        describe(block)
        for block in counter_block.live(netns=status.st_ino if status else None)
        if not status
        or (block.slots[Slot.NETNS_DEVICE], block.slots[Slot.NETNS_INODE]) == (status.st_dev, status.st_ino)
    ]
    return sorted(found, key=lambda facts: (facts["interface"], facts["uid"], facts["pid"]))


def _is_ours(slots: memoryview) -> bool:
    """Whether the tunnel runs in our network namespace."""
    with contextlib.suppress(OSError):
        status = os.stat(OURS)
        return (slots[Slot.NETNS_DEVICE], slots[Slot.NETNS_INODE]) == (status.st_dev, status.st_ino)
    return False


def _text(there: Endpoint | None, *, named: bool) -> str | None:
    return None if there is None else str(there) if named else there.numeric


def describe(block: Reading) -> Facts:
    """Everything that one block says."""
    slots = block.slots
    peer, local = endpoint.load(slots, Slot.PEER), endpoint.load(slots, Slot.LOCAL)
    named = _is_ours(slots)  # only then are the names of its interfaces those that we see
    now = clock.now_ns()
    heard = slots[Slot.PEER_HEARD]
    try:
        state = State(slots[Slot.STATE]).name.lower()
    except ValueError:
        state = "unknown"
    return {
        "interface": counters.load_name(slots),
        "pid": slots[Slot.PID],
        "netns": slots[Slot.NETNS_INODE],
        "uid": block.uid,  # of who started it, or says so
        "state": state,
        "mtu": slots[Slot.MTU],
        "path_mtu": _path_mtu(slots, peer),
        "data_plane": "compiled" if slots[Slot.DATA_PLANE] == DataPlane.COMPILED else INTERPRETED,
        "local": _text(local, named=named),
        "peer": _text(peer, named=named),
        "peer_heard_seconds": round((now - heard) / 1e9, 3) if heard else None,
        "session": _session(slots, now),
        "uptime_seconds": round((now - slots[Slot.STARTED]) / 1e9, 3),
        "counted_seconds": round((slots[Slot.PUBLISHED] - slots[Slot.STARTED]) / 1e9, 3),  # the uptime of the counts
        "workers": {"outbound": _worker(block.outbound), "inbound": _worker(block.inbound)},
        "link": _child(block.link) if slots[Slot.LINK] != Link.NONE else None,
    }


def _path_mtu(slots: memoryview, peer: Endpoint | None) -> int | None:
    """The longest packet of IP that reaches the peer whole; None while it is not known."""
    return slots[Slot.PATH] + peer.headers if peer and slots[Slot.PATH] else None


def _session(slots: memoryview, now: int) -> Facts | None:
    """The secure link; None for the plain protocol. What nobody has measured yet is None."""
    if slots[Slot.LINK] == Link.NONE:
        return None
    cipher, handshake = slots[Slot.CIPHER], slots[Slot.HANDSHAKE]
    known = slots[Slot.ROUND_TRIP] > 0
    return {
        "state": Link(slots[Slot.LINK]).name.lower() if slots[Slot.LINK] in list(Link) else "unknown",
        "cipher": CIPHERS.get(cipher),
        "last_handshake_seconds": round((now - handshake) / 1e9, 3) if handshake else None,
        "rekeys": slots[Slot.REKEYS],
        "peer_mtu": slots[Slot.PEER_MTU] or None,
        "round_trip_seconds": slots[Slot.ROUND_TRIP] / 1e9 if known else None,
        "jitter_seconds": slots[Slot.JITTER] / 1e9 if known else None,
        "loss_outbound": slots[Slot.LOSS_OUT] / 1e6 if known else None,  # shares of the datagrams of lately
        "loss_inbound": slots[Slot.LOSS_IN] / 1e6 if known else None,
    }


def _child(counts: Counts) -> Facts:
    """What is known of every child of a supervisor."""
    pid, cpu = counts[Count.PID], counts[Count.CPU]
    return {
        "pid": pid or None,
        "cpu": cpu - 1 if cpu else None,
        **_process(pid),
        "restarts": counts[Count.RESTARTS],
    }


def _worker(counts: Counts) -> Facts:
    return {
        **_child(counts),
        "frames": counts[Count.FRAMES],
        "bytes": counts[Count.BYTES],
        "datagrams": counts[Count.DATAGRAMS],
        "trains": counts[Count.TRAINS],
        "super_frames": counts[Count.SUPER_FRAMES],
        "super_frame_frames": counts[Count.SUPER_FRAME_FRAMES],
        "fallbacks": counts[Count.FALLBACKS],
        "keepalives": counts[Count.KEEPALIVES],
        "control": counts[Count.CONTROL],
        "parts": counts[Count.PARTS],  # frames
        "too_long_for_peer": counts[Count.LONG],
        "clamped": counts[Count.CLAMPED],
        "dropped": {drop.name.lower(): counts[Count.DROPPED + drop] for drop in Drop if counts[Count.DROPPED + drop]},
    }


def _process(pid: int) -> Facts:
    """What psutil knows: CPU seconds used so far, the share of a CPU that was on average, resident bytes."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times, memory = process.cpu_times(), process.memory_info().rss
            lived = max(time.time() - process.create_time(), 1e-3)
    except (psutil.Error, ValueError):
        return {"cpu_seconds": None, "cpu_percent": None, "memory_bytes": None}
    used = times.user + times.system
    return {"cpu_seconds": used, "cpu_percent": round(100 * used / lived, 2), "memory_bytes": memory}
