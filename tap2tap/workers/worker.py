"""What both workers are given, and what both do before their loops."""

import contextlib
import gc
import os
import socket
from importlib.machinery import EXTENSION_SUFFIXES
from typing import NamedTuple

from tap2tap.counters import DataPlane
from tap2tap.memory import Memory
from tap2tap.workers import arena

BEAT = 1000  # ms: an idle worker comes round its loop this often, which the supervisor takes for a sign of life


class Cable(NamedTuple):
    """What the supervisor lends to its workers, and what they need to know. All descriptors stay the supervisor's."""

    name: str
    tap: int
    sock: socket.socket
    memory: Memory
    mtu: int
    client: bool  # whether it is configured where the peer is; else it waits to be called
    keepalive: int  # seconds, 0 is off
    offload: bool  # split, and join
    trains: bool  # the socket sends trains
    join_udp: bool  # the kernel takes UDP super-frames
    clamp: bool  # lower the MSS of TCP to what fits one datagram


def settle() -> None:
    """Put everything imported so far out of the collector's way, and become a process that wakes up in batches."""
    gc.freeze()
    gc.disable()  # the loops make no cycles
    with contextlib.suppress(OSError):
        # A worker that wakes up does not push another from its CPU: it finds more to do at once when its turn comes,
        # and trains and caches stay whole. One TCP stream gains a quarter where four workers share two CPUs.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def data_plane() -> DataPlane:
    """How the workers' loops run in this installation."""
    compiled = str(arena.__file__).endswith(tuple(EXTENSION_SUFFIXES))
    return DataPlane.COMPILED if compiled else DataPlane.INTERPRETED
