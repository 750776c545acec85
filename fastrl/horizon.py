"""Estimators that predict the reward at each lag and weigh it by how well they do.

A lag k is a number of steps ahead: head k predicts the reward k steps after a state. A guesser who
knows only the mean leaves the variance sigma_rk^2 of that reward, the head leaves sigma_k^2; both
are running means, the same for all states. So is the weight of a lag that follows from them. With
`vd_sigma` state, H more heads predict log(sigma_k^2 / sigma_rk^2) for each state, and weights are
its own.

Shapes: T rollout steps, N environments, H lags, M steps of a minibatch.
"""

from typing import Any, Literal

import torch
from torch import Tensor

from fastrl import ops
from fastrl.config import TrainConfig
from fastrl.estimators import (
    MAX_Z2,
    Ema,
    Estimate,
    Warmup,
    bounded_log_variance,
    fixed_gae,
    gae_of,
    gaussian_nll,
    heads_of,
    masked_variance,
    one_gamma_metrics,
)
from fastrl.rollout import Rollout

MIN_LAG_WEIGHT = 0.05
"""Share of the loss that a lag keeps when it has no weight in the advantage."""
PRECISION_FLOOR = 0.05
"""Smallest sigma_k of the map prec, in units of the rewards' standard deviation."""


def explained_weights(squared_error: Tensor, variance: Tensor, beta: float) -> Tensor:
    """(..., H) share of each lag's variance that is explained: 1 - beta sigma_k^2 / sigma_rk^2."""
    known = variance > 1e-30
    return torch.where(
        known, 1.0 - beta * squared_error / torch.where(known, variance, 1.0), 0.0
    ).clamp(0.0, 1.0)


def precision_weights(
    squared_error: Tensor, variance: Tensor, beta: float, norm: Literal["max", "sum"]
) -> Tensor:
    """(..., H) precision of each lag beyond beta times that of a constant guess, normalised.

    q_k = max(0, 1 / max(sigma_k, floor)^2 - beta / sigma_r^2), with the variance of the rewards
    themselves (lag 0) as sigma_r^2. All 0 where no lag beats the guess.
    """
    guess = variance[0].clamp(min=1e-30)
    floor = PRECISION_FLOOR**2 * guess
    precision = (1.0 / squared_error.clamp(min=floor) - beta / guess).clamp(min=0.0)
    precision = torch.where(variance > 1e-30, precision, 0.0)
    total = precision.amax(-1, True) if norm == "max" else precision.sum(-1, True)
    return precision / torch.where(total > 0.0, total, 1.0)


class LagStatistics:
    """How well the reward at each lag is predicted, over past rollouts."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        """Starts empty."""
        self.config = config
        self.squared_error = Ema((config.vd_horizon,), device)
        self.variance = Ema((config.vd_horizon,), device)
        lags = torch.arange(config.vd_horizon, dtype=torch.float64, device=device)
        self.exponential = config.gamma**lags
        """(H,) the weights of a fixed discount."""

    def observe(self, rollout: Rollout, means: Tensor) -> None:
        """Takes in the errors of (T, N, H) predictions, and what a constant would leave."""
        moments = ops.lag_moments(
            rollout.rewards, means, rollout.terminated, rollout.truncated, rollout.valid
        )
        known = moments.num_known > 0
        self.squared_error.update(moments.squared_error, known)
        self.variance.update(moments.variance, known)

    def weights(self, log_variance: Tensor | None = None) -> Tensor:
        """What each lag counts, in [0, 1].

        Args:
            log_variance: (..., H) log(sigma_k^2 / sigma_rk^2); None takes the running means.

        Returns:
            (H,) float64, or (..., H).
        """
        config = self.config
        variance = self.variance.value()
        if log_variance is None:
            squared_error = self.squared_error.value()
        else:
            variance = variance.to(log_variance.dtype)
            squared_error = log_variance.exp() * variance
        if config.vd_map == "prec":
            return precision_weights(squared_error, variance, config.vd_beta, config.vd_norm)
        return explained_weights(squared_error, variance, config.vd_beta)

    def trust(self, weights: Tensor, warmup: float) -> Tensor:
        """0-d: the warm-up, but 0 while all lags together have less weight than one reward.

        Args:
            weights: (H,).
            warmup: 0 to 1.
        """
        return torch.where(weights.sum() >= 1.0, warmup, 0.0).double()

    def z2(self, errors: Tensor) -> Tensor:
        """(M, H) squared errors in units of sigma_rk^2; 1 where that is not known yet."""
        variance = self.variance.value().float()
        known = variance > 1e-30
        return torch.where(known, errors.square() / torch.where(known, variance, 1.0), 1.0)

    def scale(self) -> Tensor:
        """0-d float32: variance of the rewards; 1 while there is none."""
        variance = self.variance.value()[0]
        return torch.where(variance > 1e-30, variance, 1.0).float()

    def metrics(self) -> dict[str, Tensor]:
        """Spread of the explained share over lags, and the skill: its mean."""
        explained = explained_weights(self.squared_error.value(), self.variance.value(), 1.0)
        return {"sigma_base2": self.scale(), "skill": explained.mean()}

    def state_dict(self) -> dict[str, Any]:
        """See `Estimator`."""
        return {
            "squared_error": self.squared_error.state_dict(),
            "variance": self.variance.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Estimator`."""
        self.squared_error.load_state_dict(state["squared_error"])
        self.variance.load_state_dict(state["variance"])


