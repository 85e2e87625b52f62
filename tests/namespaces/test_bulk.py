"""Bulk transfers arrive as they were sent, whoever has offloads; what was corrupt before stays as corrupt as it was."""

import os
import random
import signal
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from tap2tap.demo.lab import Host, Lab, wait_for
from tests.support import frames
from tests.support.traffic import Seen, Stream, Wire, bulk, family, numbered, segment_size
from tests.support.tunnel import LEFT, LEFT6, RIGHT, RIGHT6, Tunnel, address, joined, wait_ping

OFFLOADS = pytest.mark.parametrize("options", [(), ("--no-offload",)], ids=["offload", "frame-by-frame"])
OFF = "--no-offload"
ENDS = {"on-on": ("", ""), "on-off": ("", OFF), "off-on": (OFF, "")}  # off-off: the small frames below


def crosswise(lab: Lab, *, size: int, flows: int = 2, ipv6: bool = True) -> None:
    """Several streams each way, all at once, over IPv4 and IPv6."""
    to_right, to_left = (RIGHT, RIGHT6)[: 1 + ipv6] * flows, (LEFT, LEFT6)[: 1 + ipv6] * flows
    streams = [Stream(lab.left, lab.right, target, size) for target in to_right]
    streams += [Stream(lab.right, lab.left, target, size) for target in to_left]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.check()


def exchange(sender: Host, receiver: Host, target: str, count: int, size: int, *, segment: bool) -> None:
    """Send numbered datagrams, never more at once than any queue holds: all arrive, whole and in order."""
    window = 32
    got: list[bytes] = []
    kind = family(target), socket.SOCK_DGRAM
    with receiver.socket(*kind) as inside, sender.socket(*kind) as outside:
        inside.bind((target, 0))
        inside.settimeout(20)
        outside.settimeout(20)

        def receive() -> None:
            try:
                while len(got) < count:
                    got.append(inside.recv(1 << 16))
            except TimeoutError:
                pass  # the count will tell

        def reached(number: int) -> bool:
            return len(got) >= number

        reader = threading.Thread(target=receive, daemon=True)
        reader.start()
        sent = list(numbered(count, size))
        for start in range(0, count, window):
            burst = sent[start : start + window]
            if segment:
                outside.sendmsg([b"".join(burst)], segment_size(size), 0, inside.getsockname())
            else:
                for datagram in burst:
                    outside.sendto(datagram, inside.getsockname())
            wait_for(partial(reached, start + len(burst)), 20, "burst")
        reader.join()
    assert got == sent


@pytest.mark.parametrize(("left", "right"), ENDS.values(), ids=ENDS)
def test_everything_arrives_whoever_has_offloads(lab: Lab, left: str, right: str) -> None:
    options = [[option] if option else [] for option in (left, right)]
    with (
        Tunnel(lab.right, *options[1]) as server,
        Tunnel(lab.left, "--remote", lab.right.ipv4, *options[0]) as client,
    ):
        address(lab.left, lab.right)
        wait_ping(lab.left, RIGHT)
        bulk(lab.left, lab.right, RIGHT, size=4 << 20)
        outbound, inbound = client.worker("outbound"), server.worker("inbound")
        assert (outbound["super_frames"] > 0) == (not left)
        if left == right or right:
            assert (inbound["super_frames"] > 0) == (not right)
        assert outbound["datagrams"] >= (4 << 20) // 1458  # a super-frame counts as what it stands for
        assert inbound["frames"] >= (4 << 20) // 1458
        assert not inbound["dropped"]
        bulk(lab.right, lab.left, LEFT6, size=4 << 20)
        crosswise(lab, size=1 << 19)
        for segment in (False, True):
            exchange(lab.left, lab.right, RIGHT, 192, 1380, segment=segment)
            exchange(lab.right, lab.left, LEFT6, 192, 1380, segment=segment)


@OFFLOADS
def test_everything_arrives_in_small_frames(lab: Lab, options: tuple[str, ...]) -> None:
    with joined(lab.left, lab.right, "--mtu", "296", *options, ipv6=False) as (client, server):
        crosswise(lab, size=1 << 18, ipv6=False)
        for end in (client, server):
            for direction in ("outbound", "inbound"):
                assert (end.worker(direction)["super_frames"] > 0) == (not options)
        exchange(lab.left, lab.right, RIGHT, 192, 250, segment=True)
        exchange(lab.right, lab.left, LEFT, 64, 1400, segment=False)  # in fragments inside the tunnel


