"""The socket that stands in for one that cannot be bound yet: nothing leaves by it, and nothing comes in."""

import errno
import ipaddress
import socket

import pytest

from tap2tap.demo.lab import Host, Lab
from tap2tap.endpoint import Endpoint
from tap2tap.supervisor.stand_in import open_stand_in
from tap2tap.udp_socket import SOL_UDP, UDP_SEGMENT, open_socket, reaches

BINDS = pytest.mark.parametrize("bind", [None, "192.0.2.77", "2001:db8::77", "fe80::77%nowhere"])


@BINDS
def test_nothing_leaves_by_a_stand_in_nor_comes_in(lab: Lab, bind: str | None) -> None:
    with lab.right.inside():
        far = open_socket(None, 0)
    with lab.left.inside():
        real, stand_in = open_socket(None, 0), open_stand_in(bind, 1234)
    with far, real, stand_in:
        targets = [lab.right.ipv4, lab.left.ipv4, "127.0.0.1", "255.255.255.255", "224.0.0.1"]
        targets += [lab.right.ipv6, lab.left.ipv6, "::1", "ff02::1", "fe80::1"]
        stand_in.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        refusals = set()
        for target in targets:
            to = Endpoint(ipaddress.ip_address(target), far.getsockname()[1], lab.left.index("eth0") * (":" in target))
            if not reaches(stand_in, to):
                continue
            for data, control in ((b"", []), (b"x", []), (b"xx", [(SOL_UDP, UDP_SEGMENT, b"\1\0")])):
                with pytest.raises(OSError) as caught:
                    stand_in.sendmsg([data], control, socket.MSG_DONTWAIT, to.sockaddr(stand_in.family))
                refusals.add(caught.value.errno)
        assert errno.EPIPE in refusals
        for sender, host in ((far, lab.left.ipv4), (far, lab.left.ipv6), (real, "127.0.0.1"), (real, "::1")):
            for name in (stand_in, real):
                to = Endpoint(ipaddress.ip_address(host), name.getsockname()[1])
                sender.sendto(b"hello", to.sockaddr(sender.family))
            assert real.recv(9) == b"hello"  # so whatever came before has come
        far.setblocking(False)
        stand_in.setblocking(False)
        for sock in (stand_in, far):
            with pytest.raises(BlockingIOError):
                sock.recv(9)


@BINDS
def test_a_stand_in_reaches_those_whom_the_socket_would(bind: str | None) -> None:
    with open_stand_in(bind, 1234) as sock:
        assert reaches(sock, Endpoint(ipaddress.ip_address("192.0.2.1"), 9)) is (bind is None or "." in bind)
        assert reaches(sock, Endpoint(ipaddress.ip_address("2001:db8::1"), 9)) is (bind is None or ":" in bind)


def test_a_stand_in_never_has_the_port_that_is_waited_for(alone: Host) -> None:
    alone.sysctl("net/ipv4/ip_local_port_range", "40000 40001")
    alone.link("lo", state="down")
    with alone.inside():
        for wanted, other in ((40000, 40001), (40001, 40000)):
            with open_stand_in(None, wanted) as sock:
                assert sock.getsockname()[1] == other
