"""Advantage estimators: how much better each action was than the policy expected.

Pure functions on time-major tensors, each written the way its paper writes it. The CUDA
versions in csrc/ops/ must agree with these, so keep these plain and optimise those.

Shapes: T rollout steps, N environments.
"""

import torch
from torch import Tensor


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
    """Generalized advantage estimation (Schulman et al. 2016, arXiv:1506.02438, eq. 16).

        delta_t = r_t + gamma * V(s_{t+1}) - V(s_t)
        A_t     = delta_t + gamma * gae_lambda * A_{t+1}

    A terminal state has no value, so `terminated` removes V(s_{t+1}). A time limit does not change
    what the state is worth, so `truncated` keeps it (Pardo et al. 2018, arXiv:1712.00378). Both
    end the sum: A_{t+1} belongs to another episode.

    Args:
        rewards: (T, N) float. Reward of the step that leaves s_t.
        values: (T, N) float. V(s_t).
        next_values: (T, N) float. V of the state that step reached, before any autoreset.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: Discount per agent step (not per emulator frame), in [0, 1].
        gae_lambda: 0 gives the one-step TD error, 1 the Monte Carlo advantage.

    Returns:
        (T, N) advantages, not normalised.

    Raises:
        ValueError: The shapes differ, or gamma or gae_lambda is outside [0, 1].
    """
    shapes = {tuple(x.shape) for x in (rewards, values, next_values, terminated, truncated)}
    if len(shapes) != 1:
        raise ValueError(f"gae needs five tensors of one shape (T, N), got {sorted(shapes)}")
    if not (0.0 <= gamma <= 1.0 and 0.0 <= gae_lambda <= 1.0):
        raise ValueError(f"gamma and gae_lambda must be in [0, 1], got {gamma=} {gae_lambda=}")

    deltas = rewards + gamma * next_values.masked_fill(terminated, 0.0) - values
    decay = gamma * gae_lambda * (~(terminated | truncated)).to(deltas.dtype)

    advantages = torch.empty_like(deltas)
    tail = torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        tail = deltas[t] + decay[t] * tail
        advantages[t] = tail
    return advantages
