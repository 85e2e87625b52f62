"""Builds the data plane: what has a .pxd beside it is compiled by Cython where there is a compiler, else it runs as it is.

A module is either one Python source, M.py with its types in M.pxd, or one of two implementations of one interface:
M.pyx where it is compiled, M.py where it is not. All are compiled or none is.
"""

import os
import warnings
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

ROOT = Path(__file__).parent
DIRECTIVES = {
    "language_level": 3,
    "infer_types": True,  # locals have the type of what they are set to: the .pxd declares nothing but what is shared
    "annotation_typing": False,  # annotations are for mypy: an int there may be a C integer
    "wraparound": False,  # a negative index is a mistake
}


def modules() -> list[Extension]:
    """Every module that is compiled."""
    found = []
    for types in sorted((ROOT / "tap2tap").rglob("*.pxd")):
        source = next(path for path in (types.with_suffix(".pyx"), types.with_suffix(".py")) if path.exists())
        name = ".".join(source.relative_to(ROOT).with_suffix("").parts)
        found.append(Extension(name, [str(source.relative_to(ROOT))], extra_compile_args=["-O3"]))
    return found


class Build(build_ext):
    """Builds all extensions, or leaves none behind where that is not possible."""

    def finalize_options(self) -> None:
        """Translate them to C."""
        try:
            if os.environ.get("TAP2TAP_INTERPRETED"):
                raise ImportError("TAP2TAP_INTERPRETED is set")
            from Cython.Build import cythonize

            self.distribution.ext_modules = cythonize(
                modules(), build_dir="build/cython", compiler_directives=DIRECTIVES, annotate=True, quiet=True
            )
        except ImportError as error:
            self._give_up(error)
        super().finalize_options()

    def run(self) -> None:
        """Compile them; where that fails, the Python sources are what runs."""
        try:
            super().run()
        except (BaseError, CCompilerError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        warnings.warn(f"the data plane will be interpreted, a quarter as fast: {error}", stacklevel=1)
        self.distribution.ext_modules = self.extensions = []
        for stale in (ROOT / "tap2tap").rglob("*.so"):
            stale.unlink()


setup(ext_modules=modules(), cmdclass={"build_ext": Build})
