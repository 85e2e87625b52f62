"""Join: runs of frames in a train become super-frames for the tap, as the kernel's own receive offload would join them.

There is one rule: a run is joined only if cutting the super-frame again gives back its frames, byte for byte, and the
checksum of each was right. So whatever tells frames apart, another flow, a gap, other options, a changed byte, needs no
code of its own. What that rule does not see is left of the conditions in inet_gro_receive, ipv6_gro_receive,
tcp_gro_receive and udp_gro_receive_segment: no fragments, IP options or extension headers; no SYN, RST or URG; a
payload, a UDP checksum; and IPv4 ids that stand still only with DF. In that case alone the frames would come back with
ids other than they had.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tap2tap.vnet import VIRTIO_NET_HDR_GSO_UDP_L4
from tap2tap.workers.checksum import MalformedError, Sums, Words
from tap2tap.workers.headers import ACK, FIN, PSH, RST, SYN, U16, U32, URG, locate
from tap2tap.workers.run import Run, Shape
from tap2tap.workers.singles import Piece, Singles
from tap2tap.workers.train import MAX_SEGMENTS, Train

Mask = npt.NDArray[np.bool_]

_SHORTEST = 14 + 20 + 8 + 1  # bytes of a joinable frame: Ethernet, IPv4, UDP, payload
_IP_DF = 0x4000  # IP_DF in include/net/ip.h
_ATTEMPTS = 16  # runs to be tried in one train: for hostile ones each may cost more than it saves
_RUNS = 32  # shapes of frames to be remembered


class Joiner:
    """Turns trains into what is to be written to the tap. Fastest if always given the same Train object."""

    def __init__(self, udp: bool) -> None:
        """`udp`: whether the kernel takes UDP super-frames (TUN_F_USO4 and TUN_F_USO6, since Linux 6.2)."""
        self._udp = udp
        self._singles = Singles()
        self._runs: dict[tuple[int, Shape], Run] = {}

    def join(self, train: Train) -> Iterator[Piece]:
        """Yield (vector, frames): what os.writev gets, a virtio_net_hdr first, and how many frames that stands for.

        Every frame of the train is in exactly one vector, in order. A vector is valid until the next call or until the
        train changes. The train is only read. Raises nothing, whatever it holds.
        """
        if train.count < 2 or train.size < _SHORTEST or train.count * train.size > len(train.buffer):
            return iter(self._singles(train))
        shape = self._shape(train, 0)
        piece = self._join(train, shape, 0, train.count) if shape else None
        if piece and piece[1] == train.count:
            return iter((piece,))
        return iter(self._mixed(train, shape, piece))

    def _mixed(self, train: Train, shape: Shape | None, piece: Piece | None) -> list[Piece]:
        """Join what can be joined of a train that is not one run.

        `shape` is that of its first frame, and `piece` the run that begins there, if any.
        """
        singles = self._singles(train)
        count = train.count
        shapes = {shape, self._shape(train, count // 3), self._shape(train, 2 * count // 3)} - {None}
        masks = [_continued(train, shape) for shape in shapes if shape]
        if not masks:
            return singles
        continued = np.logical_or.reduce(masks).tobytes()
        pieces = [piece] if piece else []
        done = piece[1] if piece else 0  # frames that are in `pieces`
        at = done or 1  # where to look on; the first frame has been tried
        for _ in range(_ATTEMPTS):
            first = continued.find(1, at)
            if first < 0:
                break
            at = first + 1
            end = continued.find(0, first)
            found = self._shape(train, first)
            piece = self._join(train, found, first, (end if end > 0 else count - 1) - first + 1) if found else None
            if piece:
                pieces += singles[done:first]
                pieces.append(piece)
                done = at = first + piece[1]
        return pieces + singles[done:] if pieces else singles

    def _shape(self, train: Train, index: int) -> Shape | None:
        """The shape of a run that this frame of the train, one of the full size, could begin; None if there is none."""
        size = train.size
        at = index * size
        frame = train.buffer[at : at + size]
        try:
            l3, l4, hl, kind = locate(frame)
        except MalformedError:
            return None
        if hl >= size:
            return None
        if frame[l3] == 0x45:  # version 4, no options
            if U16.unpack_from(frame, l3 + 2)[0] != size - l3 or U16.unpack_from(frame, l3 + 6)[0] & ~_IP_DF:
                return None
        elif frame[l3] >> 4 != 6 or l4 - l3 != 40 or U16.unpack_from(frame, l3 + 4)[0] != size - l4:
            return None
        if kind != VIRTIO_NET_HDR_GSO_UDP_L4:
            if frame[l4 + 13] & (FIN | SYN | RST | PSH | ACK | URG) != ACK:
                return None
        elif not self._udp or U16.unpack_from(frame, l4 + 4)[0] != size - l4:
            return None
        return kind, l3, l4, hl, size

    def _join(self, train: Train, shape: Shape, first: int, count: int) -> Piece | None:
        """Join as many of `count` frames as possible, beginning with frame `first`; None if that is but one."""
        kind, l3, l4, hl, size = shape
        v4 = l4 - l3 == 20
        mss = size - hl
        buffer = train.buffer
        at = first * size
        most = 1 + (65535 - (size - l3 if v4 else size - l4)) // mss  # the IP length has 16 bits
        count = min(count, most, MAX_SEGMENTS)
        last = train.last if first + count == train.count else size
        if last <= hl:  # it has no payload, or is not of this flow at all
            count, last = count - 1, size
        if count < 2:
            return None

        # The cheapest differences first: most frames that cannot be joined differ from the next one here.
        seq = ident = step = 0
        if kind != VIRTIO_NET_HDR_GSO_UDP_L4:
            seq = U32.unpack_from(buffer, at + l4 + 4)[0]
            if U32.unpack_from(buffer, at + size + l4 + 4)[0] != seq + mss & 0xFFFFFFFF:
                return None
        elif U32.unpack_from(buffer, at + l4) != U32.unpack_from(buffer, at + size + l4):  # the ports
            return None
        if v4:
            ident = U16.unpack_from(buffer, at + l3 + 4)[0]
            step = U16.unpack_from(buffer, at + size + l3 + 4)[0] - ident & 0xFFFF
            if step > 1 or not (step or buffer[at + l3 + 6]):
                return None

        key = (id(train.array), shape)
        run = self._runs.get(key)
        if run is None or run.places < train.count:
            if len(self._runs) >= _RUNS:  # hostile traffic may come in every shape
                self._runs.clear()
            run = self._runs[key] = Run(train, shape)
        run.select(first, count, last)
        found = run.match(seq, ident, step, train.vouched)
        return run.piece(found) if found > 1 else None


def _continued(train: Train, shape: Shape) -> Mask:
    """Which frames of a train, (count - 1,) bool, seem to be continued by the next; a hint, it may be wrong."""
    kind, l3, l4, hl, size = shape
    if kind == VIRTIO_NET_HDR_GSO_UDP_L4:
        start = l3 + 12 if l4 - l3 == 20 else l3 + 8  # addresses and ports
        flows: Words = np.ndarray((train.count, (l4 + 4 - start) // 2), np.uint16, train.array, start, (size, 2))
        same: Mask = np.logical_and.reduce(flows[1:] == flows[:-1], axis=1)
        return same
    seqs: Sums = np.ndarray((train.count,), ">u4", train.array, l4 + 4, (size,))
    numbers = seqs.astype(np.uint32)
    steps: Sums = numbers[1:] - numbers[:-1]
    continued: Mask = steps == size - hl
    return continued
