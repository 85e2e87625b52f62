"""All of the data plane is compiled or none is, and no hot line of it handles Python objects."""

import html
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tap2tap.counters import DataPlane
from tap2tap.workers import arena
from tap2tap.workers.worker import data_plane
from tests.conftest import lacking

ROOT = Path(__file__).parents[2]
MODULES = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "tap2tap").rglob("*.pxd"))

# How Cython took the lines of a module (build/cython/**/M.html); the score of a line is how much Python is in it.
LINE = re.compile(r'<pre class="cython line score-(\d+)"[^>]*>\+?<span class="">(\d+)</span>: (.*?)</pre>')
DEFINITION = re.compile(r"(\s*)(?:cpdef|cdef|def)\s+(?:[\w\[\]:,* ]+[ *])?(\w+)\(")
CLASS = re.compile(r"(?:cdef )?class (\w+)")
MOST = 20

# Functions that are not hot, or may ask Python, by the end of the name and why.
EXCEPT = {
    "__init__": "once a worker",
    "aead.address": "once a worker",
    "arena.Arena.put": "what the link process sends: a few bytes now and then",
    "udp.refused": "once a worker",
    "udp.Outgoing.aim": "the peer moved",
    "backlog.Backlog.admit": "pauses the worker",
    "backlog.Backlog._add": "once a message: items of three memory views",
    "backlog.Backlog._leave": "once a message: items of three memory views",
    "backlog._now": "the clock, which Python asks",
    "gather.fail": "an error",
    "write.Writer.lose": "an error",
    "write.Writer.pause": "an error, once in a while",
    "write.Writer.resume": "only where super-frames were refused",
    "send.Sender._singly": "only where trains were refused",
    "send.Sender._switch_off": "once in a while: a log line",
    "send.Sender._drop": "an error",
    "send.Sender._explain": "an error",
    "peer.PeerFilter._moves": "the peer moved",
    "peer.PeerFilter.answers": "an empty datagram",
    "peer.PeerFilter.rest": "once a second at most",
    "peer.Address.current": "the peer moved, seen by the check of its slots",
    "plain.PlainOpen.idle": "once a second at most",
    "plain.PlainOpen._answer": "once in seconds",
    "plain.PlainSeal.control": "never",
    "plain.PlainSeal.too_long": "an error",
    "open.SecureOpen.idle": "once a second at most",
    "open.SecureOpen._where": "the source is another",
    "open.SecureOpen._note": "a message to the link process, where the peer moved: once a run",
    "seal.SecureSeal._obey": "once a train: the clock",
    "seal.SecureSeal._read": "an order of the link process",
    "seal.SecureSeal.obey": "an order of the link process",
    "seal.SecureSeal.control": "an order of the link process",
    "seal.SecureSeal.too_long": "an error",
    "complaints.Complaints._explain": "a log line",
    "complaints.Complaints.too_long": "an error",
    "open.SecureOpen._control": "a message to the link process",
    "sessions.Sessions._set_until": "an order of the link process, or the end of a session",
    "sessions.Sessions.obey": "an order of the link process",
    "sessions.Sessions.expire": "once a second at most",
    "sessions.Sessions._start": "a new session",
}
# Calls of Python that are made once a train at most, and what raises.
ONCE_A_TRAIN = ("clock.now", "pin.look(", "fail(")
UNTIL_THE_LOOP = {"outbound.outbound", "inbound.inbound"}  # what these do before their `while True` is done once


class Line(NamedTuple):
    """One line of a module, as Cython took it."""

    function: str  # module.Class.function, or module.Class for what stands in no function
    number: int
    score: int
    text: str
    definition: bool


def annotated(module: str) -> Iterator[Line]:
    """The lines of a module that was compiled."""
    page = ROOT / "build/cython" / (module.replace(".", "/") + ".html")
    if not page.exists():
        lacking(f"no {page}: make .venv/built")
    short = module.rpartition(".")[2]
    room, function, indent = "", "", -1
    for score, number, code in LINE.findall(page.read_text()):
        text = html.unescape(re.sub("<[^>]+>", "", code))
        here = len(text) - len(text.lstrip())
        if text.strip() and here <= indent and not text.strip().startswith(")"):
            function, indent = "", -1
        if found := CLASS.match(text):
            room = found[1]
        elif text.strip() and not here and not text.startswith((")", "#", "@")):
            room = ""
        definition = DEFINITION.match(text)
        if definition:
            function, indent = definition[2], here
        name = ".".join(part for part in (short, room, function) if part)
        yield Line(name, int(number), int(score), text, bool(definition))


@pytest.fixture
def compiled(request: pytest.FixtureRequest) -> None:
    """Modules that are compiled."""
    if request.config.getoption("--interpreted"):
        pytest.skip("the sources are what is tested")
    if data_plane() is not DataPlane.COMPILED:
        lacking("the data plane is interpreted: no compiler at install")


@pytest.mark.usefixtures("compiled")
def test_every_module_with_types_is_compiled() -> None:
    assert "tap2tap.workers.outbound" in MODULES
    assert not [name for name in MODULES if not str(importlib.import_module(name).__file__).endswith(".so")]


def test_none_is_where_the_arena_is_not(request: pytest.FixtureRequest) -> None:
    if data_plane() is DataPlane.COMPILED:
        pytest.skip("the data plane is compiled")
    assert data_plane() is DataPlane.INTERPRETED
    assert str(arena.__file__).endswith("arena.py")
    assert not [name for name in MODULES if not str(importlib.import_module(name).__file__).endswith(".py")]
    if not request.config.getoption("--interpreted"):
        assert not list((ROOT / "tap2tap").rglob("*.so"))


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("module", MODULES)
def test_no_hot_line_handles_python_objects(module: str) -> None:
    lines = list(annotated(module))
    assert len(lines) > 5
    looping, slow = False, []
    for line in lines:
        looping = looping or line.text.strip() == "while True:"
        body = "." in line.function and not line.definition and line.text.startswith(" ")
        setup = line.function in UNTIL_THE_LOOP and not looping
        excused = line.function.endswith(tuple(EXCEPT)) or line.text.strip().startswith("raise ")
        if body and not setup and not excused and not any(call in line.text for call in ONCE_A_TRAIN):
            slow += [line] * (line.score > MOST)
    assert not slow


@pytest.mark.usefixtures("compiled")
def test_the_exceptions_are_functions_that_are_there() -> None:
    functions = {line.function for module in MODULES for line in annotated(module)}
    assert not [name for name in EXCEPT if not any(function.endswith(name) for function in functions)]
