"""Split: a super-frame of the tap becomes the train of its segments, as the kernel's own segmentation would cut it.

The rules are those of tcp_gso_segment, __udp_gso_segment, inet_gso_segment and ipv6_gso_segment in the kernel: every
segment repeats the headers, but for lengths, IPv4 id and header checksum, TCP sequence number and flags, and the
transport checksum. All segments but the last have the same lengths, so one header is made as a template, copied to all
rows, and the fields that differ are filled in column by column.
"""

from collections.abc import Iterator

import numpy as np

from tap2tap.vnet import (
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_UDP_L4,
    VNET_HEADER,
    VNET_LENGTH,
)
from tap2tap.workers.checksum import MAX_ROWS, ONES, MalformedError, RowSums, Sums, column, number, remainder
from tap2tap.workers.headers import (
    CWR,
    FIN,
    IPPROTO_TCP,
    IPPROTO_UDP,
    MAX_HEADERS,
    PSH,
    TCP_CHECK,
    U16,
    U32,
    UDP_CHECK,
    locate,
    set_lengths,
)
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, ROOM, Bytes, Train

__all__ = ["MalformedError", "Splitter"]

_PLANS = 256  # shapes of super-frames that are remembered

_Shape = tuple[int, int, int, int, bool, bool]  # where IP, transport and payload begin; gso_size; TCP? IPv4?

_ONES = np.array(ONES, np.uint32)  # an array, as NumPy takes twice as long to convert an int


class _Plan:
    """Everything about a train of one shape that is the same each time: views of the buffer, steps of the fields."""

    __slots__ = ("_seq", "_steps", "_values", "checks", "headers", "ids", "ip_checks", "payload", "seqs", "sums")

    def __init__(self, array: Bytes, shape: _Shape, count: int) -> None:
        l3, l4, hl, mss, tcp, _ = shape
        size = hl + mss
        rows = array[: count * size].reshape(count, size)
        self.headers = rows[:, :hl]
        self.payload = rows[: count - 1, hl:]  # the last row has a length of its own
        self.ids = column(array, l3 + 4, size, count)
        self.ip_checks = column(array, l3 + 10, size, count)
        self.checks = column(array, l4 + (TCP_CHECK if tcp else UDP_CHECK), size, count)
        self.sums = RowSums(array, l4, size, size - l4, count)
        self._steps: Sums = np.arange(count, dtype=np.uint32) * np.uint32(mss)
        self._values: Sums = np.zeros(count, np.uint32)
        self._seq: Sums = np.zeros((), np.uint32)  # an array, as is _ONES
        self.seqs: Sums = np.ndarray((count,), ">u4", array, l4 + 4, (size,))

    def number(self, seq: int) -> None:
        """Fill in the TCP sequence numbers, which wrap around."""
        self._seq[()] = seq
        np.add(self._steps, self._seq, out=self._values)
        self.seqs[:] = self._values

    def complete(self, tcp: bool) -> None:
        """Fill in the transport checksums; as in the kernel, 0 becomes 65535 for UDP and stays for TCP."""
        sums = self.sums.add()
        if tcp:
            np.invert(sums, out=sums)  # 2**32 - 1 is a multiple of 65535, so this is the negative
            np.remainder(sums, _ONES, out=sums)
        else:
            np.remainder(sums, _ONES, out=sums)
            np.subtract(_ONES, sums, out=sums)
        np.copyto(self.checks, sums, casting="unsafe")


