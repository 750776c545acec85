"""Learned discounts: from the critic's confidence to gamma, lambda or a horizon.

An estimator turns a rollout into advantages and returns, and says what the value head learns from
them. `Gae` is PPO's. The others let the future count as far as the critic predicts it:

| advantage                | value head                         | what it decides                |
|--------------------------|------------------------------------|--------------------------------|
| variance-gamma           | log variance, and a mean           | a discount for each state      |
| variance-lambda          | log variance                       | a lambda for each state        |
| variance-lambda-ensemble | log variance of delta, K - 1 values| lambda from error and noise    |
| variance-horizon         | reward expected at each of H lags  | a weight for each lag          |
| variance-horizon-return  | the same, and the value is trained | the same                       |
| variance-horizon-lite    | the same, body not trained by it   | one discount for all states    |

Variances are relative: l = log(sigma^2 / sigma_b^2), where sigma_b^2 is what a constant guess
leaves. Nothing here sends a gradient into gamma, lambda or a weight.

Shapes: T rollout steps, N environments, K outputs of the value head, H lags, M steps of a
minibatch.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fastrl import ops
from fastrl.config import TrainConfig
from fastrl.estimators import (
    LOWEST,
    MAX_Z2,
    Ema,
    Estimate,
    Estimator,
    Gae,
    GroupRelative,
    Warmup,
    bounded_log_variance,
    flat_steps,
    gae_of,
    gaussian_nll,
    heads_of,
    masked_mean,
    masked_variance,
)
from fastrl.horizon import VarianceHorizon, VarianceHorizonLite, VarianceHorizonReturn
from fastrl.rivals import ExplainedLambda, MetaGradient
from fastrl.rollout import Rollout

BETA_NLL = 0.5
"""Exponent of the predicted variance in beta_nll. Source: Seitzer et al. 2022."""
NUM_MEMBERS = 4
"""Values in the ensemble."""
FULL_SKILL = 0.05
"""Advantage over a constant, in nats, at which the skill gate is open."""
TIME_LEFT_BINS = 8
"""1, 2-3, 4-7, ... steps to the end of the episode; the last bin takes all that is longer."""

MAX_SORTED = 4096
"""States, evenly spaced over the rollout, of which quantiles are logged: sorting all takes long."""


class HeadSpec(NamedTuple):
    """What an estimator wants beside the value."""

    num_outputs: int
    """K."""
    num_members: int
    """The last of them that are an ensemble of values."""
    num_through_body: int
    """The first of them, whose loss trains the body of the network too."""


def head_spec(config: TrainConfig) -> HeadSpec | None:
    """The value head that a config needs; None if it needs none."""
    match config.estimator:
        case "variance-gamma":
            outputs = 2 if config.vd_ref == "fixed" else 1
            return HeadSpec(outputs, 0, 0 if config.vd_loss == "decoupled" else outputs)
        case "variance-lambda":
            return HeadSpec(1, 0, 0 if config.vd_loss == "decoupled" else 1)
        case "variance-lambda-ensemble":
            return HeadSpec(1 + NUM_MEMBERS, NUM_MEMBERS, 0)
        case "variance-horizon" | "variance-horizon-return":
            variances = config.vd_horizon if config.vd_sigma == "state" else 0
            return HeadSpec(config.vd_horizon + variances, 0, config.vd_horizon)
        case "variance-horizon-lite":
            return HeadSpec(config.vd_horizon, 0, 0)
        case _:
            return None


def make_estimator(
    config: TrainConfig, device: torch.device, policy: nn.Module | None = None
) -> Estimator:
    """The estimator of a config.

    Args:
        config: For the estimator and its options.
        device: Where rollouts are.
        policy: The one that learns; only meta-gradient looks at it.

    Raises:
        FileNotFoundError: There is no run to be yoked to.
        ValueError: The run to be yoked to did not log what is needed, or the policy is missing.
    """
    match config.estimator:
        case "group":
            return GroupRelative(config)
        case "variance-gamma":
            return VarianceGamma(config, device)
        case "variance-lambda":
            return VarianceLambda(config, device)
        case "variance-lambda-ensemble":
            return VarianceLambdaEnsemble(config, device)
        case "variance-horizon":
            return VarianceHorizon(config, device)
        case "variance-horizon-return":
            return VarianceHorizonReturn(config, device)
        case "variance-horizon-lite":
            return VarianceHorizonLite(config, device)
        case "explained-lambda":
            return ExplainedLambda(config, device)
        case "meta-gradient":
            if policy is None:
                raise ValueError("meta-gradient differentiates the policy: none was given")
            return MetaGradient(config, device, policy)
        case _:
            return Gae(config)


# The maps: from a predicted variance to what counts how much.


def tilted(rate: float, tilt: Tensor, low: float, high: float) -> Tensor:
    """`rate` with its odds rate / (1 - rate) divided by exp(tilt), within [low, high].

    As a discount its horizon is that of `rate` divided by exp(tilt), up to one step. In float32 a
    tilt of 0 gives the very bits of `rate`.
    """
    base = torch.full_like(tilt, rate)
    return (base / (base + (1.0 - base) * tilt.exp())).clamp(low, high)


def explained_gamma(
    gamma: float, log_variance: Tensor, beta: float, low: float, high: float, trust: Tensor
) -> Tensor:
    """The discount whose log horizon lies between those of `low` and `high` as the explained share.

    Args:
        gamma: Where trust is 0.
        log_variance: (T, N) relative to a constant guess.
        beta: The share is 1 - beta * exp(log_variance), within [0, 1].
        low: Discount where nothing is explained.
        high: Discount where all is, below 1.
        trust: 0-d, from 0 to 1: between gamma and the learned one, in log horizon too.

    Returns:
        (T, N).
    """
    share = (1.0 - beta - beta * log_variance.expm1()).clamp(0.0, 1.0)
    learned = share * math.log1p(-high) + (1.0 - share) * math.log1p(-low)
    base = math.log1p(-gamma)
    rate = (-torch.expm1(base + trust * (learned - base))).clamp(low, high)
    return torch.where(trust > 0.0, rate, gamma)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """The critic's confidence in the states that a rollout reached."""

    log_variance: Tensor
    """(T, N) at the successors."""
    tilt: Tensor
    """(T, N) at the successors: how much more uncertain than usual, within vd_lmax; 0 is usual."""
    trust: Tensor
    """0-d, 0 to 1: how much of it counts already."""
    centre: Tensor
    """0-d: the usual log variance."""
    reached: Tensor
    """(M,) flat steps whose successor has a value: valid, and not terminal."""
    nonfinite: Tensor
    """0-d: outputs of the head that were no numbers."""


