"""The seal and the open stage of the secure protocol in one process, on one memory, under a test's orders."""

import dataclasses
import ipaddress
import random
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tap2tap import counters, endpoint, memory
from tap2tap.counters import Count, Drop, Slot
from tap2tap.endpoint import Endpoint
from tap2tap.memory import SESSIONS, Private
from tap2tap.protocols.secure import sealing, wire
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS
from tap2tap.protocols.secure.mac import mac
from tap2tap.protocols.secure.mailbox import LinkEnd, Notice, Order, Proved, Task, WorkerEnd, channel
from tap2tap.protocols.secure.wire import Cipher
from tap2tap.workers.arena import Arena
from tap2tap.workers.stages import PARTS_AREA, STAGE_AREA
from tap2tap.workers.stages.lengths import LengthFilter
from tap2tap.workers.stages.secure.open import SecureOpen
from tap2tap.workers.stages.secure.seal import SecureSeal
from tap2tap.workers.train import Train
from tests.support.frames import contents, load, trains_of

HERE = Endpoint(ipaddress.ip_address("192.0.2.1"), 1234).raw(socket.AF_INET)
THERE = Endpoint(ipaddress.ip_address("198.51.100.7"), 4321).raw(socket.AF_INET)
LONGEST = 9022  # bytes of a frame with two tags on an interface with jumbo frames
PEER_KEY = bytes(range(32))  # of the mac of the peer's handshakes
AREA = 1 << 20  # bytes of an arena; the first ones are the seal stage's own
FRAMES_AT = STAGE_AREA + 64


class Pair:
    """Both stages on one memory, as if their link ran both ends; `replace` is what a killed one gets.

    The peer moves as the inbound stage says, without a check. A `client` takes no notice of its own address.
    """

    def __init__(self, stack: ExitStack, *, client: bool = False) -> None:
        self.memory = memory.create()
        self._client = client
        self._stack = stack
        self.outgoing, self.incoming = Arena(AREA), Arena(AREA + PARTS_AREA)
        self._notices: list[Notice] = []
        self.live = {(Task.PEER_MAC, 0): Order(Task.PEER_MAC, data=PEER_KEY)}
        self.replace()

    def replace(self) -> None:
        """Start workers, for the first time or behind dead ones, and tell them what lives."""
        out, into = self.memory.outbound, self.memory.inbound
        (self.out, seal), (self.into, open_) = (
            (
                LinkEnd(self._stack.enter_context(ours), counts),
                WorkerEnd(self._stack.enter_context(theirs)),
            )
            for counts, (ours, theirs) in ((out, channel()), (into, channel()))
        )
        self.seal = SecureSeal(self.memory, seal, self.outgoing, 0)
        lengths = LengthFilter(into)
        self.open = SecureOpen(self.memory, open_, 2, self.incoming, AREA, lengths, client=self._client)
        for order in self.live.values():
            (self.out if order.task is Task.USE else self.into).order(dataclasses.replace(order, resumed=True))

    def session(
        self,
        index: int,
        cipher: Cipher = Cipher.AES_256_GCM,
        *,
        use: bool = True,
        until: float = float("inf"),
        parts: bool = True,
    ) -> None:
        """Open a session with its own key and slot, the newest so far, and send on it."""
        key, slot = index.to_bytes(32, "big"), index % SESSIONS
        for first in (Private.SESSION, Private.ACCEPTED, Private.LATE):
            self.memory.inbound[first + slot] = 0
        self.memory.outbound[Private.SESSION + slot] = CONTROL_COUNTERS
        end = int(min(until, 1e9) * 1e9)
        opened = self.live[Task.OPEN, index] = Order(Task.OPEN, cipher, index, slot, end, data=key)
        self.into.order(opened)
        if use:
            used = self.live[Task.USE, 0] = Order(Task.USE, cipher, index, slot, end, parts=parts, data=key)
            self.out.order(used)

    def use(self, index: int) -> None:
        """Send on a session that is open, from where its counters are."""
        self.out.order(dataclasses.replace(self.live[Task.OPEN, index], task=Task.USE, parts=True))

    def sealed(self, frames: Sequence[bytes], *, vouched: bool = False) -> list[bytes]:
        """The datagrams of a train of frames."""
        return [datagram for train in self.trains(frames, vouched=vouched) for datagram in train]

    def trains(self, frames: Sequence[bytes], *, vouched: bool = False) -> list[list[bytes]]:
        """The same, by trains."""
        read, train = load(self.outgoing, FRAMES_AT, frames, room=self.seal.overhead, vouched=vouched), Train()
        made = []
        while self.seal.seal(read, train):
            assert train.step == train.size or train.count == 1
            made.append(contents(self.outgoing, train))
        assert not read.count
        return made

    def path(self, payload: int) -> None:
        """Let a datagram to the peer have so many bytes."""
        self.memory.slots[Slot.PATH] = payload

    def control(self) -> list[bytes]:
        """The control datagrams that were ordered."""
        train, made = Train(), []
        while self.seal.control(train):
            made += contents(self.outgoing, train)
        return made

    def keepalive(self) -> list[bytes]:
        """What is sent when nothing else was."""
        train = Train()
        return contents(self.outgoing, train) if self.seal.keepalive(train) else []

    def opened(self, datagrams: Sequence[bytes], source: bytes = HERE) -> list[bytes]:
        """The frames in datagrams that come as the kernel would group them."""
        return [frame for run, _ in self.runs(datagrams, source) for frame in run]

    def runs(self, datagrams: Sequence[bytes], source: bytes = HERE) -> Iterator[tuple[list[bytes], bool]]:
        """The same, by runs, each with whether its checksums are vouched for."""
        for group in trains_of([each for each in datagrams if each]):
            yield from self.runs_of(load(self.incoming, 64, group), source)

    def runs_of(self, train: Train, source: bytes = HERE) -> Iterator[tuple[list[bytes], bool]]:
        """The runs of frames in a train that lies in `incoming`."""
        frames = Train()
        while self.open.open(train, frames, source):
            yield contents(self.incoming, frames), frames.vouched
        assert not train.count

    @property
    def drops(self) -> dict[str, int]:
        """What the opener dropped, by reason."""
        return self.drops_of(self.memory.inbound)

    @staticmethod
    def drops_of(counts: counters.Counts) -> dict[str, int]:
        """What a worker dropped, by reason."""
        return {drop.name: counts[Count.DROPPED + drop] for drop in Drop if counts[Count.DROPPED + drop]}

    def notices(self) -> list[Notice]:
        """What the inbound stage has told the link since the last call."""
        self._follow()
        told, self._notices = self._notices, []
        return told

    def _follow(self) -> None:
        for notice in self.into.notices():
            self._notices.append(notice)
            if isinstance(notice, Proved) and notice.newest:
                found = notice.source.from_anywhere if self._client else notice.source
                endpoint.store(self.memory.slots, Slot.PEER, found)

    @property
    def peer(self) -> str:
        """Where the peer is."""
        self._follow()
        return str(endpoint.load(self.memory.slots, Slot.PEER))


