"""Measures kernels against their plain definitions. Behind `fastrl bench kernels`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from fastrl import _core, advantages, ops


def bench_gae(
    *, num_steps: int = 128, num_envs: int = 1024, repeats: int = 15, device: str = "cpu"
) -> dict[str, object]:
    """Times the definition of GAE and its kernels in turns, torch on one thread.

    Timed: `definition`, `advantages.gae`; `ops`, `ops.gae` as a user calls it; and on the CPU
    `twin`, the C++ function alone, into an array that is already there. A repeat times one call
    of the definition and as many of each kernel as take about as long, so that the load of other
    processes meets all alike. A ratio is the median of the ratios within a repeat.

    Args:
        num_steps: T.
        num_envs: N.
        repeats: Timed rounds, at least 5.
        device: "cpu" or "cuda".

    Returns:
        Plain data: median, fastest and slowest of each in microseconds, and the ratios.

    Raises:
        ValueError: Fewer than five repeats.
    """
    if repeats < 5:
        raise ValueError(f"repeats must be at least 5, got {repeats}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        candidates = _candidates(_rollout(num_steps, num_envs, device))
        definition = candidates["definition"]
        for function in candidates.values():  # warm up: first calls compile and touch the memory
            _microseconds(function, 10)
        calls = {
            name: max(1, round(_microseconds(definition, 1) / _microseconds(function, 10)))
            for name, function in candidates.items()
        }
        rounds = [
            {name: _microseconds(f, calls[name]) for name, f in candidates.items()}
            for _ in range(repeats)
        ]
    finally:
        torch.set_num_threads(threads)
    return {
        "kernel": "gae",
        "device": torch.cuda.get_device_name(device) if device != "cpu" else "cpu",
        "num_steps": num_steps,
        "num_envs": num_envs,
        "dtype": "float32",
        "torch_threads": 1,
        "repeats": repeats,
        "microseconds": {name: _spread([r[name] for r in rounds]) for name in candidates},
        "ratio": {
            name: statistics.median(r["definition"] / r[name] for r in rounds)
            for name in candidates
            if name != "definition"
        },
    }


def _candidates(rollout: list[Tensor]) -> dict[str, Callable[[], Tensor]]:
    def definition() -> Tensor:
        return advantages.gae(*rollout, gamma=0.99, gae_lambda=0.95)

    def kernel() -> Tensor:
        return ops.gae(*rollout, gamma=0.99, gae_lambda=0.95)

    if rollout[0].is_cuda:
        return {"definition": definition, "ops": kernel}

    rewards, values, next_values, terminated, truncated = [x.numpy() for x in rollout]
    out = torch.empty_like(rollout[0])
    written = out.numpy()

    def twin() -> Tensor:
        _core.gae(rewards, values, next_values, terminated, truncated, 0.99, 0.95, written)
        return out

    return {"definition": definition, "ops": kernel, "twin": twin}


def _rollout(num_steps: int, num_envs: int, device: str) -> list[Tensor]:
    shape = (num_steps, num_envs)
    rng = torch.Generator().manual_seed(1)
    floats = [torch.randn(shape, generator=rng) for _ in range(3)]
    ends = [torch.rand(shape, generator=rng) < 0.01 for _ in range(2)]
    return [x.to(device) for x in floats + ends]


def _microseconds(function: Callable[[], Tensor], calls: int) -> float:
    last = function()
    _synchronize(last)
    start = time.perf_counter()
    for _ in range(calls):
        last = function()
    _synchronize(last)
    return (time.perf_counter() - start) / calls * 1e6


def _synchronize(result: Tensor) -> None:
    if result.is_cuda:
        torch.cuda.synchronize(result.device)


def _spread(microseconds: list[float]) -> dict[str, float]:
    return {
        "median": statistics.median(microseconds),
        "min": min(microseconds),
        "max": max(microseconds),
    }
