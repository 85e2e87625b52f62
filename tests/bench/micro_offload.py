"""Microseconds that it takes to split, join or complete a train: `python -m tests.bench.micro_offload`.

The minimum of many rounds, each shorter than a time slice, as the machine is never quiet.
"""

import timeit
from collections.abc import Callable
from dataclasses import replace

from tap2tap.vnet import VNET_LENGTH
from tap2tap.workers.arena import Arena
from tap2tap.workers.offload import join
from tap2tap.workers.offload.checksum import complete
from tap2tap.workers.offload.join import SCRATCH, Joiner
from tap2tap.workers.offload.split import OUT_AREA, Splitter
from tap2tap.workers.train import ROOM, Train
from tests.support import frames
from tests.support.frames import Flow

COMPILED = not join.__file__.endswith(".py")
ROUNDS, CALLS = (1500, 30) if COMPILED else (5, 3)
OVERHEAD = 24  # bytes that the secure protocol adds to a frame
AT = SCRATCH + 64
OUT = AT + ROOM + 64 * OVERHEAD
ARENA = Arena(OUT + OUT_AREA)


def measure(name: str, work: Callable[[], object]) -> None:
    """Print the cost of one call."""
    best = min(timeit.repeat(work, number=CALLS, repeat=ROUNDS)) / CALLS
    print(f"{name:58s} {best * 1e6:7.2f} us")


def bulk(name: str, flow: Flow, length: int, mss: int) -> None:
    """Split a super-frame, and join its segments again."""
    header, frame = frames.super_frame(flow, frames.payload(length), mss)
    cut = frames.segments(flow, frames.payload(length), mss)
    counts = memoryview(bytearray(8 * 64)).cast("Q")
    splitter, joiner = Splitter(ARENA, counts, OUT, 8, OVERHEAD), Joiner(ARENA, 0, True)
    train = Train()
    whole = frames.load(ARENA, AT, [frame])
    begin = header + frame[: flow.hl]

    def split() -> None:
        ARENA.put(AT - VNET_LENGTH, begin)  # its headers do not stay what they are
        splitter.begin(whole, 1 << 30)
        while splitter.next(train):
            pass

    what = f"{name}: {len(cut)} x {mss}"
    measure(f"split {what}", split)
    came = frames.load(ARENA, AT, cut, room=OVERHEAD)
    assert joiner.run(came, 0) == len(cut)
    measure(f"join  {what}", lambda: joiner.run(came, 0))
    came.vouched = True
    measure(f"join  {what}, vouched", lambda: joiner.run(came, 0))


def small(name: str, cut: list[bytes]) -> None:
    """Join, or not, a train of other frames."""
    joiner, train = Joiner(ARENA, 0, False), frames.load(ARENA, AT, cut)

    def runs() -> int:
        first = number = 0
        while first < train.count:
            first += joiner.run(train, first)
            number += 1
        return number

    measure(f"join  {name}: {len(cut)} frames to {runs()} writes", runs)


def completion(name: str, flow: Flow, length: int, count: int) -> None:
    """Complete the checksums of a train; what is in the fields does not matter."""
    train = frames.load(ARENA, AT, [frames.build(flow, frames.payload(length), partial=True)] * count)
    measure(f"complete {name}: {count} x {length}", lambda: complete(ARENA, train, flow.l4, 16 if flow.tcp else 6))


def main() -> None:
    """Run them all."""
    print("compiled" if COMPILED else "interpreted")
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
    small("tcp, every checksum wrong", [frame[:-1] + b"\1" for frame in cut])
    for count in (1, 2, 64):
        completion("tcp4", tcp, 0, count)
        completion("udp4", udp, 18, count)
    completion("tcp4", tcp, 1448, 1)
    completion("tcp4", tcp, 1448, 43)


if __name__ == "__main__":
    main()
