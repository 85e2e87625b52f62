"""Offering load: one rate of frames or datagrams for a while, and the search for the rate of which most arrives.

A tunnel in user space delivers less in a flood than at its best, as it then works for frames that get lost later, and
shares the processors with their sender. So the best of several offered rates is taken, the flood among them.
"""

import json
import subprocess
import sys
import time
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from tests.bench.peers import ROOT, Cable
from tests.bench.usage import Cost, Meter, family

LEFT, RIGHT = "10.77.0.1", "10.77.0.2"  # inside the tunnel
MARGIN = 20.0  # seconds that a bounded program gets on top before it counts as stuck
SHORTEST = 0.7  # seconds: less has no middle
STEP, STEPS = 1.25, 9

Samples = Sequence[tuple[float, float]]  # moment and events so far, two at least


@dataclass
class Load:
    """What became of one offered load."""

    sent: float  # per second
    delivered: float  # per second, in the middle of the time
    count: float  # delivered in all
    cost: Cost


@dataclass
class Outcome:
    """What became of all of them."""

    best: Load
    flood: Load


def pids(cable: Cable, *sides: str) -> list[int]:
    """The processes of the tunnel on some sides."""
    return family(program.pid for side in sides for program in cable.programs[side])


def finish(process: "subprocess.Popen[str]", seconds: float) -> Any:
    """The JSON that a program prints at its end."""
    output, _ = process.communicate(timeout=seconds + MARGIN)
    return json.loads(output)


def flood(cable: Cable, seconds: float, mode: str, rate: float | None, *options: str) -> "subprocess.Popen[str]":
    """Start the generator on the left."""
    argv = [sys.executable, "-m", "tests.bench.flood", "--mode", mode, "--seconds", str(seconds), *options]
    argv += [] if rate is None else ["--rate", str(rate)]
    return cable.lab.left.popen(argv, stdout=subprocess.PIPE, cwd=ROOT)


def at(samples: Samples, moment: float) -> float:
    """Events until a moment, between two samples as if they came evenly."""
    number = min(max(bisect(samples, moment, key=itemgetter(0)), 1), len(samples) - 1)
    (earlier, before), (later, after) = samples[number - 1 : number + 1]
    return before + (after - before) * min(max((moment - earlier) / (later - earlier), 0.0), 1.0)


def middle(samples: Samples, start: float, end: float) -> float:
    """Events per second of a load without its first quarter and its last tenth."""
    low, high = start + (end - start) * 0.25, end - (end - start) * 0.1
    return (at(samples, high) - at(samples, low)) / (high - low)


def summed_up(result: Any, samples: Samples, cost: Cost) -> Load:
    """One load from what the generator and the receiver told."""
    took = result["end"] - result["start"]
    delivered = middle(samples, result["start"], result["end"])
    return Load(result["sent"] / took, delivered, samples[-1][1] - samples[0][1], cost)


def offer_frames(cable: Cable, seconds: float, size: int, rate: float | None) -> Load:
    """Frames for the right host's device, counted where the kernel receives them."""
    seconds = max(seconds, SHORTEST)
    link = cable.lab.right.run(["ip", "-o", "link", "show", cable.right]).stdout
    mac = link.split("link/ether ")[1].split()[0]
    meter = Meter(pids(cable, "left", "right"))
    samples = [(time.monotonic(), cable.lab.right.counters()[cable.right].rx_packets)]
    process = flood(cable, seconds, "frames", rate, "--device", cable.left, "--mac", mac, "--size", str(size))
    while process.poll() is None:
        time.sleep(0.02)
        samples.append((time.monotonic(), cable.lab.right.counters()[cable.right].rx_packets))
    return summed_up(finish(process, seconds), samples, meter.cost())


def offer_datagrams(cable: Cable, seconds: float, mode: str, size: int, rate: float | None) -> Load:
    """Datagrams for a program on the right host, counted by it."""
    seconds = max(seconds, SHORTEST)
    argv = [sys.executable, "-m", "tests.bench.sink", "--seconds", str(seconds + 0.5)]
    sink = cable.lab.right.popen(argv, stdout=subprocess.PIPE, cwd=ROOT)
    assert sink.stdout is not None
    if sink.stdout.readline() != "ready\n":
        raise RuntimeError("the receiver of datagrams does not start")
    meter = Meter(pids(cable, "left", "right"))
    result = finish(flood(cable, seconds, mode, rate, "--address", RIGHT, "--size", str(size)), seconds)
    cost = meter.cost()
    return summed_up(result, finish(sink, seconds)["samples"], cost)


def search(offer: Callable[[float | None], Load]) -> Outcome:
    """Flood first, then rates upward from what arrived of that, until more offered is clearly less delivered.

    At last half a step around the best one.
    """
    best = flooded = offer(None)
    rate, favourite = flooded.delivered, 0.0
    for _ in range(STEPS):
        rate *= STEP
        if rate > flooded.sent:  # the generator does not give more
            break
        load = offer(rate)
        if load.delivered > best.delivered:
            best, favourite = load, rate
        elif load.delivered < best.delivered * 0.85 or rate > best.delivered * 2:
            break
    for rate in (favourite / STEP**0.5, favourite * STEP**0.5):
        if 0 < rate <= flooded.sent:
            best = max(best, offer(rate), key=lambda load: load.delivered)
    return Outcome(best, flooded)
