"""The link process from its beginning to its end, which is that of its supervisor.

It reads the key file itself, and so does every successor; it is given the tap, the socket and the channels to the
workers when they are there. All that it leaves behind is in the memory that it shares with the supervisor.
"""

import gc
import hashlib
import ipaddress
import os
import select
import signal
import socket
from contextlib import suppress

from tap2tap import clock, log
from tap2tap.counters import Count, Role
from tap2tap.endpoint import Endpoint
from tap2tap.errors import CANNOT_START, OK, UsageError
from tap2tap.keyfile import read_key_file
from tap2tap.keys import CableKeys, parse_keys, public_key
from tap2tap.link import messages
from tap2tap.link.driver import Driver
from tap2tap.link.messages import FDS, BadKeyFile, Cable, Call, Candidates, Channel, Goodbye, Ready, Socket
from tap2tap.memory import Memory
from tap2tap.protocols.secure.actions import Send
from tap2tap.protocols.secure.link import Link

BEAT = 1.0  # seconds: it comes round its loop this often, which the supervisor takes for a sign of life


def rehearse() -> None:
    """Make a handshake with throwaway keys for each cipher.

    `cryptography` loads parts of itself when they are first used: by then we may be somebody who may not read them.
    """
    one, other = b"\1" * 32, b"\2" * 32
    nowhere = Endpoint(ipaddress.IPv4Address("192.0.2.1"), 1)
    for hardware_aes in (True, False):
        caller, called = (
            Link(
                CableKeys(mine, public_key(theirs)),
                client=True,
                candidates=(nowhere,),
                keepalive=0,
                hardware_aes=hardware_aes,
                random=os.urandom,
                mtu=1500,
            )
            for mine, theirs in ((one, other), (other, one))
        )
        initiation, *_ = (each.datagram for each in caller.start(0.0) if isinstance(each, Send))
        response, *_ = (each.datagram for each in called.received(0.0, initiation, nowhere) if isinstance(each, Send))
        caller.received(0.0, response, nowhere)


def live(channel: socket.socket, key_file: int, name: str, memory: Memory) -> int:
    """Be the link process; return its exit code. `channel` leads to the supervisor; `name` is the key file's."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # of the stop signals, this one is never a terminal's
    gc.freeze()
    try:
        life = _Life(channel, memory, name, key_file)
    except UsageError as error:
        messages.send(channel, BadKeyFile(str(error)))
        return CANNOT_START
    messages.send(channel, Ready(life.identity))
    return life.run()


class _Life:
    """One life: what it has been given so far."""

    def __init__(self, channel: socket.socket, memory: Memory, name: str, key_file: int) -> None:
        self._keys = parse_keys(read_key_file(key_file, name), name)
        self._channel = channel
        self._memory = memory
        self._driver: Driver | None = None
        self._channels: dict[Role, socket.socket] = {}  # that came before the cable

    @property
    def identity(self) -> bytes:
        """What stands for the public key of this end: BLAKE2s of it (RFC 7693)."""
        return hashlib.blake2s(self._keys.public, digest_size=messages.IDENTITY).digest()

    def run(self) -> int:
        """Serve until the supervisor is gone, or says goodbye; return the exit code."""
        beats, tick = self._memory.link, 0.0
        while True:
            beats[Count.BEAT] += 1
            now = clock.now()
            if self._driver and now >= min(tick, self._driver.deadline()):
                tick = now + BEAT
                self._driver.tick()
            waiting = self._driver.waiting if self._driver else {}
            due = min(now + BEAT, self._driver.deadline()) if self._driver else now + BEAT
            poll = select.poll()
            for fd in (self._channel.fileno(), *waiting):
                poll.register(fd, select.POLLIN)
            ready = {fd for fd, _ in poll.poll(max(0.0, due - clock.now()) * 1000)}
            if self._channel.fileno() in ready and not self._hear():
                return OK
            for fd, read in waiting.items():
                if fd in ready:
                    read()

    def _hear(self) -> bool:
        """Take one message of the supervisor; False when it was the last."""
        try:
            message = messages.receive(self._channel, FDS)
        except BlockingIOError:
            return True
        match message:
            case None:
                return False
            case Goodbye():
                if self._driver:
                    self._driver.goodbye()
                return False
            case Channel(role, fd):
                channel = socket.socket(fileno=fd)
                if self._driver:
                    self._driver.connect(role, channel)
                else:
                    self._channels[role] = channel
            case Cable():
                self._driver = Driver(self._memory, self._keys, message, self._tell)
                for role, channel in self._channels.items():
                    self._driver.connect(role, channel)
                self._driver.start()
            case Socket(fd):
                if self._driver:
                    self._driver.use_socket(fd)
                else:
                    os.close(fd)
            case Candidates(endpoints) if self._driver:
                self._driver.move(endpoints)
            case Call() if self._driver:
                self._driver.call()
            case _:
                log.debug("unexpected message", kind=type(message).__name__)
        return True

    def _tell(self, event: messages.PeerEvent) -> None:
        with suppress(OSError):  # a supervisor that does not read
            messages.send(self._channel, event)
