"""Many datagrams by one system call, for the generator and its sink: sendmmsg(2) and recvmmsg(2).

All messages are of one piece of memory: nobody looks at what arrives. Layouts are those of linux/socket.h.
"""

import ctypes
import os
import socket
import struct
from typing import TypeAlias

SO_RCVBUFFORCE = 33  # asm-generic/socket.h
UDP_SEGMENT = 103  # linux/udp.h
MSG_WAITFORONE = 0x10000  # linux/socket.h: block for the first message only
CONTROL = struct.Struct("@NiiH6x")  # struct cmsghdr and the 16 bits of UDP_SEGMENT
CONTROL_LENGTH = struct.calcsize("@NiiH")  # CMSG_LEN(2)


class IOVector(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Message(ctypes.Structure):
    """`struct mmsghdr`: a `struct msghdr`, then the number of bytes that went or came."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("padding", ctypes.c_int),  # struct msghdr is as long as a multiple of its alignment
        ("length", ctypes.c_uint32),
    )


Memory: TypeAlias = "ctypes.Array[ctypes.c_char]"

libc = ctypes.CDLL(None, use_errno=True)


class Messages:
    """`count` messages of `memory`, each one datagram or, with `segment`, a train of datagrams of so many bytes.

    A socket that sends is connected. The socket stays the caller's to close.
    """

    def __init__(self, sock: socket.socket, memory: Memory, count: int, segment: int = 0) -> None:
        self.sock, self.memory, self.count = sock, memory, count
        self.vector = IOVector(ctypes.addressof(memory), len(memory))
        self.control = ctypes.create_string_buffer(CONTROL.pack(CONTROL_LENGTH, socket.SOL_UDP, UDP_SEGMENT, segment))
        self.messages = (Message * count)()
        for message in self.messages:
            message.vectors, message.vector_count = ctypes.addressof(self.vector), 1
            if segment:
                message.control, message.control_length = ctypes.addressof(self.control), CONTROL.size

    def send(self) -> int:
        """Send them and return how many went; raises OSError if none did, as when there is no room."""
        return self._done(libc.sendmmsg(self.sock.fileno(), self.messages, self.count, socket.MSG_DONTWAIT))

    def receive(self) -> int:
        """Wait for one, take what else has come and return how many; raises OSError, as after SO_RCVTIMEO."""
        return self._done(libc.recvmmsg(self.sock.fileno(), self.messages, self.count, MSG_WAITFORONE, None))

    @staticmethod
    def _done(count: int) -> int:
        if count < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return count
