"""One tunnel on one screen: what is shown, and in which units."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap2tap.commands.render import Facts, duration, render, size


def worker(**other: Any) -> Facts:
    """A worker that has carried nothing."""
    return {
        "pid": 77,
        "cpu": 1,
        "cpu_seconds": 2.0,
        "cpu_percent": 3.14,
        "memory_bytes": 24 << 20,
        "restarts": 0,
        "frames": 0,
        "bytes": 0,
        "datagrams": 0,
        "trains": 0,
        "super_frames": 0,
        "super_frame_frames": 0,
        "fallbacks": 0,
        "keepalives": 0,
        "control": 0,
        "parts": 0,
        "too_long_for_peer": 0,
        "clamped": 0,
        "dropped": {},
    } | other


def tunnel(outbound: Facts | None = None, inbound: Facts | None = None, **other: Any) -> Facts:
    """A tunnel that is up."""
    return {
        "interface": "tap0",
        "pid": 70,
        "state": "up",
        "mtu": 1458,
        "path_mtu": None,
        "data_plane": "compiled",
        "local": "[::]:1234",
        "peer": "192.0.2.1:1234",
        "peer_heard_seconds": 2.5,
        "session": None,
        "uid": 0,
        "uptime_seconds": 100.2,
        "counted_seconds": 100.0,
        "netns": 4026531840,
        "workers": {"outbound": outbound or worker(), "inbound": inbound or worker(pid=78, cpu=0)},
        "link": None,
    } | other


def test_a_tunnel_fits_one_screen_in_the_layout_of_wg_show() -> None:
    lines = render(tunnel()).splitlines()
    assert lines[0] == "interface: tap0"
    assert len(lines) <= 24
    assert all(line.startswith("  ") and len(line) < 80 for line in lines[1:] if line)
    for line in ("state: up", "mtu: 1458", "local endpoint: [::]:1234", "peer endpoint: 192.0.2.1:1234"):
        assert f"  {line}" in lines
    assert "  last heard: 2 s ago" in lines
    assert "  uptime: 1 min 40 s" in lines


def test_each_worker_has_its_process_its_frames_its_drops_and_its_restarts() -> None:
    out = worker(frames=10, bytes=5000, datagrams=12, trains=4, dropped={"no_peer": 3, "refused": 1}, restarts=2)
    lines = render(tunnel(out)).splitlines()
    at = lines.index("  outbound: tap to UDP")
    assert lines[at + 1 : at + 7] == [
        "    process: pid 77 on CPU 1, 3.1 % used, 24.0 MiB of memory",
        "    frames: 10",
        "    bytes: 4.9 KiB",
        "    datagrams: 12 in 4 trains of 3.0",
        "    dropped: no peer 3, refused 1",
        "    restarts: 2",
    ]
    assert "  inbound: UDP to tap" in lines
    assert "    dropped: none" in lines


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    text = render(tunnel(worker(pid=None, cpu_percent=None, memory_bytes=None), peer=None, peer_heard_seconds=None))
    assert "peer endpoint: not known yet" in text
    assert "last heard" not in text
    assert "process: not running" in text


def test_a_process_that_psutil_may_not_look_into_is_shown_all_the_same() -> None:
    text = render(tunnel(worker(cpu=None, cpu_seconds=None, cpu_percent=None, memory_bytes=None)))
    assert "process: pid 77 on any CPU\n" in text


def test_super_frames_and_fallbacks_are_shown_when_there_are_any() -> None:
    text = render(tunnel(worker(super_frames=4, super_frame_frames=160, fallbacks=1)))
    assert "super-frames: 4 of 40.0 frames" in text
    assert "fallbacks: 1" in text
    assert "super-frames" not in render(tunnel())
    assert "fallbacks" not in render(tunnel())


def session(**other: Any) -> Facts:
    """A session that is up, of which nothing has been measured yet."""
    measured = ("peer_mtu", "round_trip_seconds", "jitter_seconds", "loss_outbound", "loss_inbound")
    known = {"state": "up", "cipher": "AES-256-GCM", "last_handshake_seconds": 5, "rekeys": 0}
    return known | dict.fromkeys(measured) | other


def test_what_has_been_measured_of_the_path_is_shown() -> None:
    lines = render(tunnel(session=session())).splitlines()
    assert not [line for line in lines if re.match(r"  (path mtu|round trip|loss)|.*far end", line)]
    measured = {"round_trip_seconds": 0.0123, "jitter_seconds": 0.0004, "loss_outbound": 0.002, "loss_inbound": 0.0}
    lines = render(tunnel(session=session(peer_mtu=9000, **measured), mtu=1500, path_mtu=1492)).splitlines()
    at = lines.index("  mtu: 1500 (far end: 9000)")
    assert lines[at + 1] == "  path mtu: 1492"
    at = lines.index("  latest handshake: 5 s ago")
    assert lines[at + 1 : at + 3] == [
        "  round trip: 12.30 ms, jitter 0.40 ms",
        "  loss: 0.20 % outbound, 0.00 % inbound",
    ]


def test_what_is_rare_is_shown_when_there_is_any() -> None:
    lines = render(tunnel(worker(control=4, parts=3, too_long_for_peer=2, clamped=1))).splitlines()
    at = lines.index("    control datagrams: 4")
    assert lines[at : at + 4] == [
        "    control datagrams: 4",
        "    frames in parts: 3",
        "    frames too long for the far end: 2",
        "    connections with a lowered MSS: 1",
    ]
    assert not [line for line in render(tunnel()).splitlines() if re.search("control|parts|far end|MSS", line)]


def test_with_an_earlier_reading_there_are_rates() -> None:
    before = tunnel(worker(frames=100, bytes=10**6, datagrams=50), counted_seconds=98.0)
    after = tunnel(worker(frames=300, bytes=3 * 10**6, datagrams=70, cpu_seconds=3.0))
    text = render(after, before)
    assert "frames: 300 (100/s)" in text
    assert "(8.0 Mbit/s)" in text
    assert "datagrams: 70 (10/s)" in text
    assert "50.0 % used" in text
    assert "/s)" not in render(after)


def test_the_cpu_of_a_replaced_worker_is_not_compared_with_that_of_its_predecessor() -> None:
    before = tunnel(worker(pid=5, cpu_seconds=500.0), counted_seconds=98.0)
    assert "3.1 % used" in render(tunnel(worker(pid=6, cpu_seconds=0.1)), before)
    gone = tunnel(worker(pid=None, cpu_seconds=None), counted_seconds=98.0)
    assert "3.1 % used" in render(tunnel(), gone)


def test_two_readings_at_one_moment_give_no_rate() -> None:
    assert "/s)" not in render(tunnel(), tunnel())


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1 << 20, "1.0 MiB"),
        (5 << 30, "5.0 GiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_bytes_are_shown_for_people(octets: int, text: str) -> None:
    assert size(octets) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (5.9, "5 s"),
        (65, "1 min 5 s"),
        (3600, "1 h 0 min 0 s"),
        (86400 * 3 + 3600 * 2 + 61, "3 d 2 h 1 min 1 s"),
    ],
)
def test_seconds_are_shown_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.integers(0, 10**9))
def test_no_second_is_lost(seconds: int) -> None:
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    words = duration(seconds).split()
    assert sum(int(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True)) == seconds


def test_the_link_process_is_shown_where_there_is_one() -> None:
    link = {"pid": 79, "cpu": None, "cpu_seconds": 1.0, "cpu_percent": 0.1, "memory_bytes": 20 << 20, "restarts": 2}
    lines = render(tunnel(link=link)).splitlines()
    at = lines.index("  link: keys, handshakes and sessions")
    assert lines[at + 1 :] == ["    process: pid 79 on any CPU, 0.1 % used, 20.0 MiB of memory", "    restarts: 2"]
    assert "link:" not in render(tunnel())
    assert "    process: not running" in render(tunnel(link=link | {"pid": None})).splitlines()
    later = tunnel(link=link | {"cpu_seconds": 1.5}, counted_seconds=102.0)
    assert "    process: pid 79 on any CPU, 25.0 % used, 20.0 MiB of memory" in render(later, tunnel(link=link))


def test_tunnels_of_one_name_are_told_apart_by_process_and_namespace() -> None:
    assert "  supervisor: pid 70 in network namespace 4026531840" in render(tunnel(), where=True).splitlines()
    assert "supervisor" not in render(tunnel())
