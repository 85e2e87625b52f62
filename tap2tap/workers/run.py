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
from tap2tap.workers.train import Bytes, Train

Piece = tuple[list[memoryview], int]  # what os.writev gets, and how many frames that is
Shape = tuple[int, int, int, int, int]  # gso_type; where IP, transport and payload begin; size of the frames

_ONES16 = np.array(ONES, np.uint16)  # arrays, as NumPy takes twice as long to convert an int
_ONES32 = np.array(ONES, np.uint32)
_ONE16 = np.array(1, np.uint16)


class Run:
    """The views of `count` frames of a train, from frame `first` on, and the scratch memory for their prediction.

    It depends on the buffer of the train and on the shape, not on what the frames hold, so it can be used again.
    `last` is the length of the last frame in bytes; whether it is a short one is all that is remembered of it.
    """

    def __init__(self, train: Train, shape: Shape, first: int, count: int, last: int) -> None:
        kind, l3, l4, hl, size = shape
        tcp = kind != VIRTIO_NET_HDR_GSO_UDP_L4
        array, buffer, at = train.array, train.buffer, first * size
        check = l4 + (TCP_CHECK if tcp else UDP_CHECK)
        self._shape = shape
        self._tcp = tcp
        self._v4 = l4 - l3 == 20
        self._count = count
        self._frame = buffer[at : at + size]
        self._final = buffer[at + (count - 1) * size :]
        self._array = array  # kept, so that its id() stays taken as long as the run is cached

        self._came: Bytes = np.ndarray((count, hl), np.uint8, array, at, (size, 1))  # the headers in the train
        self._came_checks = column(array, at + check, size, count)
        self._copied = bytearray(count * hl)  # the same, as bytes
        self._copy: Bytes = np.frombuffer(self._copied, np.uint8).reshape(count, hl)

        self._head = memoryview(bytearray(hl))  # of a frame that is neither the first nor the last
        self._template: Bytes = np.frombuffer(self._head, np.uint8)
        self._predicted = bytearray(count * hl)  # the headers that should have come
        flat: Bytes = np.frombuffer(self._predicted, np.uint8)
        self._rows = flat.reshape(count, hl)
        self._ids = column(flat, l3 + 4, hl, count)
        self._ip_checks = column(flat, l3 + 10, hl, count)
        self._checks = column(flat, check, hl, count)
        self._seqs: Sums = np.ndarray((count if tcp else 0,), ">u4", flat, l4 + 4, (hl,))
        self._steps: Sums = np.arange(count, dtype=np.uint32) * np.uint32(size - hl)
        self._values: Sums = np.zeros(count, np.uint32)

        full = count if last == size else count - 1
        self._sums = RowSums(array, at + l4, size, size - l4, full)
        self._wrong = bytearray(full)  # 1 for a frame whose checksum is wrong
        self._mask = np.frombuffer(self._wrong, np.bool_)

        self._header = memoryview(bytearray(VNET_LENGTH + hl))
        self._vector = [self._header]
        self._vector += [buffer[start + hl : start + size] for start in range(at, at + count * size, size)]
        self._base = self._pseudo = self._ident = 0

    def match(self, seq: int, ident: int, step: int, last: int, vouched: bool) -> int:
        """How many of the frames belong together, beginning with the first; 1 is none.

        `seq` and `ident` are the TCP sequence number and the IPv4 id of the first, and the ids grow by `step`, 0 or 1.
        Unless `vouched`, transport checksums are verified. The shape has been: see Joiner.
        """
        _, l3, l4, hl, size = self._shape
        count, frame, predicted = self._count, self._frame, self._predicted
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
        return found if vouched else min(found, self._first_wrong(last))

    def piece(self, found: int, last: int) -> Piece:
        """The super-frame of the first `found` frames, at least 2: their headers as one, with the whole lengths.

        The header is what a virtio-net driver writes: NEEDS_CSUM, the sum of the pseudo-header in the checksum field.
        """
        kind, l3, l4, hl, size = self._shape
        frame, header, tcp = self._frame, self._header, self._tcp
        if found < self._count:
            last = size
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
            np.add(self._steps, seq, out=self._values)
            self._seqs[:] = self._values
            np.remainder(self._came_checks, _ONES16, out=self._checks)
        else:
            np.maximum(self._came_checks, _ONE16, out=self._checks)

    def _first_difference(self) -> int:
        """The first frame that must not be joined to those before it, or the number of frames."""
        _, _, l4, hl, _ = self._shape
        came, predicted = self._copied, self._predicted
        np.copyto(self._copy, self._came)
        if came == predicted:
            return self._count
        first = int((self._copy != self._rows).argmax()) // hl
        if first and self._tcp:  # it may be the last of the run, and differ by FIN or PSH only
            at = first * hl
            predicted[at + l4 + 13] |= came[at + l4 + 13] & (FIN | PSH)
            first += predicted[at : at + hl] == came[at : at + hl]
        return first

    def _first_wrong(self, last: int) -> int:
        """The first frame with a wrong transport checksum, or the number of frames."""
        l4, size = self._shape[2], self._shape[4]
        full = len(self._wrong)
        sums = self._sums.add()
        np.remainder(sums, _ONES32, out=sums)
        np.not_equal(sums, native(-(self._pseudo + size - l4)), out=self._mask)
        first = self._wrong.find(1)
        if first >= 0 or full == self._count:
            return first if first >= 0 else full
        return full + (remainder(self._final[l4:last]) == -(self._pseudo + last - l4) % ONES)
