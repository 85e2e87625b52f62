"""tap2tap with the sources of its data plane, even where compiled modules lie beside them.

python tests/support/interpreted.py ARGUMENTS...        as tap2tap ARGUMENTS..., and what that starts
pytest --interpreted                                    all tests, and all processes that they start
"""

import importlib
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "sources"


def environment() -> dict[str, str]:
    """The environment of a Python that runs the sources."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    kept = [path for path in paths if path not in ("", str(SOURCES))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCES), *kept])}


def compiled() -> list[str]:
    """The compiled modules of tap2tap that this process has loaded."""
    ours = [(name, module) for name, module in sys.modules.items() if name.startswith("tap2tap.")]
    return [name for name, module in ours if str(module.__file__).endswith(tuple(EXTENSION_SUFFIXES))]


def from_now_on() -> None:
    """Run the sources in this process and in all that it starts. Raises RuntimeError when it is too late."""
    if too_early := compiled():
        raise RuntimeError(f"compiled modules are loaded already: {too_early}")
    os.environ.update(environment())
    importlib.import_module("tests.support.sources.sitecustomize")


if __name__ == "__main__":
    os.execve(sys.executable, [sys.executable, "-m", "tap2tap", *sys.argv[1:]], environment())
