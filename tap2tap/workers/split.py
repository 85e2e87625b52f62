"""Split: super-frames of the tap become trains of their segments, as the kernel's own segmentation would cut them.

The rules are those of tcp_gso_segment, __udp_gso_segment, inet_gso_segment and ipv6_gso_segment in the kernel: every
segment repeats the headers, but for lengths, IPv4 id and header checksum, TCP sequence number and flags, and the
transport checksum. Here is decided what is cut together; tap2tap.workers.cut does it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from tap2tap.vnet import VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN, VNET_HEADER, VNET_LENGTH
from tap2tap.workers.checksum import MalformedError
from tap2tap.workers.cut import Cut
from tap2tap.workers.headers import Layout, locate
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, ROOM, ROWS, STRIDE, TRAINS, Batch, Train, Trains

Short = tuple[tuple[int, int], ...]  # rows that are shorter than others, and their bytes


@dataclass(frozen=True, slots=True)
class _Form:
    """What super-frames that are cut together share."""

    header: bytes  # the virtio_net_hdr
    layout: Layout
    size: int  # of a segment, bytes
    mask: int  # these bits of the headers, as a number, say that they have
    signature: int  # that layout


class Splitter:
    """Cuts super-frames into trains. It owns one batch, which every call uses again."""

    def __init__(
        self, source: Batch, max_bytes: int = MAX_PAYLOAD, max_segments: int = MAX_SEGMENTS, overhead: int = 0
    ) -> None:
        """Set where super-frames are read from, and the limits of one train.

        A train has at most `max_segments` datagrams and `max_bytes` bytes, where each datagram counts `overhead` bytes
        more than it has here; only a train of one may exceed that. Raises ValueError for limits that allow nothing.
        """
        if not 0 < max_segments <= ROWS or max_bytes <= 0 or overhead < 0:
            raise ValueError("no train fits these limits")
        self.malformed = 0
        self._overhead = overhead
        self._source = source
        self._batch = batch = Batch()
        batch.vouched = True
        self._last: _Form | None = None
        # Hostile traffic may come in every shape: what is remembered is bounded.
        self._cut_of: Callable[[Layout, int], Cut] = lru_cache(16)(
            lambda layout, size: Cut(layout, size, source, batch)
        )
        self._trains: Callable[[int, int, Short], Trains] = lru_cache(32)(
            partial(_divide, max_bytes, max_segments, overhead)
        )

    def split(self, header: bytes, lengths: Sequence[int]) -> Iterator[Batch]:
        """Cut super-frames of `lengths` bytes, which `header`, their virtio_net_hdr, describes; in order.

        They are in the source, one every STRIDE bytes, and do not stay there. Yields batches within the limits, usually
        one; each is overwritten by the next. Their checksums are complete and `vouched` is set. What contradicts its
        header is left out, and `malformed` is how many those were.
        """
        self.malformed = 0
        slot = 0
        while slot < len(lengths):
            try:
                form = self._form(header, slot, lengths[slot])
            except MalformedError:
                self.malformed += 1
                slot += 1
                continue
            group, counts = self._group(form, slot, lengths)
            self._move(slot, group)
            slot += len(group)
            room = self._room(form.size)
            if counts[0] <= room:
                yield self._cut(form, group, counts, 0)
            else:  # it is too large for one batch
                for begin in range(0, counts[0], room):
                    yield self._cut(form, group, (min(room, counts[0] - begin),), begin)

    def _form(self, header: bytes, slot: int, length: int) -> _Form:
        """The form of the super-frame in a slot. Raises MalformedError if its header contradicts it."""
        form = self._last
        if form and form.header == header and length > form.size and self._signature(form, slot) == form.signature:
            return form
        if len(header) < VNET_LENGTH:
            raise MalformedError("short virtio_net_hdr")
        flags, kind, _, mss, csum_start, csum_offset = VNET_HEADER.unpack_from(header)  # hdr_len is only a hint
        at = slot * STRIDE
        layout = locate(self._source.buffer[at : at + length])
        if kind & ~VIRTIO_NET_HDR_GSO_ECN != layout.kind:
            raise MalformedError("gso_type of another protocol")
        size = min(layout.hl + mss, length)
        if not mss or size - layout.l3 > 65535 or length > ROOM:
            raise MalformedError("gso_size")
        if flags & VIRTIO_NET_HDR_F_NEEDS_CSUM and (csum_start, csum_start + csum_offset) != (layout.l4, layout.check):
            raise MalformedError("checksum not where the transport header is")
        mask = int.from_bytes(layout.mask())
        signature = int.from_bytes(self._source.buffer[at : at + layout.hl]) & mask
        form = _Form(header, layout, size, mask, signature)
        if size == layout.hl + mss:
            self._last = form
        return form

    def _signature(self, form: _Form, slot: int) -> int:
        at = slot * STRIDE
        return int.from_bytes(self._source.buffer[at : at + form.layout.hl]) & form.mask

    def _room(self, size: int) -> int:
        """How many segments of `size` bytes a batch has room for."""
        return max(1, min(ROWS, TRAINS * MAX_PAYLOAD // (size + self._overhead)))

    def _group(self, form: _Form, slot: int, lengths: Sequence[int]) -> tuple[Sequence[int], tuple[int, ...]]:
        """The lengths of the super-frames that are cut together, and how many segments each has."""
        hl, size = form.layout.hl, form.size
        room = self._room(size)
        counts: list[int] = []
        for number in range(slot, len(lengths)):
            payload = lengths[number] - hl
            count = -(-payload // (size - hl)) if payload > 0 else 1
            room -= count
            if counts and (room < 0 or count < 2 or self._signature(form, number) != form.signature):
                break
            counts.append(count)
            if count < 2:  # its only segment is not of the size of others
                break
        return lengths[slot : slot + len(counts)], tuple(counts)

    def _move(self, slot: int, lengths: Sequence[int]) -> None:
        """Move super-frames to the first slots, from where they are cut."""
        if slot:
            buffer = self._source.buffer
            for number, length in enumerate(lengths):
                at = (slot + number) * STRIDE
                buffer[number * STRIDE : number * STRIDE + length] = buffer[at : at + length]

    def _cut(self, form: _Form, lengths: Sequence[int], counts: tuple[int, ...], begin: int) -> Batch:
        """Cut the super-frames in the first slots into `counts` segments, from number `begin` on."""
        needs_csum = form.header[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0
        short = self._cut_of(form.layout, form.size).make(lengths, counts, begin, needs_csum=needs_csum)
        self._batch.trains = self._trains(form.size, sum(counts), tuple(short))
        return self._batch


def _divide(max_bytes: int, max_segments: int, overhead: int, size: int, rows: int, short: Short) -> Trains:
    """Divide rows of `size` bytes into trains within these limits; a short one ends its train."""
    full = size + overhead
    room = max(1, min(max_segments, max_bytes // full))
    trains: list[Train] = []
    first = 0
    for row, last in (*short, (rows - 1, size)):
        while first <= row:
            count = row + 1 - first
            if count > room and (count > max_segments or count * full - (size - last) > max_bytes):
                count = room
            trains.append(Train(first * size, size, count, last if first + count > row else size))
            first += count
    return Trains(trains)
