"""What an advantage estimator is: how a rollout becomes advantages and targets to learn from.

`Gae` is PPO's. `fastrl.discount` and `fastrl.horizon` have those that learn how far to look ahead,
`fastrl.rivals` those that adapt one gamma and lambda.

Shapes: T rollout steps, N environments, K outputs of the value head, M steps of a minibatch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from fastrl import ops
from fastrl.config import TrainConfig
from fastrl.group import group_advantages
from fastrl.rollout import Rollout

DECAY = 0.99
"""Of every running mean, per update."""
LOWEST, HIGHEST = -9.0, 3.0
"""Bounds of a predicted log variance."""
MAX_Z2 = 100.0
"""Largest squared error that a variance is trained on, in units of sigma_b^2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What an estimator makes of a rollout."""

    advantages: Tensor
    """(T, N) not normalised."""
    returns: Tensor
    """(T, N) targets of the value."""
    values: Tensor
    """(T, N) baseline: returns - advantages, up to rounding."""
    head_targets: Tensor | None = None
    """(T, N, ...) what `Estimator.loss` needs of each step; None without a value head."""
    learned: Tensor | None = None
    """(T, N) bool: the steps to learn from; None: all but reset steps."""
    metrics: Mapping[str, Tensor]
    """Numbers and vectors for the log, on the device still; see `fetch`."""


class Estimator(Protocol):
    """An advantage estimator with the state that it keeps between updates."""

    @property
    def replaces_value_loss(self) -> bool:
        """Whether `loss` is the critic's only loss, instead of one more."""
        ...

    def estimate(self, rollout: Rollout) -> Estimate:
        """Judges the actions of a rollout, once per update."""
        ...

    def loss(self, values: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        """Loss of the value head on a minibatch.

        Args:
            values: (M,) of the critic, now.
            head: (M, K) of the value head, now.
            targets: (M, ...) of `Estimate.head_targets`.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that a checkpoint must keep."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        ...


class Gae:
    """PPO's estimator, with a fixed gamma and lambda and no value head."""

    replaces_value_loss = False

    def __init__(self, config: TrainConfig) -> None:
        """Reads gamma and gae_lambda."""
        self.config = config

    def estimate(self, rollout: Rollout) -> Estimate:
        """See `Estimator`."""
        advantages = fixed_gae(rollout, self.config)
        returns = advantages + rollout.values
        return Estimate(advantages=advantages, returns=returns, values=rollout.values, metrics={})

    def loss(self, values: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        """There is no head to learn."""
        raise NotImplementedError("gae has no value head")

    def state_dict(self) -> dict[str, Any]:
        """Nothing is kept."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing was kept."""


class GroupRelative(Gae):
    """Against the other attempts from the same state; see `fastrl.group`. There is no critic."""

    def estimate(self, rollout: Rollout) -> Estimate:
        """See `Estimator`."""
        advantages, active = group_advantages(
            rollout.rewards,
            rollout.terminated | rollout.truncated,
            group_size=self.config.group_size,
            gamma=self.config.gamma,
        )
        nothing = torch.zeros_like(advantages)
        return Estimate(
            advantages=advantages, returns=nothing, values=nothing, learned=active, metrics={}
        )


class Ema:
    """Running mean, bias-corrected (Kingma and Ba 2015, section 3); 0 before the first value."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        """Starts empty."""
        self.total = torch.zeros(shape, dtype=torch.float64, device=device)
        self.weight = torch.zeros_like(self.total)

    def update(self, value: Tensor, present: Tensor | None = None) -> None:
        """Takes in a value, where it is finite and, if that is said, present."""
        value = value.double()
        taken = torch.isfinite(value) if present is None else torch.isfinite(value) & present
        self.total = torch.where(taken, DECAY * self.total + (1.0 - DECAY) * value, self.total)
        self.weight = torch.where(taken, DECAY * self.weight + (1.0 - DECAY), self.weight)

    def value(self) -> Tensor:
        """Float64 mean so far."""
        return self.total / torch.where(self.weight > 0.0, self.weight, 1.0)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors."""
        return {"total": self.total, "weight": self.weight}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restores `state_dict`."""
        self.total = state["total"].to(self.total.device)
        self.weight = state["weight"].to(self.weight.device)


def logged_schedule(run_dir: str, key: str) -> list[float]:
    """What a run logged under `key`, update by update.

    Raises:
        FileNotFoundError: It has no metrics.
        ValueError: It did not log the key.
    """
    path = Path(run_dir) / "metrics.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"yoked_run {run_dir} is not a run folder: it has no metrics.jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    values = [line[key] for line in lines if line.get(key) is not None]
    if not values or len(values) != len(lines):
        raise ValueError(f"yoked_run {run_dir} did not log {key} in every update: cannot follow it")
    return values


class Warmup:
    """Counts updates: how far confidence may have its effect, and what a yoked run follows."""

    def __init__(self, config: TrainConfig, key: str) -> None:
        """With control yoked, reads the schedule of `key` (a mean rate) from the other run."""
        self.updates = 0
        self._config = config
        self._schedule = logged_schedule(config.yoked_run, key) if config.control == "yoked" else []

    def factor(self) -> float:
        """0 in the first update, 1 after `vd_warmup`; always 0 for a head that only learns."""
        if self._config.control == "head-only":
            return 0.0
        warmup = self._config.vd_warmup
        return min(1.0, self.updates / warmup) if warmup else 1.0

    def followed(self) -> float | None:
        """The other run's mean rate in this update, its last one beyond its end."""
        if not self._schedule:
            return None
        return self._schedule[min(self.updates, len(self._schedule) - 1)]


def fetch(metrics: Mapping[str, Tensor]) -> dict[str, Any]:
    """Metrics as plain numbers and lists, in one transfer; None for what is not finite."""
    if not metrics:
        return {}
    parts = [x.reshape(-1).double() for x in metrics.values()]
    numbers = cast(list[float], torch.cat(parts).tolist())  # pyright: ignore[reportUnknownMemberType]
    cleaned = [x if math.isfinite(x) else None for x in numbers]
    found: dict[str, Any] = {}
    for name, x in metrics.items():
        mine, cleaned = cleaned[: x.numel()], cleaned[x.numel() :]
        found[name] = mine if x.ndim else mine[0]
    return found


def heads_of(rollout: Rollout) -> tuple[Tensor, Tensor]:
    """(T, N, K) outputs of the value head at each state and at its successor.

    Raises:
        ValueError: The policy that played has none.
    """
    if rollout.head is None or rollout.next_head is None:
        raise ValueError("the policy has no value head: make it with the estimator's config")
    return rollout.head, rollout.next_head


def gae_of(
    rollout: Rollout,
    values: Tensor,
    next_values: Tensor,
    gamma: float | Tensor,
    gae_lambda: float | Tensor,
) -> Tensor:
    """(T, N) advantages of a rollout under these values and rates; see `fastrl.ops.gae`."""
    return ops.gae(
        rollout.rewards,
        values,
        next_values,
        rollout.terminated,
        rollout.truncated,
        gamma=gamma,
        gae_lambda=gae_lambda,
    )


def fixed_gae(rollout: Rollout, config: TrainConfig) -> Tensor:
    """(T, N) PPO's advantages."""
    return gae_of(rollout, rollout.values, rollout.next_values, config.gamma, config.gae_lambda)


def one_gamma_metrics(gamma: Tensor, gae_lambda: float | Tensor) -> dict[str, Tensor]:
    """What there is to log of a gamma, 0-d, and a lambda that are the same for all states."""
    kept = gamma * gae_lambda
    return {
        "gamma_mean": gamma,
        "horizon_mean": 1.0 / (1.0 - gamma),
        "contraction": (gamma - kept) / (1.0 - kept),
    }


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """0-d mean where the mask is True; 0 where it never is."""
    return x.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def masked_variance(x: Tensor, mask: Tensor) -> Tensor:
    """0-d mean squared distance from the mean, where the mask is True."""
    return masked_mean((x - masked_mean(x, mask)).square(), mask)


def flat_steps(mask: Tensor) -> Tensor:
    """(M,) positions, in the flattened rollout, where the mask is True."""
    return mask.flatten().nonzero().squeeze(-1)


def bounded_log_variance(raw: Tensor) -> Tensor:
    """A head's output as a log variance in [LOWEST, HIGHEST]: smooth, 0 at 0, with slope 1 there.

    What is not finite counts as 0 and gets no gradient.
    """
    raw = torch.where(torch.isfinite(raw), raw, 0.0)
    bound = torch.where(raw > 0.0, HIGHEST, -LOWEST)
    return bound * torch.tanh(raw / bound)


def gaussian_nll(log_variance: Tensor, z2: Tensor) -> Tensor:
    """Negative log likelihood of squared errors, in nats, up to a constant."""
    return 0.5 * (log_variance + z2 * (-log_variance).exp())
