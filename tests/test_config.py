"""The options of a tunnel: which values can be right, and what is said of those that cannot."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap import config
from tap2tap.config import Config, parse_cpus, parse_mark
from tap2tap.errors import UsageError

REMOTE = ("peer.example", 1234)


def test_the_defaults_can_be_right() -> None:
    Config().check()


@pytest.mark.parametrize(("version", "header"), [(4, 20), (6, 40)])
def test_the_default_mtu_of_the_plain_protocol_fills_a_path_of_1500_bytes(version: int, header: int) -> None:
    ethernet, udp = 14, 8
    assert Config().tap_mtu(version) + ethernet + header + udp == 1500


@pytest.mark.parametrize("version", [4, 6])
def test_with_a_key_the_default_mtu_is_that_of_a_lan(version: int) -> None:
    assert Config(key="file").tap_mtu(version) == 1500


@pytest.mark.parametrize("key", [None, "file"])
def test_the_mtu_is_as_told(key: str | None) -> None:
    assert Config(key=key, mtu=9000).tap_mtu(6) == 9000


def test_ports_mtu_and_user_are_those_of_the_first_tap2tap() -> None:
    assert (config.PORT, config.PLAIN_MTU[4], config.NOBODY) == (1234, 1458, 65534)


def test_keepalives_go_out_by_default_only_where_a_remote_is_named() -> None:
    assert Config(remotes=(REMOTE,)).keepalive_seconds == 25
    assert Config().keepalive_seconds == 0


def test_keepalives_go_out_as_told() -> None:
    assert Config(remotes=(REMOTE,), keepalive=0).keepalive_seconds == 0
    assert Config(keepalive=7).keepalive_seconds == 7


@pytest.mark.parametrize(
    "good",
    [
        Config(port=1),
        Config(port=65535),
        Config(mtu=68),
        Config(mtu=65485),
        Config(keepalive=0),
        Config(keepalive=3600),
        Config(interface="a"),
        Config(device="a"),
        Config(remotes=(REMOTE,) * 16),
        Config(device="fifteen-letters"),
        Config(bind="fe80::1%fifteen-letters", device="fifteen-letters"),
        Config(bind="fe80::1", device="eth0"),
        Config(interface="fifteen-letters"),
        Config(up="true", down="true"),
        Config(up="/bin/sh"),
    ],
    ids=repr,
)
def test_the_edges_of_what_is_allowed_are_allowed(good: Config) -> None:
    good.check()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (Config(port=0), "--port 0: .* 1 to 65535"),
        (Config(port=65536), "--port 65536: .* 1 to 65535"),
        (Config(mtu=67), "--mtu 67: .* 68 to 65485"),
        (Config(mtu=65486), "--mtu 65486: .* 68 to 65485"),
        (Config(keepalive=3601), "--keepalive 3601: .* 1 to 3600"),
        (Config(keepalive=-1), "--keepalive -1: .* 1 to 3600"),
        (Config(device=""), "no interface name"),
        (Config(device="a/b"), "no interface name"),
        (Config(device="sixteen-letters!"), "16 bytes long: .* at most 15"),
        (Config(bind="fe80::1%a b"), "no interface name"),
        (Config(bind="fe80::1%sixteen-letters!"), "16 bytes long: .* at most 15"),
        (Config(bind="fe80::1"), "needs its network device, as in --bind fe80::1%eth0"),
        (Config(bind="fe80::1%eth0", device="eth1"), "--bind fe80::1%eth0 and --device eth1 name two network devices"),
        (Config(bind="ff02::1"), "--bind ff02::1: no host has a multicast or broadcast address"),
        (
            Config(interface="tap0", device="tap0"),
            "--device tap0 is this tunnel's own interface: name the one that leads",
        ),
        (Config(interface="tap0", bind="fe80::1%tap0"), "--bind fe80::1%tap0 is on this tunnel's own interface: name"),
        (Config(remotes=(REMOTE,) * 17), "--remote is given 17 times: at most 16"),
        (Config(interface=""), "no interface name"),
        (Config(interface="."), "no interface name"),
        (Config(interface=".."), "no interface name"),
        (Config(interface="a/b"), "no interface name"),
        (Config(interface="a b"), "no interface name"),
        (Config(interface="a:b"), "no interface name"),
        (Config(interface="tap\n"), "no interface name"),
        (Config(interface="sixteen-letters!"), "16 bytes long: .* at most 15"),
        (Config(interface="\N{SNOWMAN}" * 6), "18 bytes long: .* at most 15"),
        (Config(up="/no/such/program"), "--up /no/such/program: no such program"),
        (Config(down="/etc/passwd"), "--down /etc/passwd: .* not executable"),
        (Config(down="/"), "--down /: .* not executable"),
        (Config(cpus=(0, 100_000)), "CPU 100000 is not among those"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_right_is_refused_with_what_can(wrong: Config, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        wrong.check()
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_cpus_outside_the_affinity_mask_are_refused() -> None:
    mine = os.sched_getaffinity(0)
    inside, outside = min(mine), max(mine) + 1
    Config(cpus=(inside, inside)).check()
    with pytest.raises(UsageError, match=f"CPU {outside} is not among"):
        Config(cpus=(inside, outside)).check()


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_cpus_are_read_as_outbound_comma_inbound(out: int, into: int) -> None:
    assert parse_cpus(f"{out},{into}") == (out, into)


@pytest.mark.parametrize(
    "text", ["", "1", "1,", ",1", "1,2,3", "a,b", "-1,0", "1, 2", "1.5,2", "\N{SUPERSCRIPT TWO},1"]
)
def test_other_words_for_cpus_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="--cpus 1,2"):
        parse_cpus(text)


@given(st.integers(0, 2**32 - 1))
def test_a_mark_is_read_as_decimal_or_hexadecimal(mark: int) -> None:
    assert parse_mark(str(mark)) == parse_mark(hex(mark)) == parse_mark(hex(mark).upper()) == mark


@pytest.mark.parametrize(
    "text", ["", "-1", "4294967296", "0x", "0x100000000", "ca6c", "1/2", " 1", "1_0", "\N{SUPERSCRIPT TWO}"]
)
def test_other_words_for_a_mark_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="from 0 to 4294967295, as in --mark 51820 or --mark 0xca6c"):
        parse_mark(text)
