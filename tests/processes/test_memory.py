"""The memory of the workers stays flat, whatever variety of traffic strangers and local programs can make.

The collector is off in a worker, so what is held by nothing but itself is never freed; and what is remembered of sizes,
layouts, sources and sessions is bounded.
"""

import gc
import random
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import product
from pathlib import Path

import psutil
import pytest

from tap2tap.demo.lab import Lab, wait_for
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.limits import REJECT_AFTER_MESSAGES
from tap2tap.vnet import NO_OFFLOAD
from tests.namespaces.test_mixed_traffic import Segments, tap
from tests.support import frames
from tests.support.ends import IN, Ends
from tests.support.frames import Flow
from tests.support.mixture import FROM, TO, Read
from tests.support.pair import THERE, Pair, pair
from tests.support.secured import secured
from tests.support.traffic import family, segment_size
from tests.support.tunnel import RIGHT, RIGHT6, Tunnel, joined, wait_ping

FLAT = 6 << 20  # bytes that a worker's memory may move up and down; a cycle for each layout is dozens of times that
ROUNDS, WARM = 7, 3  # of each kind of traffic, and after how many of them everything has been seen

LAYOUTS = [
    Flow(version=version, tcp=tcp, macs=TO + FROM, tags=((0x8100, 5),) * tags, options=b"\1" * 4 * words)
    for version, tags in product((4, 6), range(4))
    for tcp, words in ((False, 0), *((True, words) for words in range(0, 11, 2)))
]


def variety(dice: random.Random, count: int) -> Iterator[Read]:
    """Some frames of that many layouts, each in another size; by turns together and one by one."""
    for flow in dice.choices(LAYOUTS, k=count):
        mss = dice.randint(60, 1200)
        payload = dice.randbytes(mss * dice.randint(3, 6))
        cut = frames.segments(flow, payload, mss)
        if dice.random() < 0.5:
            yield Read(*frames.super_frame(flow, payload, mss), cut)
        else:
            yield from (Read(NO_OFFLOAD, frame, [frame]) for frame in cut)


def junk(dice: random.Random, size: int) -> bytes:
    """A train of datagrams that seem to belong to a session, or to a handshake."""
    kind, index = dice.choice((1, 2, 3, 4, 5, 200)), dice.randrange(wire.MAX_INDEX)
    first = dice.randrange(REJECT_AFTER_MESSAGES)
    return b"".join(
        (wire.header(kind, index, first + number) + dice.randbytes(size))[:size] for number in range(dice.randint(1, 8))
    )


@contextmanager
def no_garbage() -> Iterator[None]:
    """Nothing of ours is left behind that only the collector could free."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        ours = [each for each in gc.garbage if str(getattr(each, "__module__", "")).startswith("tap2tap")]
        left = Counter(type(each).__qualname__ for each in ours)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not left


def carry(dice: random.Random, both: Pair | None) -> None:
    """Carry variety from tap to tap through workers that live no longer than this."""
    with ExitStack() as stack:
        ends = Ends(stack, both)
        reads = list(variety(dice, 500))
        sent = [frame for read in reads for frame in read.cut]
        assert ends.delivered(ends.carried(reads), 64) == sent
        if both is None:
            return
        for _ in range(200):
            size = dice.randint(25, 1500)
            data = junk(dice, size)
            train = frames.load(both.incoming, IN, [data[at : at + size] for at in range(0, len(data), size)])
            assert not list(both.runs_of(train, THERE))
            both.notices()


def test_nothing_that_is_forgotten_waits_for_the_collector() -> None:
    dice = random.Random(5)
    with pair(7) as both, no_garbage():
        for _ in range(3):
            carry(dice, None)
            carry(dice, both)
            both.replace()


@pytest.mark.parametrize("key", [False, True], ids=["plain", "key"])
def test_both_workers_stay_as_large_as_they_are(lab: Lab, tmp_path: Path, key: bool) -> None:
    dice = random.Random(6)
    with ExitStack() as stack:
        tunnels = secured(lab.left, lab.right, tmp_path) if key else joined(lab.left, lab.right)
        client, server = stack.enter_context(tunnels)
        entry = stack.enter_context(tap(lab.left))
        wait_ping(lab.left, RIGHT6)  # what waits for the address of a neighbour is lost
        workers = [psutil.Process(client.worker("outbound")["pid"]), psutil.Process(server.worker("inbound")["pid"])]
        sizes: list[list[int]] = []
        for _ in range(ROUNDS):
            frames_of_all_kinds(dice, entry, client, server)
            datagrams_of_all_sizes(dice, lab, client)
            segments_of_all_sizes(dice, lab)
            strangers(dice, lab, server)
            sizes.append([worker.memory_info().rss for worker in workers])
        grown = [last - first for first, last in zip(sizes[WARM - 1], sizes[-1], strict=True)]
        assert max(grown) < FLAT


def frames_of_all_kinds(dice: random.Random, entry: socket.socket, client: Tunnel, server: Tunnel) -> None:
    """Frames and super-frames of many layouts, as from a guest with a tap of its own."""
    counts = [client.worker("outbound")["frames"], server.worker("inbound")["frames"]]
    sent = 0
    for header, frame, cut in variety(dice, 60):
        entry.send(header + frame)
        sent += len(cut)
    for tunnel, way, count in zip((client, server), ("outbound", "inbound"), counts, strict=True):
        with suppress(TimeoutError):  # some may be lost
            wait_for(lambda: tunnel.worker(way)["frames"] >= count + sent, 3)  # noqa: B023


def datagrams_of_all_sizes(dice: random.Random, lab: Lab, client: Tunnel) -> None:
    """UDP_SEGMENT, for which a program needs no privilege."""
    before, sent = client.worker("outbound")["frames"], 0
    for address in (RIGHT, RIGHT6):
        with lab.left.socket(family(address), socket.SOCK_DGRAM) as sock:
            for _ in range(100):
                size, count = dice.randint(1, 1300), dice.randint(2, 40)
                sock.sendmsg([bytes(size * count - size // 2)], segment_size(size), 0, (address, 9))
                sent += count
    with suppress(TimeoutError):
        wait_for(lambda: client.worker("outbound")["frames"] >= before + sent, 3)


def segments_of_all_sizes(dice: random.Random, lab: Lab) -> None:
    """TCP_MAXSEG, neither."""
    streams = [Segments(lab, address, dice.randint(88, 1300), 1 << 14) for address in (RIGHT, RIGHT6) * 4]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.check()


def strangers(dice: random.Random, lab: Lab, server: Tunnel) -> None:
    """Trains of many sizes from many sources, in which there is nothing but noise."""
    before = server.worker("inbound")["datagrams"]
    sent = 0
    for _ in range(60):
        with lab.left.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            size = dice.randint(1, 1400)
            data = junk(dice, size)
            sock.sendmsg([data], segment_size(size), 0, (lab.right.ipv4, 1234))
            sent += len(data) // size
    with suppress(TimeoutError):
        wait_for(lambda: server.worker("inbound")["datagrams"] >= before + sent, 3)
