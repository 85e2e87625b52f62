"""The results: where and with what they were measured, medians and spread, tables of ratios, JSON."""

import datetime
import json
import os
import platform
import statistics
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.measures import MEASURES, Values
from tests.bench.peers import ROOT, Peer

BASELINES = ("quicktun-raw", "vxlan", "quicktun-nacltai", "openvpn", "wireguard-go-given")


def facts() -> dict[str, Any]:
    """The machine and the commit, without anything that names a place."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True)
    status = subprocess.run([*git, "status", "--porcelain", "tap2tap"], capture_output=True, text=True)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": head.stdout.strip() + ("+changes" if status.stdout else "") if head.returncode == 0 else None,
        "kernel": platform.release(),
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
    }


@dataclass(frozen=True)
class Spread:
    """One measure of one peer over all rounds."""

    median: float
    low: float
    high: float
    rounds: int


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

    def add_peer(self, peer: Peer, version: str) -> None:
        """A peer that takes part."""
        self.peers[peer.name] = {"label": peer.label, "group": peer.group, "version": version}

    def summary(self) -> dict[str, dict[str, Spread]]:
        """Peer to measure to spread, in the order of MEASURES."""
        result: dict[str, dict[str, Spread]] = {}
        for peer in self.peers:
            result[peer] = {}
            for key in MEASURES:
                values = [s.values[key] for s in self.samples if s.peer == peer and key in s.values]
                if values:
                    result[peer][key] = Spread(statistics.median(values), min(values), max(values), len(values))
        return result

    def json(self) -> str:
        """All of it, raw samples included."""
        document = {
            "format": 1,
            **self.facts,
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
        place = f"{self.facts['cpu']}, {self.facts['cores']} CPUs, Linux {self.facts['kernel']}"
        parts = [
            f"{place}, commit {self.facts['commit']}; medians of {self.settings['rounds']} rounds (lowest..highest)"
        ]
        head = ["", *(self.peers[peer]["label"] for peer in summary)]
        rows = [[_title(key), *(_cell(key, summary[peer].get(key)) for peer in summary)] for key in keys]
        parts.append(_table(head, rows))
        # Without one of ours (none is ready, or none was asked for) the others are compared with each other.
        ours = [peer for peer in summary if self.peers[peer]["group"] == "ours"] or list(summary)
        baselines = [peer for peer in BASELINES if peer in summary]
        for peer in ours:
            others = [other for other in baselines if other != peer]
            head = [f"{self.peers[peer]['label']}, ratio to", *(self.peers[other]["label"] for other in others)]
            rows = [
                [_title(key, unit=False), *(_ratio(summary[peer], summary[other], key) for other in others)]
                for key in keys
                if key in summary[peer]
            ]
            if others and rows:
                parts.append(_table(head, rows))
        return "\n\n".join(parts)


def _title(key: str, *, unit: bool = True) -> str:
    measure = MEASURES[key]
    return measure.title + (f", {measure.unit}" if unit else "" if measure.more_is_better else " (less is better)")


def _cell(key: str, spread: Spread | None) -> str:
    if spread is None:
        return "-"
    form = MEASURES[key].scale.format
    median = form(spread.median)
    return median if spread.rounds == 1 else f"{median} ({form(spread.low)}..{form(spread.high)})"


def _ratio(ours: dict[str, Spread], theirs: dict[str, Spread], key: str) -> str:
    if key not in ours or key not in theirs or not theirs[key].median:
        return "-"
    return f"{ours[key].median / theirs[key].median:.2f}x"


def _table(head: list[str], rows: list[list[str]]) -> str:
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
