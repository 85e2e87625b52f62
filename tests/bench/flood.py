"""A generator of frames or datagrams that outruns any tunnel: 64 at a time by sendmmsg(2). A program of its own.

Modes: `frames` puts Ethernet frames of no known protocol on a device, so that nobody can join or shorten them by
looking inside; `udp` sends datagrams one by one; `gso` hands the kernel whole trains (UDP_SEGMENT), as QUIC does.
Bounded by --seconds and by --count. Prints one JSON object: sent, refused, and start and end on the monotonic clock.
"""

import argparse
import ctypes
import json
import os
import socket
import time

ETH_P_LOCAL = 0x88B5  # IEEE 802, local experimental: no kernel has a handler for it
SOL_PACKET = 263  # linux/socket.h
PACKET_QDISC_BYPASS = 20  # linux/if_packet.h
SOL_UDP = 17
UDP_SEGMENT = 103  # linux/udp.h
BATCH = 64


class IOVector(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Message(ctypes.Structure):
    """`struct mmsghdr`."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(IOVector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("length", ctypes.c_uint),
    )


libc = ctypes.CDLL(None, use_errno=True)


def batch(buffer: "ctypes.Array[ctypes.c_char]", size: int) -> "ctypes.Array[Message]":
    """BATCH messages that all are the first `size` bytes of the buffer (and refer to it: keep both)."""
    messages = (Message * BATCH)()
    for message in messages:
        message.vectors = ctypes.pointer(IOVector(ctypes.addressof(buffer), size))
        message.vector_count = 1
    return messages


def open_socket(options: argparse.Namespace) -> socket.socket:
    """The socket of the mode, bound or connected to where everything goes."""
    if options.mode == "frames":
        packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        packet.bind((options.device, 0))
        return packet
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagram.connect((options.address, options.port))
    if options.mode == "gso":
        datagram.setsockopt(SOL_UDP, UDP_SEGMENT, options.size)
    return datagram


def content(options: argparse.Namespace, source: bytes) -> bytes:
    """The bytes of one message."""
    if options.mode == "frames":
        head = bytes.fromhex(options.mac.replace(":", "")) + source + ETH_P_LOCAL.to_bytes(2, "big")
        return head + os.urandom(options.size - len(head))
    return os.urandom(options.size) * (min(64, 65507 // options.size) if options.mode == "gso" else 1)


def main() -> None:
    """Send until the time or the count is over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=["frames", "udp", "gso"], required=True)
    parser.add_argument("--device", help="frames: where to put them")
    parser.add_argument("--mac", default="ff:ff:ff:ff:ff:ff", help="frames: their destination")
    parser.add_argument("--address", help="udp, gso: where to send to")
    parser.add_argument("--port", type=int, default=5202)
    parser.add_argument("--size", type=int, default=64, help="bytes of a frame with its header, or of UDP payload")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--count", type=int, default=50_000_000, help="send no more frames or datagrams than this")
    parser.add_argument("--rate", type=float, help="frames or datagrams a second (default: no limit)")
    options = parser.parse_args()

    with open_socket(options) as sender:
        source = sender.getsockname()[4] if options.mode == "frames" else b""
        data = content(options, source)
        buffer = ctypes.create_string_buffer(data, len(data))
        messages = batch(buffer, len(data))
        each = len(data) // options.size if options.mode == "gso" else 1
        descriptor, sent, refused = sender.fileno(), 0, 0
        start = time.monotonic()
        end = start + options.seconds
        while (now := time.monotonic()) < end and sent < options.count:
            if options.rate and (early := start + sent / options.rate - now) > 0:
                time.sleep(early)  # asleep and not in a loop: the processor belongs to the tunnel
                continue
            number = libc.sendmmsg(descriptor, messages, BATCH, 0)
            if number > 0:
                sent += number * each
            else:  # ENOBUFS and the like: the device is full, which is the point
                refused += 1
        print(json.dumps({"sent": sent, "refused": refused, "start": start, "end": time.monotonic()}))


if __name__ == "__main__":
    main()