class Confidence:
    """A predicted log variance, made comparable between states, batches and scales of reward.

    Holds sigma_b^2, the variance that a constant guess leaves, and the head's skill: by how much
    its likelihood beats that of the best constant.
    """

    def __init__(self, config: TrainConfig, device: torch.device, *, rate: str) -> None:
        """`rate` is what the control yoked follows: gamma or lambda."""
        self.config = config
        self.warmup = Warmup(config, f"{rate}_mean")
        self.base_variance = Ema((), device)
        self.skill = Ema((), device)
        self.neutral = torch.ones((), dtype=torch.bool, device=device)
        """Whether errors have been too small for their variance to mean anything."""
        self.generator = torch.Generator(device).manual_seed(config.seed + 2**33)

    def read(self, rollout: Rollout, outputs: Tensor) -> Reading:
        """Confidence in successors.

        Args:
            rollout: Which states were reached.
            outputs: (T, N) of the head at the successors.
        """
        config = self.config
        log_variance = bounded_log_variance(outputs)
        finite = torch.isfinite(outputs)
        reached = rollout.valid & ~rollout.terminated
        trust = self.trust()
        if config.vd_base == "geo":
            centre = masked_mean(log_variance, reached & finite)
        else:
            centre = torch.zeros_like(trust)
        log_variance = torch.where(finite, log_variance, centre)
        steps = flat_steps(reached)
        log_variance = self.dealt_out(log_variance, steps)
        return Reading(
            log_variance=log_variance,
            tilt=self.relative(log_variance - centre, trust),
            trust=trust,
            centre=centre,
            reached=steps,
            nonfinite=(~finite & reached).sum(),
        )

    def trust(self) -> Tensor:
        """0-d float32, 0 to 1."""
        trust = torch.where(self.neutral, 0.0, self.warmup.factor())
        if self.config.vd_skill_gate:
            trust = trust * (self.skill.value() / FULL_SKILL).clamp(0.0, 1.0).float()
        return trust

    def relative(self, log_ratio: Tensor, trust: Tensor) -> Tensor:
        """Log variance relative to the usual one, bounded; the control negated turns its sign."""
        limit = self.config.vd_lmax
        bounded = (trust * log_ratio).clamp(-limit, limit)
        return -bounded if self.config.control == "negated" else bounded

    def dealt_out(self, x: Tensor, steps: Tensor) -> Tensor:
        """(T, N) as it is, or with the control shuffled permuted over the (M,) flat steps."""
        if self.config.control != "shuffled":
            return x
        order = torch.randperm(len(steps), generator=self.generator, device=steps.device)
        flat = x.flatten().clone()
        flat[steps] = flat[steps[order]]
        return flat.view_as(x)

    def observe(
        self, error: Tensor, target: Tensor, log_variance: Tensor, valid: Tensor, *, td: bool
    ) -> Tensor:
        """Takes in the errors of a rollout.

        Args:
            error: (T, N) target - prediction.
            target: (T, N) return.
            log_variance: (T, N) predicted for these errors, at s_t.
            valid: (T, N) bool.
            td: The errors are of one step: their mean square is sigma_b^2, not the variance of
                the returns.

        Returns:
            (T, N) squared errors in units of sigma_b^2, at most MAX_Z2; 1 while errors are too
            small to tell.
        """
        spread = masked_mean(error.square(), valid) if td else masked_variance(target, valid)
        self.base_variance.update(spread)
        scale = self.base_variance.value()
        self.neutral = scale <= 1e-12 * masked_mean(target.square(), valid) + 1e-30
        z2 = (error.square() / self.scale()).clamp(max=MAX_Z2)
        z2 = torch.where(self.neutral | ~torch.isfinite(z2), 1.0, z2)
        # exp(LOWEST) is the smallest variance that the head can predict.
        constant = 0.5 * (masked_mean(z2, valid).clamp(min=math.exp(LOWEST)).log() + 1.0)
        self.skill.update(constant - masked_mean(gaussian_nll(log_variance, z2), valid))
        self.warmup.updates += 1
        return z2

    def scale(self) -> Tensor:
        """0-d float32: sigma_b^2, or 1 while it means nothing."""
        return torch.where(self.neutral, 1.0, self.base_variance.value()).float()

    def metrics(self, reading: Reading) -> dict[str, Tensor]:
        """What there is to log."""
        return {
            "centre": reading.centre,
            "sigma_base2": self.base_variance.value(),
            "nonfinite": reading.nonfinite,
            "skill": self.skill.value(),
            "trust": reading.trust,
        }

    def state_dict(self) -> dict[str, Any]:
        """See `Estimator`."""
        return {
            "updates": self.warmup.updates,
            "base_variance": self.base_variance.state_dict(),
            "skill": self.skill.state_dict(),
            "neutral": self.neutral,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Estimator`."""
        self.warmup.updates = state["updates"]
        self.base_variance.load_state_dict(state["base_variance"])
        self.skill.load_state_dict(state["skill"])
        self.neutral = state["neutral"].to(self.neutral.device)
        self.generator.set_state(state["generator"])


class _StateDependent:
    """What variance-gamma and variance-lambda share: all but the map to gamma and lambda."""

    rate = ""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config = config
        self.confidence = Confidence(config, device, rate=self.rate)
        self.own_mean = config.estimator == "variance-gamma" and config.vd_ref == "fixed"
        """Whether the variance is of a return of its own, predicted by the head's second output."""

    @property
    def replaces_value_loss(self) -> bool:
        """With the likelihood of the value's own return."""
        return self.config.vd_loss != "decoupled" and not self.own_mean

    def rates(self, reading: Reading) -> tuple[float | Tensor, float | Tensor]:
        """Gamma and lambda of the successors: floats, or (T, N)."""
        raise NotImplementedError

    @torch.no_grad()
    def estimate(self, rollout: Rollout) -> Estimate:
        """See `Estimator`."""
        config = self.config
        head, next_head = heads_of(rollout)
        reading = self.confidence.read(rollout, next_head[..., 0])
        gamma, gae_lambda = self.rates(reading)
        followed = self.confidence.warmup.followed()
        if followed is not None and self.rate == "gamma":
            gamma = torch.full_like(reading.tilt, followed)
        elif followed is not None:
            gae_lambda = torch.full_like(reading.tilt, followed)
        advantages = gae_of(rollout, rollout.values, rollout.next_values, gamma, gae_lambda)
        returns = advantages + rollout.values

        values, next_values = rollout.values, rollout.next_values
        error, target = advantages, returns
        if self.own_mean:
            values, next_values = head[..., 1], next_head[..., 1]
            error = gae_of(rollout, values, next_values, config.gamma, config.gae_lambda)
            target = error + values
        td = config.vd_signal == "td"
        if td:
            error = gae_of(rollout, values, next_values, config.gamma, 0.0)
        log_variance = bounded_log_variance(head[..., 0])
        z2 = self.confidence.observe(error, target, log_variance, rollout.valid, td=td)
        metrics = (
            self.confidence.metrics(reading)
            | _rate_metrics(config, reading, gamma, gae_lambda)
            | _calibration(rollout, log_variance, z2)
            | {"advantage_var": masked_variance(advantages, rollout.valid)}
        )
        return Estimate(
            advantages=advantages,
            returns=returns,
            values=rollout.values,
            head_targets=torch.stack((z2, target), dim=-1),
            metrics=metrics,
        )

    def loss(self, values: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        """See `Estimator`."""
        log_variance, (z2, target) = bounded_log_variance(head[:, 0]), targets.unbind(-1)
        means = head[:, 1] if self.own_mean else values
        scale = self.confidence.scale()
        if self.config.vd_loss == "decoupled":
            loss = gaussian_nll(log_variance, z2).mean()
            if self.own_mean:
                loss = loss + 0.5 * ((means - target).square() / scale).mean()
            return loss
        z2 = ((target - means).square() / scale).clamp(max=MAX_Z2)
        losses = gaussian_nll(log_variance, torch.where(self.confidence.neutral, 1.0, z2))
        if self.config.vd_loss == "beta_nll":
            losses = losses * (BETA_NLL * log_variance).exp().detach()
        return losses.mean()

    def state_dict(self) -> dict[str, Any]:
        """See `Estimator`."""
        return {"confidence": self.confidence.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Estimator`."""
        self.confidence.load_state_dict(state["confidence"])


class VarianceGamma(_StateDependent):
    """A discount for each state: uncertain successors count less.

    Like White 2017 (arXiv:1609.01995) this changes the task: where rewards are negative the agent
    is drawn to what it cannot predict.
    """

    rate = "gamma"

    def rates(self, reading: Reading) -> tuple[float | Tensor, float | Tensor]:
        """Gamma from confidence, lambda as configured."""
        config = self.config
        bounds = config.gamma_low, config.gamma_high
        if config.vd_map == "ev":
            gamma = explained_gamma(
                config.gamma, reading.log_variance, config.vd_beta, *bounds, reading.trust
            )
        else:
            gamma = tilted(config.gamma, config.vd_eta * reading.tilt, *bounds)
        return gamma, config.gae_lambda


class VarianceLambda(_StateDependent):
    """A lambda for each state: uncertain values are trusted less than the rewards that follow.

    The task stays the same; only bias and variance of the advantage change.
    """

    rate = "lambda"

    def rates(self, reading: Reading) -> tuple[float | Tensor, float | Tensor]:
        """Gamma as configured, lambda from confidence."""
        config = self.config
        tilt = -config.vd_zeta * reading.tilt
        return config.gamma, tilted(config.gae_lambda, tilt, config.lambda_low, config.lambda_high)


class VarianceLambdaEnsemble:
    """A lambda for each state, from the critic's own error and the noise of the rewards ahead.

    The error is the disagreement of values that each learn half of the steps; the noise is a
    predicted variance of the one-step error. See `fastrl.advantages.blended_lambda`.
    """

    replaces_value_loss = False

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        """Starts with no statistics."""
        self.config = config
        self.confidence = Confidence(config, device, rate="lambda")
        self.return_variance = Ema((), device)

    @torch.no_grad()
    def estimate(self, rollout: Rollout) -> Estimate:
        """See `Estimator`."""
        config = self.config
        head, next_head = heads_of(rollout)
        reading = self.confidence.read(rollout, next_head[..., 0])
        log_variance = bounded_log_variance(head[..., 0])
        followed = self.confidence.warmup.followed()
        if config.control == "head-only" or followed is not None:
            fixed = config.gae_lambda if followed is None else followed
            gae_lambda = torch.full_like(log_variance, fixed)
            values, next_values = rollout.values, rollout.next_values
            advantages = gae_of(rollout, values, next_values, config.gamma, gae_lambda)
        else:
            advantages, gae_lambda = ops.blended_gae(
                rollout.rewards,
                rollout.values,
                rollout.next_values,
                rollout.terminated,
                rollout.truncated,
                *self._signals(rollout, reading, log_variance, next_head[..., 1:]),
                gamma=config.gamma,
                gae_lambda=config.gae_lambda,
            )
        returns = advantages + rollout.values

        error = gae_of(rollout, rollout.values, rollout.next_values, config.gamma, 0.0)
        z2 = self.confidence.observe(error, returns, log_variance, rollout.valid, td=True)
        self.return_variance.update(masked_variance(returns, rollout.valid))
        shape = (*returns.shape, NUM_MEMBERS)
        generator = self.confidence.generator
        learns = torch.rand(shape, generator=generator, device=returns.device) < 0.5
        metrics = (
            self.confidence.metrics(reading)
            | _rate_metrics(config, reading, config.gamma, gae_lambda)
            | _calibration(rollout, log_variance, z2)
            | {"advantage_var": masked_variance(advantages, rollout.valid)}
        )
        return Estimate(
            advantages=advantages,
            returns=returns,
            values=rollout.values,
            head_targets=torch.cat((torch.stack((z2, returns), dim=-1), learns), dim=-1),
            metrics=metrics,
        )

    def _signals(
        self, rollout: Rollout, reading: Reading, log_variance: Tensor, members: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(T, N) squared error of the successors' values and noise of the steps, both about 1."""
        reached = rollout.valid & ~rollout.terminated
        confidence = self.confidence
        error = _log_ratio(members.var(dim=-1), reached)
        noise = _log_ratio(log_variance.exp(), rollout.valid)
        error = confidence.dealt_out(error, reading.reached)
        noise = confidence.dealt_out(noise, flat_steps(rollout.valid))
        return (
            confidence.relative(error, reading.trust).exp(),
            confidence.relative(noise, reading.trust).exp(),
        )

    def loss(self, values: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        """See `Estimator`."""
        z2, returns, learns = targets[:, 0], targets[:, 1:2], targets[:, 2:]
        scale = self.return_variance.value()
        scale = torch.where(scale > 1e-30, scale, 1.0)
        squared_error = learns * (head[:, 1:] - returns).square() / scale
        noise_loss = gaussian_nll(bounded_log_variance(head[:, 0]), z2).mean()
        return noise_loss + 0.5 * squared_error.mean()

    def state_dict(self) -> dict[str, Any]:
        """See `Estimator`."""
        return {
            "confidence": self.confidence.state_dict(),
            "return_variance": self.return_variance.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Estimator`."""
        self.confidence.load_state_dict(state["confidence"])
        self.return_variance.load_state_dict(state["return_variance"])


def _log_ratio(x: Tensor, mask: Tensor) -> Tensor:
    """log(x / its mean over the mask), 0 where that says nothing."""
    mean = masked_mean(x, mask)
    ratio = torch.where(mean > 1e-30, x / mean, 1.0)
    return torch.where(torch.isfinite(ratio), ratio, 1.0).clamp(min=1e-30).log()


def _rate_metrics(
    config: TrainConfig, reading: Reading, gamma: float | Tensor, gae_lambda: float | Tensor
) -> dict[str, Tensor]:
    """Spread of gamma, of its horizon and of lambda over the states reached; the contraction."""
    tilt = reading.tilt.flatten()[reading.reached].abs()
    found = {"log_variance_clipped": (tilt >= config.vd_lmax).float().mean()}
    if isinstance(gamma, Tensor):
        gamma = gamma.flatten()[reading.reached]
        quantiles = _quantiles(gamma)
        found |= {"gamma_mean": gamma.mean(), "horizon_mean": (1.0 / (1.0 - gamma)).mean()}
        found |= {f"gamma_{name}": x for name, x in quantiles.items()}
        found |= {f"horizon_{name}": 1.0 / (1.0 - x) for name, x in quantiles.items()}
        found["gamma_clipped"] = _share_outside(gamma, config.gamma_low, config.gamma_high)
        found["horizon_clipped"] = found["gamma_clipped"]
    if isinstance(gae_lambda, Tensor):
        gae_lambda = gae_lambda.flatten()[reading.reached]
        found["lambda_mean"] = gae_lambda.mean()
        found |= {f"lambda_{name}": x for name, x in _quantiles(gae_lambda).items()}
        found["lambda_clipped"] = _share_outside(gae_lambda, config.lambda_low, config.lambda_high)
    kept = gamma * gae_lambda
    return found | {"contraction": torch.as_tensor((gamma - kept) / (1.0 - kept)).mean()}


def _quantiles(x: Tensor) -> dict[str, Tensor]:
    """The 5, 50 and 95 % quantiles of a vector; NaN where it is empty."""
    ordered = _thinned(x).sort().values if len(x) else x.new_full((1,), math.nan)
    return {f"q{p:02}": ordered[p * (len(ordered) - 1) // 100] for p in (5, 50, 95)}


def _thinned(x: Tensor) -> Tensor:
    return x[:: -(-len(x) // MAX_SORTED)]


def _share_outside(x: Tensor, low: float, high: float) -> Tensor:
    return ((x <= low) | (x >= high)).float().mean()


def _calibration(rollout: Rollout, log_variance: Tensor, z2: Tensor) -> dict[str, Tensor]:
    """How well predicted variances fit squared errors, and where in an episode they are large.

    Args:
        rollout: Which steps count, and where episodes end.
        log_variance: (T, N) predicted at s_t.
        z2: (T, N) squared errors, in units of sigma_b^2.
    """
    kept = flat_steps(rollout.valid)
    log_variance, z2 = log_variance.flatten()[kept], z2.flatten()[kept]
    found = {f"log_variance_{name}": x for name, x in _quantiles(log_variance).items()}
    found["log_variance_mean"] = log_variance.mean()
    order = _thinned(log_variance).argsort()
    ratios = _thinned(z2 / log_variance.exp())[order]
    found["z2_by_decile"] = torch.stack([part.mean() for part in ratios.tensor_split(10)])
    found["sigma_corr"] = torch.corrcoef(torch.stack((log_variance.exp(), z2)))[0, 1]

    left = steps_to_end(rollout.terminated | rollout.truncated).flatten()[kept]
    known = left > 0
    bins = torch.where(known, left, 1).double().log2().long().clamp(max=TIME_LEFT_BINS - 1)
    weight = known.double()
    sums = torch.bincount(bins, weight * log_variance, minlength=TIME_LEFT_BINS)
    counts = torch.bincount(bins, weight, minlength=TIME_LEFT_BINS)
    return found | {"log_variance_by_time_left": sums / counts}


def steps_to_end(ended: Tensor) -> Tensor:
    """(T, N) steps until the episode ends, the ending one included; 0 where the rollout is first.

    Args:
        ended: (T, N) bool.
    """
    num_steps = len(ended)
    rows = torch.arange(num_steps, device=ended.device).unsqueeze(-1)
    ends = torch.where(ended, rows, 2 * num_steps)
    next_end = ends.flip(0).cummin(0).values.flip(0)
    return torch.where(next_end < num_steps, next_end - rows + 1, 0)
