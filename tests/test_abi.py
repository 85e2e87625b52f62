"""Numbers and layouts of the kernel's interface, for machines that are not at hand: the facts are its headers'."""

import os
import socket
import struct
import sys
from typing import cast

import pytest

from tap2tap import abi, device, udp_socket

# What uname(2) says, and what asm/ioctl.h makes of _IOW('T', 202, int), _IOR('T', 210, int) and _IO('T', 1).
IOCTLS = {
    "0x400454ca 0x800454d2 0x00005401": "x86_64 i686 aarch64 armv7l riscv64 s390x loongarch64 m68k ia64 sh4 xtensa",
    "0x800454ca 0x400454d2 0x20005401": "ppc ppc64 ppc64le mips mips64 sparc sparc64 alpha",
    "0x800454ca 0x400454d2 0x00005401": "parisc parisc64",
}
# The same of SO_SNDBUFFORCE and SO_RCVBUFFORCE in asm/socket.h.
BUFFERS = {
    "32 33": "x86_64 i686 aarch64 armv7l riscv64 s390x loongarch64 m68k ia64 sh4 xtensa ppc ppc64 ppc64le",
    "31 33": "mips mips64",
    "4106 4107": "sparc sparc64 alpha parisc parisc64",
}


# The same of SO_ATTACH_FILTER.
FILTER = {
    "26": "x86_64 i686 aarch64 armv7l riscv64 s390x loongarch64 m68k ia64 sh4 xtensa ppc ppc64 ppc64le mips mips64"
    " sparc sparc64 alpha",
    "16410": "parisc parisc64",
}


def by_machine(table: dict[str, str]) -> list[tuple[str, list[int]]]:
    """Every machine, and the numbers in its line."""
    facts = [(machines, [int(number, 0) for number in numbers.split()]) for numbers, machines in table.items()]
    return [(machine, numbers) for machines, numbers in facts for machine in machines.split()]


@pytest.mark.parametrize(("machine", "numbers"), by_machine(IOCTLS))
def test_ioctls_have_the_numbers_of_the_machine(machine: str, numbers: list[int]) -> None:
    assert [
        abi.ioctl_number(abi.WRITE, "T", 202, 4, machine),
        abi.ioctl_number(abi.READ, "T", 210, 4, machine),
        abi.ioctl_number(abi.NONE, "T", 1, 0, machine),
    ] == numbers


@pytest.mark.parametrize(("machine", "numbers"), by_machine(BUFFERS))
def test_socket_options_have_the_numbers_of_the_machine(machine: str, numbers: list[int]) -> None:
    assert list(abi.force_options(machine)) == numbers


@pytest.mark.parametrize(("machine", "numbers"), by_machine(FILTER))
def test_a_filter_has_the_number_of_the_machine(machine: str, numbers: list[int]) -> None:
    assert [abi.attach_filter_option(machine)] == numbers


def test_this_machine_is_one_of_those() -> None:
    assert os.uname().machine in dict(by_machine(IOCTLS)), "add what its headers say"
    numbers = dict(by_machine(IOCTLS))[os.uname().machine]
    assert numbers[:2] == [device.TUNSETIFF, device.TUNGETIFF]
    assert dict(by_machine(BUFFERS))[os.uname().machine] == [udp_socket.SO_SNDBUFFORCE, udp_socket.SO_RCVBUFFORCE]


class Kernel:
    """A socket of a kernel whose SO_RCVTIMEO takes two numbers of that format (struct), as sock_set_timeout reads them.

    A longer value than that is taken, and only its beginning read.
    """

    def __init__(self, numbers: str) -> None:
        self._numbers = struct.Struct(numbers)
        self.timeout = (0, 0)

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """Take a timeout."""
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_RCVTIMEO)
        if len(value) < self._numbers.size:
            raise OSError("Invalid argument")
        seconds, micros = self._numbers.unpack_from(value)
        self.timeout = (seconds, micros)

    def getsockopt(self, level: int, option: int, room: int) -> bytes:
        """Give it back, as much as there is room for."""
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_RCVTIMEO)
        return self._numbers.pack(*self.timeout)[:room]


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(
    "numbers",
    ["ii", "qq", "qi4x"],
    ids=["32-bit time", "64-bit time", "sparc64"],
)
def test_a_timeout_is_right_whatever_the_kernel_takes(
    monkeypatch: pytest.MonkeyPatch, order: str, numbers: str
) -> None:
    monkeypatch.setattr(sys, "byteorder", order)
    kernel = Kernel(("<" if order == "little" else ">") + numbers)
    abi.set_timeout(cast("socket.socket", kernel), socket.SO_RCVTIMEO, 7)
    assert kernel.timeout == (7, 0)


def test_a_timeout_is_what_this_kernel_keeps() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        abi.set_timeout(sock, socket.SO_RCVTIMEO, 3)
        kept = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)
        half = len(kept) // 2
        assert int.from_bytes(kept[:half], sys.byteorder) == 3
        assert not any(kept[half:])


def test_the_socket_of_a_tunnel_waits_for_a_second_and_no_longer() -> None:
    with udp_socket.open_socket("127.0.0.1", 0) as sock:
        kept = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)
        assert kept == (1).to_bytes(len(kept) // 2, sys.byteorder) + bytes(len(kept) // 2)
