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
from tap2tap.protocols.secure import wire
from tap2tap.protocols.secure.limits import CONTROL_COUNTERS
from tap2tap.protocols.secure.mac import mac
from tap2tap.protocols.secure.mailbox import LinkEnd, Order, Task, WorkerEnd, channel
from tap2tap.protocols.secure.wire import Cipher
from tap2tap.workers.arena import Arena
from tap2tap.workers.stages import KEEPALIVE_AREA
from tap2tap.workers.stages.lengths import LengthFilter
from tap2tap.workers.stages.secure.open import SecureOpen
from tap2tap.workers.stages.secure.seal import SecureSeal
from tap2tap.workers.train import Train
from tests.support.frames import contents, load, trains_of

HERE = Endpoint(ipaddress.ip_address("192.0.2.1"), 1234).raw(socket.AF_INET)
THERE = Endpoint(ipaddress.ip_address("198.51.100.7"), 4321).raw(socket.AF_INET)
LONGEST = 9022  # bytes of a frame
PEER_KEY = bytes(range(32))  # of the mac of the peer's handshakes
AREA = 1 << 20  # bytes of an arena; the first ones are the seal stage's own
FRAMES_AT = KEEPALIVE_AREA + 64


class Pair:
    """Both stages on one memory, as if their link ran both ends; `replace` is what a killed one gets."""

    def __init__(self, stack: ExitStack) -> None:
        self.memory = memory.create()
        self._stack = stack
        self.outgoing, self.incoming = Arena(AREA), Arena(AREA)
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
        self.seal = SecureSeal(out, seal, self.outgoing, 0)
        self.open = SecureOpen(self.memory, open_, 2, self.incoming, LengthFilter(LONGEST, into))
        for order in self.live.values():
            (self.out if order.task is Task.USE else self.into).order(dataclasses.replace(order, resumed=True))

    def session(
        self, index: int, cipher: Cipher = Cipher.AES_256_GCM, *, use: bool = True, until: float = float("inf")
    ) -> None:
        """Open a session with its own key and slot, the newest so far, and send on it."""
        key, slot = index.to_bytes(32, "big"), index % SESSIONS
        self.memory.inbound[Private.SESSION + slot] = 0
        self.memory.outbound[Private.SESSION + slot] = CONTROL_COUNTERS
        end = int(min(until, 1e9) * 1e9)
        opened = self.live[Task.OPEN, index] = Order(Task.OPEN, cipher, index, slot, end, data=key)
        self.into.order(opened)
        if use:
            used = self.live[Task.USE, 0] = Order(Task.USE, cipher, index, slot, end, data=key)
            self.out.order(used)

    def sealed(self, frames: Sequence[bytes], *, vouched: bool = False) -> list[bytes]:
        """The datagrams of a train of frames."""
        train = load(self.outgoing, FRAMES_AT, frames, room=self.seal.overhead, vouched=vouched)
        return contents(self.outgoing, train) if self.seal.seal(train) else []

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

    @property
    def peer(self) -> str:
        """Where the peer is."""
        return str(endpoint.load(self.memory.slots, Slot.PEER))


@contextmanager
def pair(*sessions: int, cipher: Cipher = Cipher.AES_256_GCM, until: float = float("inf")) -> Iterator[Pair]:
    """Both stages, with these sessions; the last is the one to send on."""
    with ExitStack() as stack:
        made = Pair(stack)
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
