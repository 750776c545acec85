"""Builds fastrl._core and ships its sources; all else about the package is in pyproject.toml."""

import shutil
import subprocess
import sys
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension, build_ext
from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def sources(*patterns: str) -> list[str]:
    """Files of the native part, relative to the root."""
    return sorted(
        str(path.relative_to(ROOT))
        for folder in ("csrc", "envs")
        for pattern in patterns
        for path in (ROOT / folder).rglob(pattern)
    )


def generate(folder: Path) -> None:
    """Runs every envs/<game>/make_<what>.py: it writes <what>_generated.h below `folder`."""
    for program in sources("make_*.py"):
        name = Path(program).stem.removeprefix("make_") + "_generated.h"
        target = folder / Path(program).with_name(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, ROOT / program, target], check=True)


class BuildGenerated(build_ext):
    """Generates headers beside the object files, then compiles."""

    def build_extensions(self) -> None:
        """All extensions; there is one."""
        folder = Path(self.build_temp).absolute() / "generated"
        generate(folder)
        for extension in self.extensions:
            extension.include_dirs.append(str(folder))
        super().build_extensions()


class BuildWithHeaders(build_py):
    """Copies the headers (games in C++) and the CUDA sources (compiled at first use)."""

    def run(self) -> None:
        """Builds the Python files, then copies; an editable install reads the tree itself."""
        super().run()
        if self.editable_mode:
            return
        include = Path(self.build_lib, "fastrl/include")
        for source in sources("*.h", "*.cu", "*.json"):
            target = include / source
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / source, target)
        generate(include)


ParallelCompile(default=0, needs_recompile=lambda *_: True).install()

setup(
    ext_modules=[
        Pybind11Extension(
            "fastrl._core",
            sorted(
                str(path.relative_to(ROOT))
                for folder in ("csrc/bindings", "csrc/ops")
                for path in (ROOT / folder).glob("*.cpp")
            ),
            include_dirs=["."],
            depends=sources("*.h", "*.cu", "*.json", "*.py"),
            cxx_std=20,
            # No contraction: floats are the same on every machine that builds this. At -O3 gcc
            # makes jumps of last calls, which envs/atari/threaded.h has to know.
            extra_compile_args=[
                "-O3",
                "-ffp-contract=off",
                "-Wall",
                "-Wextra",
                "-DFASTRL_TAIL_CALLS",
            ],
        )
    ],
    cmdclass={"build_py": BuildWithHeaders, "build_ext": BuildGenerated},
)