# Corrupted frames


def corrupt(frame: bytes, at: int) -> bytes:
    """One bit of `frame` is wrong, of the byte at `at` from its end."""
    data = bytearray(frame)
    data[-at] ^= 0x40
    return bytes(data)


def flows(lab: Lab) -> Sequence[frames.Flow]:
    """TCP and UDP over IPv4 and IPv6 from the left host to the right one, that its kernel would accept."""
    with lab.right.netlink() as route:
        link = route.link("get", index=lab.right.index("tap0"))[0]
    macs = bytes.fromhex(link.get_attr("IFLA_ADDRESS").replace(":", "") + "02000000000a")
    four = frames.Flow(macs=macs, source=socket.inet_aton(LEFT), target=socket.inet_aton(RIGHT))
    source, target = (socket.inet_pton(socket.AF_INET6, end) for end in (LEFT6, RIGHT6))
    six = replace(four, version=6, source=source, target=target)
    return [replace(flow, tcp=tcp) for flow in (four, six) for tcp in (True, False)]


def sent_and_seen(lab: Lab, tunnel: Tunnel, sent: Sequence[bytes], macs: bytes, mss: int) -> list[Seen]:
    """Send frames from the left tap, all at once; what came out of the right one, super-frames cut again."""
    seen: list[Seen] = []
    with Wire(lab.left) as left, Wire(lab.right) as right:
        pid = tunnel.kill_worker("outbound", signal.SIGSTOP)
        left.send(*sent)
        os.kill(pid, signal.SIGCONT)
        while len(seen) < len(sent):
            found = right.collect(lambda frame: frame[:12] == macs, 1)[0]
            flow, payload = frames.dissect(found.frame)
            if len(payload) > mss:
                seen += [Seen(frame, found.trusted) for frame in frames.segments(flow, payload, mss)]
            else:
                seen.append(found)
    return seen


@OFFLOADS
def test_a_corrupted_frame_arrives_as_corrupted_as_it_was(lab: Lab, options: tuple[str, ...]) -> None:
    mss = 1000
    with joined(lab.left, lab.right, *options) as (client, _):
        no_program_gets_what_was_corrupted(lab)
        for flow in flows(lab):
            good = frames.segments(flow, frames.payload(40 * mss), mss)
            for bad in ([*range(40)], [20], [0, 1, 39], [*range(0, 40, 2)]):
                where = random.Random(len(bad))
                # In the payload, or in the checksum of the transport.
                check = mss + (4 if flow.tcp else 2)
                sent = [corrupt(f, where.choice((1, 500, check))) if i in bad else f for i, f in enumerate(good)]
                seen = sent_and_seen(lab, client, sent, flow.macs, mss)
                assert [frame for frame, _ in seen] == sent
                assert not any(seen[i].trusted for i in bad)  # the kernel is to look for itself
                # Between corrupted ones, what is good still travels together.
                assert any(found.trusted for found in seen) == (not options and len(bad) < 10)


def no_program_gets_what_was_corrupted(lab: Lab) -> None:
    """Of datagrams some of which are corrupted a program on the right gets the good ones."""
    with Wire(lab.left) as left:
        for flow in flows(lab):
            if flow.tcp:
                continue
            target = RIGHT if flow.version == 4 else RIGHT6
            with lab.right.socket(family(target), socket.SOCK_DGRAM) as inside:
                inside.bind((target, 5201))
                inside.settimeout(20)
                payloads = list(numbered(40, 1000))
                good = [frames.build(replace(flow, ident=i), payload) for i, payload in enumerate(payloads)]
                left.send(*(corrupt(frame, 1) if i % 3 == 1 else frame for i, frame in enumerate(good)))
                expected = [payload for i, payload in enumerate(payloads) if i % 3 != 1]
                assert [inside.recv(1 << 16) for _ in expected] == expected
                assert struct.unpack_from("!I", expected[-1])[0] == 39  # so nothing is still to come
