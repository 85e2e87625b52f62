"""Split: super-frames of the tap become trains of their segments, as the kernel's own segmentation would cut them.

The rules are those of tcp_gso_segment, __udp_gso_segment, inet_gso_segment and ipv6_gso_segment in the kernel: every
segment repeats the headers, but for lengths, IPv4 id and header checksum, TCP sequence number and flags, and the
transport checksum. Super-frames of one form, of which there are many in a stream, are cut together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tap2tap.vnet import VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_ECN, VNET_HEADER, VNET_LENGTH
from tap2tap.workers.checksum import MalformedError
from tap2tap.workers.cut import Cut, Shape
from tap2tap.workers.headers import Layout, locate
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, ROOM, ROWS, STRIDE, TRAINS, Batch, Train, Trains


@dataclass(frozen=True, slots=True)
class _Form:
    """What super-frames that are cut together share."""

    header: bytes  # the virtio_net_hdr
    length: int
    mask: int  # these bits of the headers, as a number, say that they have
    signature: int  # that
    layout: Layout
    size: int  # of a segment
    count: int  # of segments


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
        self._max_bytes = max_bytes
        self._max_segments = max_segments
        self._overhead = overhead
        self._source = source
        self._batch = Batch()
        self._batch.vouched = True
        self._last: _Form | None = None
        # Hostile traffic may come in every shape: what is remembered is bounded.
        self._cut_of = lru_cache(64)(lambda shape: Cut(shape, source, self._batch))
        self._trains_of = lru_cache(64)(self._divide)

    def split(self, header: bytes, lengths: Sequence[int]) -> Iterator[Batch]:
        """Cut super-frames of `lengths` bytes, which `header`, their virtio_net_hdr, describes; in order.

        They are in the source, one every STRIDE bytes. Yields batches within the limits, usually one; each is
        overwritten by the next. Their checksums are complete and `vouched` is set. What contradicts its header is left
        out, and `malformed` is how many those were.
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
            room = max(1, min(ROWS, TRAINS * MAX_PAYLOAD // (form.size + self._overhead)))
            number = 1
            while number < room // form.count and slot + number < len(lengths):
                if lengths[slot + number] != form.length or self._signature(form, slot + number) != form.signature:
                    break
                number += 1
            for begin in range(0, form.count, room):
                yield self._cut(form, slot, number, begin, min(room, form.count - begin))
            slot += number

    def _signature(self, form: _Form, slot: int) -> int:
        at = slot * STRIDE
        return int.from_bytes(self._source.buffer[at : at + form.layout.hl]) & form.mask

    def _form(self, header: bytes, slot: int, length: int) -> _Form:
        """The form of the super-frame in a slot. Raises MalformedError if its header contradicts it."""
        form = self._last
        if form and form.header == header and form.length == length and self._signature(form, slot) == form.signature:
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
        count = max(1, -(-(length - layout.hl) // mss))
        mask = int.from_bytes(layout.mask())
        signature = int.from_bytes(self._source.buffer[at : at + layout.hl]) & mask
        form = self._last = _Form(header, length, mask, signature, layout, size, count)
        return form

    def _cut(self, form: _Form, slot: int, number: int, begin: int, rows: int) -> Batch:
        """Cut `number` super-frames into `rows` segments each, from segment `begin` on."""
        layout, size = form.layout, form.size
        final = begin + rows == form.count
        short = final and form.length < layout.hl + form.count * (size - layout.hl)
        shape = Shape(layout, size, slot, number, begin, rows, final, short)
        needs_csum = form.header[0] & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0
        last = self._cut_of(shape).make(form.length, needs_csum=needs_csum)
        self._batch.trains = self._trains_of(size, rows, number, last)
        return self._batch

    def _divide(self, size: int, rows: int, number: int, last: int) -> Trains:
        """Divide `number` times `rows` rows of `size` bytes into trains; a short one ends its train."""
        room = max(1, min(self._max_segments, self._max_bytes // (size + self._overhead)))
        if last == size:
            rows, number = rows * number, 1
        return Trains(
            Train((begin + first) * size, size, min(room, rows - first), size if first + room < rows else last)
            for begin in range(0, number * rows, rows)
            for first in range(0, rows, room)
        )
