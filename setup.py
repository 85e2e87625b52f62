"""Builds the data plane: what has a .pxd beside it is compiled by Cython where there is a compiler, else runs as it is.

A module is either one Python source, M.py with its types in M.pxd, or one of two implementations of one interface:
M.pyx where it is compiled, M.py where it is not. All are compiled or none is.
"""

import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

TRANSLATED = "build/cython"  # the C sources, and how Cython took each line (M.html)
SHARED = "tap2tap.workers.memoryviews"  # Cython's own code for memory views, made once and not in every module
DIRECTIVES = {
    "language_level": 3,
    "infer_types": True,  # locals have the type of what they are set to: the .pxd declares nothing but what is shared
    "annotation_typing": False,  # annotations are for mypy: an int there may be a C integer
    "wraparound": False,  # a negative index is a mistake
    "show_performance_hints": False,  # a test reads M.html, which says more
}


class CannotCompileError(Exception):
    """There is no compiler, or what it needs."""


def modules() -> list[Extension]:
    """Every module that is compiled."""
    found = [Extension(SHARED, [SHARED.replace(".", "/") + ".c"])]
    for types in sorted(Path("tap2tap").rglob("*.pxd")):
        source = next(path for path in (types.with_suffix(".pyx"), types.with_suffix(".py")) if path.exists())
        name = ".".join(source.with_suffix("").parts)
        found.append(Extension(name, [str(source)], extra_compile_args=["-O3", "-Wno-sign-compare"]))
    return found


def require_compiler() -> None:
    """Raises CannotCompileError, which says what is missing."""
    if os.environ.get("TAP2TAP_INTERPRETED"):
        raise CannotCompileError("TAP2TAP_INTERPRETED is set")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        raise CannotCompileError(f"no compiler {compiler} (Debian's package gcc)")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise CannotCompileError(f"no {header} (Debian's package python3-dev)")
    try:
        import Cython
    except ImportError:
        raise CannotCompileError("no Cython") from None
    if tuple(map(int, Cython.__version__.split(".")[:2])) < (3, 1):
        raise CannotCompileError(f"Cython is {Cython.__version__}, 3.1 or later is needed")


def translate(extensions: list[Extension]) -> None:
    """Make their sources C. Raises CannotCompileError."""
    import Cython
    from Cython.Build import cythonize
    from Cython.Compiler.Errors import CompileError

    newest = Path(__file__).stat().st_mtime  # what was translated by other directives is no use
    outdated = any(each.stat().st_mtime < newest for each in Path(TRANSLATED).rglob("*.c"))
    try:
        made = cythonize(
            extensions,
            build_dir=TRANSLATED,
            compiler_directives=DIRECTIVES,
            shared_utility_qualified_name=SHARED,
            annotate=True,
            quiet=True,
            force=outdated or None,
        )
    except CompileError as error:  # a Cython of the future may not take what those of today do
        raise CannotCompileError(f"Cython {Cython.__version__} does not take the sources") from error
    sources = {each.name: each.sources for each in made}
    for extension in extensions:
        extension.sources = sources[extension.name]


class Build(build_ext):
    """Builds all extensions, or leaves none behind where that is not possible."""

    def initialize_options(self) -> None:
        """Use all CPUs."""
        super().initialize_options()
        self.parallel = os.cpu_count()

    def run(self) -> None:
        """Compile them; where that fails, the Python sources are what runs."""
        try:
            require_compiler()
            translate(self.extensions)
            super().run()
        except (CannotCompileError, BaseError, CCompilerError) as error:
            why = " ".join(str(error).split())
            print(
                f"warning: the data plane of tap2tap will be interpreted, several times slower: {why}", file=sys.stderr
            )
            self.distribution.ext_modules = self.extensions = []
        self._delete_all_others()

    def _delete_all_others(self) -> None:
        """Delete what an earlier build left: Python prefers any compiled module to the source beside it."""
        ours = {self.get_ext_filename(self.get_ext_fullname(each.name)) for each in self.extensions}
        folders = {Path(self.build_lib), *Path("build").glob("lib.*"), *([Path()] if self.inplace else [])}
        for folder in folders:
            for path in (folder / "tap2tap").rglob("*.so"):
                if str(path.relative_to(folder)) not in ours:
                    path.unlink()


class Wheel(bdist_wheel):
    """A wheel of this platform, or of any where nothing in it is compiled."""

    def run(self) -> None:
        """Build first: then it is known."""
        self.run_command("build")
        self.root_is_pure = not self.distribution.has_ext_modules()
        super().run()


setup(license="Apache-2.0", ext_modules=modules(), cmdclass={"build_ext": Build, "bdist_wheel": Wheel})
