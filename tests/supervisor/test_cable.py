"""What the supervisor makes of the kernel that it finds."""

import os

import pytest

from tap2tap.supervisor.cable import joins_udp

NEW = ["6.8.5", "6.8.5-arch1-1", "6.8.10-300.fc40.x86_64", "6.9", "6.9.0", "6.10.0-rc3", "6.18.44+", "7.0-rc1"]
NEW += ["10.0.0", "6.18.20.1-microsoft-standard-WSL2"]
OLD = ["6.8.4", "6.8.0-31-generic", "6.8", "6.8-rc5", "6.7.12", "6.6.87.2-microsoft-standard-WSL2", "6.2.16-3-pve"]
OLD += ["4.19", "2.6.78"]
ODD = [
    "",
    "6",
    "v6.9",
    "6.",
    "6.x",
    "6..9",
    "Linux",
    "9.",
    "-6.9",
    "6 .9",
    "\u0667.1.2",
    " 6.9",
    "9" * 64,
    "7." + "9" * 64,
]


@pytest.mark.parametrize(("releases", "joined"), [(NEW, True), (OLD, False), (ODD, False)])
def test_udp_is_joined_where_the_kernel_is_known_to_take_it(releases: list[str], joined: bool) -> None:
    assert [release for release in releases if joins_udp(release) is not joined] == []


def test_the_kernel_of_this_machine_is_taken_apart() -> None:
    major, minor = (int(number) for number in os.uname().release.split(".")[:2])
    if (major, minor) != (6, 8):
        assert joins_udp(os.uname().release) is ((major, minor) > (6, 8))
