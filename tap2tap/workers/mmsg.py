"""Many messages by one system call: sendmmsg(2) and recvmmsg(2), which Python's sockets do not have.

Python's own calls also make objects of every address and of every control message, and read such objects: for a lone
datagram that is as much work as all the rest. Layouts are those of linux/socket.h.
"""

import ctypes
import os
import socket
import struct

from tap2tap.endpoint import SOL_UDP, UDP_SEGMENT

_MSG_WAITFORONE = 0x10000  # linux/socket.h: block for the first message only
_CONTROL = struct.Struct("@NiiH6x")  # struct cmsghdr and the 16 bits of UDP_SEGMENT, or the 32 of UDP_GRO
_CONTROL_LENGTH = struct.calcsize("@NiiH")  # CMSG_LEN(2)
_CONTROL_SPACE = socket.CMSG_SPACE(4)
_NAME = 28  # sizeof(struct sockaddr_in6), the longest


class _IOVector(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("base", ctypes.c_size_t), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """`struct msghdr`, which ends in padding: so what follows it in an array cannot stand in the same structure."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """`struct mmsghdr`."""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint32))


_libc = ctypes.CDLL(None, use_errno=True)
_sendmmsg, _recvmmsg = _libc.sendmmsg, _libc.recvmmsg  # with argtypes, a call would take half a microsecond longer

_STEP = ctypes.sizeof(_Message)
_WORD = ctypes.sizeof(ctypes.c_size_t)
_WORDS = _STEP // _WORD  # from one message to the next
_CONTROL_WORD = _Header.control_length.offset // _WORD


class Messages:
    """Room for `count` messages of one piece of memory each, with an address and one control message of level SOL_UDP.

    `pieces[2 * i]` is the address of the piece of message i, and `pieces[2 * i + 1]` its length in bytes. Whoever sets
    them keeps the memory. `sock` is borrowed. `kind` is the type of the control messages.
    """

    def __init__(self, sock: socket.socket, count: int, kind: int) -> None:
        self._sock, self._fd = sock, sock.fileno()  # the descriptor is open for as long as the object lives
        self._name_length = 16 if sock.family == socket.AF_INET else _NAME
        self._names = bytearray(count * _NAME)
        self._control = bytearray(_CONTROL.pack(_CONTROL_LENGTH, SOL_UDP, kind, 0)[:_CONTROL_SPACE] * count)
        vectors = (_IOVector * count)()
        self._messages = (_Message * count)()
        names, control = _address(self._names), _address(self._control)
        for number, message in enumerate(self._messages):
            header = message.header
            header.name, header.name_length = names + number * _NAME, self._name_length
            header.vectors, header.vector_count = ctypes.addressof(vectors) + number * _WORD * 2, 1
            header.control, header.control_length = control + number * _CONTROL_SPACE, _CONTROL_SPACE
        at = ctypes.addressof(self._messages)
        self._at = [ctypes.c_void_p(at + number * _STEP) for number in range(count)]  # of each message
        self._words = memoryview(self._messages).cast("B").cast("P")
        self.pieces = memoryview(vectors).cast("B").cast("P")

    def __len__(self) -> int:
        return len(self._at)


class Outgoing(Messages):
    """Messages to send, all to one address, each one datagram or a train of them (UDP_SEGMENT)."""

    def __init__(self, sock: socket.socket, count: int) -> None:
        super().__init__(sock, count, UDP_SEGMENT)
        self._segments = memoryview(self._control).cast("H")

    def aim(self, sockaddr: bytes) -> None:
        """Say where to: a `struct sockaddr` of the socket's family."""
        self._names[:] = sockaddr.ljust(_NAME, b"\0") * len(self)

    def put(self, number: int, base: int, length: int, segment: int) -> None:
        """Make message `number` of `length` bytes at the address `base`, in datagrams of `segment`; 0: one datagram."""
        self.pieces[2 * number] = base
        self.pieces[2 * number + 1] = length
        self._segments[number * (_CONTROL_SPACE // 2) + _CONTROL_LENGTH // 2 - 1] = segment
        self._words[number * _WORDS + _CONTROL_WORD] = _CONTROL_SPACE if segment else 0

    def send(self, first: int, end: int) -> int:
        """Send messages first, ..., end - 1, as many as go, and return their number. Raises OSError if that is none.

        It does not wait for room in the send buffer.
        """
        done: int = _sendmmsg(self._fd, self._at[first], end - first, socket.MSG_DONTWAIT)
        if done < 0:
            _fail()
        return done


class Incoming(Messages):
    """Messages to receive, each one datagram or a train of them (UDP_GRO)."""

    def __init__(self, sock: socket.socket, count: int) -> None:
        super().__init__(sock, count, 0)
        # Of all messages: bytes that came, room for control messages, and the value of each.
        self._lengths = memoryview(self._messages).cast("B").cast("I")[_Message.length.offset // 4 :: _STEP // 4]
        self._rooms = self._words[_CONTROL_WORD::_WORDS]
        self._values = memoryview(self._control).cast("I")[_CONTROL_LENGTH // 4 :: _CONTROL_SPACE // 4]
        self._source = b"\xff"  # the last one asked for
        self._room, self._nothing = memoryview(self._rooms.tobytes()).cast("P"), memoryview(bytes(4 * count)).cast("I")

    def receive(self) -> int:
        """Wait for a message, take those that have come, and return their number. Raises OSError."""
        came: int = _recvmmsg(self._fd, self._at[0], len(self._at), _MSG_WAITFORONE, None)
        if came < 0:
            _fail()
        return came

    def take(self, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the lengths of the `count` messages that came and the sizes of their datagrams, 0 for a single one.

        To be called once, as it makes room for the next ones.
        """
        lengths, segments = tuple(self._lengths[:count].tolist()), tuple(self._values[:count].tolist())
        self._values[:count] = self._nothing[:count]  # the kernel leaves it so if a message has none
        self._rooms[:count] = self._room[:count]
        return lengths, segments

    def take_one(self) -> tuple[int, int]:
        """Do the same for a message that came alone, which is done sooner."""
        segment = self._values[0]
        if segment:
            self._values[0] = 0
        self._rooms[0] = _CONTROL_SPACE
        return self._lengths[0], segment

    def source(self, number: int) -> bytes:
        """Where message `number` came from: a `struct sockaddr` of the socket's family."""
        if not number and self._names.startswith(self._source):  # as nearly always
            return self._source
        at = number * _NAME
        self._source = bytes(self._names[at : at + self._name_length])
        return self._source

    def one_source(self, count: int) -> bool:
        """Whether the first `count` messages came from one address."""
        return self._names[: count * _NAME] == self._names[:_NAME] * count


def _address(memory: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def _fail() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))
