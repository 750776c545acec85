"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), clipped objective.

The update of CleanRL's ppo_atari_envpool.py, written on a rollout whose reset steps were left
out. tests/oracle/test_ppo_cleanrl.py holds it to CleanRL's formulas.

Shapes: B steps of a batch, M steps of a minibatch, A actions.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from fastrl.config import TrainConfig
from fastrl.graphs import Captured
from fastrl.observations import Observations
from fastrl.ranks import ALONE, Ranks


class Indexed(Protocol):
    """Observations (B, *obs_shape) uint8: a tensor, or `fastrl.observations.Observations`."""

    def __len__(self) -> int:
        """B."""
        ...

    def __getitem__(self, index: Any) -> Tensor:
        """(M, *obs_shape) those at a slice or (M,) int64."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Steps to learn from, in any order."""

    obs: Indexed
    """(B, *obs_shape) uint8."""
    actions: Tensor
    """(B,) int64."""
    logprobs: Tensor
    """(B,) log-probability of the action when it was taken."""
    advantages: Tensor
    """(B,) not normalised."""
    returns: Tensor
    """(B,) targets of the value: advantages + values."""
    values: Tensor
    """(B,) value when the action was taken."""
    head_targets: Tensor | None = None
    """(B, ...) what the value head learns, where there is one."""
    ref_logprobs: Tensor | None = None
    """(B,) log-probability of the action under the reference policy, if there is one."""


