"""Advantage estimators as kernels: the definitions of `fastrl.advantages`, made fast.

Same names, same arguments. The tensors' device chooses: the C++ twin on the CPU, the CUDA kernel
on torch's current stream. All of these agree with the definition in float32 in every bit, but for
`lag_moments`, whose sums in float64 have an order of their own.

On CUDA a call is queued on torch's current stream and does not synchronise (the first one
compiles); so what is asked of numbers, not of shapes, is checked on the CPU only. Tensors that are
not contiguous are copied first. None has a backward pass: a tensor that requires grad is refused.

Shapes: T rollout steps, N environments, H lags, M chosen steps.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from fastrl import _core, advantages, kernels
from fastrl.advantages import LagMoments

# Threads of a block: one warp to a block spreads few environments over many multiprocessors.
_BLOCK = 32


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float | Tensor,
    gae_lambda: float | Tensor,
) -> Tensor:
    """Generalized advantage estimation; see `fastrl.advantages.gae` for the equation.

    Args:
        rewards: (T, N) float32. Reward of the step that leaves s_t.
        values: (T, N) float32. V(s_t).
        next_values: (T, N) float32. V of the state that step reached, before any autoreset.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: Discount per agent step, in [0, 1]; or (T, N) float32, of the state that each step
            reached.
        gae_lambda: In [0, 1]; or (T, N) float32, likewise.

    Returns:
        (T, N) float32 advantages, not normalised, on the device of the inputs.

    Raises:
        ValueError: Shapes, dtypes or devices are not as above, a tensor requires grad, or gamma or
            gae_lambda is outside [0, 1]. `fastrl.advantages.gae` takes any dtype and device, and
            gradients.
        CudaUnavailableError: The tensors are on CUDA and a package that compiles is missing.
    """
    inputs = {
        "rewards": rewards,
        "values": values,
        "next_values": next_values,
        "terminated": terminated,
        "truncated": truncated,
    }
    rates = {"gamma": gamma, "gae_lambda": gae_lambda}
    each = {name: rate for name, rate in rates.items() if isinstance(rate, Tensor)}
    constant = {name: rate for name, rate in rates.items() if not isinstance(rate, Tensor)}
    device = _check("gae", inputs | each)
    if not all(0.0 <= rate <= 1.0 for rate in constant.values()):
        raise ValueError(f"gamma and gae_lambda must be in [0, 1], got {gamma=} {gae_lambda=}")

    arrays = [x.contiguous() for x in inputs.values()]
    each = {name: rate.contiguous() for name, rate in each.items()}
    out = torch.empty_like(arrays[0])
    if device == "cpu":
        for name, rate in each.items():
            low, high = rate.aminmax() if rate.numel() else (0.0, 0.0)
            if not (low >= 0.0 and high <= 1.0):
                raise ValueError(f"{name} must be in [0, 1], got {float(low)} to {float(high)}")
        taken = {**constant, **{name: rate.numpy() for name, rate in each.items()}}
        _core.gae(*[x.numpy() for x in arrays], **taken, out=out.numpy())
    else:
        per_step = [each.get(name) for name in rates]
        constants = [ctypes.c_float(constant.get(name, 0.0)) for name in rates]
        arguments = [*arrays, out, *_sizes(out), *per_step, *constants]
        _launch("csrc/ops/advantages.cu", "gae_kernel", out.shape[1], arguments)
    return out


def blended_lambda(
    error: Tensor,
    noise: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """A lambda for each state; see `fastrl.advantages.blended_lambda`.

    Args:
        error: (T, N) float32, finite, not negative.
        noise: (T, N) float32, finite, not negative.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: The discount, in [0, 1].
        gae_lambda: In [0, 1).

    Returns:
        (T, N) float32: lambda of the state that each step reached.

    Raises:
        ValueError: Shapes, dtypes, devices or numbers are not as above.
        CudaUnavailableError: As in `gae`.
    """
    inputs = {"error": error, "noise": noise, "terminated": terminated, "truncated": truncated}
    device = _check("blended_lambda", inputs)
    unit, start = advantages.blend_constants(gamma, gae_lambda)
    arrays = [x.contiguous() for x in inputs.values()]
    lambdas = torch.empty_like(arrays[0])
    if device == "cpu":
        _check_variances("blended_lambda", error, noise)
        e, nu, ended, cut = [x.numpy() for x in arrays]
        written = lambdas.numpy()
        _core.blended_lambda(e, nu, ended, cut, gamma, gae_lambda, unit, start, written)
    else:
        rollout = [None, None, None, *arrays[2:], None, *arrays[:2], lambdas]
        _launch_blend(rollout, gamma, gae_lambda)
    return lambdas


def blended_gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    error: Tensor,
    noise: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """`gae` with the lambda of `blended_lambda`, in one pass over the rollout.

    Args:
        rewards: (T, N) float32. As in `gae`, and so are the next four.
        values: (T, N) float32.
        next_values: (T, N) float32.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        error: (T, N) float32. As in `blended_lambda`.
        noise: (T, N) float32. As in `blended_lambda`.
        gamma: The discount, in [0, 1].
        gae_lambda: In [0, 1).

    Returns:
        (T, N) float32 advantages and (T, N) float32 lambdas.

    Raises:
        ValueError: Shapes, dtypes, devices or numbers are not as above.
        CudaUnavailableError: As in `gae`.
    """
    inputs = {
        "rewards": rewards,
        "values": values,
        "next_values": next_values,
        "terminated": terminated,
        "truncated": truncated,
        "error": error,
        "noise": noise,
    }
    device = _check("blended_gae", inputs)
    unit, start = advantages.blend_constants(gamma, gae_lambda)
    arrays = [x.contiguous() for x in inputs.values()]
    out, lambdas = torch.empty_like(arrays[0]), torch.empty_like(arrays[0])
    if device == "cpu":
        _check_variances("blended_gae", error, noise)
        _core.blended_gae(
            **{name: x.numpy() for name, x in zip(inputs, arrays, strict=True)},
            gamma=gamma,
            gae_lambda=gae_lambda,
            unit=unit,
            start=start,
            out=out.numpy(),
            lambdas=lambdas.numpy(),
        )
    else:
        _launch_blend([*arrays[:5], out, *arrays[5:], lambdas], gamma, gae_lambda)
    return out, lambdas


def variance_horizon(
    rewards: Tensor,
    means: Tensor,
    next_means: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    weights: Tensor,
    *,
    n_step: int | None = None,
) -> Tensor:
    """Advantage from predicted rewards; see `fastrl.advantages.variance_horizon`.

    Rewards and ends are read where they lie: no (T, N, H) block is made.

    Args:
        rewards: (T, N) float32. Reward of the step that leaves s_t.
        means: (T, N, H) float32. mu_k(s_t).
        next_means: (T, N, H) float32. Of the state that step reached, before any autoreset.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        weights: (H,) or (T, N, H) float32.
        n_step: Rewards taken as they came, then predictions; None takes all that were seen.

    Returns:
        (T, N) float32 advantages, not normalised.

    Raises:
        ValueError: Shapes, dtypes or devices are not as above, a tensor requires grad, or n_step is
            below 1.
        CudaUnavailableError: As in `gae`.
    """
    inputs = rewards, means, next_means, terminated, truncated, weights
    return _horizon("variance_horizon", *inputs, n_step)


def variance_horizon_return(
    rewards: Tensor,
    next_means: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    weights: Tensor,
    *,
    n_step: int | None = None,
) -> Tensor:
    """The weighted return; see `fastrl.advantages.variance_horizon_return`.

    Args:
        rewards: (T, N) float32.
        next_means: (T, N, H) float32.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        weights: (H,) or (T, N, H) float32.
        n_step: As in `variance_horizon`.

    Returns:
        (T, N) float32 returns.

    Raises:
        ValueError: As in `variance_horizon`.
        CudaUnavailableError: As in `gae`.
    """
    inputs = rewards, None, next_means, terminated, truncated, weights
    return _horizon("variance_horizon_return", *inputs, n_step)


def lag_rewards(
    rewards: Tensor, terminated: Tensor, truncated: Tensor, index: Tensor, horizon: int
) -> tuple[Tensor, Tensor]:
    """The observed targets of chosen steps; see `fastrl.advantages.lag_rewards`.

    Args:
        rewards: (T, N) float32.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        index: (M,) int64. Steps, as positions in the flattened (T * N,) rollout. On CUDA the
            caller answers for their range.
        horizon: H.

    Returns:
        (M, H) float32 targets and (M, H) bool: True where the target is known.

    Raises:
        ValueError: Shapes, dtypes, devices or numbers are not as above, or a tensor requires grad.
        CudaUnavailableError: As in `gae`.
    """
    inputs = {"rewards": rewards, "terminated": terminated, "truncated": truncated}
    device = _check("lag_rewards", inputs)
    if horizon < 1:
        raise ValueError(f"lag_rewards: horizon must be at least 1, got {horizon}")
    if index.ndim != 1 or index.dtype != torch.int64 or index.device != rewards.device:
        raise ValueError(
            f"lag_rewards: index must be (M,) int64 on {rewards.device}, got {tuple(index.shape)}"
            f" {index.dtype} on {index.device}"
        )
    arrays = [x.contiguous() for x in inputs.values()]
    chosen = index.contiguous()
    targets = torch.empty(len(index), horizon, device=rewards.device)
    known = torch.empty(len(index), horizon, dtype=torch.bool, device=rewards.device)
    if device == "cpu":
        _core.lag_rewards(*[x.numpy() for x in (*arrays, chosen, targets, known)])
    else:
        sizes = ctypes.c_longlong(len(index)), ctypes.c_int(horizon)
        arguments = [*arrays, *_sizes(rewards), chosen, *sizes, targets, known]
        _launch("csrc/ops/horizon.cu", "lag_rewards_kernel", len(index), arguments)
    return targets, known


def lag_moments(
    rewards: Tensor, means: Tensor, terminated: Tensor, truncated: Tensor, valid: Tensor
) -> LagMoments:
    """How well each lag is predicted; see `fastrl.advantages.lag_moments`.

    On CUDA this is the definition itself, in torch's kernels.

    Args:
        rewards: (T, N) float32.
        means: (T, N, H) float32.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        valid: (T, N) bool.

    Raises:
        ValueError: Shapes, dtypes or devices are not as above, or a tensor requires grad.
    """
    steps = {
        "rewards": rewards,
        "terminated": terminated,
        "truncated": truncated,
        "valid": valid,
    }
    device = _check("lag_moments", steps)
    _check_lags("lag_moments", rewards, {"means": means})
    if device != "cpu":
        return advantages.lag_moments(rewards, means, terminated, truncated, valid)
    num_known = torch.empty(means.shape[2], dtype=torch.int64)
    moments = torch.empty(3, means.shape[2], dtype=torch.float64)
    inputs = [x.contiguous() for x in (rewards, means, terminated, truncated, valid)]
    _core.lag_moments(*[x.numpy() for x in (*inputs, num_known, moments)])
    return LagMoments(num_known, *moments)


def _horizon(
    function: str,
    rewards: Tensor,
    means: Tensor | None,
    next_means: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    weights: Tensor,
    n_step: int | None,
) -> Tensor:
    advantages.check_n_step(function, n_step)
    steps = {"rewards": rewards, "terminated": terminated, "truncated": truncated}
    device = _check(function, steps)
    lags = {"next_means": next_means, "weights": weights}
    _check_lags(function, rewards, lags if means is None else {"means": means, **lags})
    r, ended, cut = [x.contiguous() for x in steps.values()]
    ahead, w = next_means.contiguous(), weights.contiguous()
    now = None if means is None else means.contiguous()
    out = torch.empty_like(r)
    num_lags = ahead.shape[2]
    num_sampled = min(n_step or num_lags, num_lags)
    if device == "cpu":
        predicted = None if now is None else now.numpy()
        rest = [x.numpy() for x in (ahead, ended, cut, w, out)]
        _core.variance_horizon(r.numpy(), predicted, *rest, num_sampled=num_sampled)
    else:
        stride = ctypes.c_longlong(0 if w.ndim == 1 else num_lags)
        counts = ctypes.c_int(num_lags), ctypes.c_int(num_sampled)
        arguments = [r, ended, cut, *_sizes(r), now, ahead, w, stride, out, *counts]
        _launch("csrc/ops/horizon.cu", "horizon_kernel", out.numel(), arguments)
    return out


def _check(function: str, inputs: dict[str, Tensor]) -> str:
    """Refuses tensors that are not (T, N) of one device; returns that device's type."""
    first, *_ = inputs
    shape, device = inputs[first].shape, inputs[first].device
    for name, x in inputs.items():
        if x.shape != shape or len(shape) != 2:
            shapes = {k: tuple(v.shape) for k, v in inputs.items()}
            raise ValueError(f"{function} needs tensors of one shape (T, N), got {shapes}")
        is_flag = name in ("terminated", "truncated", "valid")
        _check_tensor(function, name, x, torch.bool if is_flag else torch.float32, first, device)
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"{function} runs on cpu and cuda, got tensors on {device}")
    return device.type


