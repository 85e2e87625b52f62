"""A train stays whole on its way: the largest that we make must not be cut up by any device."""

import ipaddress
import select

import pytest

from tap2tap import endpoint
from tap2tap.counters import Count
from tap2tap.demo.lab import Lab
from tap2tap.memory import GROUP
from tap2tap.workers.train import MAX_PAYLOAD, MAX_SEGMENTS, STRIDE, TRAINS, Batch, Train, Trains
from tap2tap.workers.udp import Receiver, Sender


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [88, 700, 1024, 1424, 1452])
def test_the_longest_train_of_a_size_is_received_whole(lab: Lab, version: int, size: int) -> None:
    with lab.left.inside():
        left = endpoint.open_socket(None, 1234)
    with lab.right.inside():
        right = endpoint.open_socket(None, 1234)
    with left, right:
        if not (endpoint.can_segment(left) and endpoint.enable_gro(right)):
            pytest.skip("this kernel has no UDP segmentation")
        counts = memoryview(bytearray(GROUP * 8)).cast("Q")
        address = lab.right.ipv4 if version == 4 else lab.right.ipv6
        count = min(MAX_SEGMENTS, MAX_PAYLOAD // size)
        batch = Batch()
        batch.trains = Trains(Train(number * STRIDE, size, count, size) for number in range(TRAINS))
        sockaddr = endpoint.Endpoint(ipaddress.ip_address(address), 1234).raw(left.family)
        receiver = Receiver(right)
        # What is sent before the peer's link-layer address is known waits in a queue that is shorter than the batch.
        left.sendto(b"", endpoint.from_raw(sockaddr).sockaddr(left.family))
        assert select.select([right], [], [], 10)[0]
        assert receiver.receive() is not None
        Sender(left, counts, segment=True).send(batch, sockaddr)
        came: list[Train] = []
        while len(came) < TRAINS:
            assert select.select([right], [], [], 10)[0]
            assert receiver.receive() is not None
            came += receiver.batch.trains
        assert [(train.size, train.count) for train in came] == [(size, count)] * TRAINS
        assert counts[Count.FALLBACKS] == 0
