"""Join: runs of frames in trains become super-frames for the tap, as the kernel's own receive offload would join them.

There is one rule: a run is joined only if cutting the super-frame again gives back its frames, byte for byte, and the
checksum of each was right. What that rule does not see is left of the conditions in inet_gro_receive,
ipv6_gro_receive, tcp_gro_receive and udp_gro_receive_segment: no fragments, IP options or extension headers; no SYN,
RST or URG; a payload, a UDP checksum, one host that a UDP datagram is for; and IPv4 ids that stand still only with DF.
In that case alone the frames would come back with ids other than they had.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from tap2tap.vnet import VIRTIO_NET_HDR_GSO_UDP_L4
from tap2tap.workers.checksum import MalformedError
from tap2tap.workers.headers import ACK, FIN, PSH, RST, SYN, U16, URG, Layout, locate
from tap2tap.workers.runs import Run, Runs
from tap2tap.workers.singles import Single, cut
from tap2tap.workers.train import ROWS, Batch, Train

_SHORTEST = 14 + 20 + 8 + 1  # bytes of a joinable frame: Ethernet, IPv4, UDP, payload
_IP_DF = 0x4000  # IP_DF in include/net/ip.h
_OTHERS = 3  # times that another layout is looked for in trains of one size


class _Like(NamedTuple):
    """Frames of one size that could begin a run."""

    size: int
    runs: Runs
    signature: int


class Joiner:
    """Turns trains into what is to be written to the tap. Fastest if always given the same Batch object."""

    def __init__(self, udp: bool) -> None:
        """`udp`: whether the kernel takes UDP super-frames (TUN_F_USO4 and TUN_F_USO6, since Linux 6.2)."""
        self._udp = udp
        # Hostile traffic may come in every shape: what is remembered is bounded.
        self._last: _Like | None = None
        self._runs: Callable[[Layout], Runs] = lru_cache(8)(Runs)
        self._groups: Callable[[tuple[Train, ...], int], list[tuple[Train, ...]]] = lru_cache(32)(_by_size)

    def join(self, batch: Batch) -> Sequence[Run | Single]:
        """Return what is to be written, one after the other: runs of frames, and single ones between them.

        Every frame of the batch is in exactly one of them, in order. They view the batch, which is only read here, so
        they are valid until it changes. Raises nothing, whatever it holds.
        """
        trains = batch.trains
        runs: list[Run] = []
        complete = False
        for group in self._groups(trains, len(batch.buffer)):
            complete = self._find(batch, group, runs) and group == trains
        return runs if complete else _with_others(batch, runs)

    def _find(self, batch: Batch, trains: tuple[Train, ...], found: list[Run]) -> bool:
        """Find the runs in trains of one size; whether they leave no frame out, and are in order."""
        first = trains[0]
        like = self._like(batch.buffer[first.at : first.at + first.size])
        runs = like.runs.find(batch, trains, like.signature) if like else []
        found += runs
        if sum([run.frames for run in runs]) == sum([train.count for train in trains]):
            return True
        # Frames of another layout begin where the first ones end, it is hoped; a train's last frame begins no run.
        tried = {like.runs} if like else set()
        begun = {train.at: bytearray(train.count - 1) + b"\1" for train in trains}
        begun[first.at][0] = 1
        for _ in range(_OTHERS):
            for run in runs:
                begun[run.at][run.first : run.first + run.frames] = b"\1" * run.frames
            train = next((train for train in trains if 0 in begun[train.at]), None)
            if train is None:
                break
            row = begun[train.at].find(0)
            begun[train.at][row] = 1
            at = train.at + row * train.size
            like, runs = self._like(batch.buffer[at : at + train.size]), []
            if like and like.runs not in tried:
                tried.add(like.runs)
                runs = like.runs.find(batch, trains, like.signature)
                found += runs
        return False

    def _like(self, frame: memoryview) -> _Like | None:
        """What is known of frames that are like this one; None if it could begin no run."""
        last = self._last
        if last and last.size == len(frame) and last.runs.signature(frame) == last.signature:
            return last
        layout = self._layout(frame)
        if layout is None:
            return None
        runs = self._runs(layout)
        self._last = _Like(len(frame), runs, runs.signature(frame))
        return self._last

    def _layout(self, frame: memoryview) -> Layout | None:
        """The layout of a run that this frame could begin; None if there is none."""
        try:
            layout = locate(frame)
        except MalformedError:
            return None
        l3, l4, hl, kind, v4 = layout
        size = len(frame)
        if hl >= size or l4 - l3 != (20 if v4 else 40):  # no payload, or options or extension headers
            return None
        if U16.unpack_from(frame, layout.length)[0] != (size - l3 if v4 else size - l4):
            return None
        if v4 and U16.unpack_from(frame, l3 + 6)[0] & ~_IP_DF:
            return None
        if kind == VIRTIO_NET_HDR_GSO_UDP_L4:
            return layout if self._udp and U16.unpack_from(frame, l4 + 4)[0] == size - l4 else None
        return layout if frame[l4 + 13] & (FIN | SYN | RST | PSH | ACK | URG) == ACK else None


def _by_size(trains: tuple[Train, ...], room: int) -> list[tuple[Train, ...]]:
    """Group the trains in which anything could be joined, in a buffer of `room` bytes; at most ROWS frames a group."""
    groups: list[list[Train]] = []
    latest: dict[int, tuple[list[Train], int]] = {}  # of each size: the group, and its frames
    for train in trains:
        at, size, count, _ = train
        if 1 < count <= ROWS and size >= _SHORTEST and at + count * size + 8 <= room:  # read 8 bytes at a time
            group, frames = latest.get(size, ([], ROWS))
            if frames + count > ROWS:
                group, frames = [], 0
                groups.append(group)
            group.append(train)
            latest[size] = group, frames + count
    return [tuple(group) for group in groups]


def _with_others(batch: Batch, runs: list[Run]) -> list[Run | Single]:
    """The runs, and what is between them frame by frame."""
    by_train: dict[int, list[Run]] = {}
    for run in runs:
        by_train.setdefault(run.at, []).append(run)
    pieces: list[Run | Single] = []
    for train in batch.trains:
        singles, done = cut(batch, train), 0
        for run in sorted(by_train.get(train.at, []), key=lambda run: run.first):
            pieces += singles[done : run.first]
            pieces.append(run)
            done = run.first + run.frames
        pieces += singles[done:]
    return pieces
