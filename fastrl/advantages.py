"""Advantage estimators: how much better each action was than the policy expected.

Pure functions on time-major tensors, each written the way its paper writes it. The CUDA
versions in csrc/ops/ must agree with these, so keep these plain and optimise those.

Shapes: T rollout steps, N environments, H lags (rewards predicted ahead of a state), M chosen
steps.
"""

from typing import NamedTuple

import torch
from torch import Tensor


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
    """Generalized advantage estimation (Schulman et al. 2016, arXiv:1506.02438, eq. 16).

        delta_t = r_t + gamma_{t+1} V(s_{t+1}) - V(s_t)
        A_t     = delta_t + gamma_{t+1} lambda_{t+1} A_{t+1}

    A terminal state has no value, so `terminated` removes V(s_{t+1}). A time limit does not change
    what the state is worth, so `truncated` keeps it (Pardo et al. 2018, arXiv:1712.00378). Both
    end the sum: A_{t+1} belongs to another episode.

    A discount or a lambda of its own for each state is read at the successor, whose value it
    trusts (White 2017, arXiv:1609.01995).

    Args:
        rewards: (T, N) float. Reward of the step that leaves s_t.
        values: (T, N) float. V(s_t).
        next_values: (T, N) float. V of the state that step reached, before any autoreset.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: Discount per agent step (not per emulator frame), in [0, 1]. A tensor is (T, N), of
            the rewards' dtype: row t is the discount of the state that step t reached.
        gae_lambda: 0 gives the one-step TD error, 1 the Monte Carlo advantage. A tensor is read
            as that of gamma. A tensor filled with a float's value gives the float's bits.

    Returns:
        (T, N) advantages, not normalised.

    Raises:
        ValueError: The shapes or dtypes differ, or gamma or gae_lambda is outside [0, 1].
    """
    shapes = {tuple(x.shape) for x in (rewards, values, next_values, terminated, truncated)}
    if len(shapes) != 1:
        raise ValueError(f"gae needs five tensors of one shape (T, N), got {sorted(shapes)}")
    _check_rates(rewards, gamma, gae_lambda)

    gamma, gae_lambda = (
        torch.as_tensor(x, dtype=rewards.dtype, device=rewards.device) for x in (gamma, gae_lambda)
    )
    deltas = rewards + gamma * next_values.masked_fill(terminated, 0.0) - values
    decay = (gamma * gae_lambda).expand_as(deltas).masked_fill(terminated | truncated, 0.0)

    advantages = torch.empty_like(deltas)
    tail = torch.zeros_like(deltas[0])
    for t in reversed(range(len(deltas))):
        tail = deltas[t] + decay[t] * tail
        advantages[t] = tail
    return advantages


