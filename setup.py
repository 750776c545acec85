"""Builds fastrl._core and ships its sources; all else about the package is in pyproject.toml."""

import shutil
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithHeaders(build_py):
    """Copies the headers (games in C++) and the CUDA sources (compiled at first use)."""

    def run(self) -> None:
        """Builds the Python files, then copies; an editable install reads the tree itself."""
        super().run()
        if self.editable_mode:
            return
        for folder in ("csrc", "envs"):
            for pattern in ("*.h", "*.cu", "*.json"):
                for source in sorted((ROOT / folder).rglob(pattern)):
                    target = Path(self.build_lib, "fastrl/include", source.relative_to(ROOT))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(source, target)


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
            depends=sorted(
                str(path.relative_to(ROOT))
                for folder in ("csrc", "envs")
                for path in (ROOT / folder).rglob("*.h")
            ),
            cxx_std=20,
            # No contraction: floats are the same on every machine that builds this.
            extra_compile_args=["-O3", "-ffp-contract=off", "-Wall", "-Wextra"],
        )
    ],
    cmdclass={"build_py": BuildWithHeaders},
)
