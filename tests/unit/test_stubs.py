"""The stubs of the native module are what pybind11-stubgen reads from it."""

import subprocess
import sys
from pathlib import Path

import fastrl


def test_the_stubs_are_those_of_the_module(tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "pybind11_stubgen", "fastrl._core", "-o", tmp_path, "--exit-code"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    package = Path(fastrl.__file__).parent
    fresh = (tmp_path / "fastrl" / "_core.pyi").read_text()
    assert (package / "_core.pyi").read_text() == fresh, "run `make stubs` and commit the result"
    assert (package / "py.typed").exists()
