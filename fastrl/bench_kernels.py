"""Measures kernels against their plain definitions. Behind `fastrl bench kernels`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fastrl import _core, advantages, ops

NUM_LAGS = 64
"""H of the kernels that look ahead."""


def bench_kernel(
    kernel: str,
    *,
    num_steps: int = 128,
    num_envs: int = 1024,
    repeats: int = 7,
    device: str = "cpu",
) -> dict[str, object]:
    """Times a definition and its kernels in turns, torch on one thread.

    Timed: `definition`, of `fastrl.advantages`; `ops`, the same name in `fastrl.ops` as a user
    calls it; and of gae on the CPU `twin`, the C++ function alone, into an array that is already
    there. A repeat times one call of the definition and as many of each kernel as take about as
    long, so that the load of other processes meets all alike. A ratio is the median of the ratios
    within a repeat.

    Args:
        kernel: One of `KERNELS`.
        num_steps: T.
        num_envs: N.
        repeats: Timed rounds, at least 5.
        device: "cpu" or "cuda".

    Returns:
        Plain data: median, fastest and slowest of each in microseconds, and the ratios.

    Raises:
        ValueError: No such kernel, or fewer than five repeats.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {kernel!r}")
    if repeats < 5:
        raise ValueError(f"repeats must be at least 5, got {repeats}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        candidates = KERNELS[kernel](_Rollout(num_steps, num_envs, device))
        definition = candidates["definition"]
        for function in candidates.values():  # warm up: first calls compile and touch the memory
            _microseconds(function, 1)
        calls = {
            name: max(1, round(_microseconds(definition, 1) / _microseconds(function, 3)))
            for name, function in candidates.items()
        }
        rounds = [
            {name: _microseconds(f, calls[name]) for name, f in candidates.items()}
            for _ in range(repeats)
        ]
    finally:
        torch.set_num_threads(threads)
    return {
        "kernel": kernel,
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


class _Rollout:
    """Random inputs of every kernel; blocks of lags are made when they are asked for."""

    def __init__(self, num_steps: int, num_envs: int, device: str) -> None:
        self._rng = torch.Generator().manual_seed(1)
        self._device = device
        self.shape = (num_steps, num_envs)
        self.rewards, self.values, self.next_values = (
            torch.randn(self.shape, generator=self._rng).to(device) for _ in range(3)
        )
        self.terminated, self.truncated = (self.unit() < 0.01 for _ in range(2))
        self.td = (self.rewards, self.values, self.next_values, self.terminated, self.truncated)
        self.ends = (self.terminated, self.truncated)

    def unit(self) -> Tensor:
        """(T, N) in [0, 1)."""
        return torch.rand(self.shape, generator=self._rng).to(self._device)

    def lags(self) -> Tensor:
        """(T, N, H)."""
        return torch.randn((*self.shape, NUM_LAGS), generator=self._rng).to(self._device)


Candidates = dict[str, Callable[[], object]]


def _gae(rollout: _Rollout) -> Candidates:
    candidates = _both("gae", *rollout.td, gamma=0.99, gae_lambda=0.95)
    if not rollout.rewards.is_cuda:
        rewards, values, next_values, terminated, truncated = [x.numpy() for x in rollout.td]
        out = torch.empty_like(rollout.rewards).numpy()

        def twin() -> None:
            _core.gae(rewards, values, next_values, terminated, truncated, 0.99, 0.95, out)

        candidates["twin"] = twin
    return candidates


def _gae_per_step(rollout: _Rollout) -> Candidates:
    return _both("gae", *rollout.td, gamma=rollout.unit(), gae_lambda=rollout.unit())


def _blended_gae(rollout: _Rollout) -> Candidates:
    signals = (rollout.unit(), rollout.unit())
    return _both("blended_gae", *rollout.td, *signals, gamma=0.99, gae_lambda=0.95)


def _variance_horizon(rollout: _Rollout) -> Candidates:
    means, next_means = rollout.lags(), rollout.lags()
    weights = torch.rand_like(means[0, 0])
    return _both("variance_horizon", rollout.rewards, means, next_means, *rollout.ends, weights)


def _lag_rewards(rollout: _Rollout) -> Candidates:
    """Of a quarter of the steps: a minibatch."""
    index = torch.randperm(rollout.rewards.numel())[: rollout.rewards.numel() // 4]
    index = index.to(rollout.rewards.device)
    return _both("lag_rewards", rollout.rewards, *rollout.ends, index, NUM_LAGS)


def _lag_moments(rollout: _Rollout) -> Candidates:
    valid = torch.ones_like(rollout.terminated)
    return _both("lag_moments", rollout.rewards, rollout.lags(), *rollout.ends, valid)


KERNELS: dict[str, Callable[[_Rollout], Candidates]] = {
    "gae": _gae,
    "gae_per_step": _gae_per_step,
    "blended_gae": _blended_gae,
    "variance_horizon": _variance_horizon,
    "lag_rewards": _lag_rewards,
    "lag_moments": _lag_moments,
}
"""What can be timed. gae_per_step is gae with a discount and a lambda of each state's own."""


def _both(name: str, *args: object, **kwargs: object) -> Candidates:
    return {
        "definition": partial(getattr(advantages, name), *args, **kwargs),
        "ops": partial(getattr(ops, name), *args, **kwargs),
    }


def _microseconds(function: Callable[[], object], calls: int) -> float:
    function()
    _synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    _synchronize()
    return (time.perf_counter() - start) / calls * 1e6


def _synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _spread(microseconds: list[float]) -> dict[str, float]:
    return {
        "median": statistics.median(microseconds),
        "min": min(microseconds),
        "max": max(microseconds),
    }
