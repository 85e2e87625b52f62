"""A run: consecutive frames of a train that are, it is hoped, the segments of one super-frame.

The headers that a splitter would make of that super-frame are predicted from the first frame, for all rows at once, and
compared with those that came; the first difference ends the run. Checksums are verified by a sum over each row.
"""

import numpy as np

from tap2tap.vnet import (
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_UDP_L4,
    VNET_HEADER,
    VNET_LENGTH,
)
from tap2tap.workers.checksum import ONES, RowSums, Sums, column, native, number, remainder
from tap2tap.workers.headers import (
    CWR,
    FIN,
    IPPROTO_TCP,
    IPPROTO_UDP,
    PSH,
    TCP_CHECK,
    U16,
    UDP_CHECK,
    set_lengths,
)
from tap2tap.workers.singles import Piece
from tap2tap.workers.train import MAX_SEGMENTS, Bytes, Train

Shape = tuple[int, int, int, int, int]  # gso_type; where IP, transport and payload begin; size of the frames

_ONES16 = np.array(ONES, np.uint16)  # arrays, as NumPy takes twice as long to convert an int
_ONES32 = np.array(ONES, np.uint32)
_ONE16 = np.array(1, np.uint16)


class Run:
    """The views of frames of one shape in the buffer of a train, and the scratch memory for their prediction.

    It depends on the buffer and on the shape, not on what the frames hold, so it is made once: `select` some frames,
    `match` them, make a `piece` of those that matched. Selecting the same frames again costs nothing.
    """

    def __init__(self, train: Train, shape: Shape) -> None:
        """Room for the frames that the train has now, and some more: `places`."""
        kind, l3, l4, hl, size = shape
        array, buffer = train.array, train.buffer
        tcp = kind != VIRTIO_NET_HDR_GSO_UDP_L4
        check = l4 + (TCP_CHECK if tcp else UDP_CHECK)
        places = self.places = min(max(train.count, MAX_SEGMENTS), len(buffer) // size)
        self._shape = shape
        self._tcp = tcp
        self._v4 = l4 - l3 == 20
        self._buffer = buffer  # it keeps the array, so the id() of that stays taken as long as this is cached

        self._all_came: Bytes = np.ndarray((places, hl), np.uint8, array, 0, (size, 1))  # the headers in the train
        self._all_came_checks = column(array, check, size, places)
        self._all_sums = RowSums(array, l4, size, size - l4, places)
        self._payloads = [buffer[at + hl : at + size] for at in range(0, places * size, size)]

        self._copied = bytearray(places * hl)  # the headers that came
        self._all_copy: Bytes = np.frombuffer(self._copied, np.uint8).reshape(places, hl)
        self._predicted = bytearray(places * hl)  # the headers that should have come
        flat: Bytes = np.frombuffer(self._predicted, np.uint8)
        self._all_rows = flat.reshape(places, hl)
        self._all_ids = column(flat, l3 + 4, hl, places)
        self._all_ip_checks = column(flat, l3 + 10, hl, places)
        self._all_checks = column(flat, check, hl, places)
        self._all_seqs: Sums = np.ndarray((places if tcp else 0,), ">u4", flat, l4 + 4, (hl,))
        self._all_steps: Sums = np.arange(places, dtype=np.uint32) * np.uint32(size - hl)
        self._all_values: Sums = np.zeros(places, np.uint32)
        self._wrong = bytearray(places)  # 1 for a frame whose checksum is wrong
        self._all_mask = np.frombuffer(self._wrong, np.bool_)
        self._head = memoryview(bytearray(hl))  # of a frame that is neither the first nor the last
        self._template: Bytes = np.frombuffer(self._head, np.uint8)

        self._seq: Sums = np.zeros((), np.uint32)
        self._sum: Sums = np.zeros((), np.uint32)
        self._base = self._pseudo = self._ident = 0
        self._last = size
        self._selected = (0, 0, 0)
        self.select(0, 2, size)

    def select(self, first: int, count: int, last: int) -> None:
        """Look at `count` frames of the train, at least 2, from frame `first` on; the last has `last` bytes."""
        hl, size = self._shape[3:]
        full = count if last == size else count - 1
        self._last = last
        if self._selected == (first, count, full):
            return
        self._selected = (first, count, full)
        self._count, self._full = count, full
        there, here = slice(first, first + count), slice(count)
        at = first * size
        self._frame = self._buffer[at : at + size]
        self._final = self._buffer[at + (count - 1) * size :]
        self._came, self._came_checks = self._all_came[there], self._all_came_checks[there]
        self._sums = self._all_sums[first : first + full]
        self._copy, self._rows = self._all_copy[here], self._all_rows[here]
        self._ids, self._ip_checks = self._all_ids[here], self._all_ip_checks[here]
        self._checks, self._seqs = self._all_checks[here], self._all_seqs[here]
        self._steps, self._values = self._all_steps[here], self._all_values[here]
        self._mask = self._all_mask[:full]
        self._header = memoryview(bytearray(VNET_LENGTH + hl))  # its own, as the piece made of it may be in use still
        self._vector = [self._header, *self._payloads[there]]

    def match(self, seq: int, ident: int, step: int, vouched: bool) -> int:
        """How many of the frames belong together, beginning with the first; 1 is none.

        `seq` and `ident` are the TCP sequence number and the IPv4 id of the first, and the ids grow by `step`, 0 or 1.
        Unless `vouched`, transport checksums are verified. The shape has been: see Joiner.
        """
        _, l3, l4, hl, size = self._shape
        count, last, frame, predicted = self._count, self._last, self._frame, self._predicted
        self._ident = ident
        self._predict(seq, step)
        if self._tcp:  # what is different in the first frame, and in the last
            predicted[l4 + 13] |= frame[l4 + 13] & CWR
            predicted[(count - 1) * hl + l4 + 13] |= self._final[l4 + 13] & (FIN | PSH)
        if last < size:
            at = (count - 1) * hl
            set_lengths(predicted, at, l3, l4, last, self._v4, self._tcp)
            if self._v4:
                ip_sum = self._base + last - size + (ident + step * (count - 1) & 0xFFFF)
                U16.pack_into(predicted, at + l3 + 10, -ip_sum % ONES)
        found = self._first_difference()
        if found < 2:
            return 1
        addresses = frame[l3 + 12 : l4] if self._v4 else frame[l3 + 8 : l4]
        self._pseudo = remainder(addresses) + (IPPROTO_TCP if self._tcp else IPPROTO_UDP)
        return found if vouched else self._right(found)

    def piece(self, found: int) -> Piece:
        """The super-frame of the first `found` frames, at least 2: their headers as one, with the whole lengths.

        Its header is what a virtio-net driver writes: NEEDS_CSUM, the sum of the pseudo-header in the checksum field.
        """
        kind, l3, l4, hl, size = self._shape
        frame, header, tcp = self._frame, self._header, self._tcp
        last = self._last if found == self._count else size
        extra = (found - 2) * (size - hl) + last - hl  # bytes of payload after that of the first
        check = TCP_CHECK if tcp else UDP_CHECK
        if tcp and frame[l4 + 13] & CWR:
            kind |= VIRTIO_NET_HDR_GSO_ECN
        VNET_HEADER.pack_into(header, 0, VIRTIO_NET_HDR_F_NEEDS_CSUM, kind, hl, size - hl, l4, check)
        header[VNET_LENGTH:] = frame[:hl]
        set_lengths(header, VNET_LENGTH, l3, l4, size + extra, self._v4, tcp)
        if self._v4:
            U16.pack_into(header, VNET_LENGTH + l3 + 10, -(self._base + extra + self._ident) % ONES)
        if tcp:
            header[VNET_LENGTH + l4 + 13] |= self._predicted[(found - 1) * hl + l4 + 13] & (FIN | PSH)
        partial = (self._pseudo + size - l4 + extra - 1) % ONES + 1  # additions never give 0
        U16.pack_into(header, VNET_LENGTH + l4 + check, partial)
        if found < self._count:
            return self._vector[: found + 1], found
        if last < size:
            self._vector[-1] = self._final[hl:last]
        return self._vector, found

    def _predict(self, seq: int, step: int) -> None:
        """Predict the headers of all frames as if they were neither the first nor the last."""
        _, l3, l4, hl, _ = self._shape
        head = self._head
        head[:] = self._frame[:hl]
        if self._tcp:
            head[l4 + 13] &= ~CWR
        if self._v4:
            U16.pack_into(head, l3 + 4, 0)
            U16.pack_into(head, l3 + 10, 0)
            self._base = remainder(head[l3:l4])
            if not step:
                U16.pack_into(head, l3 + 4, self._ident)
                U16.pack_into(head, l3 + 10, -(self._base + self._ident) % ONES)
        self._rows[:] = self._template
        if step:
            number(self._ids, self._ip_checks, self._ident, self._base)
        # Transport checksums are taken as they came: a sum will tell whether they are right. But not the spelling of
        # zero that no splitter would write (65535 for TCP), nor the 0 that says that there is none (UDP).
        if self._tcp:
            self._seq[()] = seq
            np.add(self._steps, self._seq, out=self._values)
            self._seqs[:] = self._values
            np.remainder(self._came_checks, _ONES16, out=self._checks)
        else:
            np.maximum(self._came_checks, _ONE16, out=self._checks)

    def _first_difference(self) -> int:
        """The first frame that must not be joined to those before it, or the number of frames."""
        _, _, l4, hl, _ = self._shape
        count, came, predicted = self._count, self._copied, self._predicted
        np.copyto(self._copy, self._came)
        if came[: count * hl] == predicted[: count * hl]:
            return count
        first = int((self._copy != self._rows).argmax()) // hl
        if first and self._tcp:  # it may be the last of the run, and differ by FIN or PSH only
            at = first * hl
            predicted[at + l4 + 13] |= came[at + l4 + 13] & (FIN | PSH)
            first += predicted[at : at + hl] == came[at : at + hl]
        return first

    def _right(self, found: int) -> int:
        """How many of the first `found` frames precede the first with a wrong transport checksum."""
        _, _, l4, _, size = self._shape
        full = self._full
        sums, mask = self._sums, self._mask
        if found < full:
            full = found
            sums, mask = sums[:full], mask[:full]
        values = sums.add()
        np.remainder(values, _ONES32, out=values)
        self._sum[()] = native(-(self._pseudo + size - l4))
        np.not_equal(values, self._sum, out=mask)
        first = self._wrong.find(1, 0, full)
        if first >= 0:
            return first
        if found > full:  # the short one
            full += remainder(self._final[l4 : self._last]) == -(self._pseudo + self._last - l4) % ONES
        return full
