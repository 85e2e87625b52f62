"""Mixed traffic: frames and super-frames of several flows, layouts and sizes by turns, some of them corrupted.

No two frames of a flow are equal where there is room to tell them apart, and no IPv4 id stands still within one: what
comes out of a tunnel must be what went in, byte for byte.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from tap2tap.vnet import NO_OFFLOAD
from tests.support import frames
from tests.support.frames import ACK, CWR, DF, ECE, FIN, NEEDS_CSUM, PSH, SYN, TIMESTAMPS, Flow

FROM = bytes.fromhex("02000000000a")  # the source of every frame: nobody else's are
TO = bytes.fromhex("020000000077")  # nobody's address
GROUPS = (b"\xff" * 6, bytes.fromhex("01005e000009"), bytes.fromhex("333300000009"))
ODD = b"\x88\xb5"  # ETH_P_802_EX1: frames that are not IP
TAGS: Sequence[tuple[tuple[int, int], ...]] = ((), (), ((0x8100, 5),), ((0x88A8, 5), (0x8100, 0x2007)))
MANY = 62000  # bytes of payload: a super-frame of full size
MAX_DATAGRAMS = 65507  # bytes of what is received together


class Read(NamedTuple):
    """What the kernel hands to the worker: a virtio_net_hdr and a frame; and the frames that they stand for."""

    header: bytes
    frame: bytes
    cut: list[bytes]


@dataclass
class _Talk:
    """A flow that goes on."""

    flow: Flow
    number: int

    def next(self, payload: int, count: int, flags: int) -> Flow:
        """The headers of what comes next: `count` frames, of `payload` bytes in all."""
        now = replace(self.flow, flags=flags if self.flow.tcp else ACK)
        ident, seq = (now.ident + count) % 65536, (now.seq + payload) % 2**32
        self.flow = replace(now, ident=ident, seq=seq)
        return now


def flow(dice: random.Random) -> Flow:
    """A flow of any layout."""
    version, tcp = dice.choice((4, 6)), dice.random() < 0.5
    to_many = not tcp and dice.random() < 0.2
    width = 4 if version == 4 else 16
    target = (bytes((239, 1, 1, 1)) if version == 4 else b"\xff" + bytes(15)) if to_many else bytes((10,) * width)
    return Flow(
        version=version,
        tcp=tcp,
        macs=(dice.choice(GROUPS) if to_many else TO) + FROM,
        tags=dice.choice(TAGS),
        source=bytes((11,) * width),
        target=target,
        tos=dice.choice((0, 2)),
        ident=dice.choice((1, 65530)),
        fragment=dice.choice((0, DF)),
        ip_options=dice.choice((b"", b"", b"", b"\1" * 4)) if version == 4 else b"",
        extensions=dice.choice(((), (), (), ((60, bytes(6)),))) if version == 6 else (),
        seq=dice.choice((1000, 2**32 - 3000)) if tcp else 1000,
        options=dice.choice((b"", TIMESTAMPS)) if tcp else b"",
    )


def mixture(dice: random.Random, pieces: int, longest: int = 1514) -> list[Read]:
    """That many times some frames of one flow, in all of a few flows and a few sizes; none longer than `longest`."""
    kinds = [flow(dice) for _ in range(dice.randint(1, 3))]
    talks = [  # often of one layout: those are worked on together
        _Talk(replace(dice.choice(kinds), ports=(1000 + number, 2000)), number) for number in range(dice.randint(1, 5))
    ]
    sizes = [dice.choice((longest, dice.randint(150, longest), dice.randint(150, 300))) for _ in range(3)]
    reads: list[Read] = []
    for number in range(pieces):
        size = dice.choice(sizes)
        if dice.random() < 0.1:
            content = random.Random(f"{number} {size}").randbytes(size)
            frame = TO + FROM + ODD + content[: dice.choice((8, 40, size - 14))]
            reads.append(Read(NO_OFFLOAD, frame, [frame]))
        else:
            reads += _some(dice, dice.choice(talks), size, number)
    return reads


def _some(dice: random.Random, talk: _Talk, size: int, number: int) -> Iterator[Read]:
    """Some frames of one flow: one or many, full or not, together or one by one, good or corrupted."""
    mss = max(1, size - talk.flow.hl)
    count = dice.choice((1, 2, dice.randint(2, 12), MANY // mss))
    whole = (min(count, MANY // mss, 64) - 1) * mss + dice.choice((mss, mss, dice.randint(1, mss)))
    payload = random.Random(f"{talk.number} {number}").randbytes(whole)
    flags = ACK | dice.choice((0, 0, 0, PSH, FIN, ECE, CWR, SYN))
    now = talk.next(whole, -(-whole // mss), flags)
    cut = frames.segments(now, payload, mss)
    if len(cut) > 1 and dice.random() < 0.5:
        yield Read(*frames.super_frame(now, payload, mss), cut)
        return
    for frame in cut:
        at = now.l4 + (16 if now.tcp else 6)
        if dice.random() < 0.03:
            broken = bytearray(frame)
            broken[dice.choice((at, now.hl, len(frame) - 1))] ^= 0x40
            yield Read(NO_OFFLOAD, bytes(broken), [bytes(broken)])
        elif dice.random() < 0.05 and frame[at : at + 2] != b"\0\0":  # 0 is spelt otherwise here than in `segments`
            flow, data = frames.dissect(frame)
            header = frames.vnet(flow, 0)
            partial = frames.build(flow, data, partial=True)
            yield Read(bytes((NEEDS_CSUM, 0, 0, 0, 0, 0)) + header[6:], partial, [frame])
        else:
            yield Read(NO_OFFLOAD, frame, [frame])


def received(datagrams: Sequence[bytes], most: int = 64) -> Iterator[list[bytes]]:
    """Datagrams as UDP_GRO hands them over: of one size but for a shorter last, at most `most` and of 64 KiB."""
    for group in frames.trains_of(datagrams, most):
        room = max(1, MAX_DATAGRAMS // (len(group[0]) or 1))
        for first in range(0, len(group), room):
            yield group[first : first + room]


def key(frame: bytes) -> bytes:
    """Which flow a frame is of: its bytes where those of one flow agree and those of two differ."""
    at = 12
    while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    if frame[at : at + 2] == ODD:
        return frame[: at + 2]
    length, protocol, transport = (20, 9, 4 * (frame[at + 2] & 15)) if frame[at + 1] == 0 else (40, 6, 40)
    network = frame[at + 2 : at + 2 + length]
    if network[protocol] == 60:
        transport += 8
    addresses = network[-8:] if length == 20 else network[-32:]
    ports = frame[at + 2 + transport : at + 6 + transport]
    return frame[: at + 2] + bytes((network[protocol],)) + addresses + ports


def check(sent: Iterable[bytes], came: Iterable[bytes], *, complete: bool = True) -> None:
    """What came is what was sent: each frame at most once, in the order of its flow, and nothing else.

    With `complete` nothing is missing.
    """
    expected, found = _by_flow(sent), _by_flow(came)
    for flow, those in found.items():
        wanted = expected.get(flow, [])
        strange = Counter(those) - Counter(wanted)
        assert not strange, f"{sum(strange.values())} of {len(those)} frames were not sent, or not so often"
        position = iter(wanted)
        assert all(frame in position for frame in those), "in another order"
    if complete:
        assert {flow: len(those) for flow, those in found.items()} == {
            flow: len(those) for flow, those in expected.items()
        }


def _by_flow(all_frames: Iterable[bytes]) -> dict[bytes, list[bytes]]:
    flows: dict[bytes, list[bytes]] = {}
    for frame in all_frames:
        flows.setdefault(key(frame), []).append(frame)
    return flows
