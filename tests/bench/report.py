"""The results: where and with what they were measured, medians and spread, ratios, tables, JSON."""

import ctypes
import datetime
import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.measures import MEASURES, Measure, Values
from tests.bench.ours import commit
from tests.bench.peers import ROOT, Peer

# What each of our protocols is compared with.
BASELINES = {
    "tap2tap": ("before", "kernel-alone", "vxlan", "quicktun-raw"),
    "tap2tap-secure": ("before-secure", "kernel-alone", "vxlan", "quicktun-nacltai", "wireguard-go-given"),
}
FORMAT = 2


def libcrypto() -> str | None:
    """The version of the system's libcrypto, such as "OpenSSL 3.0.17 1 Jul 2025"; None if there is none."""
    try:
        library = ctypes.CDLL("libcrypto.so.3")
    except OSError:
        return None
    library.OpenSSL_version.restype = ctypes.c_char_p
    version: bytes = library.OpenSSL_version(0)
    return version.decode()


def facts() -> dict[str, Any]:
    """The machine and the commit, without anything that names a place."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(ROOT),
        "kernel": platform.release(),
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "libcrypto": libcrypto(),
        "congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
    }


@dataclass(frozen=True)
class Spread:
    """One measure of one peer, or one ratio, over all rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """That of some values; None if there are none."""
        return cls(statistics.median(values), min(values), max(values), len(values)) if values else None

    def text(self, form: Callable[[float], str]) -> str:
        """The median, and the lowest and the highest if there was more than one round."""
        middle = form(self.median)
        return middle if self.rounds == 1 else f"{middle} ({form(self.low)}..{form(self.high)})"


@dataclass(frozen=True)
class Sample:
    """What one peer did in one round."""

    round: int
    peer: str
    values: Values


@dataclass
class Report:
    """Everything that was found out."""

    facts: dict[str, Any]
    settings: dict[str, Any]
    peers: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    @classmethod
    def load(cls, document: str) -> "Report":
        """What `json` gave; raises ValueError."""
        found = json.loads(document)
        if found.get("format") != FORMAT:
            raise ValueError(f"these results are of format {found.get('format')}, not {FORMAT}: measure anew")
        samples = [Sample(**sample) for sample in found["samples"]]
        rest = {key: found[key] for key in ("facts", "settings", "peers", "missing", "failures")}
        return cls(**rest, samples=samples)

    @property
    def place(self) -> str:
        """Where it was measured, in half a line."""
        facts = self.facts
        parts = [f"{facts['cpu']}, {facts['cores']} CPUs", f"Linux {facts['kernel']}", f"Python {facts['python']}"]
        return ", ".join([*parts, facts["libcrypto"] or "no libcrypto"])

    def add_peer(self, peer: Peer, version: str) -> None:
        """A peer that takes part."""
        self.peers[peer.name] = {"label": peer.label, "group": peer.group, "version": version}

    def label(self, peer: str) -> str:
        """What to call a peer."""
        return self.peers[peer]["label"] if peer in self.peers else peer

    def values(self, peer: str, key: str) -> dict[int, float]:
        """Round to value."""
        return {s.round: s.values[key] for s in self.samples if s.peer == peer and key in s.values}

    def summary(self) -> dict[str, dict[str, Spread]]:
        """Peer to measure to spread, in the order of MEASURES."""
        found = {peer: {key: Spread.of([*self.values(peer, key).values()]) for key in MEASURES} for peer in self.peers}
        return {peer: {key: spread for key, spread in rows.items() if spread} for peer, rows in found.items()}

    def ratio(self, key: str, peer: str, other: str) -> Spread | None:
        """One peer's value over another's, each round by itself: what is slow about the machine is so for both."""
        ours, theirs = self.values(peer, key), self.values(other, key)
        return Spread.of([ours[number] / theirs[number] for number in ours if theirs.get(number)])

    def json(self) -> str:
        """All of it, raw samples included."""
        document = {
            "format": FORMAT,
            "facts": self.facts,
            "settings": self.settings,
            "peers": self.peers,
            "missing": self.missing,
            "failures": self.failures,
            "measures": {key: asdict(measure) for key, measure in MEASURES.items()},
            "summary": {
                peer: {key: asdict(spread) for key, spread in rows.items()} for peer, rows in self.summary().items()
            },
            "samples": [asdict(sample) for sample in self.samples],
        }
        return json.dumps(_rounded(document), indent=1, ensure_ascii=False) + "\n"

    def text(self) -> str:
        """The tables: what was measured, and each of our protocols against each baseline."""
        summary = self.summary()
        keys = [key for key in MEASURES if any(key in rows for rows in summary.values())]
        rounds = self.settings["rounds"]
        parts = [f"{self.place}, commit {self.facts['commit']}; medians of {rounds} rounds (lowest..highest)"]
        # Peers down and not across: there are too many of them for the width of a screen.
        for key in keys:
            measure = MEASURES[key]
            rows = [
                [self.label(peer), rows[key].text(measure.scale.format)]
                for peer, rows in summary.items()
                if key in rows
            ]
            parts.append(table([f"{measure.title}, {measure.unit}", ""], rows))
        for peer, baselines in BASELINES.items():
            others = [other for other in baselines if other in summary]
            rows = [
                [_sense(MEASURES[key]), *(self._ratio_text(key, peer, other) for other in others)]
                for key in keys
                if key in summary.get(peer, {})
            ]
            if others and rows:
                parts.append(table([f"{self.label(peer)}, ratio to", *(self.label(other) for other in others)], rows))
        return "\n\n".join(parts)

    def _ratio_text(self, key: str, peer: str, other: str) -> str:
        spread = self.ratio(key, peer, other)
        return f"{spread.median:.2f}x" if spread else "-"


def _sense(measure: Measure) -> str:
    return measure.title + ("" if measure.more_is_better else " (less is better)")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in plain text: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _rounded(value: Any) -> Any:
    """The same with every float cut to five significant digits: the rest is noise."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return value
