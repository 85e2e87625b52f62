"""The documents say what is so: lines of the log, options, figures, and files that are there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tap2tap import peer_record
from tap2tap.commands.tunnel import tunnel_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```log\n(.*?)^```$", (ROOT / "docs/situations.md").read_text(), re.MULTILINE | re.DOTALL)
QUOTED = [line for block in BLOCKS for line in block.splitlines()]
FACT = re.compile(r" ([a-z_]+)=('[^']*'|\"[^\"]*\"|[^ '\"]+)")
FACTS = re.compile(f"(?:{FACT.pattern})*$")
# What an example may choose: an address, a name, a number; what the C library says; a program.
LIBRARY = ("Temporary failure in name resolution", "Name or service not known", "Operation not permitted")
VALUE = re.compile("|".join([r"[^ ]{0,60}", r"qemu-system-x86 \(pid 712\)", *map(re.escape, LIBRARY)]))


class Template(NamedTuple):
    """A text of the program, with a group for each thing that it inserts, and the facts that are told with it.

    Without a text: facts that are told with one that is chosen elsewhere.
    """

    text: re.Pattern[str] | None
    facts: set[str]


def templates() -> Iterator[Template]:
    """All of the program."""
    for path in sorted((ROOT / "tap2tap").rglob("*.py")):
        tree = ast.parse(path.read_text())
        alone = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
        docstrings = {id(node) for node in alone if isinstance(node, ast.Constant)}
        for node in ast.walk(tree):
            if id(node) in docstrings:
                continue
            if isinstance(node, ast.Call) and node.args:
                text = pattern(node.args[0])
                if text or isinstance(node.args[0], ast.Name):
                    yield Template(text, {name for word in node.keywords for name in facts(word)})
            if text := pattern(node):
                yield Template(text, set())


def facts(word: ast.keyword) -> Iterator[str]:
    """The name of a fact, or those that a dictionary may give."""
    if word.arg:
        yield word.arg
        return
    for node in ast.walk(word.value):
        keys = node.keys if isinstance(node, ast.Dict) else []
        yield from (key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))


def pattern(node: ast.AST) -> re.Pattern[str] | None:
    """What the text of an expression may be, if it is one and says anything."""
    pieces = node.values if isinstance(node, ast.JoinedStr) else [node]
    known = [piece.value for piece in pieces if isinstance(piece, ast.Constant) and isinstance(piece.value, str)]
    if len("".join(known)) < 5:
        return None
    return re.compile("".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else "(.*)" for p in pieces))


TEMPLATES = list(templates())


def is_said(text: str, facts: set[str]) -> bool:
    """Whether the program may say this text with these facts."""
    for template in TEMPLATES:
        if not facts <= template.facts:
            continue
        if template.text is None:
            if facts and is_said(text, set()):
                return True
        elif (found := template.text.fullmatch(text)) and all(map(fits, found.groups())):
            return True
    return False


def fits(inserted: str) -> bool:
    """Whether an example may insert this, or it is a text of the program again."""
    return bool(VALUE.fullmatch(inserted.strip("'"))) or is_said(inserted, set())


@pytest.mark.parametrize("line", QUOTED)
def test_a_line_of_the_log_is_one_that_there_is(line: str) -> None:
    text = line.removeprefix("warning: ")
    found = FACTS.search(text)
    assert found
    facts = dict(FACT.findall(found[0]))
    assert is_said(text[: found.start()], {*facts})
    for value in facts.values():
        assert fits(value[1:-1] if value[0] in "'\"" else value), value


def test_a_line_that_nobody_says_is_found() -> None:
    assert is_said("peer is up", {"endpoint"})
    assert not is_said("peer is up", {"colour"})
    assert not is_said("the remote has another name", set())
    assert not is_said("--bind 192.0.2.1: this host is not there; waiting for it", set())
    assert len(QUOTED) > 40


def test_the_readme_lists_the_options_that_there_are() -> None:
    table = README.split("## Options\n\n")[1].split("\n\n")[0]
    listed = {option for row in table.splitlines() for option in re.findall(r"`(-[^` ]+)", row.split("|")[1])}
    assert listed == {option for action in tunnel_parser("tap2tap")._actions for option in action.option_strings} - {
        *("--verbose", "--quiet", "--help", "--version")
    }


def test_the_readme_knows_how_much_is_remembered() -> None:
    assert f"it keeps one file of {peer_record.LENGTH} bytes" in " ".join(README.split())


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]
