"""What is measured over one cable. A measure returns named numbers; units and sense are in MEASURES."""

import gc
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tap2tap.demo.echo import Pinger
from tap2tap.demo.lab import wait_for
from tests.bench.load import LEFT, RIGHT, finish, offer_datagrams, offer_frames, pids, search
from tests.bench.peers import Cable
from tests.bench.usage import Meter, pss, pss_alone

GIB = 1 << 30
DATAGRAM = 1400 - 28  # bytes of payload: with its headers it fits every tunnel here unfragmented

Values = dict[str, float]


@dataclass(frozen=True)
class Measure:
    """One number of the report."""

    title: str
    unit: str
    more_is_better: bool
    scale: str = "{:.2f}"


MEASURES = {
    "tcp1": Measure("TCP, one stream", "Gbit/s", True),
    "tcp1_back": Measure("TCP, one stream, the other way", "Gbit/s", True),
    "tcp8": Measure("TCP, 8 streams", "Gbit/s", True),
    "tcp8_back": Measure("TCP, 8 streams, the other way", "Gbit/s", True),
    "frames64": Measure("64-byte frames delivered", "thousand/s", True, "{:.0f}"),
    "frames64_flood": Measure("The same in a flood", "thousand/s", True, "{:.0f}"),
    "frames1400": Measure("1400-byte frames delivered", "thousand/s", True, "{:.0f}"),
    "udp1400": Measure("Inner UDP in packets of 1400 bytes", "Gbit/s", True),
    "udp1400_gso": Measure("The same, sent in trains (UDP_SEGMENT)", "Gbit/s", True),
    "rtt_idle_median": Measure("Round trip, idle, median", "µs", False, "{:.0f}"),
    "rtt_idle_p99": Measure("Round trip, idle, 99th percentile", "µs", False, "{:.0f}"),
    "rtt_load_median": Measure("Round trip beside one TCP stream, median", "µs", False, "{:.0f}"),
    "rtt_load_p99": Measure("Round trip beside one TCP stream, 99th percentile", "µs", False, "{:.0f}"),
    "cpu_gib": Measure("CPU of the tunnel's processes per GiB of TCP", "s", False),
    "cpu_gib_machine": Measure("CPU of the whole machine per GiB of TCP", "s", False),
    "cpu_frames": Measure("CPU of the tunnel's processes per million 64-byte frames", "s", False),
    "cpu_frames_machine": Measure("CPU of the whole machine per million 64-byte frames", "s", False),
    "memory": Measure("Memory of one end (PSS)", "MiB", False, "{:.1f}"),
    "memory_alone": Measure("Memory of one end with its files unshared", "MiB", False, "{:.1f}"),
    "start": Measure("Start to first reply", "ms", False, "{:.0f}"),
}


def connect(cable: Cable, timeout: float = 20.0) -> Values:
    """Wait for the devices, give them addresses, and ping until the first reply."""
    for host, device, address in (
        (cable.lab.right, cable.right, RIGHT),
        (cable.lab.left, cable.left, LEFT),
    ):
        wait_for(lambda host=host, device=device: host.has_link(device), timeout, "device")  # type: ignore[misc]
        if cable.mtu is not None:
            host.link(device, mtu=cable.mtu)
        host.link(device, state="up")
        host.address(device, f"{address}/24")
    with Pinger(cable.lab.left) as pinger:
        wait_for(lambda: pinger.ping(RIGHT, 0.02), timeout, "reply through the tunnel")
    return {"start": (time.monotonic() - cable.began) * 1e3}


