"""The limit passes everything on unharmed: what it carries faster than a tunnel would be no limit if it were wrong."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tap2tap.demo.lab import Lab
from tests.bench.groups import connect
from tests.bench.limit import KernelAlone
from tests.bench.load import RIGHT
from tests.bench.peers import Cable
from tests.conftest import lacking

SIZE = 8 << 20
SERVER = """
import hashlib, socket
with socket.create_server(("", 7000)) as server:
    print("ready", flush=True)
    client, _ = server.accept()
    with client:
        digest = hashlib.sha256()
        while data := client.recv(1 << 16):
            digest.update(data)
print(digest.hexdigest())
"""
CLIENT = f"""
import socket, sys
with socket.create_connection(("{RIGHT}", 7000), 20) as client:
    client.sendall(sys.stdin.buffer.read())
"""


@pytest.fixture
def cable(lab: Lab) -> Iterator[Cable]:
    if not shutil.which("gcc") and not shutil.which("cc"):
        lacking("no C compiler")
    laid = KernelAlone().lay(lab)
    try:
        connect(laid)
        yield laid
    finally:
        laid.close()


def test_a_stream_arrives_as_it_was_sent_in_trains(cable: Cable) -> None:
    data = os.urandom(SIZE)
    server = cable.lab.right.popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    before = cable.lab.left.counters()
    cable.lab.left.run([sys.executable, "-c", CLIENT], input=data, stdin=None, text=False)
    after = cable.lab.left.counters()
    assert server.stdout.readline().strip() == hashlib.sha256(data).hexdigest()
    # One super-frame is one train of as many bytes on the wire: fewer packets than segments at either device. However
    # busy the machine, TCP's super-frames have two segments or more.
    for device in (cable.left, "eth0"):
        assert after[device].tx_packets - before[device].tx_packets < SIZE / 1400 * 0.8


def test_frames_of_every_length_up_to_the_mtu_fit_one_datagram(cable: Cable) -> None:
    assert cable.mtu is not None
    for size in (0, 1, 7, 1000, cable.mtu - 28):
        cable.lab.left.run(["ping", "-c", "2", "-i", "0.01", "-W", "5", "-s", str(size), RIGHT])
    names, numbers = (
        line.split()[1:]
        for line in Path(f"/proc/{cable.lab.left.pid}/net/snmp").read_text().splitlines()
        if line.startswith("Ip:")
    )
    assert dict(zip(names, numbers, strict=True))["FragCreates"] == "0"
