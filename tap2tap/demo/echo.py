"""ICMP echo in Python: what `ping` does, for the demo and the benchmark, with every round-trip time in nanoseconds.

The far kernel answers, so a round trip is twice the path and no program of ours.
"""

import os
import socket
import struct
import time
from dataclasses import dataclass, field

from tap2tap.demo.host import Host

ICMP_ECHO = 8  # linux/icmp.h
ICMP_ECHOREPLY = 0
ECHO = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of data of even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


@dataclass
class Echoes:
    """What became of a run of echo requests."""

    sent: int = 0
    times: list[int] = field(default_factory=list)  # round trips in nanoseconds, in the order of the requests

    @property
    def lost(self) -> int:
        """How many got no answer in time."""
        return self.sent - len(self.times)


class Pinger:
    """A raw socket of one host that sends echo requests and waits for their replies."""

    def __init__(self, host: Host, size: int = 56) -> None:
        self.socket = host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.identifier = int.from_bytes(os.urandom(2), "big")
        self.sequence = 0
        self.payload = bytes(size)

    def __enter__(self) -> "Pinger":
        """Ready as soon as it is made."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self.socket.close()

    def ping(self, address: str, timeout: float = 1.0) -> int | None:
        """One round trip in nanoseconds, or None if there is no answer within `timeout` seconds (or no route)."""
        self.sequence = (self.sequence + 1) & 0xFFFF
        header = ECHO.pack(ICMP_ECHO, 0, 0, self.identifier, self.sequence)
        header = ECHO.pack(ICMP_ECHO, 0, checksum(header + self.payload), self.identifier, self.sequence)
        start = time.perf_counter_ns()
        deadline = start + int(timeout * 1e9)
        try:
            self.socket.sendto(header + self.payload, (address, 0))
            while (left := deadline - time.perf_counter_ns()) > 0:
                self.socket.settimeout(left / 1e9)
                packet, (source, _) = self.socket.recvfrom(2048)
                end = time.perf_counter_ns()
                kind, _, _, identifier, sequence = ECHO.unpack_from(packet, (packet[0] & 15) * 4)
                # The raw socket sees every ICMP message of its host, late replies among them.
                if (kind, source, identifier, sequence) == (ICMP_ECHOREPLY, address, self.identifier, self.sequence):
                    return end - start
        except OSError:  # the timeout, or what a path under repair answers: no route, host unreachable, down
            pass
        return None

    def run(self, address: str, seconds: float, interval: float, timeout: float = 1.0) -> Echoes:
        """Ping for `seconds`, one after the other, `interval` seconds apart or as far as the answers are."""
        echoes = Echoes()
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            echoes.sent += 1
            answer = self.ping(address, timeout)
            if answer is not None:
                echoes.times.append(answer)
            pause = begin + interval - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
        return echoes
