"""CUDA kernels from csrc/, compiled at first use by NVRTC and kept on disk.

Neither installing nor running fastrl needs nvcc. Compiling needs no GPU; loading does. The
packages behind it are optional (`pip install 'fastrl[cuda]'`) and imported at first use.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import fastrl

INSTALL_COMMAND = "pip install 'fastrl[cuda]'"
# The twins on the CPU do not contract a * b + c either: equal bits on both sides.
NVRTC_FLAGS = {"std": "c++20", "fma": False}

_INCLUDE = re.compile(rb'^#include "(.+)"', re.MULTILINE)
_DIGEST_SIZE = hashlib.sha256().digest_size


class CudaUnavailableError(RuntimeError):
    """A part that CUDA kernels need is missing; the message names it and what installs it."""


def source_dir() -> Path:
    """The folder that `#include "csrc/..."` starts from, in a checkout or an installed package."""
    return Path(fastrl.get_include())


def cache_dir() -> Path:
    """Where compiled kernels are kept: `$XDG_CACHE_HOME/fastrl/kernels`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore a relative path.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "fastrl" / "kernels"


def cubin(source: str, arch: str) -> bytes:
    """The compiled form of a CUDA source, from the cache if it is there. Needs no GPU.

    Args:
        source: Path below `source_dir()`, such as "csrc/ops/advantages.cu".
        arch: Real architecture, such as "sm_90".

    Raises:
        CudaUnavailableError: cuda-core or NVRTC is not installed.
    """
    cuda_core()  # first, so that the package missing most often is the one named
    parts = [repr((arch, _nvrtc_version(), sorted(NVRTC_FLAGS.items()))).encode()]
    parts += [path.encode() + b"\0" + text for path, text in _sources(source).items()]
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()
    entry = cache_dir() / f"{Path(source).stem}-{arch}-{key[:32]}.cubin"

    cached = _read_entry(entry)
    if cached is not None:
        return cached
    code = _compile(source, arch)
    try:
        _write_entry(entry, code)
    except OSError as error:
        warnings.warn(f"compiled {source} but cannot keep it: {error}", stacklevel=2)
    return code


@functools.cache
def load(source: str, kernel: str, device: int) -> Any:
    """A `cuda.core.Kernel` ready to launch on CUDA device `device`, compiled for its architecture.

    Raises:
        CudaUnavailableError: cuda-core, NVRTC, the driver or the GPU is missing.
    """
    core = cuda_core()
    try:
        gpu = core.Device(device)
        gpu.set_current()
        arch = f"sm_{gpu.arch}"
    except Exception as error:  # the driver's own errors share no narrower base class
        raise CudaUnavailableError(
            f"CUDA device {device} cannot be used: {error}. Kernels need an NVIDIA GPU and its "
            "driver (https://www.nvidia.com/drivers); everything else runs on the CPU."
        ) from error
    return core.ObjectCode.from_cubin(cubin(source, arch)).get_kernel(kernel)


def cuda_core() -> Any:
    """The module `cuda.core`; untyped, because it gets its names at run time."""
    try:
        return importlib.import_module("cuda.core")
    except ImportError as error:
        raise CudaUnavailableError(
            f"CUDA kernels need the package cuda-core >= 1.0 ({error}): {INSTALL_COMMAND}"
        ) from error


def _nvrtc_version() -> tuple[int, int]:
    try:
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
        status, major, minor = nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:  # the loader's "library not found" is the latter
        raise CudaUnavailableError(
            f"CUDA kernels need the packages cuda-bindings and nvidia-cuda-nvrtc ({error}): "
            f"{INSTALL_COMMAND}"
        ) from error
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, status
    return major, minor


def _sources(source: str) -> dict[str, bytes]:
    """The file and everything of ours that it includes: what the compiled form depends on."""
    found: dict[str, bytes] = {}
    pending = [source]
    while pending:
        path = pending.pop()
        if path not in found:
            found[path] = (source_dir() / path).read_bytes()
            pending += [name.decode() for name in _INCLUDE.findall(found[path])]
    return dict(sorted(found.items()))


def _compile(source: str, arch: str) -> bytes:
    core = cuda_core()
    root = source_dir()
    options = core.ProgramOptions(
        name=source, arch=arch, include_path=os.fspath(root), **NVRTC_FLAGS
    )
    text = (root / source).read_text(encoding="utf-8")
    return bytes(core.Program(text, "c++", options).compile("cubin").code)


def _read_entry(entry: Path) -> bytes | None:
    """The cached code, or None if there is none or its digest does not match."""
    try:
        content = entry.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write_entry(entry: Path, code: bytes) -> None:
    """Digest, then code, under a name that appears only once it is whole."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=entry.parent, delete=False) as file:
        try:
            file.write(hashlib.sha256(code).digest() + code)
            file.close()
            os.replace(file.name, entry)
        except OSError:
            os.unlink(file.name)
            raise
