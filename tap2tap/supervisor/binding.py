"""What the UDP socket is bound to: waited for while it is not there, and followed where it is a device made anew.

Meanwhile a stand-in has the socket's place, so that the tunnel can start. A socket may need privileges (a mark, a low
port), which the supervisor gives up: a companion keeps them and makes the socket whenever it is asked; there is one
only where it may be needed.
"""

import contextlib
import errno
import math
import os
import socket
from collections.abc import Callable

from tap2tap import clock, endpoint, log, privileges, udp_socket
from tap2tap.config import Config
from tap2tap.endpoint import Endpoint
from tap2tap.errors import StartError, Tap2tapError
from tap2tap.supervisor import process
from tap2tap.supervisor.loop import Part, next_second
from tap2tap.supervisor.process import Process
from tap2tap.supervisor.stand_in import open_stand_in
from tap2tap.udp_socket import NotThereError

PATIENCE = 1.0  # seconds that the companion has to end
ANSWER = 5.0  # seconds that it has for an answer, before a warning
CAPABILITIES = (  # for the mark and the size of the buffers, the device, a low port
    privileges.CAP_NET_ADMIN,
    privileges.CAP_NET_RAW,
    privileges.CAP_NET_BIND_SERVICE,
)
_MOST = 4096  # bytes of an answer
_TRY = b"T"  # to the companion
_BOUND = b"B"  # from it, beside a descriptor
_NO_ROOM = "no room for the socket that is bound, trying again: raise the limit of open files"


class Binding(Part):
    """The binding from the creation of this to `close`; `bound` tells whether there is one now.

    `on_renewed` is called when the descriptor of the socket has become another socket: whoever has inherited the
    descriptor has the old one.
    """

    def __init__(self, config: Config) -> None:
        self.due = math.inf
        self.on_renewed: Callable[[], None] = lambda: None
        self._config = config
        _, zone = udp_socket.parse_bind(config.bind, config.device)
        self._device = config.device or zone
        self._sock: socket.socket | None = None
        self.bound = False
        self._told = ""
        self._asked: float | None = None  # since when
        self._channel: socket.socket | None = None
        self._process: Process | None = None

    def open(self) -> socket.socket:
        """The socket, or its stand-in; it becomes the socket later. The caller closes it. Raises StartError."""
        try:
            self._sock = _open(self._config)
            self.bound = True
        except NotThereError as error:
            self._say(_waiting(error))
            try:
                self._sock = open_stand_in(self._config.bind, self._config.port)
            except OSError as refusal:
                raise StartError(f"{error}, and nothing can stand in for it: {refusal.strerror}") from refusal
            udp_socket.tune(self._sock, fragment=self._config.key is None)
        if self._device or not self.bound:
            try:
                self._channel, self._process = process.companion(
                    "binding", self._serve, kind="the binding process", capabilities=CAPABILITIES
                )
            except OSError as error:
                self._sock.close()
                raise process.no_room("process that binds the socket", error) from error
            self.due = next_second(clock.now())
        return self._sock

    @property
    def local(self) -> Endpoint:
        """Where the socket is bound, or is to be."""
        assert self._sock is not None
        here = endpoint.from_sockaddr(self._sock.getsockname())
        if self.bound:
            return here
        address, _ = udp_socket.parse_bind(self._config.bind, self._config.device)
        return Endpoint(address or here.address, self._config.port)

    @property
    def waiting(self) -> dict[int, Callable[[], None]]:
        """What to do when the companion has answered."""
        return {self._channel.fileno(): self._take} if self._channel else {}

    def look(self) -> None:
        """Have it tried again where the socket is not bound, or is to a device that is not there any more.

        Raises StartError when the companion is gone and needed.
        """
        now = clock.now()
        self.due = next_second(now)
        if not self._channel:
            if not self._process or self._process.poll() is not None:
                self.due = math.inf
            return
        if self._asked is not None:
            if now >= self._asked + ANSWER:
                self._say("the process that binds the socket does not answer; waiting for it")
            return
        if self.bound and self._follows():
            self._say("")
            return
        try:
            self._channel.send(_TRY, socket.MSG_DONTWAIT)
        except OSError:
            self._lose()
        else:
            self._asked = now

    def _follows(self) -> bool:
        """Whether the device that the socket is bound to is the one that has the name now."""
        assert self._sock is not None
        try:
            now = udp_socket.bound_device(self._sock)
            return now == self._device or udp_socket.device_index(now) == udp_socket.device_index(self._device)
        except OSError as error:
            return error.errno != errno.ENODEV  # else it is not known now

    def _take(self) -> None:
        """Take the companion's answer. Raises StartError when it is gone and needed."""
        assert self._channel is not None
        words, fds = b"", list[int]()
        with contextlib.suppress(ConnectionError):  # it is gone, and has not read what it was asked
            words, fds, _, _ = socket.recv_fds(self._channel, _MOST, 1)
        self._asked = None
        if fds:
            self._become(fds[0])
        elif words == _BOUND:
            self._say(_NO_ROOM)
        elif words:
            self._say(words.decode(errors="replace"))
        else:
            self._lose()

    def _become(self, fd: int) -> None:
        """Let the socket of `fd`, which is closed, be the one that all have."""
        assert self._sock is not None
        with socket.socket(fileno=fd) as sock:
            self.prepare(sock)
            try:
                os.dup2(sock.fileno(), self._sock.fileno(), inheritable=False)
            except OSError:  # the limit is lower than the descriptor now
                self._say(_NO_ROOM)
                return
        self.bound = True
        self._told = ""
        log.info("the socket is bound now", local=self.local, **({"device": self._device} if self._device else {}))
        if not self._device:
            self._dismiss()
        self.on_renewed()

    def prepare(self, sock: socket.socket) -> bool:
        """Ask of a socket what the inbound worker needs; whether it hands over trains."""
        udp_socket.tell_local(sock)
        return self._config.offload and udp_socket.enable_gro(sock)

    def _say(self, words: str) -> None:
        """Say what is waited for, when it is another thing than before; nothing: what there was is there again."""
        if words and words != self._told:
            log.warning(words)
        elif self._told and not words:
            log.info(f"the network device {self._device} is there again")
        self._told = words

    def _serve(self, channel: socket.socket) -> int:
        """Be the companion, until the channel closes."""
        while channel.recv(1):
            try:
                sock = _open(self._config)
            except NotThereError as error:
                channel.send(_waiting(error).encode())
            except Tap2tapError as error:
                channel.send(f"{error}; trying again".encode())
            else:
                with sock:
                    socket.send_fds(channel, [_BOUND], [sock.fileno()])
        return 0

    def _lose(self) -> None:
        """Go on without the companion, which is gone. Raises StartError where there is no tunnel without."""
        if not self.bound:
            raise StartError("the process that binds the socket is gone")
        log.warning(
            f"the process that binds the socket is gone: restart the tunnel if {self._device} is ever made anew"
        )
        self._dismiss()

    def _dismiss(self) -> None:
        """Have the companion end, whom we may not kill."""
        if self._channel:
            self._channel.close()
            self._channel = None

    def close(self) -> None:
        """End the companion; nothing is waited for or followed any more."""
        self._dismiss()
        if self._process:
            self._process.wait(PATIENCE)


def _open(config: Config) -> socket.socket:
    """Make the socket. Raises Tap2tapError."""
    fragment = config.key is None
    return udp_socket.open_socket(config.bind, config.port, fragment=fragment, mark=config.mark, device=config.device)


def _waiting(error: NotThereError) -> str:
    return f"{error}; waiting for it"