class _PerLag:
    """What the estimators with a reward head for each lag share: statistics and the loss."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config = config
        self.warmup = Warmup(config, "gamma_mean")
        self.lags = LagStatistics(config, device)
        self.rewards_and_ends: tuple[Tensor, Tensor, Tensor] | None = None
        self.loss_weights = torch.ones(config.vd_horizon, device=device)

    @property
    def replaces_value_loss(self) -> bool:
        """Beside a value of its own."""
        return False

    def observe(self, rollout: Rollout, means: Tensor, weights: Tensor) -> Tensor:
        """Takes in a rollout; the loss weighs lags as `weights`. Returns its targets."""
        self.lags.observe(rollout, means)
        self.rewards_and_ends = rollout.rewards, rollout.terminated, rollout.truncated
        self.loss_weights = weights.float().clamp(min=MIN_LAG_WEIGHT)
        self.warmup.updates += 1
        rewards = rollout.rewards
        return torch.arange(rewards.numel(), device=rewards.device).view_as(rewards)

    def loss(self, values: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        """See `Estimator`; targets are flat steps (M,) of the rollout."""
        del values
        assert self.rewards_and_ends is not None, "estimate() comes first"
        num_lags = self.config.vd_horizon
        means, log_variance = head[:, :num_lags], head[:, num_lags:]
        rewards, known = ops.lag_rewards(*self.rewards_and_ends, targets, num_lags)
        counts = known.sum(0).clamp(min=1)
        squared_error = (rewards - means).square().masked_fill(~known, 0.0)
        by_lag = 0.5 * squared_error.sum(0) / counts
        total = (self.loss_weights * by_lag).sum() / self.loss_weights.sum()
        loss = total / self.lags.scale()
        if self.config.vd_sigma == "lag":
            return loss
        z2 = self.lags.z2(rewards - means.detach()).clamp(max=MAX_Z2)
        surprise = gaussian_nll(bounded_log_variance(log_variance), z2).masked_fill(~known, 0.0)
        return loss + (surprise.sum(0) / counts).mean()

    def state_dict(self) -> dict[str, Any]:
        """See `Estimator`."""
        return {"updates": self.warmup.updates, "lags": self.lags.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Estimator`."""
        self.warmup.updates = state["updates"]
        self.lags.load_state_dict(state["lags"])


