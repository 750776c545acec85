"""Compiles the C++ of tests/native that Python tests drive."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

import pybind11

ROOT = Path(__file__).resolve().parents[2]
COMPILE = (
    "g++ -std=c++20 -O2 -ffp-contract=off -shared -fPIC -DFASTRL_DEBUG"
    " -Wall -Wextra -Wconversion -Wshadow -Werror"
)


@cache
def build(name: str, game: str) -> ModuleType:
    """The extension module tests/native/<name>.cpp, compiled once for each state of its sources.

    Args:
        name: The module's name.
        game: The folder of envs/ that it may use, besides csrc/core. Its make_*.py are run first.
    """
    source = ROOT / f"tests/native/{name}.cpp"
    sources = [source, *sorted((ROOT / "csrc/core").glob("*.h"))]
    for pattern in ("*.h", "*.json", "*.py"):
        sources += sorted((ROOT / "envs" / game).glob(pattern))
    digest = hashlib.sha256(f"{COMPILE} {sys.version} {pybind11.__version__}".encode())
    for path in sources:
        digest.update(path.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"fastrl-test-{os.getuid()}-{digest.hexdigest()[:16]}"
    library = folder / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not library.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        include = ["-I", str(ROOT), "-I", str(generated_headers(game, folder))]
        include += ["-isystem", pybind11.get_include()]
        include += ["-isystem", sysconfig.get_path("include")]
        subprocess.run([*COMPILE.split(), *include, str(source), "-o", str(unfinished)], check=True)
        unfinished.replace(library)
    spec = importlib.util.spec_from_file_location(name, library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def generated_headers(game: str, folder: Path) -> Path:
    """Runs the make_<what>.py of a game below `folder`, from where their headers are included."""
    headers = folder / "envs" / game
    headers.mkdir(parents=True, exist_ok=True)
    for script in sorted((ROOT / "envs" / game).glob("make_*.py")):
        what = script.stem.removeprefix("make_")
        header = headers / f"{what}_generated.h"
        unfinished = header.with_suffix(f".{os.getpid()}")
        subprocess.run([sys.executable, script, unfinished], check=True)
        unfinished.replace(header)
    return folder
