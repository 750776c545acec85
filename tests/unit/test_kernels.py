"""The NVRTC loader, without a GPU where that is possible."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from fastrl import kernels, ops
from fastrl.bench_kernels import bench_kernel

SOURCE = "csrc/ops/advantages.cu"
KERNELS = {
    SOURCE: ("gae_kernel", "blend_kernel"),
    "csrc/ops/horizon.cu": ("horizon_kernel", "lag_rewards_kernel"),
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty kernel cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "fastrl" / "kernels"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The architectures compiled so far in this test."""
    done: list[str] = []
    compile_for_real = kernels._compile

    def compile_and_count(source: str, arch: str) -> bytes:
        done.append(arch)
        return compile_for_real(source, arch)

    monkeypatch.setattr(kernels, "_compile", compile_and_count)
    return done


@pytest.mark.parametrize("source", KERNELS)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_the_kernels_compile_without_a_gpu(arch: str, source: str, cache: Path) -> None:
    code = kernels.cubin(source, arch)
    assert code.startswith(b"\x7fELF")
    for name in KERNELS[source]:
        assert name.encode() in code


@pytest.mark.parametrize("source", KERNELS)
def test_no_kernel_has_a_fused_multiply_add(source: str) -> None:
    """Contraction would make its bits differ from the CPU's."""
    from cuda.bindings import nvrtc

    text = (kernels.source_dir() / source).read_bytes()
    options = [
        b"-arch=compute_80",
        f"-std={kernels.NVRTC_FLAGS['std']}".encode(),
        f"--fmad={str(kernels.NVRTC_FLAGS['fma']).lower()}".encode(),
        f"-I{kernels.source_dir()}".encode(),
    ]
    _, program = nvrtc.nvrtcCreateProgram(text, source.encode(), 0, [], [])
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS
    _, size = nvrtc.nvrtcGetPTXSize(program)
    ptx = bytearray(size)
    nvrtc.nvrtcGetPTX(program, ptx)
    assert b"mul.f32" in ptx or b"mul.rn.f32" in ptx
    assert b"fma" not in ptx


def test_a_kernel_is_compiled_once_per_architecture(cache: Path, compilations: list[str]) -> None:
    first = kernels.cubin(SOURCE, "sm_90")
    assert kernels.cubin(SOURCE, "sm_90") == first
    kernels.cubin(SOURCE, "sm_80")
    assert compilations == ["sm_90", "sm_80"]
    assert len(list(cache.iterdir())) == 2  # nothing temporary is left


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b"\0" + b[1:]])
def test_a_damaged_cache_entry_is_compiled_again(damage, cache: Path, compilations: list[str]):
    good = kernels.cubin(SOURCE, "sm_90")
    (entry,) = cache.iterdir()
    entry.write_bytes(damage(entry.read_bytes()))

    assert kernels.cubin(SOURCE, "sm_90") == good
    assert kernels.cubin(SOURCE, "sm_90") == good

    assert len(compilations) == 2


@pytest.mark.parametrize("changed", ["advantages.h", "device.h"])
def test_a_changed_header_is_compiled_again(
    changed: str,
    tmp_path: Path,
    cache: Path,
    compilations: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "csrc" / "ops"
    shutil.copytree(kernels.source_dir() / "csrc" / "ops", folder)
    monkeypatch.setattr(kernels, "source_dir", lambda: tmp_path)
    kernels.cubin(SOURCE, "sm_90")

    with (folder / changed).open("a") as header:
        header.write("// another line\n")
    kernels.cubin(SOURCE, "sm_90")

    assert len(compilations) == 2


def test_a_cache_that_cannot_be_written_is_reported_and_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot keep it"):
        assert kernels.cubin(SOURCE, "sm_90")


def test_missing_cuda_core_is_named_with_the_command_that_installs_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(kernels.CudaUnavailableError, match=r"cuda-core.*pip install 'fastrl\[cu"):
        kernels.cubin(SOURCE, "sm_90")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_named() -> None:
    with pytest.raises(kernels.CudaUnavailableError, match="CUDA device 0 cannot be used"):
        kernels.load(SOURCE, "gae_kernel", 0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("num_steps", "num_envs"), [(1, 1), (5, 33), (128, 1024), (128, 100_003)])
def test_the_cuda_kernel_equals_the_cpu_twin_in_every_bit(num_steps: int, num_envs: int) -> None:
    shape = (num_steps, num_envs)
    rng = torch.Generator().manual_seed(1)
    rollout = {k: torch.randn(shape, generator=rng) for k in ("rewards", "values", "next_values")}
    rollout |= {k: torch.rand(shape, generator=rng) < 0.1 for k in ("terminated", "truncated")}

    on_gpu = ops.gae(**{k: x.cuda() for k, x in rollout.items()}, gamma=0.99, gae_lambda=0.95)

    assert torch.equal(on_gpu.cpu(), ops.gae(**rollout, gamma=0.99, gae_lambda=0.95))


def test_bench_kernel_reports_plain_data() -> None:
    report = bench_kernel("gae", num_steps=4, num_envs=8, repeats=5)
    assert json.loads(json.dumps(report)) == report
    assert (report["num_steps"], report["num_envs"], report["repeats"]) == (4, 8, 5)
    with pytest.raises(ValueError, match="at least 5, got 4"):
        bench_kernel("gae", repeats=4)
    with pytest.raises(ValueError, match=r"one of gae, .*got 'vtrace'"):
        bench_kernel("vtrace")
