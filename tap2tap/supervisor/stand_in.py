"""A socket in place of the one that cannot be bound yet: the workers have it, and nothing leaves or comes by it.

It needs no privilege, no address and no device, not even the loopback. The kernel refuses every send (EPIPE) by a
socket that is shut down for sending, even if it is not connected (inet_shutdown in net/ipv4/af_inet.c,
sock_alloc_send_pskb in net/core/sock.c), and a filter that takes nothing drops what comes (socket(7)): whoever receives
waits, as when nobody sends.
"""

import ctypes
import errno
import socket
import struct

from tap2tap import udp_socket
from tap2tap.abi import attach_filter_option

BPF_RET_K = 0x06  # linux/bpf_common.h
_INSTRUCTION = struct.Struct("@HBBI")  # struct sock_filter in linux/filter.h: code, two jumps, k: bytes to take
_PROGRAM = struct.Struct("@HP")  # struct sock_fprog: length, instructions


def open_stand_in(bind: str | None, port: int) -> socket.socket:
    """A stand-in for what udp_socket.open_socket(bind, port) would give, of the same family. The caller closes it.

    Its own port is another one. Raises UsageError, OSError.
    """
    address, _ = udp_socket.parse_bind(bind, None)
    if address and address.version == 4:
        return _deaf_and_mute(socket.AF_INET, port)
    try:
        return _deaf_and_mute(socket.AF_INET6, port, only=bind is not None)
    except OSError as error:
        if bind is not None or error.errno != errno.EAFNOSUPPORT:
            raise
        return _deaf_and_mute(socket.AF_INET, port)


def _deaf_and_mute(family: int, port: int, *, only: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        nothing = ctypes.create_string_buffer(_INSTRUCTION.pack(BPF_RET_K, 0, 0, 0))
        program = _PROGRAM.pack(1, ctypes.addressof(nothing))
        sock.setsockopt(socket.SOL_SOCKET, attach_filter_option(), program)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        sock.bind(("", 0))  # now, as a send would do it: the port must not be the one that is waited for
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # which is told when it has been done
                raise
        if sock.getsockname()[1] != port:
            return sock
        other = _deaf_and_mute(family, port, only=only)  # while this one has that port
    except BaseException:
        sock.close()
        raise
    sock.close()
    return other
