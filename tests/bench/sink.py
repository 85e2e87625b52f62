"""An application that reads datagrams as fast as it can, 64 at a time by recvmmsg(2). A program of its own.

Prints "ready", and after --seconds one JSON object: `samples`, pairs of monotonic time and datagrams so far.
"""

import argparse
import contextlib
import ctypes
import json
import socket
import time

from tests.bench.flood import BATCH
from tests.bench.mmsg import SO_RCVBUFFORCE, Messages


def main() -> None:
    """Read and count until the time is over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=5202)
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        # Scheduling on a busy machine is not what is measured: let the socket hold a few milliseconds.
        with contextlib.suppress(OSError):
            receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, b"\0" * 8 + (50_000).to_bytes(8, "little"))
        receiver.bind(("", options.port))
        messages = Messages(receiver, ctypes.create_string_buffer(2048), BATCH)
        received = 0
        now = time.monotonic()
        end, due, samples = now + options.seconds, now, []
        print("ready", flush=True)
        while now < end:
            with contextlib.suppress(OSError):  # nothing came for a while
                received += messages.receive()
            now = time.monotonic()
            if now >= due:
                samples.append((now, received))
                due = now + 0.02
        print(json.dumps({"samples": samples}))


if __name__ == "__main__":
    main()
