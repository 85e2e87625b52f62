"""What is to be reached, as data: ratios of two peers in one run, or figures of one peer; and whether they are met."""

import re
from dataclasses import dataclass
from typing import Literal

from tests.bench.measures import MEASURES
from tests.bench.report import Report, Spread, table


@dataclass(frozen=True)
class Goal:
    """One measure of one peer, over that of another one (None: the figure itself), and its bound."""

    measure: str
    peer: str
    other: str | None
    sense: Literal["at least", "at most"]
    bound: float
    # The bound with libcrypto 3.5 or later, which made AES-GCM twice as fast on processors with wide vectors.
    new_libcrypto: float | None = None


PLAIN, SECURE = "tap2tap", "tap2tap-secure"
WIREGUARD = "wireguard-go-given"

GOALS = (
    Goal("tcp1", PLAIN, "before", "at least", 1.5),
    Goal("tcp1", PLAIN, "kernel-alone", "at least", 0.85),
    Goal("tcp1", PLAIN, "vxlan", "at least", 0.45),
    Goal("tcp1", PLAIN, "quicktun-raw", "at least", 4),
    Goal("tcp1", SECURE, "before-secure", "at least", 1.6, 1.9),
    Goal("tcp1", SECURE, WIREGUARD, "at least", 1.7, 2.1),
    Goal("frames64", PLAIN, "before", "at least", 1.4),
    Goal("frames64", PLAIN, "vxlan", "at least", 0.95),
    Goal("frames64", SECURE, "before-secure", "at least", 1.7),
    Goal("rtt_lone_median", PLAIN, "quicktun-raw", "at most", 1.0),
    Goal("rtt_lone_median", SECURE, "quicktun-nacltai", "at most", 1.0),
    Goal("rtt_load_median", PLAIN, "quicktun-raw", "at most", 1.5),
    Goal("cpu_tcp", PLAIN, "before", "at most", 0.5),
    Goal("cpu_tcp", SECURE, "before-secure", "at most", 0.55),
    Goal("cpu_100", PLAIN, "quicktun-raw", "at most", 0.5),
    Goal("cpu_500", PLAIN, "quicktun-raw", "at most", 0.4),
    Goal("cpu_1000", PLAIN, "quicktun-raw", "at most", 0.35),
    Goal("cpu_100", SECURE, WIREGUARD, "at most", 0.45),
    Goal("cpu_500", SECURE, WIREGUARD, "at most", 0.4),
    Goal("cpu_1000", SECURE, WIREGUARD, "at most", 0.4),
    Goal("memory", SECURE, None, "at most", 40),
    Goal("start_one", SECURE, None, "at most", 300),
    Goal("tcp1", "interpreted", "quicktun-raw", "at least", 0.6),
)


def peers() -> set[str]:
    """The peers that it takes to judge all of them."""
    return {name for goal in GOALS for name in (goal.peer, goal.other) if name}


def bound(goal: Goal, libcrypto: str | None) -> float:
    """The bound for such a libcrypto ("OpenSSL 3.0.17 1 Jul 2025")."""
    version = [int(number) for number in re.findall(r"\d+", libcrypto or "")[:2]]
    return goal.new_libcrypto if goal.new_libcrypto and version >= [3, 5] else goal.bound


def verdict(goal: Goal, spread: Spread | None, limit: float) -> str:
    """Whether it is met, by the median."""
    if spread is None:
        return "not measured"
    met = spread.median >= limit if goal.sense == "at least" else spread.median <= limit
    return "met" if met else "NOT MET"


def text(report: Report) -> str:
    """The table: what, the ratio with its spread over the rounds, the goal, the verdict."""
    rows = []
    for goal in GOALS:
        limit, measure = bound(goal, report.facts.get("libcrypto")), MEASURES[goal.measure]
        if goal.other:
            spread, form = report.ratio(goal.measure, goal.peer, goal.other), "{:.2f}x".format
            subject = f"{report.label(goal.peer)} / {report.label(goal.other)}"
        else:
            spread, form = (
                report.summary().get(goal.peer, {}).get(goal.measure),
                f"{measure.scale} {measure.unit}".format,
            )
            subject = report.label(goal.peer)
        found = spread.text(form) if spread else "-"
        rows.append([measure.title, subject, found, f"{goal.sense} {form(limit)}", verdict(goal, spread, limit)])
    return table(["to reach", "", "here", "goal", ""], rows)