class VarianceHorizon(_PerLag):
    """Rewards weighted by how well they are predicted, without a value, a gamma or a lambda.

    With control head-only the value and GAE are back, and the predictions an auxiliary task.
    """

    @property
    def replaces_value_loss(self) -> bool:
        """The predictions are the critic."""
        return self.config.control != "head-only"

    @torch.no_grad()
    def estimate(self, rollout: Rollout) -> Estimate:
        """See `Estimator`."""
        num_lags = self.config.vd_horizon
        (means, by_state), (next_means, _) = (
            (head[..., :num_lags], head[..., num_lags:]) for head in heads_of(rollout)
        )
        if self.config.vd_sigma == "lag":
            learned = usual = self.lags.weights()
        else:
            learned = self.lags.weights(bounded_log_variance(by_state))
            usual = learned[rollout.valid].double().mean(0)
        trust = self.lags.trust(usual, self.warmup.factor())
        weights = ((1.0 - trust) * self.lags.exponential + trust * learned).float()
        values = rollout.values
        if self.config.control == "head-only":
            advantages = fixed_gae(rollout, self.config)
        else:
            advantages, values = self.judge(rollout, means, next_means, weights)
        counted = weights if weights.ndim == 1 else weights[rollout.valid].mean(0)
        metrics = self.lags.metrics() | {
            "effective_horizon": counted.sum(),
            "lag_weights": counted,
            "advantage_var": masked_variance(advantages, rollout.valid),
            "trust": trust,
        }
        if weights.ndim > 1:
            metrics["effective_horizon_std"] = weights.sum(-1)[rollout.valid].std()
        return Estimate(
            advantages=advantages,
            returns=advantages + values,
            values=values,
            head_targets=self.observe(rollout, means, usual),
            metrics=metrics,
        )

    def judge(
        self, rollout: Rollout, means: Tensor, next_means: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Advantages and the baseline that they are over, both (T, N)."""
        ends = rollout.terminated, rollout.truncated
        n_step = self.config.vd_n_step or None
        advantages = ops.variance_horizon(
            rollout.rewards, means, next_means, *ends, weights, n_step=n_step
        )
        predicted = means @ weights if weights.ndim == 1 else (means * weights).sum(-1)
        return advantages, predicted


class VarianceHorizonReturn(VarianceHorizon):
    """The rewards weighted in the same way, against a value of that return."""

    @property
    def replaces_value_loss(self) -> bool:
        """The value is the critic, the predictions come beside it."""
        return False

    def judge(
        self, rollout: Rollout, means: Tensor, next_means: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `VarianceHorizon`."""
        advantages, predicted = super().judge(rollout, means, next_means, weights)
        return advantages + predicted - rollout.values, rollout.values


class VarianceHorizonLite(_PerLag):
    """GAE with one discount, whose horizon is the number of lags that can be predicted."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        """Starts with the configured gamma."""
        super().__init__(config, device)
        self.gamma = Ema((), device)

    @torch.no_grad()
    def estimate(self, rollout: Rollout) -> Estimate:
        """See `Estimator`."""
        config = self.config
        means, _ = heads_of(rollout)
        gamma = torch.where(self.gamma.weight > 0.0, self.gamma.value(), config.gamma)
        gamma = gamma.clamp(config.gamma_low, config.gamma_high).float()
        followed = self.warmup.followed()
        if config.control == "head-only" or followed is not None:
            gamma = torch.full_like(gamma, config.gamma if followed is None else followed)
        rates = gamma.expand_as(rollout.rewards)
        values, next_values = rollout.values, rollout.next_values
        advantages = gae_of(rollout, values, next_values, rates, config.gae_lambda)

        explained = self.lags.weights()
        targets = self.observe(rollout, means, explained)
        horizon = self._horizon()
        self.gamma.update((1.0 - 1.0 / horizon).clamp(config.gamma_low, config.gamma_high))
        metrics = self.lags.metrics() | one_gamma_metrics(gamma, config.gae_lambda)
        metrics |= {
            "effective_horizon": horizon,
            "advantage_var": masked_variance(advantages, rollout.valid),
        }
        return Estimate(
            advantages=advantages,
            returns=advantages + values,
            values=values,
            head_targets=targets,
            metrics=metrics,
        )

    def _horizon(self) -> Tensor:
        """0-d: the explained lags, and those beyond H as the last half of them falls off."""
        config = self.config
        explained = self.lags.weights()
        half = config.vd_horizon // 2
        falls = explained[half + 1 :].sum() / explained[half:-1].sum().clamp(min=1e-12)
        ratio = falls.clamp(0.0, config.gamma_high)
        beyond = explained[-1] * ratio / (1.0 - ratio)
        trust = self.lags.trust(explained, self.warmup.factor())
        return (1.0 - trust) / (1.0 - config.gamma) + trust * (explained.sum() + beyond)

    def state_dict(self) -> dict[str, Any]:
        """See `Estimator`."""
        return super().state_dict() | {"gamma": self.gamma.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Estimator`."""
        super().load_state_dict(state)
        self.gamma.load_state_dict(state["gamma"])