class HeadLoss(Protocol):
    """What a value head is trained by; see `fastrl.discount.Estimator`."""

    @property
    def replaces_value_loss(self) -> bool:
        """Whether this is the critic's only loss."""
        ...

    def loss(self, values: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        """From values (M,), outputs of the head (M, K) and their targets (M, ...)."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class UpdateStats:
    """What one update did; means over its minibatches."""

    policy_loss: float
    value_loss: float
    entropy: float
    """Nats."""
    approx_kl: float
    """E[(r - 1) - log r] (Schulman, http://joschu.net/blog/kl-approx.html), in nats."""
    clipfrac: float
    """Share of steps whose ratio left the clipping range."""
    grad_norm: float
    """L2 norm of the gradient before clipping."""
    explained_variance: float | None
    """1 - Var(returns - values) / Var(returns), before the update; None if returns are equal."""
    num_gradients: int
    """Gradient steps taken (fewer when target_kl stopped the update)."""
    kl_ref: float | None
    """KL divergence from the reference policy (`reference_kl`), in nats; None without one."""


def sample_actions(
    logits: Tensor, generator: torch.Generator, ranks: Ranks = ALONE
) -> tuple[Tensor, Tensor]:
    """Draws one action per row, and its log-probability.

    The index that wins an exponential race with the probabilities as rates is a draw from the
    categorical distribution (the Gumbel-max trick without the logarithm).

    Args:
        logits: (N, A) float.
        generator: Source of the draws, on the device of `logits`.
        ranks: Of the N of each, so that every rank draws for all and takes its own.

    Returns:
        Actions (N,) int64 and log-probabilities (N,).
    """
    log_probs = torch.log_softmax(logits, dim=-1)
    num_envs, num_actions = log_probs.shape
    times = log_probs.new_empty((ranks.size * num_envs, num_actions))
    times = times.exponential_(generator=generator)[ranks.share(len(times))]
    actions = (log_probs.exp() / times).argmax(dim=-1)
    return actions, log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def minibatch_indices(
    num_steps: int, num_minibatches: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """A random partition of range(num_steps) into parts whose sizes differ by at most one."""
    order = torch.randperm(num_steps, generator=generator, device=generator.device)
    yield from order.tensor_split(min(num_minibatches, num_steps))


def gradient_step(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    apart: Sequence[nn.Parameter] = (),
    *,
    config: TrainConfig,
    ranks: Ranks = ALONE,
) -> Tensor:
    """One step down the gradient of a loss.

    Args:
        loss: A scalar.
        optimizer: On all of the parameters.
        parameters: Their gradient is scaled down to config.max_grad_norm, if it is longer.
        apart: So is that of these, on its own.
        config: For max_grad_norm.
        ranks: Whose gradients are averaged first.

    Returns:
        (1,) L2 norm of the gradient of `parameters` before that.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # pyright: ignore[reportUnknownMemberType]
    ranks.average_gradients([*parameters, *apart])
    grad_norm = nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
    if apart:
        nn.utils.clip_grad_norm_(apart, config.max_grad_norm)
    optimizer.step()  # pyright: ignore[reportUnknownMemberType]
    return grad_norm.detach().unsqueeze(0)


def reference_kl(logprobs: Tensor, old_logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """KL(pi || pi_ref), estimated from actions of the policy that collected them.

        k3 = (r - 1) - log r,  r = pi_ref(a|s) / pi(a|s)      estimate = mean(pi / pi_old * k3)

    k3 (Schulman 2020, http://joschu.net/blog/kl-approx.html) is never negative, has the mean
    KL(pi || pi_ref) for actions drawn from pi, and varies less than -log r. Two things are amiss
    when GRPO (arXiv:2402.03300, eq. 4) differentiates it as it stands. The actions come from
    pi_old, not from pi; and the gradient of its mean is not the mean of its gradient: at
    pi = pi_old the latter is that of KL(pi_ref || pi), the other divergence (Tang and Munos 2025,
    arXiv:2506.09477). The importance ratio, differentiated too, mends both: value and gradient
    have the means of KL(pi || pi_ref) for every pi (DeepSeek-V3.2, arXiv:2512.02556, eq. 7).

    Args:
        logprobs: (M,) log pi(a|s), with its gradient.
        old_logprobs: (M,) log pi_old(a|s), when the action was drawn.
        ref_logprobs: (M,) log pi_ref(a|s).

    Returns:
        A scalar, in nats.
    """
    # ratio * r is pi_ref / pi_old: written so, a policy that has left an action gives no inf * 0.
    ratio = (logprobs - old_logprobs).exp()
    weighted = (ref_logprobs - old_logprobs).exp() - ratio * (1.0 + ref_logprobs - logprobs)
    return weighted.mean()


def ppo_loss(
    policy: nn.Module,
    batch: Batch,
    index: Tensor,
    config: TrainConfig,
    head_loss: HeadLoss | None = None,
    ranks: Ranks = ALONE,
) -> tuple[Tensor, Tensor]:
    """The clipped objective on one minibatch.

    Args:
        policy: Maps observations to logits and values, and to outputs of a value head if any.
        batch: The steps.
        index: (M,) int64, which of them.
        config: Coefficients.
        head_loss: Of the value head; weighs as the value loss does.
        ranks: On whose union the advantages are normalised.

    Returns:
        The loss to minimise (eq. 9 of the paper, negated, and the penalty for leaving the
        reference policy), and a detached vector of policy loss, value loss, entropy, approximate
        KL divergence, clip fraction and KL divergence from the reference (0 without one).
    """
    logits, values, *head = policy(batch.obs[index])
    log_probs = torch.log_softmax(logits, dim=-1)
    logprobs = log_probs.gather(-1, batch.actions[index].unsqueeze(-1)).squeeze(-1)
    entropy = -(log_probs.exp() * log_probs).sum(-1).mean()

    advantages = batch.advantages[index]
    critic = config.advantage != "group"
    if config.norm_adv and critic and len(index) > 1:
        mean, std = ranks.mean_and_std(advantages)
        advantages = (advantages - mean) / (std + 1e-8)

    # L^CLIP, eq. 7.
    logratio = logprobs - batch.logprobs[index]
    ratio = logratio.exp()
    clipped_ratio = ratio.clamp(1.0 - config.clip_coef, 1.0 + config.clip_coef)
    policy_loss = -torch.minimum(advantages * ratio, advantages * clipped_ratio).mean()

    # L^VF, of a critic; group-relative advantages have none.
    returns = batch.returns[index]
    squared_error = (values - returns).square()
    if config.clip_vloss:
        old_values = batch.values[index]
        change = (values - old_values).clamp(-config.clip_coef, config.clip_coef)
        squared_error = torch.maximum(squared_error, (old_values + change - returns).square())
    value_loss = critic_loss = 0.5 * squared_error.mean() if critic else values.new_zeros(())
    if head_loss is not None and batch.head_targets is not None:
        of_head = head_loss.loss(values, head[0], batch.head_targets[index])
        if head_loss.replaces_value_loss:
            value_loss = critic_loss = of_head
        else:
            critic_loss = value_loss + of_head

    loss = policy_loss - config.ent_coef * entropy + config.vf_coef * critic_loss

    kl_ref = loss.new_zeros(())
    if batch.ref_logprobs is not None:
        kl_ref = reference_kl(logprobs, batch.logprobs[index], batch.ref_logprobs[index])
        if config.kl_ref_coef > 0:
            loss = loss + config.kl_ref_coef * kl_ref

    with torch.no_grad():
        approx_kl = ((ratio - 1.0) - logratio).mean()
        clipfrac = ((ratio - 1.0).abs() > config.clip_coef).float().mean()
        stats = torch.stack((policy_loss, value_loss, entropy, approx_kl, clipfrac, kl_ref))
    return loss, stats


class GradientSteps:
    """Gradient steps on minibatches of a batch."""

    def __init__(
        self,
        policy: nn.Module,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        head_loss: HeadLoss | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """As `ppo_update`; with several ranks, on the union of their minibatches."""
        named = dict(policy.named_parameters())
        self._of_head = [x for name, x in named.items() if name.startswith("value_head.")]
        self._parameters = [x for name, x in named.items() if not name.startswith("value_head.")]
        self._policy = policy
        self._optimizer = optimizer
        self._config = config
        self._head_loss = head_loss
        self.ranks = ranks
        self._batch: Batch | None = None

    def begin(self, batch: Batch) -> None:
        """The steps that follow learn from this batch."""
        self._batch = batch

    def __call__(self, index: Tensor) -> Tensor:
        """Steps on those at `index` (M,) int64.

        Returns:
            (7,) the vector of `ppo_loss` and the norm of the gradient.
        """
        assert self._batch is not None
        config, ranks = self._config, self.ranks
        loss, stats = ppo_loss(self._policy, self._batch, index, config, self._head_loss, ranks)
        weight = ranks.weight(len(index), loss.device)
        grad_norm = gradient_step(
            loss * weight,
            self._optimizer,
            self._parameters,
            self._of_head,
            config=config,
            ranks=ranks,
        )
        return torch.cat((ranks.sum(stats * weight) / ranks.size, grad_norm))


class CapturedSteps(GradientSteps):
    """The same, captured in a CUDA graph: batches and minibatches are all of one size.

    The optimiser is `capturable` and its learning rate a tensor.
    """

    _index: Tensor | None = None
    _step: Captured[Tensor]

    def begin(self, batch: Batch) -> None:
        """Copies a batch to where the first one is. Frames are not copied: they stay in place."""
        if self._batch is None:
            self._batch = batch
        for name, mine in columns_of(self._batch).items():
            mine.copy_(columns_of(batch)[name])

    def __call__(self, index: Tensor) -> Tensor:
        """See `GradientSteps`."""
        if self._index is None:
            self._index = mine = index.clone()
            take = super().__call__
            self._step = Captured(lambda: take(mine))
        self._index.copy_(index)
        return self._step().clone()


def columns_of(batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch that differ from one update to the next, by field."""
    found: dict[str, Any] = {field.name: getattr(batch, field.name) for field in fields(batch)}
    if isinstance(batch.obs, Observations):
        found["obs"] = batch.obs.rows
    return {name: column for name, column in found.items() if column is not None}


def ppo_update(
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: TrainConfig,
    generator: torch.Generator,
    head_loss: HeadLoss | None = None,
    steps: GradientSteps | None = None,
) -> UpdateStats:
    """Several epochs of minibatch gradient steps on one batch.

    Args:
        policy: Changed in place.
        optimizer: Adam on the policy's parameters, its learning rate already set.
        batch: The steps.
        config: Coefficients.
        generator: Source of the minibatch order.
        head_loss: Of the policy's value head, whose gradient is scaled down on its own: it must
            not touch the other parameters' length.
        steps: Of this policy, optimiser and loss; None makes them.

    Raises:
        FloatingPointError: A loss or a gradient was NaN or infinite. The weights are spoilt: throw
            them away and go back to a checkpoint.
    """
    step = steps or GradientSteps(policy, optimizer, config, head_loss)
    errors = step.ranks.mean_and_std(batch.returns - batch.values)[1]
    unexplained = (errors / step.ranks.mean_and_std(batch.returns)[1]).square()
    step.begin(batch)
    stats: list[Tensor] = []
    for _ in range(config.update_epochs):
        first = len(stats)
        for index in minibatch_indices(len(batch.actions), config.num_minibatches, generator):
            stats.append(step(index))
        if config.target_kl is not None:
            approx_kl = torch.stack(stats[first:])[:, 3].mean()
            if float(approx_kl) > config.target_kl:
                break

    # The only point where the host waits for the device.
    means = torch.cat((torch.stack(stats).mean(0), unexplained.unsqueeze(0)))
    *losses, unexplained_share = cast(list[float], means.tolist())  # pyright: ignore[reportUnknownMemberType]
    if not all(map(math.isfinite, losses)):
        names = [
            "policy_loss",
            "value_loss",
            "entropy",
            "approx_kl",
            "clipfrac",
            "kl_ref",
            "grad_norm",
        ]
        found = ", ".join(f"{name}={value}" for name, value in zip(names, losses, strict=True))
        raise FloatingPointError(f"the update is not finite: {found}")
    policy_loss, value_loss, entropy, approx_kl, clipfrac, kl_ref, norm = losses
    return UpdateStats(
        policy_loss=policy_loss,
        value_loss=value_loss,
        entropy=entropy,
        approx_kl=approx_kl,
        clipfrac=clipfrac,
        grad_norm=norm,
        explained_variance=(1.0 - unexplained_share if math.isfinite(unexplained_share) else None),
        num_gradients=len(stats),
        kl_ref=kl_ref if batch.ref_logprobs is not None else None,
    )
