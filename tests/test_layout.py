"""The architecture: who may import whom, how large a file may be, and that each says what it is for."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tap2tap"
FILES = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")])
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
CONTROL_PLANE_ONLY = {"pyroute2", "psutil", "argparse"}

# From the top to the bottom: a layer may import those below it, and never one above.
TOP = {"__main__", "cli", "commands", "demo"}


def layer(module: str) -> int:
    """The height of a module: commands 3, supervisor 2, workers and link process 1, what is shared 0."""
    _, _, name = module.partition(".")
    if name.startswith("supervisor"):
        return 2
    if name.partition(".")[0] in ("workers", "link"):
        return 1
    return 3 if name.partition(".")[0] in TOP else 0


def imports(path: Path, *, at_once: bool = False) -> Iterator[str]:
    """Every module that a file imports; `at_once`: less what only its functions do."""
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if at_once and isinstance(node, ast.FunctionDef)]
    later = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if id(node) in later:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


def test_the_arrow_points_from_cli_to_supervisor_to_workers_to_what_is_shared() -> None:
    back = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in imports(path)
        if other.startswith("tap2tap.") and layer(other) > layer(module)
    ]
    assert not back


def test_workers_and_link_process_know_nothing_of_one_another() -> None:
    planes = {"tap2tap.workers", "tap2tap.link"}
    across = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in imports(path)
        for plane in planes
        if module.startswith(plane) and other.startswith(tuple(planes - {plane}))
    ]
    assert not across


def test_the_supervisor_loads_nothing_that_computes_with_keys() -> None:
    code = "import sys, tap2tap.cli, tap2tap.supervisor.main; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "tap2tap.link.messages" in loaded
    assert not {"tap2tap.keys", "tap2tap.link.life", "tap2tap.protocols.secure.link", "cryptography"} & {*loaded}


def test_no_worker_loads_what_only_the_control_plane_needs() -> None:
    seen: set[str] = set()
    todo = [name for name in MODULES if name.startswith("tap2tap.workers")]
    while todo:
        name = todo.pop()
        if name in MODULES and name not in seen:
            todo.extend(imports(MODULES[name], at_once=True))
        seen.add(name)
    assert "tap2tap.workers.outbound" in seen
    assert not {name.split(".")[0] for name in seen} & CONTROL_PLANE_ONLY


def test_a_process_that_imports_the_workers_has_loaded_nothing_of_the_control_plane() -> None:
    code = "import sys, tap2tap.workers.outbound, tap2tap.workers.inbound; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "numpy" not in loaded
    assert not loaded & CONTROL_PLANE_ONLY
    assert not [name for name in loaded if name.startswith("tap2tap.supervisor")]


def test_every_file_begins_by_saying_what_it_is_for() -> None:
    silent = [path for path in FILES if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_no_file_is_too_long_to_read() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: length for name, length in lengths.items() if length > 300}


@pytest.mark.parametrize("name", ["workers", "supervisor"])
def test_the_planes_are_seen_at_the_top(name: str) -> None:
    link = ROOT / name
    if link.is_symlink():  # a checkout without symbolic links has files there, or nothing
        assert link.resolve() == PACKAGE / name


def test_nothing_is_imported_by_the_bare_names_of_the_links() -> None:
    wrong = [path for path in FILES if {name.split(".")[0] for name in imports(path)} & {"workers", "supervisor"}]
    assert not wrong


def test_workers_load_nothing_of_handshakes_and_key_files() -> None:
    code = (
        "import sys, tap2tap.workers.inbound, tap2tap.workers.outbound\n"
        "print(*sorted(each for each in sys.modules if each.startswith('tap2tap')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    secure = "tap2tap.protocols.secure."
    assert {each.removeprefix(secure) for each in loaded if each.startswith(secure)} == {
        *("wire", "limits", "mac", "mailbox", "recent"),
    }
    assert "tap2tap.keys" not in loaded
    assert not [each for each in loaded if each.startswith("tap2tap.supervisor")]


def test_the_map_of_the_supervisor_names_every_module_of_it() -> None:
    folder = PACKAGE / "supervisor"
    named = re.findall(r"\w+", (folder / "__init__.py").read_text())
    assert not {path.stem for path in folder.glob("*.py")}.difference(named, {"__init__"})
