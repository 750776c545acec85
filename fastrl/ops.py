"""Advantage estimators as kernels: the definitions of `fastrl.advantages`, made fast.

Same names, same arguments. The tensors' device chooses: the C++ twin on the CPU, the CUDA kernel
on torch's current stream. All of these agree with the definition in float32 in every bit.

Shapes: T rollout steps, N environments.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from fastrl import _core, kernels

# Threads of a block: one warp to a block spreads few environments over many multiprocessors.
_BLOCK = 32


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalized advantage estimation; see `fastrl.advantages.gae` for the equation.

    On CUDA it is queued on torch's current stream and does not synchronise (the first call
    compiles). Tensors that are not contiguous are copied first.

    Args:
        rewards: (T, N) float32. Reward of the step that leaves s_t.
        values: (T, N) float32. V(s_t).
        next_values: (T, N) float32. V of the state that step reached, before any autoreset.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: Discount per agent step, in [0, 1].
        gae_lambda: In [0, 1].

    Returns:
        (T, N) float32 advantages, not normalised, on the device of the inputs.

    Raises:
        ValueError: Shapes, dtypes or devices are not as above, a tensor requires grad (there is
            no backward pass), or gamma or gae_lambda is outside [0, 1]. `fastrl.advantages.gae`
            takes any dtype and device, and gradients.
        CudaUnavailableError: The tensors are on CUDA and a package that compiles is missing.
    """
    inputs = (rewards, values, next_values, terminated, truncated)
    _check(inputs)
    if not (0.0 <= gamma <= 1.0 and 0.0 <= gae_lambda <= 1.0):
        raise ValueError(f"gamma and gae_lambda must be in [0, 1], got {gamma=} {gae_lambda=}")

    arrays = [x.contiguous() for x in inputs]
    advantages = torch.empty_like(arrays[0])
    match rewards.device.type:
        case "cpu":
            r, v, v_next, ended, cut = [x.numpy() for x in arrays]
            _core.gae(r, v, v_next, ended, cut, gamma, gae_lambda, advantages.numpy())
        case "cuda":
            _launch_gae(arrays, advantages, gamma, gae_lambda)
        case device:
            raise ValueError(f"gae runs on cpu and cuda, got tensors on {device}")
    return advantages


def _check(inputs: tuple[Tensor, ...]) -> None:
    names = ("rewards", "values", "next_values", "terminated", "truncated")
    shape, device = inputs[0].shape, inputs[0].device
    for name, x in zip(names, inputs, strict=True):
        if x.shape != shape or len(shape) != 2:
            shapes = {k: tuple(v.shape) for k, v in zip(names, inputs, strict=True)}
            raise ValueError(f"gae needs five tensors of one shape (T, N), got {shapes}")
        dtype = torch.bool if name in ("terminated", "truncated") else torch.float32
        if x.dtype != dtype:
            raise ValueError(f"gae: {name} must be {dtype}, got {x.dtype}")
        if x.device != device:
            raise ValueError(f"gae: rewards are on {device}, {name} on {x.device}")
        if x.requires_grad:
            raise ValueError(f"gae: {name} requires grad; detach it, or use torch.no_grad()")


class _CurrentStream:
    """Torch's current stream of a device, as cuda-core takes streams of others."""

    def __init__(self, device: torch.device) -> None:
        self._handle = torch.cuda.current_stream(device).cuda_stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


def _launch_gae(arrays: list[Tensor], out: Tensor, gamma: float, gae_lambda: float) -> None:
    num_steps, num_envs = out.shape
    if out.numel() == 0:
        return
    kernel = kernels.load("csrc/ops/advantages.cu", "gae_kernel", out.device.index)
    core = kernels.cuda_core()

    arguments: list[Any] = [x.data_ptr() for x in (*arrays, out)]
    arguments += [ctypes.c_longlong(num_steps), ctypes.c_longlong(num_envs)]
    arguments += [ctypes.c_float(gamma)]
    arguments += [ctypes.c_float(ctypes.c_float(gamma).value * ctypes.c_float(gae_lambda).value)]
    with torch.cuda.device(out.device):
        core.launch(
            _CurrentStream(out.device),
            core.LaunchConfig(grid=-(-num_envs // _BLOCK), block=_BLOCK),
            kernel,
            *arguments,
        )
