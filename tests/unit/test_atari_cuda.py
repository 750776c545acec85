"""The Atari console as CUDA code: compiled, which needs no GPU."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="needs cuda-bindings and NVRTC")

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "tests/native/atari_cuda.cu"


def compile_to_ptx(source: Path, include: list[Path]) -> str:
    """With every standard header empty: the source brings its own."""
    headers = set()
    for folder in ("csrc/core", "envs/atari"):
        for file in (ROOT / folder).glob("*.h"):
            headers |= set(re.findall(rb"#include <(.+)>", file.read_bytes()))
    names = sorted(headers)
    status, program = nvrtc.nvrtcCreateProgram(
        source.read_bytes(), source.name.encode(), len(names), [b"\n"] * len(names), names
    )
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS
    options = [b"-std=c++20", b"-arch=compute_80", b"-default-device", b"--fmad=false"]
    options += [f"-I{folder}".encode() for folder in include]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    _, size = nvrtc.nvrtcGetPTXSize(program)
    ptx = bytearray(size)
    nvrtc.nvrtcGetPTX(program, ptx)
    return ptx.decode()


def test_the_console_compiles_for_cuda(tmp_path: Path) -> None:
    header = tmp_path / "envs/atari/games_generated.h"
    header.parent.mkdir(parents=True)
    subprocess.run([sys.executable, ROOT / "envs/atari/make_games.py", header], check=True)

    ptx = compile_to_ptx(SOURCE, [ROOT, tmp_path])

    assert ".entry atari_act(" in ptx
    assert ".extern" not in ptx