def _check_lags(function: str, rewards: Tensor, blocks: dict[str, Tensor]) -> None:
    """Refuses blocks that are not (T, N, H), and weights that are neither that nor (H,)."""
    lags = next(iter(blocks.values())).shape[-1:]
    block = (*rewards.shape, *lags)
    for name, x in blocks.items():
        allowed = (block, tuple(lags)) if name == "weights" else (block,)
        if tuple(x.shape) not in allowed or x.shape[-1] == 0:
            shapes = {k: tuple(v.shape) for k, v in blocks.items()}
            raise ValueError(
                f"{function} needs (T, N, H) means and (H,) or (T, N, H) weights, H >= 1, for"
                f" (T, N) = {tuple(rewards.shape)}, got {shapes}"
            )
        _check_tensor(function, name, x, torch.float32, "rewards", rewards.device)


def _check_tensor(
    function: str, name: str, x: Tensor, dtype: torch.dtype, first: str, device: torch.device
) -> None:
    if x.dtype != dtype:
        raise ValueError(f"{function}: {name} must be {dtype}, got {x.dtype}")
    if x.device != device:
        raise ValueError(f"{function}: {first} are on {device}, {name} on {x.device}")
    if x.requires_grad:
        raise ValueError(f"{function}: {name} requires grad; detach it, or use torch.no_grad()")


