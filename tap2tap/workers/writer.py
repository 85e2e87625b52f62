"""The tap's side of the inbound direction: trains are written as super-frames and frames."""

import errno
import os
from collections.abc import Callable, Iterable, Sequence

from tap2tap.counters import Count, Counts, Drop
from tap2tap.vnet import NO_OFFLOAD, VNET_LENGTH
from tap2tap.workers.runs import Run
from tap2tap.workers.singles import Single
from tap2tap.workers.train import Batch
from tap2tap.workers.worker import end_if_gone

Pieces = Callable[[Batch], Iterable[Run | Single]]

_WRITE_DROPS = {
    errno.EIO: Drop.TAP_DOWN,
    errno.EINVAL: Drop.MALFORMED,
    errno.ENOBUFS: Drop.NO_BUFFERS,
    errno.ENOMEM: Drop.NO_BUFFERS,
    errno.EAGAIN: Drop.NO_BUFFERS,
}


class TapWriter:
    """Writes the frames of trains to the tap, and overwrites them: in front of each comes its virtio_net_hdr.

    `pieces` says in which pieces: a Joiner's `join`, or `singly`. `fd` is borrowed.
    """

    def __init__(self, fd: int, counts: Counts, pieces: Pieces) -> None:
        self._fd = fd
        self._counts = counts
        self._pieces = pieces
        self._frames: list[memoryview] = []  # of the batch in hand, when something has been refused
        self._lost_frames = self._lost_bytes = 0  # of it

    def write(self, batch: Batch) -> None:
        """Write every frame of `batch` and count it; what the kernel refuses is a counted drop.

        Raises SystemExit(TAP_GONE) when the device was deleted.
        """
        fd, counts, write, writev = self._fd, self._counts, os.write, os.writev
        trains = batch.trains
        if trains.frames == 1:
            at, _, _, size = trains[0]
            whole = batch.with_header(at, size)
            whole[:VNET_LENGTH] = NO_OFFLOAD
            try:
                write(fd, whole)
            except OSError as error:
                self._lose(error, [whole[VNET_LENGTH:]])
            else:
                counts[Count.FRAMES] += 1
                counts[Count.BYTES] += size
            return
        self._lost_frames = self._lost_bytes = done = joined = joined_frames = 0
        for piece in self._pieces(batch):
            if type(piece) is Single:
                header, whole = piece
                header[:] = NO_OFFLOAD
                try:
                    write(fd, whole)
                except OSError as error:
                    self._refused(batch, done, 1, error)
                done += 1
                continue
            frames = piece.frames
            try:
                writev(fd, piece.vector)
            except OSError as error:
                self._refused(batch, done, frames, error)
            else:
                joined += 1
                joined_frames += frames
            done += frames
        if joined:
            counts[Count.SUPER_FRAMES] += joined
            counts[Count.SUPER_FRAME_FRAMES] += joined_frames
        counts[Count.FRAMES] += done - self._lost_frames
        counts[Count.BYTES] += trains.length - self._lost_bytes

    def _refused(self, batch: Batch, done: int, frames: int, error: OSError) -> None:
        """See to what the kernel did not take: `frames` of the batch behind the first `done`."""
        if not self._lost_frames:
            self._frames = batch.datagrams()
        refused = self._frames[done : done + frames]
        if frames == 1 or error.errno != errno.EINVAL:
            self._lose(error, refused)
            return
        self._counts[Count.FALLBACKS] += 1
        for frame in refused:
            try:
                os.writev(self._fd, [NO_OFFLOAD, frame])
            except OSError as another:
                self._lose(another, [frame])

    def _lose(self, error: OSError, frames: Sequence[memoryview]) -> None:
        """Count what the kernel refused for good."""
        if error.errno in (errno.EBADF, errno.EFAULT):
            raise error  # ours, not the frame's
        end_if_gone(error)
        self._counts[Count.DROPPED + _WRITE_DROPS.get(error.errno or 0, Drop.OTHER)] += len(frames)
        self._lost_frames += len(frames)
        self._lost_bytes += sum(map(len, frames))
