"""What is measured: every number of the report, with its unit and sense. How it is done is in tests.bench.groups."""

from dataclasses import dataclass

Values = dict[str, float]
RATES = (100, 500, 1000)  # Mbit/s of TCP that a router may have to carry


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
    "rtt_lone_p10": Measure("Round trip of a lone frame, 10th percentile", "µs", False, "{:.0f}"),
    "rtt_lone_median": Measure("Round trip of a lone frame, median", "µs", False, "{:.0f}"),
    "rtt_load_median": Measure("Round trip beside one TCP stream, median", "µs", False, "{:.0f}"),
    "rtt_load_p99": Measure("Round trip beside one TCP stream, 99th percentile", "µs", False, "{:.0f}"),
    **{
        f"cpu_{rate}": Measure(f"CPU of both ends at {rate} Mbit/s of TCP", "% of one core", False, "{:.1f}")
        for rate in RATES
    },
    "cpu_tcp": Measure("CPU of the tunnel's processes per 64 KiB of TCP", "µs", False, "{:.0f}"),
    "cpu_tcp_machine": Measure("CPU of the whole machine per 64 KiB of TCP", "µs", False, "{:.0f}"),
    "cpu_frames": Measure("CPU of the tunnel's processes per 64-byte frame", "µs", False),
    "cpu_frames_machine": Measure("CPU of the whole machine per 64-byte frame", "µs", False),
    "memory": Measure("Memory of one end (PSS)", "MiB", False, "{:.1f}"),
    "memory_alone": Measure("Memory of one end with its files unshared", "MiB", False, "{:.1f}"),
    "start": Measure("Start of both ends to first reply", "ms", False, "{:.0f}"),
    "start_one": Measure("Start of one end until it says that it is up", "ms", False, "{:.0f}"),
}