def blended_lambda(
    error: Tensor,
    noise: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """A lambda for each state that weighs the critic's error against the noise ahead.

    The return from s_{t+1} is either bootstrapped, with squared error e^2, or sampled on, with
    variance S^2. The blend of least error, were the two independent, leaves a variance that the
    step before it inherits:

        lambda_{t+1} = e_{t+1}^2 / (e_{t+1}^2 + S_{t+1}^2)
        S_t^2        = nu_t^2 + gamma^2 lambda_{t+1} S_{t+1}^2

    A terminal step leaves S_t^2 = nu_t^2, a time limit nu_t^2 + gamma^2 e_{t+1}^2. The unit of
    e^2 is set so that `error` and `noise` of 1 everywhere, without ends, give lambda_0 =
    `gae_lambda`: e^2 = error * lambda_0 / ((1 - lambda_0) (1 - gamma^2 lambda_0)). Beyond the
    rollout, and beyond an end, S^2 is the fixed point 1 / (1 - gamma^2 lambda_0); what it gives
    for a state that ended an episode is used by no advantage.

    White and White 2016 (arXiv:1607.00446) choose lambda by the same two errors, greedily.

    Args:
        error: (T, N) float, finite, not negative. Squared error of V at the state that step t
            reached, divided by its mean.
        noise: (T, N) float, finite, not negative. Variance of the TD error of step t, divided by
            its mean.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: The discount, in [0, 1].
        gae_lambda: lambda_0, in [0, 1).

    Returns:
        (T, N) in [0, 1]: row t is lambda of the state that step t reached, as `gae` reads it.
        Where error and S^2 are both 0, either way is exact and lambda is lambda_0.

    Raises:
        ValueError: The shapes differ, error or noise is negative or not finite, or gamma or
            gae_lambda is out of range.
    """
    shapes = {tuple(x.shape) for x in (error, noise, terminated, truncated)}
    if len(shapes) != 1:
        raise ValueError(
            f"blended_lambda needs four tensors of one shape (T, N), got {sorted(shapes)}"
        )
    for name, x in (("error", error), ("noise", noise)):
        if not bool(((x >= 0.0) & torch.isfinite(x)).all()):
            raise ValueError(f"blended_lambda: {name} must be finite and not negative")
    unit, start = blend_constants(gamma, gae_lambda)

    lambdas = torch.empty_like(error)
    variance = torch.empty_like(error[0])
    ended = terminated | truncated
    for t in reversed(range(len(error))):
        if t == len(error) - 1:
            variance.fill_(start)
        variance = variance.masked_fill(ended[t], start)
        squared_error = unit * error[t]
        total = squared_error + variance
        lambdas[t] = torch.where(total > 0.0, squared_error / total, gae_lambda)
        ahead = torch.where(truncated[t], squared_error, lambdas[t] * variance)
        variance = noise[t] + (gamma * gamma) * ahead.masked_fill(terminated[t], 0.0)
    return lambdas


def blend_constants(gamma: float, gae_lambda: float) -> tuple[float, float]:
    """The unit of e^2 and the S^2 at which `blended_lambda` starts.

    Raises:
        ValueError: gamma is outside [0, 1] or gae_lambda outside [0, 1).
    """
    if not (0.0 <= gamma <= 1.0 and 0.0 <= gae_lambda < 1.0):
        raise ValueError(
            f"gamma must be in [0, 1] and gae_lambda in [0, 1), got {gamma=} {gae_lambda=}"
        )
    start = 1.0 / (1.0 - gamma * gamma * gae_lambda)
    return gae_lambda / (1.0 - gae_lambda) * start, start


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
    """`gae` with the lambda of `blended_lambda`.

    Returns:
        (T, N) advantages and (T, N) lambdas.

    Raises:
        ValueError: As these two.
    """
    lambdas = blended_lambda(
        error, noise, terminated, truncated, gamma=gamma, gae_lambda=gae_lambda
    )
    advantages = gae(
        rewards, values, next_values, terminated, truncated, gamma=gamma, gae_lambda=lambdas
    )
    return advantages, lambdas


def optimal_lambda_return(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    error: Tensor,
    noise: Tensor,
    *,
    gamma: float,
) -> Tensor:
    """The n-step returns of each state, weighted by the inverse of their variances.

        G_n   = sum_{i<n} gamma^i r_{t+i} + gamma^n V(s_{t+n})
        Var_n = sum_{i<n} gamma^{2i} nu_{t+i}^2 + gamma^{2n} e_{t+n}^2
        G     = sum_n G_n / Var_n  /  sum_n 1 / Var_n

    n runs to the end of the episode or of the rollout; a terminal state has neither value nor
    error. Errors count as independent, of n too (Konidaris et al. 2011; Buckman et al. 2018,
    arXiv:1807.01675). Costs O(T^2): a reference, not an estimator to train with.

    Args:
        rewards: (T, N) float.
        values: (T, N) float. V(s_t); only its shape and dtype matter.
        next_values: (T, N) float. V of the state that step reached, before any autoreset.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        error: (T, N) float. e^2: squared error of next_values.
        noise: (T, N) float. nu^2: variance of the TD error of step t. Same unit as `error`; a
            variance of 0 is refused.
        gamma: The discount, in [0, 1].

    Returns:
        (T, N) returns; minus `values` they are advantages.

    Raises:
        ValueError: The shapes differ, gamma is outside [0, 1] or a variance is not above 0.
    """
    inputs = (rewards, values, next_values, terminated, truncated, error, noise)
    shapes = {tuple(x.shape) for x in inputs}
    if len(shapes) != 1:
        raise ValueError(
            f"optimal_lambda_return needs seven tensors of one shape (T, N), got {sorted(shapes)}"
        )
    _check_rates(rewards, gamma, 0.0)
    bootstrap = next_values.masked_fill(terminated, 0.0)
    error = error.masked_fill(terminated, 0.0)
    ended = terminated | truncated

    returns = torch.empty_like(values)
    for t in range(len(rewards)):
        inside = torch.ones_like(ended[t])
        reward_sum, noise_sum, weight_sum, total = torch.zeros(4, *rewards[t].shape).to(rewards)
        for n, i in enumerate(range(t, len(rewards))):
            reward_sum = reward_sum + gamma**n * rewards[i]
            noise_sum = noise_sum + gamma ** (2 * n) * noise[i]
            variance = noise_sum + gamma ** (2 * n + 2) * error[i]
            if not bool((variance > 0.0)[inside].all()):
                raise ValueError(
                    f"optimal_lambda_return: the variance of the {n + 1}-step return of step {t}"
                    " must be above 0"
                )
            weight = variance.reciprocal().masked_fill(~inside, 0.0)
            n_step = reward_sum + gamma ** (n + 1) * bootstrap[i]
            total = total + weight * n_step.masked_fill(~inside, 0.0)
            weight_sum = weight_sum + weight
            inside = inside & ~ended[i]
        returns[t] = total / weight_sum
    return returns


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
    """Advantage from predictions of the reward at each lag, without a value or a lambda.

        A_t = sum_{k<H} w_k (x_{t,k} - mu_k(s_t))

    with x of `lag_targets`. For w_k = gamma^k and episodes that end within the H lags and within
    the rollout it is GAE(gamma, 1) of V = sum_k gamma^k mu_k.

    Args:
        rewards: (T, N) float. Reward of the step that leaves s_t.
        means: (T, N, H) float. mu_k(s_t): the reward expected k steps after s_t.
        next_means: (T, N, H) float. The same of the state that step t reached, before any
            autoreset. Without n_step read only where an episode is cut and in the last row.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        weights: (H,) or (T, N, H) float. w_k, or w_k(s_t).
        n_step: Rewards taken as they came, then predictions; None takes all that were seen. For
            w_k = gamma^k and 1 it is the one-step TD error of V.

    Returns:
        (T, N) advantages, not normalised. Lags are summed in their order.

    Raises:
        ValueError: The shapes do not fit together, or n_step is below 1.
    """
    check_n_step("variance_horizon", n_step)
    check_horizon_shapes(rewards, means, next_means, terminated, truncated, weights)
    window = _Windows(rewards, terminated, truncated, n_step)
    advantages = torch.zeros_like(rewards)
    for k in range(means.shape[-1]):
        surprise = window.target(k, next_means) - means[..., k]
        advantages = advantages + weights[..., k] * surprise
    return advantages


def variance_horizon_return(
    rewards: Tensor,
    next_means: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    weights: Tensor,
    *,
    n_step: int | None = None,
) -> Tensor:
    """The weighted return R_t = sum_{k<H} w_k x_{t,k}, for a value head of its own.

    Args:
        rewards: (T, N) float.
        next_means: (T, N, H) float. As in `variance_horizon`.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        weights: (H,) or (T, N, H) float.
        n_step: As in `variance_horizon`.

    Returns:
        (T, N) returns. Lags are summed in their order.

    Raises:
        ValueError: The shapes do not fit together, or n_step is below 1.
    """
    check_n_step("variance_horizon_return", n_step)
    check_horizon_shapes(rewards, next_means, next_means, terminated, truncated, weights)
    window = _Windows(rewards, terminated, truncated, n_step)
    returns = torch.zeros_like(rewards)
    for k in range(next_means.shape[-1]):
        returns = returns + weights[..., k] * window.target(k, next_means)
    return returns


def lag_targets(
    rewards: Tensor, next_means: Tensor, terminated: Tensor, truncated: Tensor
) -> tuple[Tensor, Tensor]:
    """What `variance_horizon` holds the predictions against, as blocks: for tests.

        x_{t,k} = r_{t+k}                before any end
                = 0                      after a terminal state: it is known to pay nothing
                = mu_{k-K}(s_{t+K})      after a time limit or the rollout's end, K steps on

    Args:
        rewards: (T, N) float.
        next_means: (T, N, H) float. As in `variance_horizon`.
        terminated: (T, N) bool.
        truncated: (T, N) bool.

    Returns:
        (T, N, H) targets, and (T, N, H) bool: True where the target was observed, not predicted.

    Raises:
        ValueError: The shapes do not fit together.
    """
    check_horizon_shapes(rewards, next_means, next_means, terminated, truncated, None)
    window = _Windows(rewards, terminated, truncated)
    lags = range(next_means.shape[-1])
    targets = torch.stack([window.target(k, next_means) for k in lags], dim=-1)
    known = torch.stack([window.known(k) for k in lags], dim=-1)
    return targets, known


def lag_rewards(
    rewards: Tensor, terminated: Tensor, truncated: Tensor, index: Tensor, horizon: int
) -> tuple[Tensor, Tensor]:
    """The observed targets of chosen steps: what the heads of a minibatch are trained on.

    Args:
        rewards: (T, N) float.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        index: (M,) int64. Steps, as positions in the flattened (T * N,) rollout.
        horizon: H.

    Returns:
        (M, H) rewards at each lag, 0 after a terminal state, and (M, H) bool: True where the
        target is known. Where it is not (after a time limit or the rollout's end) it is 0.

    Raises:
        ValueError: The shapes differ, the horizon is below 1, or an index is out of range.
    """
    shapes = {tuple(x.shape) for x in (rewards, terminated, truncated)}
    if len(shapes) != 1:
        raise ValueError(f"lag_rewards needs three tensors of one shape, got {sorted(shapes)}")
    check_lag_index(rewards, index, horizon)
    window = _Windows(rewards, terminated, truncated)
    lags = torch.arange(horizon, device=rewards.device)
    row, column = index // rewards.shape[1], index % rewards.shape[1]
    steps = window.steps[row, column].unsqueeze(-1)
    rows = (row.unsqueeze(-1) + lags).clamp(max=len(rewards) - 1)
    alive = lags < steps
    targets = rewards[rows, column.unsqueeze(-1)].masked_fill(~alive, 0.0)
    return targets, alive | window.terminal[row, column].unsqueeze(-1)


class LagMoments(NamedTuple):
    """Moments of each lag over the steps whose target is known; 0 where there is none."""

    num_known: Tensor
    """(H,) int64: such steps."""
    mean: Tensor
    """(H,) float64: mean target."""
    variance: Tensor
    """(H,) float64: mean squared distance of the target from that mean."""
    squared_error: Tensor
    """(H,) float64: mean squared distance of the target from its prediction."""


def lag_moments(
    rewards: Tensor, means: Tensor, terminated: Tensor, truncated: Tensor, valid: Tensor
) -> LagMoments:
    """How well each lag is predicted, and how well a constant would do.

    `squared_error` is the Gaussian likelihood's best variance of a lag, `variance` that of a
    guesser who knows only the lag's mean. Sums in float64, in a fixed order.

    Args:
        rewards: (T, N) float.
        means: (T, N, H) float. mu_k(s_t).
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        valid: (T, N) bool. Steps that count; others are left out.

    Raises:
        ValueError: The shapes do not fit together.
    """
    check_horizon_shapes(rewards, means, means, terminated, truncated, None)
    if valid.shape != rewards.shape:
        raise ValueError(
            f"lag_moments: valid must have the shape of rewards {tuple(rewards.shape)}, got"
            f" {tuple(valid.shape)}"
        )
    window = _Windows(rewards, terminated, truncated)
    moments: list[Tensor] = []
    counts: list[Tensor] = []
    for k in range(means.shape[-1]):
        known = window.known(k) & valid
        count = known.sum()
        target = window.target(k, None).double()
        divisor = count.clamp(min=1)
        mean = target.masked_fill(~known, 0.0).sum() / divisor
        spread = (target - mean).square().masked_fill(~known, 0.0).sum() / divisor
        error = (target - means[..., k]).square().masked_fill(~known, 0.0).sum() / divisor
        counts.append(count)
        moments.append(torch.stack([mean, spread, error]))
    return LagMoments(torch.stack(counts), *torch.stack(moments, dim=-1))


class _Windows:
    """What follows each step until the episode or the rollout ends, or until n steps are over."""

    def __init__(
        self, rewards: Tensor, terminated: Tensor, truncated: Tensor, n_step: int | None = None
    ) -> None:
        ended = terminated | truncated
        self.rewards = rewards
        self.steps = torch.ones_like(rewards, dtype=torch.int64)
        """(T, N): steps to the first end, that step included: the K of `lag_targets`."""
        self.terminal = terminated.clone()
        """(T, N): whether that end is a terminal state."""
        for t in reversed(range(len(rewards) - 1)):
            self.steps[t] = torch.where(ended[t], 1, self.steps[t + 1] + 1)
            self.terminal[t] = torch.where(ended[t], terminated[t], self.terminal[t + 1])
        if n_step is not None:
            self.terminal &= self.steps <= n_step
            self.steps.clamp_(max=n_step)

    def known(self, k: int) -> Tensor:
        """(T, N) bool: whether the target of lag k was observed."""
        return (k < self.steps) | self.terminal

    def target(self, k: int, next_means: Tensor | None) -> Tensor:
        """(T, N): the target of lag k; without means, 0 where it was not observed."""
        ahead = torch.zeros_like(self.rewards)
        ahead[: max(len(ahead) - k, 0)] = self.rewards[k:]
        later = torch.zeros_like(ahead)
        if next_means is not None:
            rows, columns = torch.meshgrid(
                *(torch.arange(n, device=ahead.device) for n in ahead.shape), indexing="ij"
            )
            last = rows + self.steps - 1
            predicted = next_means[last, columns, (k - self.steps).clamp(min=0)]
            later = torch.where(self.terminal, later, predicted)
        return torch.where(k < self.steps, ahead, later)


def check_horizon_shapes(
    rewards: Tensor,
    means: Tensor,
    next_means: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    weights: Tensor | None,
) -> None:
    """Refuses shapes that are not (T, N), (T, N, H) and, for weights, (H,) or (T, N, H).

    Raises:
        ValueError: With the shapes found.
    """
    steps = tuple(rewards.shape)
    block = tuple(means.shape)
    fits = len(steps) == 2 and block[:-1] == steps and len(block) == 3 and block[-1] > 0
    fits &= tuple(terminated.shape) == steps and tuple(truncated.shape) == steps
    fits &= tuple(next_means.shape) == block
    if weights is not None:
        fits &= tuple(weights.shape) in (block, block[-1:])
    if not fits:
        found = {
            "rewards": steps,
            "means": block,
            "next_means": tuple(next_means.shape),
            "terminated": tuple(terminated.shape),
            "truncated": tuple(truncated.shape),
            "weights": None if weights is None else tuple(weights.shape),
        }
        raise ValueError(
            "lags need steps (T, N), means (T, N, H) and weights (H,) or (T, N, H) with H >= 1,"
            f" got {found}"
        )


def check_n_step(function: str, n_step: int | None) -> None:
    """Refuses a number of steps below 1.

    Raises:
        ValueError: With the number.
    """
    if n_step is not None and n_step < 1:
        raise ValueError(f"{function}: n_step must be at least 1, or None, got {n_step}")


def check_lag_index(rewards: Tensor, index: Tensor, horizon: int) -> None:
    """Refuses a horizon below 1 and an index that is no flat step of the rollout.

    Raises:
        ValueError: With what was found.
    """
    if horizon < 1:
        raise ValueError(f"lag_rewards: horizon must be at least 1, got {horizon}")
    if index.ndim != 1 or index.dtype != torch.int64:
        raise ValueError(
            f"lag_rewards: index must be (M,) int64, got {tuple(index.shape)} {index.dtype}"
        )
    if index.numel() and not bool(((index >= 0) & (index < rewards.numel())).all()):
        raise ValueError(
            f"lag_rewards: index must be in [0, {rewards.numel()}), got {int(index.min())} to"
            f" {int(index.max())}"
        )


def _check_rates(rewards: Tensor, gamma: float | Tensor, gae_lambda: float | Tensor) -> None:
    for name, rate in (("gamma", gamma), ("gae_lambda", gae_lambda)):
        if not isinstance(rate, Tensor):
            if not 0.0 <= rate <= 1.0:
                raise ValueError(
                    f"gamma and gae_lambda must be in [0, 1], got {gamma=} {gae_lambda=}"
                )
            continue
        if rate.shape != rewards.shape or rate.dtype != rewards.dtype:
            raise ValueError(
                f"{name} must be a float or {tuple(rewards.shape)} {rewards.dtype}, got"
                f" {tuple(rate.shape)} {rate.dtype}"
            )
        if not bool(((rate >= 0.0) & (rate <= 1.0)).all()):
            low, high = float(rate.min()), float(rate.max())
            raise ValueError(f"{name} must be in [0, 1], got {low} to {high}")
