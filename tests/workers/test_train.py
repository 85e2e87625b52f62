"""A train stays whole on its way: the largest that we make must not be cut up by any device."""

import ipaddress
import select

import pytest

from tap2tap import endpoint, udp_socket
from tap2tap.counters import Count
from tap2tap.demo.lab import Lab
from tap2tap.memory import GROUP
from tap2tap.workers.arena import Arena
from tap2tap.workers.receive import Receiver
from tap2tap.workers.send import Sender
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, ROOM, Train
from tap2tap.workers.udp import AREA, TRAINS


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [88, 700, 1024, 1424, 1452])
def test_the_longest_train_of_a_size_is_received_whole(lab: Lab, version: int, size: int) -> None:
    with lab.left.inside():
        left = udp_socket.open_socket(None, 1234)
    with lab.right.inside():
        right = udp_socket.open_socket(None, 1234)
    with left, right:
        if not (udp_socket.can_segment(left) and udp_socket.enable_gro(right)):
            pytest.skip("this kernel has no UDP segmentation")
        counts = memoryview(bytearray(GROUP * 8)).cast("Q")
        address = lab.right.ipv4 if version == 4 else lab.right.ipv6
        sockaddr = endpoint.Endpoint(ipaddress.ip_address(address), 1234).raw(left.family)
        arena, train = Arena(AREA + ROOM), Train()
        receiver, sender = Receiver(right, arena, 0), Sender(left, arena, counts, True, lambda _: None)
        # What is sent before the peer's link-layer address is known waits in a queue that is shorter than these trains.
        left.sendto(b"", endpoint.from_raw(sockaddr).sockaddr(left.family))
        assert select.select([right], [], [], 10)[0]
        assert receiver.receive()
        train.at = AREA
        train.size = train.step = train.last = size
        train.count = count = min(MAX_SEGMENTS, MAX_PAYLOAD // size)
        for _ in range(TRAINS):
            sender.send(train, sockaddr)
        came: list[tuple[int, int]] = []
        while len(came) < TRAINS:
            assert select.select([right], [], [], 10)[0]
            assert receiver.receive()
            while receiver.next(train):
                came.append((train.size, train.count))
        assert came == [(size, count)] * TRAINS
        assert counts[Count.FALLBACKS] == 0
