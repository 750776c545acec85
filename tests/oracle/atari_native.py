"""Compiles tests/native/atari_replay.cpp, once for each state of its sources."""

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
SOURCE = ROOT / "tests/native/atari_replay.cpp"
MACHINES = ("plain",)
"""The consoles there are: classes of the module."""
COMPILE = (
    "g++ -std=c++20 -O2 -ffp-contract=off -shared -fPIC -DFASTRL_DEBUG"
    " -Wall -Wextra -Wconversion -Wshadow -Werror"
)


@cache
def build() -> ModuleType:
    """The extension module."""
    sources = [SOURCE]
    for pattern in ("*.h", "*.json", "*.py"):
        sources += sorted((ROOT / "envs/atari").glob(pattern))
    sources += sorted((ROOT / "csrc/core").glob("*.h"))
    digest = hashlib.sha256(f"{COMPILE} {sys.version} {pybind11.__version__}".encode())
    for source in sources:
        digest.update(source.read_bytes())
    folder = Path(tempfile.gettempdir()) / f"fastrl-test-{os.getuid()}-{digest.hexdigest()[:16]}"
    library = folder / f"atari_replay{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not library.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        games = folder / "envs/atari/games_generated.h"
        games.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, ROOT / "envs/atari/make_games.py", games], check=True)
        include = ["-I", str(ROOT), "-I", str(folder), "-isystem", pybind11.get_include()]
        include += ["-isystem", sysconfig.get_path("include")]
        subprocess.run([*COMPILE.split(), *include, str(SOURCE), "-o", str(unfinished)], check=True)
        unfinished.replace(library)
    spec = importlib.util.spec_from_file_location("atari_replay", library)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
