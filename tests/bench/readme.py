"""`python -m tests.bench.readme`: draw docs/benchmark.svg and write README's table from docs/benchmark.json."""

import sys
from pathlib import Path

from tests.bench.measures import MEASURES
from tests.bench.peers import ROOT
from tests.bench.picture import draw
from tests.bench.report import Report

RESULTS = ROOT / "docs" / "benchmark.json"
PICTURE = ROOT / "docs" / "benchmark.svg"
README = ROOT / "README.md"
BEGIN, END = "<!-- benchmark: written by tests.bench.readme -->\n", "<!-- end of benchmark -->\n"

COLUMNS = {
    "tcp1": "TCP, Gbit/s",
    "frames64": "64-byte frames, thousand/s",
    "rtt_lone_median": "lone round trip, µs",
    "rtt_load_median": "beside TCP, µs",
    "cpu_100": "CPU at 100 Mbit/s",
    "cpu_500": "500",
    "cpu_1000": "1000",
    "memory": "memory, MiB",
    "start": "start, ms",
}


def section(report: Report) -> str:
    """The table in Markdown with what must be known about it, between its two marks."""
    lines = [
        f"| | {' | '.join(COLUMNS.values())} |",
        f"|---|{'---:|' * len(COLUMNS)}",
    ]
    for peer, rows in report.summary().items():
        if report.peers[peer]["group"] == "before":
            continue
        label = report.label(peer)
        cells = [MEASURES[key].scale.format(rows[key].median) if key in rows else "" for key in COLUMNS]
        cells = [
            cell + " %" if cell and key.startswith("cpu") else cell for key, cell in zip(COLUMNS, cells, strict=True)
        ]
        bold = report.peers[peer]["group"] == "ours"
        lines.append(f"| {' | '.join(f'**{cell}**' if bold and cell else cell for cell in [label, *cells])} |")
    notes = f"""
{report.place}; medians of {report.settings["rounds"]} rounds.
CPU: of the processes of both ends, in percent of one core (a tunnel in the kernel has none), while TCP of so many
Mbit/s goes through; no figure: it does not carry that much. Memory: of one end (PSS). Start: of both ends, until the
first reply.
"""
    return BEGIN + "\n".join(lines) + "\n" + notes + END


def replaced(text: str, new: str) -> str:
    """The README's text with a new section in place of the old one; raises ValueError where the marks are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no lines {BEGIN.strip()} and {END.strip()}")
    return before + new + after


def main() -> None:
    """Renew both files, from other results than those in docs/ if they are named."""
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    text = results.read_text()
    report = Report.load(text)
    README.write_text(replaced(README.read_text(), section(report)))
    RESULTS.write_text(text)
    PICTURE.write_text(draw(report))


if __name__ == "__main__":
    main()
