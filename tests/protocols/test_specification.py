"""docs/protocol.md against the code: its numbers are those of limits.py, its states those that the code goes by."""

import dataclasses
import re
from enum import Enum
from fractions import Fraction
from pathlib import Path

import pytest

from tap2tap.protocols.secure import limits, states

ROOT = Path(__file__).parents[2]
HEADING = re.compile(r"^(?:##|###) ([0-9.]+?)\.? (.*)$", re.MULTILINE)


def read_sections() -> dict[str, tuple[str, str]]:
    """By number: the title, and the text up to the next heading, sub-sections excluded."""
    text = (ROOT / "docs" / "protocol.md").read_text()
    found = list(HEADING.finditer(text))
    ends = [heading.start() for heading in found[1:]] + [len(text)]
    return {
        heading[1]: (heading[2], text[heading.end() : end].strip()) for heading, end in zip(found, ends, strict=True)
    }


SECTIONS = read_sections()


def rows(section: str, columns: int) -> list[list[str]]:
    """The rows of tables of so many columns, without heads."""
    lines = [line for line in SECTIONS[section][1].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    heads = [at - 1 for at, row in enumerate(cells) if set(row[0]) == {"-"}]
    return [row for at, row in enumerate(cells) if len(row) == columns and at not in heads and at - 1 not in heads]


# Sections, code and tests.


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_ends_with_its_code_and_its_tests_which_exist(section: str) -> None:
    last = SECTIONS[section][1].splitlines()[-1]
    match = re.fullmatch(r"Code: (.*)\. Tests: (.*)\.", last)
    assert match, last
    for part, folder in ((match[1], "tap2tap/"), (match[2], "tests/")):
        for name in part.split(", "):
            assert name.startswith(f"`{folder}")
            assert name.endswith("`")
            assert (ROOT / name.strip("`")).is_file(), name


def test_every_part_of_the_protocol_and_every_test_of_it_belongs_to_a_section() -> None:
    named = {name for _, text in SECTIONS.values() for name in re.findall(r"`([\w/]+\.py)`", text.splitlines()[-1])}
    modules = set((ROOT / "tap2tap/protocols/secure").glob("*.py")) | set((ROOT / "tests/protocols").glob("test_*.py"))
    assert {str(path.relative_to(ROOT)) for path in modules if path.stem != "__init__"} <= named


# Numbers.


def number(text: str) -> float:
    """Read a number as the document writes it: 8,192 or 2^31 or 1/40."""
    base, _, exponent = text.replace(",", "").partition("^")
    return float(Fraction(base)) ** int(exponent or 1)


def value(name: str) -> object:
    return getattr(limits.Timers(), name.removeprefix("Timers.")) if "." in name else getattr(limits, name)


def by_section() -> list[tuple[str, str]]:
    """Every name in limits.py and the section under which it stands, in the order of the file."""
    found, section = [], ""
    for line in Path(limits.__file__).read_text().splitlines():
        if heading := re.fullmatch(r" *# ([0-9.]+?)\.? (\D.*)", line):
            section = heading[1]
            assert SECTIONS[section][0] == heading[2]
        elif name := re.match(r"([A-Z_]+): |    (\w+): (?:float|int) =", line):
            found.append((section, name[1] or f"Timers.{name[2]}"))
    return found


LIMITS = [(section, name.strip("`"), said, quoted.strip('"')) for section, name, said, quoted in rows("7", 4)]


@pytest.mark.parametrize(("section", "name", "said", "quoted"), LIMITS, ids=lambda part: str(part)[:30])
def test_a_limit_has_the_value_that_the_document_says(section: str, name: str, said: str, quoted: str) -> None:
    real = value(name)
    said_numbers = said.split(", ")
    assert tuple(map(number, said_numbers)) == pytest.approx(real if isinstance(real, tuple) else (real,))
    assert quoted in " ".join(SECTIONS[section][1].split())
    if "/" not in said:  # a part of something, which the text calls otherwise
        assert set(said_numbers) <= set(re.findall(r"[\d.,^]*\d", quoted))


def test_every_limit_is_in_the_document_under_its_section() -> None:
    names = {name for name in vars(limits) if name.isupper()}
    timers = {f"Timers.{field.name}" for field in dataclasses.fields(limits.Timers)}
    assert {name for _, name in by_section()} == names | timers
    assert sorted(by_section()) == sorted((section, name) for section, name, _, _ in LIMITS)
    order = [section for section, _, _, _ in LIMITS]
    assert order == sorted(order, key=list(SECTIONS).index)


# States.


@pytest.mark.parametrize(
    ("table", "state", "event"),
    [
        (states.SESSION, states.SessionState, states.SessionEvent),
        (states.PEER, states.PeerState, states.PeerEvent),
    ],
    ids=["session", "peer"],
)
def test_the_tables_of_states_are_those_of_the_code(
    table: dict[tuple[Enum, Enum], Enum], state: type[Enum], event: type[Enum]
) -> None:
    names = state.__members__
    said = {
        (names[name], event(when)): names[after]
        for before, when, after, _ in rows("3.3", 4)
        for name in before.split(", ")
        if name in names and when in {each.value for each in event}
    }
    assert said == table
    assert [row for row in rows("3.3", 2) if row[0] in names] == [[each.name, each.value] for each in state]
