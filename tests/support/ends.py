"""The data plane of both ends of a tunnel in one process, from tap to tap as the two workers go."""

import socket
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from tap2tap.memory import GROUP
from tap2tap.workers.arena import Arena
from tap2tap.workers.gather import AREA, Gather
from tap2tap.workers.offload.join import SCRATCH, Joiner
from tap2tap.workers.offload.split import OUT_AREA, Splitter
from tap2tap.workers.path import Path
from tap2tap.workers.stages import STAGE_AREA
from tap2tap.workers.tap import Tap
from tap2tap.workers.train import Train
from tap2tap.workers.udp import AREA as RECEIVED
from tap2tap.workers.write import Writer
from tests.support import frames
from tests.support.frames import contents, load
from tests.support.lone import BUFFER, find_room, roomy
from tests.support.mixture import Read, received
from tests.support.pair import HERE, Pair

FIRST = STAGE_AREA  # bytes of the arena in front of what is read
IN = 64  # where a received train lies


def slots() -> memoryview:
    return memoryview(array("Q", bytes(8 * GROUP)))


class Ends:
    """Both ends of a tunnel without the network between them: what is `fed` is read, what is written `came`."""

    def __init__(self, stack: ExitStack, both: Pair | None = None) -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
        (self.fed, read), (write, self.came) = ([stack.enter_context(roomy(end)) for end in ends] for ends in pairs)
        for end in (read, self.came):
            end.setblocking(False)
        find_room(2 * BUFFER, self.fed, write)
        self.seal, self.open = both.seal if both else None, both.open if both else None
        self.outgoing = both.outgoing if both else Arena(FIRST + AREA + OUT_AREA)
        self.incoming = both.incoming if both else Arena(RECEIVED + SCRATCH)
        front, overhead = (self.seal.front, self.seal.overhead) if self.seal else (0, 0)
        self.path = Path(both.memory.slots if both else slots(), overhead)
        self.gather = Gather(Tap(read.fileno(), self.outgoing), self.outgoing, FIRST, overhead)
        self.split = Splitter(self.outgoing, slots(), FIRST + AREA, front, overhead)
        tap, joiner = Tap(write.fileno(), self.incoming), Joiner(self.incoming, RECEIVED, True)
        self.writer = Writer(tap, self.incoming, slots(), joiner)
        self.single = Writer(tap, self.incoming, slots(), None)

    def written(self) -> Iterator[bytes]:
        """All that has been written, as it is."""
        while True:
            try:
                yield self.came.recv(1 << 17)
            except BlockingIOError:
                return

    def carried(self, reads: Sequence[Read]) -> list[bytes]:
        """The datagrams that all this becomes."""
        datagrams: list[bytes] = []
        read, cut, train = Train(), Train(), Train()
        for header, frame, _ in reads:
            self.fed.send(header + frame)
        for _ in reads:  # once is not enough where a lone frame is expected
            while self.gather.read(read):
                self.split.begin(read, self.path.room())
                while self.split.next(cut):
                    if self.seal is None:
                        datagrams += contents(self.outgoing, cut)
                    while self.seal is not None and self.seal.seal(cut, train):
                        assert train.step == train.size or train.count == 1
                        datagrams += contents(self.outgoing, train)
        return datagrams

    def delivered(self, datagrams: Sequence[bytes], most: int) -> list[bytes]:
        """The frames that come of datagrams, received in trains of at most `most`."""
        came: list[bytes] = []
        list(self.written())  # what a failed example has left
        for some in received(datagrams, most):
            train, opened = load(self.incoming, IN, some), Train()
            if self.open is None:
                self.writer.write(train)
            while self.open is not None and self.open.open(train, opened, HERE):
                self.writer.write(opened)
            came += [frame for written in self.written() for frame in frames.resegment(written)]
        return came
