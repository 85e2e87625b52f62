"""Trains that are longer than any that a tunnel sends, from senders on the same machine: nobody cuts them up."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tap2tap import device
from tap2tap.demo.lab import Lab, wait_for
from tap2tap.protocols.secure import wire
from tap2tap.udp_socket import SOL_UDP, UDP_SEGMENT
from tap2tap.vnet import VIRTIO_NET_HDR_GSO_UDP_L4
from tests.support.frames import Flow, build, dissect, payload, resegment, super_frame
from tests.support.lone import Lone, roomy
from tests.support.secured import make_keys, secure
from tests.support.sending import most_segments
from tests.support.tunnel import RIGHT, Tunnel

PATTERN = payload(65507)


def equal_and_different(size: int, version: int) -> Iterator[list[bytes]]:
    """Trains as long as can be of frames of one flow: each like the others, each another, and with a shorter last."""
    most = most_segments()
    flow = Flow(version=version, tcp=False)
    if version == 4:
        flow = replace(flow, target=socket.inet_aton(RIGHT))
    different = [build(flow, payload(size, number)) for number in range(most)]
    yield different[:1] * most
    yield different
    yield [*different[:-1], build(flow, b"last")]


@pytest.mark.parametrize("size", [20, 300, 420])
def test_trains_of_128_are_written_to_the_tap_frame_by_frame(size: int) -> None:
    with Lone("inbound", offload=True) as lone:
        expected: list[bytes] = []
        for sent in list(equal_and_different(size, 6)) * 4:  # all wait when it starts, so they come batch by batch
            lone.call_train(b"".join(sent), len(sent[0]))
            expected += sent
        lone.start()
        came: list[bytes] = []
        while len(came) < len(expected):
            came += resegment(b"".join(lone.written()))
        assert came == expected
        assert not lone.drops
        assert lone.alive()


def test_trains_of_128_reach_whoever_listens_behind_a_server(lab: Lab) -> None:
    """As a container or a guest on the same machine sends them."""
    with Tunnel(lab.right) as server, lab.left.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        lab.right.link("tap0", address="02:00:00:00:00:02")
        lab.right.address("tap0", f"{RIGHT}/24")
        with roomy(lab.right.socket(socket.AF_INET, socket.SOCK_DGRAM)) as listener:
            listener.bind((RIGHT, Flow().ports[1]))
            expected: list[bytes] = []
            pid = server.kill_worker("inbound", signal.SIGSTOP)
            for sent in list(equal_and_different(300, 4)) * 2:
                extra = [(SOL_UDP, UDP_SEGMENT, len(sent[0]).to_bytes(2, sys.byteorder))]
                caller.sendmsg([b"".join(sent)], extra, 0, (lab.right.ipv4, 1234))
                expected += [dissect(each)[1] for each in sent]
            os.kill(pid, signal.SIGCONT)
            assert [listener.recv(1 << 16) for _ in expected] == expected
        wait_for(lambda: server.worker("inbound")["frames"] == len(expected), what="account of all frames")
        assert (server.worker("inbound")["restarts"], server.worker("inbound")["dropped"]) == (0, {})


def test_forged_trains_of_128_are_counted_with_a_key(lab: Lab, tmp_path: Path) -> None:
    most = most_segments()
    with (
        secure(lab.right, make_keys(tmp_path)[1]) as server,
        lab.left.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller,
    ):
        forged = wire.header(wire.TYPE_DATA, 7, 1000) + bytes(100)
        extra = [(SOL_UDP, UDP_SEGMENT, len(forged).to_bytes(2, sys.byteorder))]
        caller.sendmsg([forged * most], extra, 0, (lab.right.ipv4, 1234))
        wait_for(lambda: server.worker("inbound")["dropped"].get("no_session") == most, what="drops")
        assert server.worker("inbound")["restarts"] == 0


@pytest.mark.parametrize("segment", [1, 13, 14, 15])
def test_a_super_frame_of_a_guest_with_tiny_segments_stops_nothing(lab: Lab, segment: int) -> None:
    """A virtual machine on the tunnel's host says how its datagrams are to be cut; nobody does it on this way."""
    guest = ("02000000000a", "192.168.77.2")
    with lab.right.inside():
        tap = device.open_tap("guest0", carrier=True)
    try:
        device.offer_offloads(tap.fd)
        lab.right.address("guest0", "192.168.77.1/24")
        lab.right.link("guest0", state="up", address="02:00:00:00:00:0b")
        with Tunnel(lab.right) as server:
            flow = Flow(
                tcp=False,
                macs=bytes.fromhex("02000000000b" + guest[0]),
                source=socket.inet_aton(guest[1]),
                target=socket.inet_aton("192.168.77.1"),
                ports=(5000, 1234),
            )
            for count in (1400, most_segments()):  # newer kernels take no more of a guest than of others
                header, whole = super_frame(flow, PATTERN[: count * segment], segment)
                assert header[1] == VIRTIO_NET_HDR_GSO_UDP_L4
                with suppress(OSError):
                    os.write(tap.fd, header + whole)
                    break
            else:
                pytest.skip("this kernel takes no UDP super-frames from a tap")
            wait_for(lambda: server.worker("inbound")["datagrams"] >= count, what=f"{count} datagrams")
            assert server.worker("inbound")["restarts"] == 0
            assert server.worker("inbound")["datagrams"] == count
    finally:
        os.close(tap.fd)
