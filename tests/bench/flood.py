"""A generator of frames or datagrams that outruns any tunnel. A program of its own.

Modes: `frames` puts Ethernet frames of no known protocol on a device, so that nobody can join or shorten them by
looking inside; they come from a ring that the kernel shares with us (PACKET_TX_RING), 64 with one call and at a third
of the cost of sending each, so that the processor is left to the tunnel. `udp` sends datagrams as programs do, one by
one, 64 with one sendmmsg(2); `gso` hands the kernel whole trains of them (UDP_SEGMENT), as QUIC does.
Bounded by --seconds and by --count. Prints one JSON object: sent, and start and end on the monotonic clock.
"""

import argparse
import array
import ctypes
import errno
import json
import mmap
import os
import socket
import struct
import time
from collections.abc import Callable

from tests.bench.mmsg import Messages

ETH_P_LOCAL = 0x88B5  # IEEE 802, local experimental: no kernel has a handler for it
SOL_PACKET = 263  # linux/socket.h
PACKET_VERSION = 10  # linux/if_packet.h
PACKET_TX_RING = 13
PACKET_LOSS = 14
TPACKET_V2 = 1
TPACKET_REQ = struct.Struct("=4I")  # bytes of a block, blocks, bytes of a frame's slot, slots
TPACKET2_HDR = struct.Struct("=2I")  # the beginning of it: status, length of the frame
TPACKET2_HDR_LENGTH = 32
TP_STATUS_AVAILABLE = 0
TP_STATUS_SEND_REQUEST = 1
BATCH = 64


def frame_sender(options: argparse.Namespace) -> Callable[[], int]:
    """A function that sends BATCH frames and returns how many the device was given."""
    packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    size = 2048 if options.size > 90 else 128  # of a slot: a multiple of TPACKET_ALIGNMENT that holds header and frame
    packet.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
    packet.setsockopt(SOL_PACKET, PACKET_LOSS, 1)  # a frame that the kernel will not have is skipped
    packet.setsockopt(SOL_PACKET, PACKET_TX_RING, TPACKET_REQ.pack(BATCH * size, 1, size, BATCH))
    packet.bind((options.device, 0))
    ring = mmap.mmap(packet.fileno(), BATCH * size)
    source = packet.getsockname()[4]
    frame = bytes.fromhex(options.mac.replace(":", "")) + source + ETH_P_LOCAL.to_bytes(2, "big")
    frame += os.urandom(options.size - len(frame))
    for start in range(0, len(ring), size):
        TPACKET2_HDR.pack_into(ring, start, TP_STATUS_AVAILABLE, len(frame))
        ring[start + TPACKET2_HDR_LENGTH : start + TPACKET2_HDR_LENGTH + len(frame)] = frame
    status = memoryview(ring).cast("I")[:: size // 4]  # the first word of every slot
    request = memoryview(array.array("I", [TP_STATUS_SEND_REQUEST] * BATCH))

    def send() -> int:
        status[:] = request
        try:
            return packet.send(b"", socket.MSG_DONTWAIT) // len(frame)
        except OSError:  # ENOBUFS, EAGAIN: too much, which is the point
            return 0

    return send


def datagram_sender(options: argparse.Namespace) -> Callable[[], int]:
    """The same with datagrams or trains of them."""
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagram.connect((options.address, options.port))
    each: int = min(64, 60000 // options.size) if options.mode == "gso" else 1
    payload = ctypes.create_string_buffer(os.urandom(options.size) * each, options.size * each)
    messages = Messages(datagram, payload, max(1, BATCH // each), options.size if each > 1 else 0)

    def send() -> int:
        try:
            return messages.send() * each
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED):  # no room, or nobody there any more
                return 0
            raise

    return send


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

    send = frame_sender(options) if options.mode == "frames" else datagram_sender(options)
    sent = 0
    start = time.monotonic()
    end = start + options.seconds
    while (now := time.monotonic()) < end and sent < options.count:
        if options.rate and (early := start + sent / options.rate - now) > 0:
            time.sleep(early)  # asleep and not in a loop: the processor belongs to the tunnel
        else:
            sent += send()
    print(json.dumps({"sent": sent, "start": start, "end": time.monotonic()}))


if __name__ == "__main__":
    main()
