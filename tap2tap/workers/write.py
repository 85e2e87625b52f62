"""Writing to the tap: frames that belong together as super-frames, the others one by one."""

import os
from errno import EAGAIN, EBADF, EBADFD, EFAULT, EINVAL, EIO, ENOBUFS, ENODEV, ENOMEM

from tap2tap.counters import Count, Counts, Drop
from tap2tap.errors import TapGoneError
from tap2tap.vnet import VNET_LENGTH
from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.join import Joiner
from tap2tap.workers.tap import Tap
from tap2tap.workers.train import Train

FRAMES, BYTES = Count.FRAMES, Count.BYTES
SUPER_FRAMES, SUPER_FRAME_FRAMES = Count.SUPER_FRAMES, Count.SUPER_FRAME_FRAMES
DROPS = {EIO: Drop.TAP_DOWN, EINVAL: Drop.MALFORMED, **dict.fromkeys((ENOBUFS, ENOMEM, EAGAIN), Drop.NO_BUFFERS)}


class Writer:
    """Writes the frames of trains to the tap, joined where `joiner` says so; None: every frame as it is.

    It overwrites the ten bytes in front of each frame, its virtio_net_hdr's, once the frame before is written.
    """

    def __init__(self, tap: Tap, arena: Arena, counts: Counts, joiner: Joiner | None) -> None:
        self.tap = tap
        self.arena = arena
        self.counts = counts
        self.joiner = joiner

    def write(self, frames: Train) -> None:
        """Write all frames and count them; what the kernel refuses is a counted drop. Raises TapGoneError, OSError."""
        first = 0
        while first < frames.count:
            run = 1
            if self.joiner is not None and frames.count - first > 1:
                run = self.joiner.run(frames, first)
            if run > 1:
                self.write_run(frames, first, run)
            else:
                self.write_one(frames.at + first * frames.step, frames.size_of(first))
            first += run

    def write_one(self, at: int, size: int) -> None:
        """Write one frame as it is."""
        self.arena.zero(at - VNET_LENGTH, VNET_LENGTH)  # no offload: its checksums are complete
        done = self.tap.write(at - VNET_LENGTH, VNET_LENGTH + size)
        if done < 0:
            self.lose(-done, 1)
        else:
            self.counts[FRAMES] += 1
            self.counts[BYTES] += size

    def write_run(self, frames: Train, first: int, count: int) -> None:
        """Write frames as one super-frame; one by one where the kernel does not take it."""
        tap, hl = self.tap, self.joiner.hl
        length = 0
        tap.add(self.joiner.scratch, VNET_LENGTH + hl)
        for number in range(first, first + count):
            size = frames.size_of(number)
            tap.add(frames.at + number * frames.step + hl, size - hl)
            length += size
        done = tap.write_added()
        if done >= 0:
            self.counts[FRAMES] += count
            self.counts[BYTES] += length
            self.counts[SUPER_FRAMES] += 1
            self.counts[SUPER_FRAME_FRAMES] += count
        elif done == -EINVAL:
            self.counts[Count.FALLBACKS] += 1
            for number in range(first, first + count):
                self.write_one(frames.at + number * frames.step, frames.size_of(number))
        else:
            self.lose(-done, count)

    def lose(self, error: int, frames: int) -> None:
        """Count what the kernel refused for good. Raises TapGoneError, and OSError for what is our fault."""
        if error in (EBADFD, ENODEV):
            raise TapGoneError
        if error in (EBADF, EFAULT):
            raise OSError(error, os.strerror(error))
        self.counts[Count.DROPPED + DROPS.get(error, Drop.OTHER)] += frames
