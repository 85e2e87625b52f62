"""Reading the tap: ordinary frames are gathered as a train, a super-frame comes alone.

Each frame is read to where it stays: behind the frame before, with the protocol's overhead between them. Its
virtio_net_hdr comes to lie in the ten bytes in front of it, which the frame before may need: they are saved meanwhile.
"""

import os
from errno import EAGAIN, EBADFD, ENODEV

from tap2tap.errors import TapGoneError
from tap2tap.vnet import VNET_LENGTH
from tap2tap.workers.arena import Arena
from tap2tap.workers.tap import Tap
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, ROOM, Train

GSO_TYPE = 1  # offsetof(struct virtio_net_hdr, gso_type)


MARGIN = 64  # bytes in front of the first frame: its virtio_net_hdr, and two that are saved
AREA = MARGIN + MAX_PAYLOAD + ROOM  # bytes of the arena that a Gather uses

NONE = -1  # no frame
ALONE = 16  # frames, behind one that was alone, until it is looked whether more come together again


class Gather:
    """Reads frames of one size and one virtio_net_hdr as a train; what does not belong to it begins the next one.

    They lie in the AREA bytes of the arena from `area` on, `overhead` bytes apart. Where frames come one at a time (a
    ping, an answer), a read that finds nothing is saved: what may have come behind one is found by the next poll.
    """

    def __init__(self, tap: Tap, arena: Arena, area: int, overhead: int) -> None:
        self.tap = tap
        self.arena = arena
        self.first = area + MARGIN
        self.overhead = overhead
        self.saved, self.covered = area, area + VNET_LENGTH
        self.left_at, self.left = 0, NONE  # a frame that has been read but belongs to no train yet: where, and its size
        self.empty = False  # the tap was, a moment ago, or is taken to be
        self.alone = 0  # frames that are still taken to be alone

    def read(self, frames: Train) -> bool:
        """Read the next train, or super-frame, without waiting; False when there is none.

        The virtio_net_hdr of its first frame, which is that of all, lies in front of it. Raises TapGoneError, OSError.
        """
        arena = self.arena
        at, size = self.first, self.left
        if size != NONE:
            self.left = NONE
            at = self.take_left(size)
        elif self.empty:
            self.empty = False
            return False
        else:
            size = self.next(at)
            if size == NONE:
                return False
        frames.at, frames.size, frames.last, frames.count = at, size, size, 1
        frames.step = size + self.overhead
        if arena.load8(at - VNET_LENGTH + GSO_TYPE) or not size:
            return True
        if self.alone:
            self.alone -= 1
            self.empty = True
            return True
        most = MAX_PAYLOAD // frames.step
        if most > MAX_SEGMENTS:
            most = MAX_SEGMENTS
        header = at - VNET_LENGTH
        while frames.count < most:
            at += frames.step
            arena.copy(self.covered, at - VNET_LENGTH, VNET_LENGTH)
            size = self.next(at)
            if size == NONE:
                self.empty = True
                if frames.count == 1:
                    self.alone = ALONE
                break
            alike = size <= frames.size and arena.equal(at - VNET_LENGTH, header, VNET_LENGTH)
            if not alike:
                arena.copy(self.saved, at - VNET_LENGTH, VNET_LENGTH)
                self.left_at, self.left = at, size
            arena.copy(at - VNET_LENGTH, self.covered, VNET_LENGTH)
            if not alike:
                break
            frames.count += 1
            frames.last = size
            if size < frames.size:
                break
        return True

    def take_left(self, size: int) -> int:
        """Give the frame that was left its header back, and return where it is: in front, if it may be gathered."""
        arena, at = self.arena, self.left_at
        arena.copy(at - VNET_LENGTH, self.saved, VNET_LENGTH)
        if arena.load8(at - VNET_LENGTH + GSO_TYPE):
            return at
        arena.copy(self.first - VNET_LENGTH, at - VNET_LENGTH, VNET_LENGTH + size)
        return self.first

    def next(self, at: int) -> int:
        """Read a frame to `at`, its virtio_net_hdr in front of it; its size, or NONE."""
        got = self.tap.read(at - VNET_LENGTH, ROOM)
        if got >= VNET_LENGTH:
            return got - VNET_LENGTH
        if got < 0 and got != -EAGAIN:
            fail(-got)
        return NONE


def fail(error: int) -> None:
    """Raise TapGoneError if that is what the tap says when its device was deleted, else OSError."""
    if error in (EBADFD, ENODEV):
        raise TapGoneError
    raise OSError(error, os.strerror(error))
