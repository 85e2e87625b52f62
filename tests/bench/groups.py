"""How it is measured: each group of measures runs over one cable and returns named numbers, see MEASURES."""

import gc
import statistics
import subprocess
import time
from collections.abc import Callable

from tap2tap.demo.echo import Pinger
from tap2tap.demo.lab import wait_for
from tests.bench.load import LEFT, RIGHT, finish, offer_datagrams, offer_frames, pids, search
from tests.bench.measures import RATES, Values
from tests.bench.peers import ROOT, Cable
from tests.bench.usage import Meter, pss, pss_alone

PIECE = 64 << 10  # bytes
DATAGRAM = 1400 - 28  # bytes of payload: with its headers it fits every tunnel here unfragmented
LONE = 0.01  # seconds between frames that meet nothing but idle processes
STARTS = 5


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
    server = cable.lab.right.popen(
        ["iperf3", "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert server.stdout is not None
    return any("listening" in line for line in iter(server.stdout.readline, ""))


def iperf(cable: Cable, seconds: float, *options: str) -> "subprocess.Popen[str]":
    """Start a transfer from left to right (with -R: back); its server serves this one only."""
    wait_for(lambda: serves(cable), 10, "iperf3 server")  # the one before may take a moment to leave the port
    argv = ["iperf3", "-J", "-c", RIGHT, "-t", f"{seconds:.0f}", *options]
    return cable.lab.left.popen(argv, stdout=subprocess.PIPE)


def received(process: "subprocess.Popen[str]", seconds: float) -> tuple[float, float]:
    """Gbit/s and pieces of 64 KiB that arrived, of a transfer that is still running."""
    result = finish(process, seconds)
    if "error" in result:
        raise RuntimeError(f"iperf3: {result['error']}")
    total = result["end"]["sum_received"]
    return total["bits_per_second"] / 1e9, total["bytes"] / PIECE


def tcp(cable: Cable, seconds: float) -> Values:
    """One stream, and what it cost."""
    meter = Meter(pids(cable, "left", "right"))
    gbits, pieces = received(iperf(cable, seconds), seconds)
    cost = meter.cost()
    values = {"tcp1": gbits, "cpu_tcp_machine": cost.machine / pieces * 1e6}
    if meter.pids:
        values["cpu_tcp"] = cost.tunnel / pieces * 1e6
    return values


def streams(cable: Cable, seconds: float) -> Values:
    """One stream the other way, eight streams each way."""
    options = {"tcp1_back": ["-R"], "tcp8": ["-P8"], "tcp8_back": ["-P8", "-R"]}
    return {key: received(iperf(cable, seconds, *words), seconds)[0] for key, words in options.items()}


def rates(cable: Cable, seconds: float) -> Values:
    """What fixed rates of TCP cost, in percent of one core.

    Left out where the tunnel is in the kernel, whose work for it cannot be told from its other work, and where the rate
    is more than it carries.
    """
    values: Values = {}
    if processes := pids(cable, "left", "right"):
        for rate in RATES:
            process = iperf(cable, seconds, "-b", f"{rate}M")
            meter, begin = Meter(processes), time.monotonic()
            carried, _ = received(process, seconds)
            cost, took = meter.cost(), time.monotonic() - begin
            if carried > 0.95 * rate / 1e3:
                values[f"cpu_{rate}"] = cost.tunnel / took * 100
    return values


def frames(cable: Cable, seconds: float) -> Values:
    """Small frames that arrive per second: at the offered load that suits the tunnel best, and in a flood."""
    outcome = search(lambda rate: offer_frames(cable, seconds / 3, 64, rate))
    cost, million = outcome.best.cost, outcome.best.count / 1e6
    values = {
        "frames64": outcome.best.delivered / 1e3,
        "frames64_flood": outcome.flood.delivered / 1e3,
        "cpu_frames_machine": cost.machine / million,
    }
    if pids(cable, "left", "right"):
        values["cpu_frames"] = cost.tunnel / million
    return values


def long_frames(cable: Cable, seconds: float) -> Values:
    """The same with long ones."""
    outcome = search(lambda rate: offer_frames(cable, seconds / 3, 1400, rate))
    return {"frames1400": outcome.best.delivered / 1e3}


def udp(cable: Cable, seconds: float) -> Values:
    """Goodput of datagrams that reach an application, sent one by one and in trains."""
    values: Values = {}
    for key, mode in {"udp1400": "udp", "udp1400_gso": "gso"}.items():
        outcome = search(lambda rate, mode=mode: offer_datagrams(cable, seconds / 3, mode, DATAGRAM, rate))  # type: ignore[misc]
        values[key] = outcome.best.delivered * DATAGRAM * 8 / 1e9
    return values


def percentile(times: list[int], which: int) -> float:
    """In microseconds, of nanoseconds."""
    return statistics.quantiles(times, n=100, method="inclusive")[which - 1] / 1e3


def echoes(cable: Cable, seconds: float, interval: float) -> list[int]:
    """Round-trip times of ICMP echo in nanoseconds."""
    gc.disable()  # a collection in the pinger would be taken for the tunnel's
    try:
        with Pinger(cable.lab.left) as pinger:
            return pinger.run(RIGHT, seconds, interval).times
    finally:
        gc.enable()


def lone(cable: Cable, seconds: float) -> Values:
    """Round-trip times of frames that travel alone, a hundred a second."""
    times = echoes(cable, seconds, LONE)
    return {"rtt_lone_p10": percentile(times, 10), "rtt_lone_median": percentile(times, 50)}


def beside(cable: Cable, seconds: float) -> Values:
    """Round-trip times beside a TCP stream."""
    process = iperf(cable, seconds + 1)
    time.sleep(0.5)  # until the stream is at full speed
    times = echoes(cable, seconds, 0.002)
    finish(process, seconds)
    return {"rtt_load_median": percentile(times, 50), "rtt_load_p99": percentile(times, 99)}


def start(cable: Cable, seconds: float) -> Values:
    """How long one more end takes to start on a host where nothing else happens."""
    del seconds
    if not cable.further:
        return {}
    times = []
    for _ in range(STARTS):
        begin = time.monotonic()
        process = cable.lab.right.popen(cable.further, stderr=subprocess.PIPE, cwd=ROOT)
        assert process.stderr is not None
        if not any("tunnel is up" in line for line in iter(process.stderr.readline, "")):
            raise RuntimeError("one more end does not start")
        times.append(time.monotonic() - begin)
        process.terminate()
        process.communicate(timeout=10)
    return {"start_one": statistics.median(times) * 1e3}


def memory(cable: Cable, seconds: float) -> Values:
    """Memory of the right end; after the other measures, so that it is warm."""
    del seconds
    if not (processes := pids(cable, "right")):
        return {}  # it is in the kernel
    return {"memory": pss(processes), "memory_alone": pss_alone(processes)}


LAYER_2 = ("frames", "long-frames")  # not for tunnels that carry packets only
SLOW = ("streams", "long-frames", "udp")  # left out where only a quick look is wanted

# In the order in which they run; memory is last for a reason.
GROUPS: dict[str, Callable[[Cable, float], Values]] = {
    "lone": lone,
    "beside": beside,
    "tcp": tcp,
    "streams": streams,
    "rates": rates,
    "frames": frames,
    "long-frames": long_frames,
    "udp": udp,
    "start": start,
    "memory": memory,
}