def _check_variances(function: str, error: Tensor, noise: Tensor) -> None:
    for name, x in (("error", error), ("noise", noise)):
        low, high = x.aminmax() if x.numel() else (0.0, 0.0)
        if not (low >= 0.0 and high < float("inf")):
            raise ValueError(
                f"{function}: {name} must be finite and not negative, got {float(low)} to"
                f" {float(high)}"
            )


class _CurrentStream:
    """Torch's current stream of a device, as cuda-core takes streams of others."""

    def __init__(self, device: torch.device) -> None:
        self._handle = torch.cuda.current_stream(device).cuda_stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


def _launch_blend(arrays: list[Tensor | None], gamma: float, gae_lambda: float) -> None:
    unit, start = advantages.blend_constants(gamma, gae_lambda)
    lambdas = arrays[-1]
    assert lambdas is not None
    constants = [ctypes.c_float(x) for x in (gamma, gamma * gamma, gae_lambda, unit, start)]
    arguments = [*arrays, *_sizes(lambdas), *constants]
    _launch("csrc/ops/advantages.cu", "blend_kernel", lambdas.shape[1], arguments)


def _sizes(steps: Tensor) -> list[ctypes.c_longlong]:
    return [ctypes.c_longlong(n) for n in steps.shape]


def _launch(source: str, name: str, num_threads: int, arguments: list[Any]) -> None:
    """Queues a kernel with at least `num_threads` threads; None among the arguments is null."""
    device = next(x.device for x in arguments if isinstance(x, Tensor))
    if any(x.numel() == 0 for x in arguments if isinstance(x, Tensor)):
        return
    kernel = kernels.load(source, name, device.index)
    core = kernels.cuda_core()
    raw = [x.data_ptr() if isinstance(x, Tensor) else 0 if x is None else x for x in arguments]
    with torch.cuda.device(device):
        core.launch(
            _CurrentStream(device),
            core.LaunchConfig(grid=-(-num_threads // _BLOCK), block=_BLOCK),
            kernel,
            *raw,
        )
