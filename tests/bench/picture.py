"""The picture of the results for the README: bars in plain SVG that follow the reader's light or dark theme."""

from html import escape

from tests.bench.measures import MEASURES
from tests.bench.report import Report, Spread

SHOWN = ("tcp1", "frames64", "rtt_lone_median", "cpu_500")
ROW, BAR, GAP = 26, 16, 46  # heights in pixels: a row, its bar, the space between panels
NAMES, BARS, NUMBERS, EDGE = 200, 430, 120, 20  # widths in pixels

STYLE = """
    text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
    .title { font-weight: 600; font-size: 15px }
    .note { font-size: 11px; fill: #656d76 }
    .number { font-variant-numeric: tabular-nums }
    .ours { fill: #0969da } .other { fill: #afb8c1 } .axis { stroke: #d0d7de }
    .kernel, .limit { fill: #d4a72c } .interpreted { fill: #80a8d6 }
    .spread { stroke: #1f2328; stroke-opacity: .55; stroke-width: 1.5 }
    text.ours { font-weight: 600 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 } .note { fill: #8d96a0 }
      .ours { fill: #4493f8 } .other { fill: #57606a } .axis { stroke: #3d444d }
      .kernel, .limit { fill: #9e6a03 } .interpreted { fill: #2b4f7d }
      .spread { stroke: #e6edf3 }
    }
"""


def draw(report: Report) -> str:
    """One panel of bars for each shown measure, without the past and the bare wire, which would dwarf everything."""
    summary = report.summary()
    parts: list[str] = []
    y = EDGE + 8
    for key in SHOWN:
        rows = [
            (peer, values[key])
            for peer, values in summary.items()
            if key in values and report.peers[peer]["group"] not in ("baseline", "before")
        ]
        if not rows:
            continue
        rows.sort(key=lambda row: row[1].median, reverse=MEASURES[key].more_is_better)
        sense = "" if MEASURES[key].more_is_better else " (less is better)"
        parts.append(text(EDGE, y, f"{MEASURES[key].title}, {MEASURES[key].unit}{sense}", "title"))
        y += 14
        parts += panel(report, key, rows, y)
        y += ROW * len(rows) + GAP
    for note in (
        f"Both ends on one machine: {report.place};",
        f"medians of {report.settings['rounds']} rounds, thin lines lowest to highest.",
    ):
        parts.append(text(EDGE, y - 14, note, "note"))
        y += 16
    width, height = EDGE * 2 + NAMES + BARS + NUMBERS, y
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="Benchmark results">\n  <style>{STYLE}  </style>\n  '
        + "\n  ".join(parts)
        + "\n</svg>\n"
    )


def panel(report: Report, key: str, rows: list[tuple[str, Spread]], top: int) -> list[str]:
    """The bars of one measure."""
    most = max(spread.high for _, spread in rows)
    left = EDGE + NAMES
    parts = [f'<line class="axis" x1="{left}" x2="{left}" y1="{top}" y2="{top + ROW * len(rows)}"/>']
    for number, (peer, spread) in enumerate(rows):
        kind = report.peers[peer]["group"]
        middle = top + ROW * number + ROW // 2
        width, low, high = (BARS * value / most for value in (spread.median, spread.low, spread.high))
        tone = "ours" if kind == "ours" else ""
        parts += [
            text(left - 10, middle + 4, report.peers[peer]["label"], tone, anchor="end"),
            f'<rect class="{kind}" x="{left}" y="{middle - BAR // 2}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            f'<line class="spread" x1="{left + low:.1f}" x2="{left + high:.1f}" y1="{middle}" y2="{middle}"/>',
            text(left + max(width, high) + 8, middle + 4, MEASURES[key].scale.format(spread.median), f"number {tone}"),
        ]
    return parts


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y}" class="{kind.strip()}" text-anchor="{anchor}">{escape(content)}</text>'