@contextmanager
def pair(
    *sessions: int, cipher: Cipher = Cipher.AES_256_GCM, until: float = float("inf"), client: bool = False
) -> Iterator[Pair]:
    """Both stages, with these sessions; the last is the one to send on."""
    with ExitStack() as stack:
        made = Pair(stack, client=client)
        for index in sessions:
            made.session(index, cipher, until=until)
        yield made


def initiation(seed: int, key: bytes = PEER_KEY) -> bytes:
    """A datagram that ends in its mac and looks like an initiation."""
    front = bytes([wire.TYPE_INITIATION, 0, 0, 0]) + random.Random(seed).randbytes(80)
    return front + mac(key, front)


def response(seed: int, key: bytes = PEER_KEY) -> bytes:
    """The same for a response."""
    front = bytes([wire.TYPE_RESPONSE]) + random.Random(seed).randbytes(67)
    return front + mac(key, front)


def challenge(about: bytes, key: bytes = PEER_KEY) -> bytes:
    """A challenge to the initiation with the mac `about`."""
    front = bytes([wire.TYPE_CHALLENGE]) + about[:3] + bytes(16)
    return front + mac(key, front, about)


def numbered(*sizes: int) -> list[bytes]:
    """Frames that can be told apart."""
    return [struct.pack(">I", number) + random.Random(number).randbytes(size - 4) for number, size in enumerate(sizes)]


def counter(datagram: bytes) -> int:
    """The counter of a datagram."""
    return struct.unpack_from("<I", datagram, 4)[0]  # type: ignore[no-any-return]


def sealed_text(kind: int, index: int, number: int, text: bytes) -> bytes:
    """A datagram as the peer of session `index` of a pair may make it, who may be malicious."""
    header = wire.header(kind, index, number)
    return header + sealing.aead(Cipher.AES_256_GCM, index.to_bytes(32, "big")).encrypt(
        wire.nonce(Cipher.AES_256_GCM, number), text, header
    )


def part(number: int, count: int, length: int, piece: bytes, *, at: int, index: int = 7) -> bytes:
    """A part under the counter `at`, whatever it says."""
    return sealed_text(wire.TYPE_PART, index, at, struct.pack("<BBH", number, count, length) + piece)


def hold(both: Pair) -> dict[str, int]:
    """What the opener says of parts, beside the drops."""
    return {"PARTS": both.memory.inbound[Count.PARTS], **both.drops}
