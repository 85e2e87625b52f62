"""What the tests of the joiner share: joining frames, and cutting what was written again."""

from collections.abc import Sequence
from dataclasses import replace

from tap2tap.vnet import NO_OFFLOAD
from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.join import SCRATCH, Joiner
from tap2tap.workers.train import ROOM, Train
from tests.support import frames
from tests.support.frames import DF, TIMESTAMPS, Flow

AT = SCRATCH + 128
ARENA = Arena(AT + 4 * ROOM)
AROUND = 64  # bytes on either side of the scratch area


def join(
    cut: Sequence[bytes], *, vouched: bool = False, udp: bool = True, room: int = 0, whole: bool = False
) -> list[tuple[bytes, int]]:
    """What is written for a train of these frames, and how many frames each write stands for.

    Nothing but the scratch area is written to; with `whole` the train ends where the arena does.
    """
    arena = ARENA
    if whole:
        arena = Arena(AT + sum(len(frame) + room for frame in cut) - room)
    train = frames.load(arena, AT, cut, vouched=vouched, room=room)
    return written(arena, train, Joiner(arena, AROUND, udp))


def written(arena: Arena, train: Train, joiner: Joiner) -> list[tuple[bytes, int]]:
    """What a worker with that joiner writes of a train, and how many frames each write stands for."""
    before = [bytes(arena.view[:AROUND]), bytes(arena.view[AROUND + SCRATCH :])]
    came = frames.contents(arena, train)
    pieces: list[tuple[bytes, int]] = []
    first = 0
    while first < train.count:
        count = joiner.run(train, first)
        assert count >= 1
        run = came[first : first + count]
        if count == 1:
            pieces.append((NO_OFFLOAD + run[0], 1))
        else:
            head = arena.take(joiner.scratch, joiner.head)
            assert joiner.head == len(NO_OFFLOAD) + joiner.hl
            pieces.append((head + b"".join(frame[joiner.hl :] for frame in run), count))
        first += count
    assert first == train.count
    assert [bytes(arena.view[:AROUND]), bytes(arena.view[AROUND + SCRATCH :])] == before
    return pieces


def counts(written: Sequence[tuple[bytes, int]]) -> list[int]:
    """How many frames each write stands for."""
    return [count for _, count in written]


def standing_still(cut: Sequence[bytes]) -> list[bytes]:
    """Frames with DF and one and the same IPv4 id, given the consecutive ids that joining makes of them."""
    back = []
    for index, frame in enumerate(cut):
        flow, payload = frames.dissect(frame)
        assert flow.version == 4
        assert flow.fragment == DF
        assert frames.dissect(cut[0])[0].ident == flow.ident
        back.append(frames.build(replace(flow, ident=(flow.ident + index) % 65536), payload))
    return back


def check(cut: Sequence[bytes], written: Sequence[tuple[bytes, int]]) -> None:
    """Cutting what was written gives the frames, each once and in order, but for the ids of `standing_still`."""
    index = 0
    for write, count in written:
        came = list(cut[index : index + count])
        back = frames.resegment(write)
        assert back == came or back == standing_still(came)
        index += count
    assert index == len(cut)


BULK = Flow(options=TIMESTAMPS)


def make(flow: Flow, count: int = 10, mss: int = 100) -> list[bytes]:
    """A run of full-sized frames."""
    return frames.segments(flow, frames.payload(count * mss), mss)


def altered(frame: bytes, field: str, value: object) -> bytes:
    """The frame with another field, and its checksums right."""
    flow, payload = frames.dissect(frame)
    width = 4 if flow.version == 4 else 16
    if field in ("source", "target") and isinstance(value, bytes):
        value = value[:width]
    return frames.build(replace(flow, **{field: value}), payload)  # type: ignore[arg-type]
