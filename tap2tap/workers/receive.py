"""Receives from the socket: every message is a train of datagrams, of any number and size."""

import errno
import os
import socket

from tap2tap.workers.arena import Arena
from tap2tap.workers.train import Train
from tap2tap.workers.udp import Incoming

OURS = (errno.EBADF, errno.ENOTSOCK, errno.EFAULT)  # faults of this program, not of the network


class Receiver:
    """Receives trains: whole ones where the socket has UDP_GRO, else of one datagram each.

    The kernel may hand over trains of any number of datagrams, as a sender on the same machine made them: nobody cuts
    them up on their way. There are up to 128 in a train since Linux 6.9, and any number where a guest says how its
    datagrams are to be cut. `sock` is borrowed. Messages lie in udp.AREA bytes of `arena` from `first`
    on, each with at least 64 bytes in front that are free, for headers. `source` is where the current train came
    from, and to which address of ours, as Endpoint.raw writes it; the same object as long as it is the same.
    """

    def __init__(self, sock: socket.socket, arena: Arena, first: int) -> None:
        self.source = b""
        self.incoming = Incoming(sock, arena, first)
        self.came = self.number = 0  # messages that came, and how many of them were handed out

    def receive(self) -> bool:
        """Wait for messages, which replace those before; False after RECEIVE_TIMEOUT without one.

        The socket itself does the waiting: to poll it first would cost a second system call. Raises OSError for faults
        of this program alone.
        """
        self.number = self.came = 0
        came = self.incoming.receive()
        if came > 0:
            self.came = came
            return True
        if -came in OURS:
            raise OSError(-came, os.strerror(-came))
        return False  # the time is over, ICMP had something to say of an earlier send, or there is no memory

    def next(self, train: Train) -> bool:
        """Set `train` to the next message, and `source`; False when there is none left.

        An empty datagram is a train of one, of size 0.
        """
        number = self.number
        if number >= self.came:
            return False
        self.number = number + 1
        length = self.incoming.length(number)
        segment = self.incoming.segment(number)
        size = segment if 0 < segment < length else length
        count = (length + size - 1) // size if size else 1
        train.at = self.incoming.at(number)
        train.size = train.step = size
        train.count = count
        train.last = length - size * (count - 1)
        train.vouched = False
        self.source = self.incoming.source(number)
        return True
