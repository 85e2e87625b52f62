"""What the tests of the joiner share: joining frames, and cutting what was written again."""

from collections.abc import Sequence
from dataclasses import replace

from tap2tap.vnet import NO_OFFLOAD, VNET_LENGTH
from tap2tap.workers.join import Joiner
from tap2tap.workers.runs import Run
from tap2tap.workers.singles import Single
from tap2tap.workers.train import Batch
from tests.support import frames
from tests.support.frames import DF, TIMESTAMPS, Flow

BATCH = Batch()
JOINER = Joiner(udp=True)


def join(cut: Sequence[bytes], *, vouched: bool = False, joiner: Joiner = JOINER) -> list[tuple[bytes, int]]:
    """What is written for a train of these frames, and how many frames each write stands for."""
    return join_all(cut, vouched=vouched, joiner=joiner)


def join_all(*trains: Sequence[bytes], vouched: bool = False, joiner: Joiner = JOINER) -> list[tuple[bytes, int]]:
    """The same for several trains; their batch must stay as it is."""
    frames.load(BATCH, *trains, vouched=vouched)
    before = bytes(BATCH.buffer)
    written = as_written(joiner.join(BATCH))
    assert bytes(BATCH.buffer) == before
    return written


def as_written(pieces: Sequence[Run | Single]) -> list[tuple[bytes, int]]:
    """What is written for each piece, and how many frames it stands for."""
    return [
        (NO_OFFLOAD + bytes(piece.whole)[VNET_LENGTH:], 1)
        if isinstance(piece, Single)
        else (b"".join(piece.vector), piece.frames)
        for piece in pieces
    ]


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
