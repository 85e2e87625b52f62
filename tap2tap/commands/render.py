"""One tunnel on one screen, in the layout of `wg show`."""

from typing import Any

Facts = dict[str, Any]

# Counts of a worker that are shown where there are any.
_RARE = {
    "fallbacks": "fallbacks",
    "control": "control datagrams",
    "parts": "frames in parts",
    "too_long_for_peer": "frames too long for the far end",
    "clamped": "connections with a lowered MSS",
}


def render(facts: Facts, before: Facts | None = None, *, where: bool = False) -> str:
    """Lay out what `stats.describe` read; with an earlier reading, rates are shown too.

    `where`: show what tells the tunnel from others of its name, in other network namespaces.
    """
    heard = facts["peer_heard_seconds"]
    peer = facts["peer"] or "not known yet"
    lines = [
        f"interface: {facts['interface']}" + (f" (of uid {facts['uid']})" if facts["uid"] else ""),
        *([f"  supervisor: pid {facts['pid']} in network namespace {facts['netns']}"] if where else []),
        f"  state: {facts['state']}",
        f"  mtu: {facts['mtu']}{_far(facts['session'])}",
        *([f"  path mtu: {facts['path_mtu']}"] if facts["path_mtu"] else []),
        *([f"  data plane: {facts['data_plane']}"] if facts["data_plane"] != "compiled" else []),
        f"  local endpoint: {facts['local']}",
        f"  peer endpoint: {peer}",
        *([f"  last heard: {duration(heard)} ago"] if heard is not None else []),
        *_session(facts["session"]),
        f"  uptime: {duration(facts['uptime_seconds'])}",
    ]
    seconds = facts["counted_seconds"] - before["counted_seconds"] if before else 0.0
    for direction, title in (("outbound", "outbound: tap to UDP"), ("inbound", "inbound: UDP to tap")):
        worker = facts["workers"][direction]
        lines += ["", f"  {title}", *_worker(worker, before["workers"][direction] if before else None, seconds)]
    if link := facts["link"]:
        process = _process(link, before["link"] if before else None, seconds)
        lines += ["", "  link: keys, handshakes and sessions", process, f"    restarts: {link['restarts']}"]
    return "\n".join(lines) + "\n"


def _session(session: Facts | None) -> list[str]:
    if session is None:
        return ["  protocol: plain (neither encrypted nor authenticated)"]
    handshake = session["last_handshake_seconds"]
    return [
        f"  protocol: secure, {session['cipher'] or 'no session'}",
        f"  session: {session['state']}, {session['rekeys']} rekeys",
        *([f"  latest handshake: {duration(handshake)} ago"] if handshake is not None else []),
        *_quality(session),
    ]


def _far(session: Facts | None) -> str:
    """The MTU of the far end's tap, where it is another one."""
    return f" (far end: {session['peer_mtu']})" if session and session["peer_mtu"] else ""


def _quality(session: Facts) -> list[str]:
    """How datagrams fare on the path, where that is known."""
    if session["round_trip_seconds"] is None:
        return []
    round_trip, jitter = session["round_trip_seconds"] * 1e3, session["jitter_seconds"] * 1e3
    out, into = session["loss_outbound"] * 100, session["loss_inbound"] * 100
    return [
        f"  round trip: {round_trip:.2f} ms, jitter {jitter:.2f} ms",
        f"  loss: {out:.2f} % outbound, {into:.2f} % inbound",
    ]


def _process(child: Facts, before: Facts | None, seconds: float) -> str:
    """The line of one process."""
    if child["pid"] is None:
        return "    process: not running"
    used = child["cpu_percent"]
    same = before and child["pid"] == before["pid"] and None not in (child["cpu_seconds"], before["cpu_seconds"])
    if before and same and seconds > 0:
        used = 100 * (child["cpu_seconds"] - before["cpu_seconds"]) / seconds
    cpu = "any CPU" if child["cpu"] is None else f"CPU {child['cpu']}"
    usage = f", {used:.1f} % used, {size(child['memory_bytes'])} of memory" if child["memory_bytes"] is not None else ""
    return f"    process: pid {child['pid']} on {cpu}{usage}"


def _worker(worker: Facts, before: Facts | None, seconds: float) -> list[str]:
    def rate(key: str) -> float | None:
        return (worker[key] - before[key]) / seconds if before and seconds > 0 else None

    frames, octets, datagrams = rate("frames"), rate("bytes"), rate("datagrams")
    mean = f" in {worker['trains']} trains of {worker['datagrams'] / worker['trains']:.1f}" if worker["trains"] else ""
    super_frames = worker["super_frames"]
    lines = [
        _process(worker, before, seconds),
        f"    frames: {worker['frames']}" + (f" ({frames:.0f}/s)" if frames is not None else ""),
        f"    bytes: {size(worker['bytes'])}" + (f" ({octets * 8 / 1e6:.1f} Mbit/s)" if octets is not None else ""),
        f"    datagrams: {worker['datagrams']}{mean}" + (f" ({datagrams:.0f}/s)" if datagrams is not None else ""),
    ]
    if super_frames:
        share = worker["super_frame_frames"] / super_frames
        lines.append(f"    super-frames: {super_frames} of {share:.1f} frames")
    lines += [f"    {name}: {worker[key]}" for key, name in _RARE.items() if worker[key]]
    drops = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in worker["dropped"].items())
    lines += [f"    dropped: {drops or 'none'}", f"    restarts: {worker['restarts']}"]
    return lines


def size(octets: int) -> str:
    """Bytes for people: 1023 B, 1.0 KiB, 1.0 MiB, ..."""
    value, unit = float(octets), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{octets} B" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds for people: 5 s, 1 min 5 s, 2 h 1 min 5 s, 3 d 2 h 1 min 5 s."""
    whole = int(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{number} {unit}" for number, unit in parts)
