"""The link process as its supervisor has it: started, lent what it needs, and replaced like a worker.

The supervisor opens the key file and never looks into it. Each life of a worker gets a channel of its own to the link;
the supervisor keeps a duplicate of the link's end, which the next life of the link is given: a death of the link
breaks none of them. Nothing of a key comes by here, and nothing that came from the network but where the peer is.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence

from tap2tap import log, peer_record
from tap2tap.config import Config
from tap2tap.counters import Link, Role, Slot
from tap2tap.endpoint import Endpoint
from tap2tap.errors import StartError, UsageError
from tap2tap.keyfile import open_key_file
from tap2tap.link import messages
from tap2tap.link.messages import BadKeyFile, Goodbye, PathMtu, PeerDown, PeerMoved, PeerUp, Ready
from tap2tap.memory import Memory
from tap2tap.protocols.secure import mailbox
from tap2tap.protocols.secure.limits import CANDIDATES
from tap2tap.supervisor import call_back
from tap2tap.supervisor.child import Child
from tap2tap.supervisor.fork_server import ForkServer
from tap2tap.supervisor.loop import Part
from tap2tap.supervisor.process import Identity, Process
from tap2tap.supervisor.signals import Signals
from tap2tap.workers.worker import Cable

OnPeerEvent = Callable[[str, Endpoint], None]  # an event of tap2tap.supervisor.hooks, and where the peer is

FAREWELL = 0.5  # seconds that the link process has to say goodbye


class LinkProcess(Part):
    """The link process through all its lives, from the creation of this to `close`; `child` is what to watch over.

    `key_file` is the descriptor of the file `name`, `record` that of the one that remembers where the peer is, if there
    is one; both are the caller's to close. `key_digest` of this object, from `start` on,
    is what stands for the public key in it (messages.Ready). Raises OSError.
    """

    def __init__(self, memory: Memory, key_file: int, name: str, record: int | None, become: Identity) -> None:
        self.key_digest = b""
        self.on_peer_event: OnPeerEvent = lambda *_: None
        self._record = record
        self._cable: messages.Cable | None = None
        self._channel: socket.socket | None = None  # to the life of now; None between two lives
        self._mistake = ""  # in the key file, which was edited meanwhile
        self._ends: dict[Role, socket.socket] = {}  # the link's ends of the channels to the workers

        def life(channel: socket.socket) -> int:
            from tap2tap.link.life import live

            return live(channel, key_file, name, memory)

        self._server = ForkServer(Role.LINK, _load, life, [key_file], become)
        self.child = Child(Role.LINK, memory.link, self._begin)

    def _begin(self) -> Process:
        """Begin a life, and give it what there is."""
        self._hang_up()
        ours, theirs = messages.make()
        try:
            with theirs:
                process = self._server.fork(theirs)
        except OSError:
            ours.close()
            raise
        self._channel = ours
        for role, end in self._ends.items():
            self._tell(messages.Channel(role, end.fileno()))
        if self._cable:
            self._tell(self._cable)
        return process

    def start(self, stop: Signals) -> None:
        """Begin the first life. Raises UsageError for a mistake in the key file, StartError, Interrupted."""
        stop.wait(self._server.fd)
        self.child.start()
        assert self._channel is not None
        stop.wait(self._channel.fileno())
        match self._receive():
            case Ready(identity):
                self.key_digest = identity
                return
            case BadKeyFile(words):
                raise UsageError(words)
        raise StartError("the link process cannot start: see its message above")

    def lend(self, cable: Cable, candidates: Sequence[Endpoint]) -> None:
        """Let it begin with the handshakes over this cable; `candidates` are where the peer may be, the best first."""
        some = tuple(candidates)[:CANDIDATES]
        self._cable = messages.Cable(
            cable.tap, cable.sock.fileno(), self._record, cable.keepalive, cable.mtu, cable.client, some
        )
        self._tell(self._cable)

    def connect(self, role: Role) -> socket.socket:
        """Connect it with the next life of a worker; return the worker's end, the caller's to close. Raises OSError."""
        if role in self._ends:
            self._ends.pop(role).close()
        self._ends[role], theirs = mailbox.channel()
        self._tell(messages.Channel(role, self._ends[role].fileno()))
        return theirs

    def move(self, candidates: Sequence[Endpoint]) -> None:
        """The peer may be at these now, the best first."""
        some = tuple(candidates)[:CANDIDATES]
        if self._cable and self._cable.candidates != some:
            self._cable = self._cable._replace(candidates=some)
            self._tell(messages.Candidates(some))

    def last_peer(self) -> Endpoint | None:
        """Where the peer was in an earlier life of a server, which calls it there."""
        return None if self._record is None else peer_record.read(self._record)

    def call(self) -> None:
        """Have it call the peer now."""
        self._tell(messages.Call())

    def renew_socket(self) -> None:
        """The descriptor of the UDP socket is another socket now: have it used."""
        if self._cable:
            self._tell(messages.Socket(self._cable.sock))

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when a descriptor of it is readable."""
        return {self._channel.fileno(): self._read} if self._channel else {}

    def _read(self) -> None:
        match self._receive():
            case PeerUp(peer):
                self.on_peer_event("peer-up", peer)
            case PeerDown(peer):
                self.on_peer_event("peer-down", peer)
            case PeerMoved(peer):
                self.on_peer_event("peer-moved", peer)
            case PathMtu(peer):
                self.on_peer_event("path-mtu", peer)
            case BadKeyFile(words):
                if words != self._mistake:  # told once, however often it is tried
                    log.warning("the link cannot go on", reason=words)
                self._mistake = words
            case Ready():
                self._mistake = ""

    def _receive(self) -> messages.ToLink | messages.ToSupervisor | None:
        """Take a message; kill who sends anything else. None when there is none."""
        assert self._channel is not None
        try:
            message = messages.receive(self._channel)
        except BlockingIOError:
            return None
        except ValueError:
            log.warning("the link process says what makes no sense, killing it")
            self.child.kill()
            message = None
        if message is None:
            self._hang_up()
        return message

    def _tell(self, message: messages.ToLink) -> None:
        """Tell the life of now; one that leaves its channel full hangs, and the next is told everything anew."""
        if self._channel:
            with contextlib.suppress(OSError):
                messages.send(self._channel, message)

    def _hang_up(self) -> None:
        if self._channel:
            self._channel.close()
            self._channel = None

    def say_goodbye(self) -> None:
        """Have it tell the peer that this is the end, and end. No worker may live: theirs is the count."""
        self._tell(Goodbye())
        self.child.finish(FAREWELL)

    def close(self) -> None:
        """End it."""
        self.child.end()
        self._server.close()
        self._hang_up()
        for end in self._ends.values():
            end.close()


def _load() -> None:
    """Load all that the link process needs, which nobody else does."""
    from tap2tap.link.life import rehearse

    rehearse()


@contextlib.contextmanager
def make_link_process(config: Config, memory: Memory, become: Identity) -> Iterator[LinkProcess | None]:
    """Make the link process, where there is a key, and see to its end. Raises UsageError, StartError."""
    if config.key is None:
        yield None
        return
    memory.slots[Slot.LINK] = Link.DOWN  # a tunnel without a link is a plain one
    with contextlib.ExitStack() as stack:
        key_file = open_key_file(config.key)
        stack.callback(os.close, key_file)
        record = stack.enter_context(call_back.opened(config))
        try:
            link = LinkProcess(memory, key_file, config.key, record, become)
        except OSError as error:
            raise StartError(
                f"cannot start the link process: {error.strerror}: raise the limits of processes and open files"
            ) from error
        yield stack.enter_context(contextlib.closing(link))
