"""What becomes of the measurements: medians, ratios, goals, JSON, picture and table."""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import goals, readme
from tests.bench.__main__ import ALL
from tests.bench.goals import GOALS, Goal
from tests.bench.measures import MEASURES
from tests.bench.picture import draw
from tests.bench.report import Report, Sample, Spread

NAMES = {peer.name for peer in ALL}
FACTS = {"cpu": "Z80", "cores": 2, "kernel": "6.1", "python": "3.11", "libcrypto": "OpenSSL 3.0.1", "commit": "abc"}


def report(*rounds: dict[str, float], key: str = "tcp1") -> Report:
    """Results of some rounds, each peer to its value of one measure."""
    made = Report(FACTS, {"seconds": 1, "rounds": len(rounds)})
    for peer in ALL:
        if any(peer.name in values for values in rounds):
            made.add_peer(peer, "1.0")
    made.samples = [
        Sample(number, peer, {key: value}) for number, values in enumerate(rounds, 1) for peer, value in values.items()
    ]
    return made


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine is ten times as fast in the second round, which the ratio of the medians would not forgive.
    made = report({"tap2tap": 2, "vxlan": 4}, {"tap2tap": 20, "vxlan": 40}, {"tap2tap": 3, "vxlan": 5}, {"vxlan": 100})
    assert made.ratio("tcp1", "tap2tap", "vxlan") == Spread(0.5, 0.5, 0.6, 3)
    assert made.ratio("tcp1", "tap2tap", "before") is None
    assert made.ratio("tcp8", "tap2tap", "vxlan") is None


def test_results_are_the_same_after_they_were_written_and_read() -> None:
    made = report({"tap2tap": 2.5, "vxlan": 4}, {"tap2tap": 3, "vxlan": 5})
    read = Report.load(made.json())
    assert read == made
    assert read.summary() == made.summary()
    assert readme.section(read) == readme.section(made)


def test_results_of_another_format_are_refused() -> None:
    with pytest.raises(ValueError, match="format 1"):
        Report.load('{"format": 1}')


def test_every_goal_is_about_something_that_is_measured() -> None:
    assert {goal.measure for goal in GOALS} <= MEASURES.keys()
    assert goals.peers() <= NAMES
    for goal in GOALS:
        assert (goal.sense == "at least") == MEASURES[goal.measure].more_is_better


@pytest.mark.parametrize(
    ("sense", "median", "verdict"),
    [
        ("at least", 1.5, "met"),
        ("at least", 1.49, "NOT MET"),
        ("at most", 1.5, "met"),
        ("at most", 1.51, "NOT MET"),
    ],
)
def test_a_goal_is_met_up_to_its_bound(sense: Literal["at least", "at most"], median: float, verdict: str) -> None:
    goal = Goal("tcp1", "tap2tap", "before", sense, 1.5)
    assert goals.verdict(goal, Spread(median, 0, 9, 3), 1.5) == verdict
    assert goals.verdict(goal, None, 1.5) == "not measured"


@pytest.mark.parametrize(
    ("libcrypto", "bound"),
    [("OpenSSL 3.0.19 27 Jan 2026", 1.6), ("OpenSSL 3.4.1", 1.6), ("OpenSSL 3.5.0 8 Apr 2025", 1.9), (None, 1.6)],
)
def test_a_new_libcrypto_raises_the_bound_where_it_is_faster(libcrypto: str | None, bound: float) -> None:
    assert goals.bound(Goal("tcp1", "tap2tap-secure", "before-secure", "at least", 1.6, 1.9), libcrypto) == bound
    assert goals.bound(Goal("tcp1", "tap2tap", "before", "at least", 1.5), libcrypto) == 1.5


def test_the_tables_show_ratio_goal_and_verdict() -> None:
    made = report({"tap2tap": 8, "before": 4, "vxlan": 32}, {"tap2tap": 9, "before": 3, "vxlan": 30})
    lines = goals.text(made).splitlines()
    (line,) = [line for line in lines if "/ tap2tap before, plain" in line and line.startswith("TCP")]
    assert "2.50x (2.00x..3.00x)" in line
    assert "at least 1.50x" in line
    assert line.endswith(" met")
    (line,) = [line for line in lines if "/ kernel VXLAN" in line and line.startswith("TCP")]
    assert line.endswith("NOT MET")
    assert "Z80" in made.text()
    assert "2.50x" in made.text()


@given(st.dictionaries(st.sampled_from(sorted(NAMES)), st.floats(1e-3, 1e6), min_size=1), st.sampled_from([*MEASURES]))
def test_whatever_was_measured_can_be_shown(values: dict[str, float], key: str) -> None:
    made = report(values, key=key)
    assert draw(made).endswith("</svg>\n")
    for peer in values:
        shown = f"| {made.label(peer)} |" in readme.section(made).replace("**", "")
        assert shown == (peer not in ("before", "before-secure"))
    made.text()
    goals.text(made)


def test_the_table_of_the_readme_is_that_of_the_results_in_docs() -> None:
    made, text = Report.load(readme.RESULTS.read_text()), readme.README.read_text()
    assert readme.section(made) in text
    assert readme.replaced(text, readme.section(made)) == text
    assert readme.PICTURE.read_text() == draw(made)


def test_a_readme_without_a_place_for_the_table_is_left_alone() -> None:
    with pytest.raises(ValueError, match="no lines"):
        readme.replaced("# tap2tap\n", "table")
