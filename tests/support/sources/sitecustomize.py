"""Imports the modules of tap2tap from their sources, even where compiled ones lie beside them.

Python imports a module of this name when it starts (site), so this folder in PYTHONPATH is all that it takes.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType


class Sources:
    """A finder (sys.meta_path) that knows only source files, and only those of the package tap2tap."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module of the package in the folders `path` of its parent."""
        if not name.startswith("tap2tap.") or path is None:
            return None
        found = (FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name, target) for folder in path)
        return next((spec for spec in found if spec and spec.loader), None)


if not any(getattr(finder, "__name__", "") == Sources.__name__ for finder in sys.meta_path):
    sys.meta_path.insert(0, Sources)
