"""Frames for tests: builders, hypothesis strategies and a slow, independent reference for segmentation.

Nothing here uses the code under test: headers are packed field by field and every checksum is computed from scratch.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from tap2tap.workers.arena import Arena
from tap2tap.workers.train import Train

NEEDS_CSUM = 1
NONE, TCPV4, TCPV6, UDP_L4, ECN = 0, 1, 4, 5, 0x80
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
DF, MF = 0x4000, 0x2000
TIMESTAMPS = bytes.fromhex("0101080a0102030405060708")


@dataclass(frozen=True)
class Flow:
    """The header fields of a frame, all but those that follow from its payload."""

    version: int = 4
    tcp: bool = True
    macs: bytes = bytes.fromhex("020000000002020000000001")
    tags: tuple[tuple[int, int], ...] = ()  # (TPID, TCI)
    source: bytes = b"\x0a\x00\x00\x01" + bytes(11) + b"\x01"  # IPv4 takes the first four bytes
    target: bytes = b"\x0a\x00\x00\x02" + bytes(11) + b"\x02"
    tos: int = 0
    label: int = 0
    ttl: int = 64
    ident: int = 1
    fragment: int = DF  # flags and offset
    ip_options: bytes = b""
    extensions: tuple[tuple[int, bytes], ...] = ()  # IPv6: (number of the header, its bytes from the third on)
    ports: tuple[int, int] = (40000, 5201)
    seq: int = 1000
    ack: int = 2000
    flags: int = ACK
    reserved: int = 0
    window: int = 500
    urgent: int = 0
    options: bytes = b""

    @property
    def l3(self) -> int:
        """Where the network header begins."""
        return 14 + 4 * len(self.tags)

    @property
    def l4(self) -> int:
        """Where the transport header begins."""
        if self.version == 4:
            return self.l3 + 20 + len(self.ip_options)
        return self.l3 + 40 + sum(2 + len(body) for _, body in self.extensions)

    @property
    def hl(self) -> int:
        """Where the payload begins."""
        return self.l4 + (20 + len(self.options) if self.tcp else 8)

    @property
    def gso_type(self) -> int:
        """The gso_type of a super-frame of this flow, without ECN."""
        return (TCPV4 if self.version == 4 else TCPV6) if self.tcp else UDP_L4


def fold(data: bytes) -> int:
    """The ones-complement sum of the 16-bit words of `data`, by the book (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo(source: bytes, target: bytes, protocol: int, length: int) -> bytes:
    """The pseudo-header of TCP and UDP (RFC 9293, RFC 768, RFC 8200)."""
    if len(source) == 4:
        return source + target + struct.pack(">BBH", 0, protocol, length)
    return source + target + struct.pack(">II", length, protocol)


def build(flow: Flow, payload: bytes, *, partial: bool = False) -> bytes:
    """A frame of this flow; with `partial` its transport checksum is left as NEEDS_CSUM means it."""
    protocol = 6 if flow.tcp else 17
    width = 4 if flow.version == 4 else 16
    source, target = flow.source[:width], flow.target[:width]
    if flow.tcp:
        offset = (20 + len(flow.options)) // 4 << 4 | flow.reserved
        fields = (*flow.ports, flow.seq, flow.ack, offset, flow.flags, flow.window, 0, flow.urgent)
        transport = struct.pack(">HHIIBBHHH", *fields) + flow.options
    else:
        transport = struct.pack(">HHHH", *flow.ports, 8 + len(payload), 0)
    length = len(transport) + len(payload)
    above = pseudo(source, target, protocol, length)
    check = fold(above) if partial else ~fold(above + transport + payload) & 0xFFFF
    if not flow.tcp and not check:
        check = 0xFFFF
    at = 16 if flow.tcp else 6
    transport = transport[:at] + struct.pack(">H", check) + transport[at + 2 :]

    if flow.version == 4:
        total = 20 + len(flow.ip_options) + length
        first = 0x40 | (20 + len(flow.ip_options)) // 4
        fields4 = (first, flow.tos, total, flow.ident, flow.fragment, flow.ttl, protocol, 0)
        network = struct.pack(">BBHHHBBH", *fields4) + source + target + flow.ip_options
        network = network[:10] + struct.pack(">H", ~fold(network) & 0xFFFF) + network[12:]
        ether = 0x0800
    else:
        following = [*(number for number, _ in flow.extensions), protocol][1:]
        chain = b"".join(
            bytes((after, (2 + len(body)) // 8 - 1)) + body
            for (_, body), after in zip(flow.extensions, following, strict=False)
        )
        first_next = flow.extensions[0][0] if flow.extensions else protocol
        word = 6 << 28 | flow.tos << 20 | flow.label
        network = struct.pack(">IHBB", word, len(chain) + length, first_next, flow.ttl) + source + target + chain
        ether = 0x86DD
    tags = b"".join(struct.pack(">HH", tpid, tci) for tpid, tci in flow.tags)
    return flow.macs + tags + struct.pack(">H", ether) + network + transport + payload


def vnet(flow: Flow, mss: int, *, ecn: bool = False) -> bytes:
    """The virtio_net_hdr of a super-frame of this flow."""
    kind = flow.gso_type | (ECN if ecn else 0)
    return struct.pack("=BBHHHH", NEEDS_CSUM, kind, flow.hl, mss, flow.l4, 16 if flow.tcp else 6)


def super_frame(flow: Flow, payload: bytes, mss: int) -> tuple[bytes, bytes]:
    """A super-frame as the kernel hands it to the tap: its header, and the frame."""
    return vnet(flow, mss, ecn=bool(flow.flags & CWR)), build(flow, payload, partial=True)


def segments(flow: Flow, payload: bytes, mss: int) -> list[bytes]:
    """The frames into which the kernel would cut a super-frame of this flow."""
    frames = []
    starts = range(0, max(1, len(payload)), mss)
    for index, start in enumerate(starts):
        flags = flow.flags
        if start + mss < len(payload):
            flags &= ~(FIN | PSH)
        if index:
            flags &= ~CWR
        piece = replace(
            flow, ident=(flow.ident + index) % 65536, seq=(flow.seq + start) % 2**32, flags=flags
        )  # fields of other protocols are not used
        frames.append(build(piece, payload[start : start + mss]))
    return frames


def dissect(frame: bytes) -> tuple[Flow, bytes]:
    """The inverse of `build` for a well-formed frame; checksums are not looked at."""
    tags = []
    l3 = 14
    while frame[l3 - 2 : l3] in (b"\x81\x00", b"\x88\xa8"):
        tags.append((int.from_bytes(frame[l3 - 2 : l3], "big"), int.from_bytes(frame[l3 : l3 + 2], "big")))
        l3 += 4
    flow = Flow(macs=frame[:12], tags=tuple(tags))
    ip = frame[l3:]
    if ip[0] >> 4 == 4:
        _, tos, _, ident, fragment, ttl, protocol, _ = struct.unpack_from(">BBHHHBBH", ip)
        ihl = 4 * (ip[0] & 15)
        flow = replace(flow, tos=tos, ident=ident, fragment=fragment, ttl=ttl, ip_options=ip[20:ihl])
        flow = replace(flow, source=ip[12:16], target=ip[16:20])
    else:
        word, _, protocol, ttl = struct.unpack_from(">IHBB", ip)
        extensions = []
        ihl = 40
        while protocol in (0, 43, 60):
            end = ihl + 8 + 8 * ip[ihl + 1]
            extensions.append((protocol, ip[ihl + 2 : end]))
            protocol, ihl = ip[ihl], end
        flow = replace(flow, version=6, tos=word >> 20 & 255, label=word & 0xFFFFF, ttl=ttl)
        flow = replace(flow, extensions=tuple(extensions), source=ip[8:24], target=ip[24:40])
    transport = ip[ihl:]
    if protocol == 17:
        return replace(flow, tcp=False, ports=struct.unpack_from(">HH", transport)), transport[8:]
    source, target, seq, ack, offset, flags, window, _, urgent = struct.unpack_from(">HHIIBBHHH", transport)
    end = offset >> 4 << 2
    flow = replace(flow, ports=(source, target), seq=seq, ack=ack, reserved=offset & 15, flags=flags)
    return replace(flow, window=window, urgent=urgent, options=transport[20:end]), transport[end:]


def resegment(written: bytes) -> list[bytes]:
    """What the kernel makes of one write to a tap: a virtio_net_hdr and a frame or super-frame."""
    flags, kind, hdr_len, mss, start, offset = struct.unpack_from("=BBHHHH", written)
    frame = written[10:]
    if kind == NONE:
        assert written[:10] == bytes(10)
        return [frame]
    flow, payload = dissect(frame)
    assert flags == NEEDS_CSUM
    assert (kind, hdr_len, start) == (flow.gso_type | (ECN if flow.flags & CWR else 0), flow.hl, flow.l4)
    assert offset == (16 if flow.tcp else 6)
    assert frame == build(flow, payload, partial=True)  # lengths, IPv4 checksum and partial sum are right
    return segments(flow, payload, mss)


def load(arena: Arena, at: int, cut: Sequence[bytes], *, room: int = 0, vouched: bool = False) -> Train:
    """Put frames into an arena from `at` on, `room` bytes between one and the next, and rubbish behind the last.

    They are of one size but for a shorter last. Returns the train of them.
    """
    train = Train()
    if not cut:
        return train
    size = len(cut[0])
    assert all(len(frame) == size for frame in cut[:-1])
    assert len(cut[-1]) <= size
    train.at, train.size, train.step, train.vouched = at, size, size + room, vouched
    train.count, train.last = len(cut), len(cut[-1])
    for number, frame in enumerate(cut):
        arena.put(at + number * train.step, frame)
    end = at + (train.count - 1) * train.step + train.last
    arena.put(end, b"\xa5" * min(2000, arena.size - end))
    return train


def contents(arena: Arena, train: Train) -> list[bytes]:
    """The frames of a train."""
    return [arena.take(train.at + number * train.step, train.size_of(number)) for number in range(train.count)]


def trains_of(frames: Sequence[bytes], longest: int = 64) -> Iterator[list[bytes]]:
    """Group frames, in order, as a receiver would: equal sizes, a shorter one ends the group."""
    group: list[bytes] = []
    for frame in frames:
        if group and (len(group) == longest or len(frame) > len(group[0]) or len(group[-1]) < len(group[0])):
            yield group
            group = []
        group.append(frame)
    if group:
        yield group


def payload(length: int, seed: int = 1) -> bytes:
    """Bytes that look random and depend on `seed`, cheaper than drawing them."""
    return bytes((seed + index * index * 7 + (index >> 8) * 13) % 251 for index in range(length))


_PATTERN = payload(70000)

bytes_of_payload = st.builds(
    lambda start, length: _PATTERN[start : start + length], st.integers(0, 2000), st.integers(1, 4000)
)
tags = st.lists(st.tuples(st.sampled_from((0x8100, 0x88A8)), st.integers(0, 65535)), max_size=3).map(tuple)
tcp_options = st.sampled_from((b"", TIMESTAMPS, b"\x01" * 4, b"\x01" * 40))
addresses = st.binary(min_size=16, max_size=16)


@st.composite
def flows(draw: st.DrawFn, *, joinable: bool = False) -> Flow:
    """Flows of every kind; with `joinable` only such as the kernel's GRO would take, and UDP from one host to one."""
    version = draw(st.sampled_from((4, 6)))
    width = 4 if version == 4 else 16
    flags = ACK | draw(st.sampled_from((0, PSH, FIN, PSH | FIN, ECE, CWR, CWR | PSH)))
    extensions: tuple[tuple[int, bytes], ...] = ()
    ip_options = b""
    if not joinable:
        flags = draw(st.integers(0, 255))
        bodies = st.integers(0, 3).map(lambda units: bytes(6 + 8 * units))
        chosen = st.lists(st.tuples(st.sampled_from((0, 60)), bodies), max_size=2).map(tuple)
        extensions = draw(chosen) if version == 6 else ()
        ip_options = draw(st.sampled_from((b"", b"\x01" * 4, b"\x01" * 40))) if version == 4 else b""
    tcp = draw(st.booleans())
    macs, target = (bytearray(draw(st.binary(min_size=length, max_size=length))) for length in (12, 16))
    if joinable and not tcp:
        macs[0] &= 0xFE
        target[0] &= 0x7F
    return Flow(
        version=version,
        tcp=tcp,
        macs=bytes(macs),
        tags=draw(tags),
        source=draw(addresses)[:width],
        target=bytes(target[:width]),
        tos=draw(st.integers(0, 255)),
        label=draw(st.integers(0, 0xFFFFF)) if version == 6 else 0,
        ttl=draw(st.integers(0, 255)),
        ident=draw(st.integers(0, 65535) | st.integers(65500, 65535)) if version == 4 else 1,
        fragment=draw(st.sampled_from((0, DF))) if version == 4 else DF,
        ip_options=ip_options,
        extensions=extensions,
        ports=(draw(st.integers(0, 65535)), draw(st.integers(0, 65535))),
        seq=draw(st.integers(0, 2**32 - 1) | st.integers(2**32 - 5000, 2**32 - 1)) if tcp else 1000,
        ack=draw(st.integers(0, 2**32 - 1)) if tcp else 2000,
        flags=flags if tcp else ACK,
        reserved=draw(st.integers(0, 15)) if tcp else 0,
        window=draw(st.integers(0, 65535)) if tcp else 500,
        urgent=draw(st.sampled_from((0, 1))) if tcp and not joinable else 0,
        options=draw(tcp_options) if tcp else b"",
    )