def serves(cable: Cable) -> bool:
    """Start a server of iperf3 on the right; False if it does not start."""
    server = cable.lab.right.popen(["iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE)
    assert server.stdout is not None
    return any("listening" in line for line in iter(server.stdout.readline, ""))


def iperf(cable: Cable, seconds: float, *options: str) -> "subprocess.Popen[str]":
    """Start a transfer from left to right (with -R: back); its server serves this one only."""
    wait_for(lambda: serves(cable), 10, "iperf3 server")  # the one before may take a moment to leave the port
    argv = ["iperf3", "-J", "-c", RIGHT, "-t", f"{seconds:.0f}", *options]
    return cable.lab.left.popen(argv, stdout=subprocess.PIPE)


def received(result: Any) -> tuple[float, float]:
    """Gbit/s and GiB that arrived, of iperf3's JSON."""
    if "error" in result:
        raise RuntimeError(f"iperf3: {result['error']}")
    total = result["end"]["sum_received"]
    return total["bits_per_second"] / 1e9, total["bytes"] / GIB


def tcp(cable: Cable, seconds: float) -> Values:
    """One stream each way, eight streams each way, and what the first one cost."""
    values: Values = {}
    for key, options in {"tcp1": (), "tcp1_back": ("-R",), "tcp8": ("-P8",), "tcp8_back": ("-P8", "-R")}.items():
        meter = Meter(pids(cable, "left", "right"))
        values[key], gib = received(finish(iperf(cable, seconds, *options), seconds))
        if key == "tcp1":
            cost = meter.cost()
            values["cpu_gib_machine"] = cost.machine / gib
            if meter.pids:
                values["cpu_gib"] = cost.tunnel / gib
    return values


def frames(cable: Cable, seconds: float) -> Values:
    """Frames that arrive per second: at the offered load that suits the tunnel best, and in a flood."""
    values: Values = {}
    for size in (64, 1400):
        outcome = search(lambda rate, size=size: offer_frames(cable, seconds / 3, size, rate))  # type: ignore[misc]
        values[f"frames{size}"] = outcome.best.delivered / 1e3
        if size == 64:
            values["frames64_flood"] = outcome.flood.delivered / 1e3
            million = outcome.best.count / 1e6
            values["cpu_frames_machine"] = outcome.best.cost.machine / million
            if pids(cable, "left", "right"):
                values["cpu_frames"] = outcome.best.cost.tunnel / million
    return values


def udp(cable: Cable, seconds: float) -> Values:
    """Goodput of datagrams that reach an application, sent one by one and in trains."""
    values: Values = {}
    for key, mode in {"udp1400": "udp", "udp1400_gso": "gso"}.items():
        outcome = search(lambda rate, mode=mode: offer_datagrams(cable, seconds / 3, mode, DATAGRAM, rate))  # type: ignore[misc]
        values[key] = outcome.best.delivered * DATAGRAM * 8 / 1e9
    return values


def percentiles(key: str, times: list[int]) -> Values:
    """Median and 99th percentile in microseconds."""
    return {
        f"{key}_median": statistics.median(times) / 1e3,
        f"{key}_p99": statistics.quantiles(times, n=100, method="inclusive")[98] / 1e3,
    }


def latency(cable: Cable, seconds: float) -> Values:
    """Round-trip times of ICMP echo: alone, a thousand a second at most, and beside a TCP stream."""
    gc.disable()  # a collection in the pinger would be taken for the tunnel's
    try:
        with Pinger(cable.lab.left) as pinger:
            values = percentiles("rtt_idle", pinger.run(RIGHT, seconds, 0.001).times)
            process = iperf(cable, seconds + 1)
            time.sleep(0.5)  # until the stream is at full speed
            values |= percentiles("rtt_load", pinger.run(RIGHT, seconds, 0.002).times)
            finish(process, seconds)
    finally:
        gc.enable()
    return values


def memory(cable: Cable, seconds: float) -> Values:
    """Memory of the right end; after the other measures, so that it is warm."""
    del seconds
    if not (processes := pids(cable, "right")):
        return {}  # it is in the kernel
    return {"memory": pss(processes), "memory_alone": pss_alone(processes)}


# In the order in which they run; memory is last for a reason.
GROUPS: dict[str, Callable[[Cable, float], Values]] = {
    "latency": latency,
    "tcp": tcp,
    "frames": frames,
    "udp": udp,
    "memory": memory,
}
