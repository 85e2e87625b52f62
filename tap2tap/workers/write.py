"""Writing to the tap: frames that belong together as super-frames, the others one by one."""

import os
import time
from errno import EAGAIN, EBADF, EBADFD, EFAULT, EINVAL, EIO, ENOBUFS, ENODEV, ENOMEM

from tap2tap import log
from tap2tap.counters import Count, Counts, Drop
from tap2tap.errors import TapGoneError
from tap2tap.vnet import VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4, VNET_LENGTH
from tap2tap.workers.arena import Arena
from tap2tap.workers.offload.clamp import Clamp
from tap2tap.workers.offload.join import Joiner
from tap2tap.workers.tap import Tap
from tap2tap.workers.train import Train

FRAMES, BYTES, FALLBACKS = Count.FRAMES, Count.BYTES, Count.FALLBACKS
SUPER_FRAMES, SUPER_FRAME_FRAMES = Count.SUPER_FRAMES, Count.SUPER_FRAME_FRAMES
DROPS = {EIO: Drop.TAP_DOWN, EINVAL: Drop.MALFORMED, **dict.fromkeys((ENOBUFS, ENOMEM, EAGAIN), Drop.NO_BUFFERS)}
KINDS = {VIRTIO_NET_HDR_GSO_TCPV4: "TCPv4", VIRTIO_NET_HDR_GSO_TCPV6: "TCPv6", VIRTIO_NET_HDR_GSO_UDP_L4: "UDP"}

RETRY_AFTER = 10.0  # seconds until a kind of super-frame is tried again that was refused


class Writer:
    """Writes the frames of trains to the tap, joined where `joiner` says so; None: every frame as it is.

    `clamp` sees to them first; None: nobody does. The ten bytes in front of each frame, its virtio_net_hdr's, are
    overwritten, once the frame before is written.
    """

    def __init__(
        self, tap: Tap, arena: Arena, counts: Counts, joiner: Joiner | None, clamp: Clamp | None = None
    ) -> None:
        self.tap = tap
        self.arena = arena
        self.counts = counts
        self.joiner = joiner
        self.clamp = clamp
        self.told = 0  # kinds of super-frame that were refused, and not taken since, as bits
        self.retry_at = dict.fromkeys(KINDS, 0.0)  # of those that are paused

    def write(self, frames: Train) -> None:
        """Write all frames and count them; what the kernel refuses is a counted drop. Raises TapGoneError, OSError."""
        joiner = self.joiner
        if self.clamp is not None:
            self.clamp.lower(frames)
        if joiner is not None and joiner.paused:
            self.resume(joiner)
        first = 0
        while first < frames.count:
            run = joiner.run(frames, first) if joiner is not None else 1
            if joiner is not None and run > 1:
                self.write_run(frames, first, run, joiner)
            else:
                self.write_one(frames.at + first * frames.step, frames.size_of(first))
            first += run

    def write_one(self, at: int, size: int) -> bool:
        """Write one frame as it is; whether the kernel has taken it."""
        self.arena.zero(at - VNET_LENGTH, VNET_LENGTH)  # no offload: its checksums are complete
        done = self.tap.write(at - VNET_LENGTH, VNET_LENGTH + size)
        if done < 0:
            self.lose(-done, 1)
            return False
        self.counts[FRAMES] += 1
        self.counts[BYTES] += size
        return True

    def write_run(self, frames: Train, first: int, count: int, joiner: Joiner) -> None:
        """Write frames as one super-frame; one by one where the kernel does not take it."""
        tap, hl = self.tap, joiner.hl
        length = 0
        tap.add(joiner.scratch, joiner.head)
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
            if self.told:
                self.told &= ~(1 << joiner.kind())
        elif done == -EINVAL:
            self.counts[FALLBACKS] += 1
            taken = False
            for number in range(first, first + count):
                taken |= self.write_one(frames.at + number * frames.step, frames.size_of(number))
            if taken:  # so it was refused for being joined
                self.pause(joiner)
        else:
            self.lose(-done, count)

    def pause(self, joiner: Joiner) -> None:
        """Join nothing of the kind of the last run for a while: some kernels refuse it (Linux 6.6.44, 6.10.3)."""
        kind = joiner.kind()
        if not self.told >> kind & 1:
            log.info("writing frame by frame: super-frames are refused, --no-offload tries none", of=KINDS[kind])
        self.told |= 1 << kind
        joiner.paused |= 1 << kind
        self.retry_at[kind] = time.monotonic() + RETRY_AFTER

    def resume(self, joiner: Joiner) -> None:
        """Join again what has been paused for long enough."""
        now = time.monotonic()
        for kind, retry_at in self.retry_at.items():
            if now >= retry_at:
                joiner.paused &= ~(1 << kind)

    def lose(self, error: int, frames: int) -> None:
        """Count what the kernel refused for good. Raises TapGoneError, and OSError for what is our fault."""
        if error in (EBADFD, ENODEV):
            raise TapGoneError
        if error in (EBADF, EFAULT):
            raise OSError(error, os.strerror(error))
        self.counts[Count.DROPPED + DROPS.get(error, Drop.OTHER)] += frames
