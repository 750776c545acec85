"""Policy distillation: a student learns to act as a teacher does, in the states it meets itself.

The student plays. In every state it visits, the teacher is asked for its distribution over the
actions, and the student's is moved towards it:

    L = mean over s of KL(teacher(.|s) || student(.|s))

which is the cross-entropy less the teacher's own entropy, a constant.

- *States of the student*, not of the teacher: a student trained on the teacher's games is lost
  where its own mistakes lead it (Ross et al. 2011, DAgger, arXiv:1011.0686); Czarnecki et al. 2019,
  "Distilling policy distillation" (arXiv:1902.02186) find the same for policies. As there, the
  gradient does not go through which states are visited.
- *KL(teacher || student)*, the form of policy distillation since Rusu et al. 2015
  (arXiv:1511.06295): convex in the student's logits with a bounded gradient (student - teacher),
  and a student too small to match covers every action the teacher uses, where the reverse, common
  for language models, would settle on one of them. With few actions both are exact sums, so the
  reverse has no sampling to save. No temperature: the teacher's distribution is itself a policy,
  not a table of action values to be sharpened.

Rewards play no part: the critic is not trained, and of the config only the rollout, the optimiser
and the minibatches count. Shapes: B steps of a batch, M of a minibatch, A actions.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from fastrl.config import TrainConfig
from fastrl.ppo import Indexed, gradient_step, minibatch_indices


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillStats:
    """What one update did; means over its minibatches, each before its gradient step."""

    kl_teacher: float
    """KL(teacher || student) on the student's states, in nats: the loss."""
    agreement: float
    """Probability that both policies share, sum over a of min(teacher, student): 1 when equal."""
    entropy: float
    """The student's, in nats."""
    teacher_entropy: float
    """Nats."""
    grad_norm: float
    """L2 norm of the gradient before clipping."""
    num_gradients: int
    """Gradient steps taken."""


def distill_loss(
    policy: nn.Module, obs: Tensor, teacher_log_probs: Tensor
) -> tuple[Tensor, Tensor]:
    """KL(teacher || student) on some states.

    Args:
        policy: The student; maps observations to logits first.
        obs: (M, *obs_shape) uint8.
        teacher_log_probs: (M, A).

    Returns:
        The loss, and a detached vector of loss, agreement, the student's and the teacher's entropy.
    """
    log_probs = torch.log_softmax(policy(obs)[0], dim=-1)
    teacher = teacher_log_probs.exp()
    loss = (teacher * (teacher_log_probs - log_probs)).sum(-1).mean()
    with torch.no_grad():
        student = log_probs.exp()
        agreement = torch.minimum(teacher, student).sum(-1).mean()
        entropy = -(student * log_probs).sum(-1).mean()
        teacher_entropy = -(teacher * teacher_log_probs).sum(-1).mean()
        stats = torch.stack((loss, agreement, entropy, teacher_entropy))
    return loss, stats


def distill_update(
    policy: nn.Module,
    optimizer: torch.optim.Optimizer,
    obs: Indexed,
    teacher_log_probs: Tensor,
    config: TrainConfig,
    generator: torch.Generator,
) -> DistillStats:
    """Several epochs of minibatch gradient steps on the states of one rollout.

    Args:
        policy: The student, changed in place.
        optimizer: Adam on its parameters, its learning rate already set.
        obs: (B, *obs_shape) uint8.
        teacher_log_probs: (B, A).
        config: Epochs, minibatches and the longest gradient.
        generator: Source of the minibatch order.

    Raises:
        FloatingPointError: A loss or a gradient was NaN or infinite.
    """
    parameters = list(policy.parameters())
    stats: list[Tensor] = []
    for _ in range(config.update_epochs):
        for index in minibatch_indices(len(obs), config.num_minibatches, generator):
            loss, minibatch_stats = distill_loss(policy, obs[index], teacher_log_probs[index])
            grad_norm = gradient_step(loss, optimizer, parameters, config=config)
            stats.append(torch.cat((minibatch_stats, grad_norm)))

    means = cast(list[float], torch.stack(stats).mean(0).tolist())  # pyright: ignore[reportUnknownMemberType]
    kl_teacher, agreement, entropy, teacher_entropy, norm = means
    if not all(map(math.isfinite, means)):
        raise FloatingPointError(
            f"the update is not finite: kl_teacher={kl_teacher}, grad_norm={norm}"
        )
    return DistillStats(
        kl_teacher=kl_teacher,
        agreement=agreement,
        entropy=entropy,
        teacher_entropy=teacher_entropy,
        grad_norm=norm,
        num_gradients=len(stats),
    )
