"""Microseconds that it takes to split, join or complete trains: `python -m tests.bench.micro_offload`.

The minimum of several rounds, as the machine is never quiet.
"""

import timeit
from collections.abc import Callable
from dataclasses import replace

from tap2tap.workers.checksum import complete
from tap2tap.workers.join import Joiner
from tap2tap.workers.split import Splitter
from tap2tap.workers.train import STRIDE, TRAINS, Batch
from tests.support import frames
from tests.support.frames import Flow

ROUNDS, CALLS = 25, 400


def measure(name: str, work: Callable[[], object]) -> None:
    """Print the cost of one call."""
    best = min(timeit.repeat(work, number=CALLS, repeat=ROUNDS)) / CALLS
    print(f"{name:58s} {best * 1e6:7.2f} us")


def bulk(name: str, flow: Flow, length: int, mss: int) -> None:
    """Split a super-frame, and join its segments again."""
    header, frame = frames.super_frame(flow, frames.payload(length), mss)
    cut = frames.segments(flow, frames.payload(length), mss)
    for number in (1, 3, TRAINS):
        source, joiner = Batch(), Joiner(udp=True)
        for slot in range(number):
            source.buffer[slot * STRIDE : slot * STRIDE + len(frame)] = frame
        splitter, lengths = Splitter(source), [len(frame)] * number
        came = frames.load(Batch(), *[cut] * number)
        vouched = frames.load(Batch(), *[cut] * number, vouched=True)
        assert sum(batch.trains.frames for batch in splitter.split(header, lengths)) == number * len(cut)
        assert len(joiner.join(came)) == number
        what = f"{name}: {number} of {len(cut)} x {mss}"
        measure(f"split {what}", lambda: list(splitter.split(header, lengths)))  # noqa: B023
        measure(f"join  {what}", lambda: joiner.join(came))  # noqa: B023
        measure(f"join  {what}, vouched", lambda: joiner.join(vouched))  # noqa: B023


def small(name: str, cut: list[bytes]) -> None:
    """Join, or not, a train of small frames."""
    joiner = Joiner(udp=False)
    batch = frames.load(Batch(), cut)
    pieces = len(joiner.join(batch))
    measure(f"join  {name}: {len(cut)} frames to {pieces} writes", lambda: joiner.join(batch))


def completion(name: str, flow: Flow, length: int, count: int) -> None:
    """Complete the checksums of a train; what is in the fields does not matter."""
    batch = frames.load(Batch(), [frames.build(flow, frames.payload(length), partial=True)] * count)
    measure(f"complete {name}: {count} x {length}", lambda: complete(batch, flow.l4, 16 if flow.tcp else 6))


def main() -> None:
    """Run them all."""
    tcp = Flow(options=frames.TIMESTAMPS)
    udp = Flow(tcp=False)
    bulk("tcp4", tcp, 43 * 1448, 1448)
    bulk("tcp4, short last", tcp, 42 * 1448 + 700, 1448)
    bulk("tcp6", replace(tcp, version=6), 43 * 1428, 1428)
    bulk("tcp4, odd", tcp, 43 * 1447, 1447)
    bulk("udp4", udp, 44 * 1400, 1400)
    bulk("udp4", udp, 64 * 18, 18)
    bulk("tcp4", tcp, 8 * 1448, 1448)
    bulk("tcp4", tcp, 2 * 1448, 1448)
    one = frames.build(tcp, bytes(1000))
    small("one frame", [one])
    small("acknowledgements", [frames.build(replace(tcp, ack=ack, ident=ack), b"") for ack in range(64)])
    small("udp, not for this kernel", frames.segments(udp, bytes(64 * 18), 18))
    small("arp", [one[:12] + b"\x08\x06" + bytes(46)] * 64)
    small(
        "tcp, every frame another flow", [frames.build(replace(tcp, ports=(n, n)), bytes(1000)) for n in range(1, 65)]
    )
    flows = [frames.segments(replace(tcp, ports=(port, 5201)), bytes(10 * 1448), 1448) for port in range(4)]
    small("tcp, four runs", [frame for cut in flows for frame in cut])
    cut = frames.segments(tcp, bytes(43 * 1448), 1448)
    small("tcp, one frame lost", cut[:20] + cut[21:])
    for count in (1, 2, 64):
        completion("tcp4", tcp, 0, count)
        completion("udp4", udp, 18, count)
    completion("tcp4", tcp, 1448, 1)
    completion("tcp4", tcp, 1448, 43)


if __name__ == "__main__":
    main()
