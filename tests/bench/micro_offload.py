"""Microseconds that it takes to split, join or complete a train: `python -m tests.bench.micro_offload`.

The minimum of several rounds, as the machine is never quiet.
"""

import timeit
from collections.abc import Callable
from dataclasses import replace

from tap2tap.workers.checksum import complete
from tap2tap.workers.join import Joiner
from tap2tap.workers.split import Splitter
from tap2tap.workers.train import Train
from tests import frames
from tests.frames import Flow

ROUNDS, CALLS = 25, 400


def measure(name: str, work: Callable[[], object]) -> None:
    """Print the cost of one call."""
    best = min(timeit.repeat(work, number=CALLS, repeat=ROUNDS)) / CALLS
    print(f"{name:58s} {best * 1e6:7.2f} us")


def bulk(name: str, flow: Flow, length: int, mss: int) -> None:
    """Split a super-frame, and join its segments again."""
    header, frame = (memoryview(part) for part in frames.super_frame(flow, frames.payload(length), mss))
    splitter, joiner = Splitter(), Joiner(udp=True)
    cut = frames.segments(flow, frames.payload(length), mss)
    train = frames.load(Train(), cut)
    vouched = frames.load(Train(), cut, vouched=True)
    assert len(list(splitter.split(header, frame))) == len(list(joiner.join(train))) == 1
    measure(f"split {name}: {len(cut)} x {mss}", lambda: list(splitter.split(header, frame)))
    measure(f"join  {name}: {len(cut)} x {mss}", lambda: list(joiner.join(train)))
    measure(f"join  {name}: {len(cut)} x {mss}, vouched", lambda: list(joiner.join(vouched)))


def small(name: str, cut: list[bytes]) -> None:
    """Join, or not, a train of small frames."""
    joiner = Joiner(udp=False)
    train = frames.load(Train(), cut)
    pieces = len(list(joiner.join(train)))
    measure(f"join  {name}: {len(cut)} frames to {pieces} writes", lambda: list(joiner.join(train)))


def completion(name: str, flow: Flow, length: int, count: int) -> None:
    """Complete the checksums of a train; what is in the fields does not matter."""
    train = frames.load(Train(), [frames.build(flow, frames.payload(length), partial=True)] * count)
    measure(f"complete {name}: {count} x {length}", lambda: complete(train, flow.l4, 16 if flow.tcp else 6))


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