class Splitter:
    """Cuts super-frames into trains. It owns one train, which every call uses again."""

    def __init__(self, max_bytes: int = MAX_PAYLOAD, max_segments: int = MAX_SEGMENTS, overhead: int = 0) -> None:
        """Set the limits of one train.

        A train has at most `max_segments` datagrams (at most 1024) and `max_bytes` bytes, where each datagram counts
        `overhead` bytes more than it has here; only a train of one may exceed that. Raises ValueError for limits that
        allow nothing.
        """
        if not 0 < max_segments <= MAX_ROWS or max_bytes <= 0 or overhead < 0:
            raise ValueError("no train fits these limits")
        self._max_bytes = max_bytes
        self._max_segments = max_segments
        self._overhead = overhead
        self._train = Train(max_bytes + ROOM)  # room for the last row in full size
        self._head = memoryview(bytearray(MAX_HEADERS))
        self._template: Bytes = np.frombuffer(self._head, np.uint8)
        self._plans: dict[tuple[_Shape, int], _Plan] = {}

    def split(self, header: memoryview, frame: memoryview) -> Iterator[Train]:
        """Cut `frame`, the super-frame that `header`, its virtio_net_hdr, describes.

        Yields trains within the limits, usually one, in order; each is overwritten by the next. Their checksums are
        complete and `vouched` is set. Raises MalformedError, before the first train, if the header contradicts the
        frame. Both buffers are only read, and not after the last train.
        """
        if len(header) < VNET_LENGTH:
            raise MalformedError("short virtio_net_hdr")
        flags, kind, _, mss, csum_start, csum_offset = VNET_HEADER.unpack_from(header)  # hdr_len is only a hint
        l3, l4, hl, found = locate(frame)
        if kind & ~VIRTIO_NET_HDR_GSO_ECN != found:
            raise MalformedError("gso_type of another protocol")
        length = len(frame)
        size = hl + mss
        tcp = found != VIRTIO_NET_HDR_GSO_UDP_L4
        v4 = frame[l3] >> 4 == 4
        if not mss or min(size, length) - l3 > 65535 or length > ROOM:
            raise MalformedError("gso_size")
        check = TCP_CHECK if tcp else UDP_CHECK
        if not flags & VIRTIO_NET_HDR_F_NEEDS_CSUM:  # then nothing prepared the field
            addresses = frame[l3 + 12 : l3 + 20] if v4 else frame[l3 + 8 : l3 + 40]
            partial = remainder(addresses) + (IPPROTO_TCP if tcp else IPPROTO_UDP)
        elif csum_start != l4 or csum_offset != check:
            raise MalformedError("checksum not where the transport header is")
        else:
            at = l4 + check
            partial = (frame[at] << 8 | frame[at + 1]) - (length - l4)

        payload = length - hl
        if payload <= mss:
            mss, size, total = payload, length, 1
        else:
            total = -(-payload // mss)

        # The template: the headers of a full-sized segment that is neither the first nor the last.
        head = self._head
        head[:hl] = frame[:hl]
        set_lengths(head, 0, l3, l4, size, v4, tcp)
        U16.pack_into(head, l4 + check, (partial + size - l4) % ONES)
        if tcp:
            head[l4 + 13] &= ~(FIN | PSH | CWR)
        base = 0
        if v4:
            U16.pack_into(head, l3 + 4, 0)
            U16.pack_into(head, l3 + 10, 0)
            base = remainder(head[l3:l4])

        shape = (l3, l4, hl, mss, tcp, v4)
        if total == 1:
            self._copy(frame, shape, base)
        elif total <= self._max_segments and payload + total * (hl + self._overhead) <= self._max_bytes:
            self._cut(frame, shape, base, 0, total)
        else:
            return self._cut_all(frame, shape, base, total)
        return iter((self._train,))

    def _copy(self, frame: memoryview, shape: _Shape, base: int) -> None:
        """Make a train of the one segment that the whole super-frame is."""
        l3, l4, hl, _, tcp, v4 = shape
        train = self._train
        buffer = train.buffer
        length = len(frame)
        buffer[:hl] = self._head[:hl]
        buffer[hl:length] = frame[hl:]
        if v4:
            buffer[l3 + 4 : l3 + 6] = frame[l3 + 4 : l3 + 6]
            U16.pack_into(buffer, l3 + 10, -(base + (frame[l3 + 4] << 8 | frame[l3 + 5])) % ONES)
        if tcp:
            buffer[l4 + 13] = frame[l4 + 13]
            check = -remainder(buffer[l4:length]) % ONES
        else:
            check = ONES - remainder(buffer[l4:length])
        U16.pack_into(buffer, l4 + (TCP_CHECK if tcp else UDP_CHECK), check)
        train.shape(length, 1, length)
        train.vouched = True

    def _cut_all(self, frame: memoryview, shape: _Shape, base: int, total: int) -> Iterator[Train]:
        """Cut a super-frame that is too large for one train."""
        size = shape[2] + shape[3] + self._overhead
        room = max(1, min(self._max_segments, self._max_bytes // size))
        for first in range(0, total, room):
            self._cut(frame, shape, base, first, min(room, total - first))
            yield self._train

    def _cut(self, frame: memoryview, shape: _Shape, base: int, first: int, count: int) -> None:
        """Make a train of `count` segments of the super-frame, from segment `first` on; the template is ready."""
        l3, l4, hl, mss, tcp, v4 = shape
        plan = self._plans.get((shape, count))
        if plan is None:
            if len(self._plans) >= _PLANS:  # hostile traffic may come in every shape
                self._plans.clear()
            plan = self._plans[shape, count] = _Plan(self._train.array, shape, count)
        train = self._train
        buffer = train.buffer
        size = hl + mss
        final = (count - 1) * size  # where the last segment of the train begins
        taken = hl + first * mss
        last = min(len(frame) - taken - (count - 1) * mss, mss)

        plan.headers[:] = self._template[:hl]
        ident = 0
        if v4:
            ident = (frame[l3 + 4] << 8 | frame[l3 + 5]) + first & 0xFFFF
            number(plan.ids, plan.ip_checks, ident, base)
        if tcp:
            plan.number(U32.unpack_from(frame, l4 + 4)[0] + first * mss & 0xFFFFFFFF)
            if not first:
                buffer[l4 + 13] |= frame[l4 + 13] & CWR
        if taken + (count - 1) * mss + last == len(frame):
            if tcp:
                buffer[final + l4 + 13] |= frame[l4 + 13] & (FIN | PSH)
            if last < mss:
                short = hl + last
                set_lengths(buffer, final, l3, l4, short, v4, tcp)
                at = final + l4 + (TCP_CHECK if tcp else UDP_CHECK)
                U16.pack_into(buffer, at, (U16.unpack_from(buffer, at)[0] + short - size) % ONES)
                if v4:
                    at = final + l3 + 10
                    U16.pack_into(buffer, at, -(base + short - size + (ident + count - 1 & 0xFFFF)) % ONES)
                train.array[final + short : final + size] = 0  # neutral for the sum

        if count > 1:
            np.copyto(plan.payload, np.ndarray(plan.payload.shape, np.uint8, frame, taken))
        taken += (count - 1) * mss
        buffer[final + hl : final + hl + last] = frame[taken : taken + last]
        plan.complete(tcp)
        train.shape(size, count, hl + last)
        train.vouched = True
