"""The learner of stage 0: PPO on a table, with the estimators and losses that training uses.

What is judged comes from `fastrl`: `make_estimator`, `make_batch` and `ppo_update`. The tables and
the collection of steps are this study's own.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from stage0_tasks import (
    NUM_ACTIONS,
    ActionValues,
    Simulator,
    Steps,
    Task,
    action_values,
    uniform_policy,
)
from torch import Tensor, nn

from fastrl.config import TrainConfig
from fastrl.discount import HeadSpec, head_spec, make_estimator
from fastrl.estimators import Estimate, fetch
from fastrl.observations import Observations
from fastrl.ppo import Batch, ppo_update
from fastrl.rollout import Rollout
from fastrl.train import make_batch

DISCOUNTED = 0.99
"""gamma0: of the second objective that advantages are compared with, and of PPO's default."""


class Table(nn.Module):
    """A row of numbers for each observation, zero at first."""

    def __init__(self, size: int, columns: int) -> None:
        """(S, columns)."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size, columns))

    def forward(self, index: Tensor) -> Tensor:
        """(M,) to (M, columns)."""
        return nn.functional.embedding(index, self.weight)


class TabularPolicy(nn.Module):
    """What `fastrl.models.ActorCritic` is on one-hot observations, without the multiplications.

    The ensemble's values start spread out, as in `fastrl.models.ValueHead`.
    """

    def __init__(self, size: int, spec: HeadSpec | None, seed: int) -> None:
        """Of S observations; `ppo_update` knows the value head by its name."""
        super().__init__()
        self.actor = Table(size, NUM_ACTIONS)
        self.critic = Table(size, 1)
        self.value_head = None if spec is None else Table(size, spec.num_outputs)
        if self.value_head is not None and spec is not None and spec.num_members:
            generator = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                members = self.value_head.weight[:, -spec.num_members :]
                members.normal_(std=size**-0.5, generator=generator)

    def forward(self, obs: Tensor) -> tuple[Tensor, ...]:
        """(M, 1) uint8 to logits (M, A), values (M,) and outputs of the value head (M, K)."""
        index = obs[:, 0].long()
        outputs = self.actor(index), self.critic(index).squeeze(-1)
        return outputs if self.value_head is None else (*outputs, self.value_head(index))


class Learner:
    """One arm on one task with one seed."""

    def __init__(self, task: Task, config: TrainConfig, *, frozen: bool) -> None:
        """All tables start at zero but the ensemble's; a frozen policy stays uniform."""
        self.task, self.config, self.frozen = task, config, frozen
        self.updates = 0
        self.policy = TabularPolicy(task.num_observations, head_spec(config), config.seed)
        self.policy.actor.requires_grad_(not frozen)
        self.optimizer = torch.optim.Adam(
            self.policy.parameters(), lr=config.learning_rate, eps=config.adam_eps, fused=True
        )
        self.estimator = make_estimator(config, torch.device("cpu"))
        self.generator = torch.Generator().manual_seed(config.seed)

    @torch.no_grad()
    def tables(self) -> list[Tensor]:
        """Log-probabilities (S, A), values (S,) and outputs of the value head (S, K) if any."""
        every = torch.arange(self.task.num_observations).unsqueeze(-1)
        logits, *others = self.policy(every)
        return [torch.log_softmax(logits, -1), *others]

    def probabilities(self) -> NDArray[np.float64]:
        """(S, A) of the policy as it is."""
        probs = self.tables()[0].double().exp()
        return (probs / probs.sum(-1, keepdim=True)).numpy()

    def rollout(self, steps: Steps) -> Rollout:
        """The steps as `RolloutCollector` would give them."""
        seen, seen_next = (
            torch.from_numpy(self.task.observed[x]) for x in (steps.states, steps.next_states)
        )
        logprobs, values, *head = self.tables()
        actions = torch.from_numpy(steps.actions)
        terminated = torch.from_numpy(steps.terminated)
        truncated = torch.from_numpy(steps.truncated)
        obs = torch.cat((seen, seen_next[-1:])).to(torch.uint8).unsqueeze(-1)
        return Rollout(
            obs=Observations.of(obs),
            actions=actions,
            logprobs=logprobs[seen, actions],
            values=values[seen],
            next_values=values[seen_next],
            rewards=torch.from_numpy(steps.rewards).float(),
            terminated=terminated,
            truncated=truncated,
            valid=torch.ones_like(terminated),
            head=head[0][seen] if head else None,
            next_head=head[0][seen_next] if head else None,
        )

    def update(self, steps: Steps) -> Estimate:
        """Judges and learns from a rollout, as `fastrl.train` does."""
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * (1.0 - self.updates / config.num_updates)
        rollout = self.rollout(steps)
        estimate = self.estimator.estimate(rollout)
        batch, _ = make_batch(rollout, estimate)
        if self.frozen and config.num_minibatches == 1:
            self.learn_critic(batch)
        else:
            ppo_update(self.policy, self.optimizer, batch, config, self.generator, self.estimator)
        self.updates += 1
        return estimate

    def learn_critic(self, batch: Batch) -> None:
        """What `ppo_update` comes to with a frozen policy and one minibatch, in less time.

        tests/unit/test_stage0.py holds it to that.
        """
        config, policy, estimator = self.config, self.policy, self.estimator
        index = batch.obs[:][:, 0].long()
        learned = [policy.critic.weight]
        if policy.value_head is not None:
            learned.append(policy.value_head.weight)
        for _ in range(config.update_epochs):
            values = policy.critic(index).squeeze(-1)
            loss = 0.5 * (values - batch.returns).square().mean()
            if policy.value_head is not None and batch.head_targets is not None:
                of_head = estimator.loss(values, policy.value_head(index), batch.head_targets)
                loss = of_head if estimator.replaces_value_loss else loss + of_head
            self.optimizer.zero_grad(set_to_none=True)
            (config.vf_coef * loss).backward()
            for weight in learned:
                nn.utils.clip_grad_norm_(weight, config.max_grad_norm)
            self.optimizer.step()


@dataclass(kw_only=True)
class Judgement:
    """Advantages of some updates against the exact ones."""

    exact: dict[str, ActionValues]
    parts: list[tuple[NDArray, NDArray, NDArray]] = field(default_factory=list)

    def add(self, steps: Steps, advantages: Tensor) -> None:
        """Takes in a rollout."""
        self.parts.append(
            (steps.states.ravel(), steps.actions.ravel(), advantages.double().numpy().ravel())
        )

    def numbers(self) -> dict[str, float]:
        """Of each objective: error, its bias and variance, correlation and agreement in sign."""
        state, action, found = (np.concatenate(x) for x in zip(*self.parts, strict=True))
        decides = state == 0
        result: dict[str, float] = {"advantage_std": float(found.std())}
        for name, exact in self.exact.items():
            true = exact.advantage[state, action]
            error = found - true
            cell = state * 2 + action
            count = np.bincount(cell)
            mean = np.bincount(cell, error) / np.maximum(count, 1)
            bias2 = float((count * mean**2).sum() / len(found))
            result |= {
                f"mse_{name}": float((error**2).mean()),
                f"bias2_{name}": bias2,
                f"variance_{name}": float((error**2).mean()) - bias2,
                f"corr_{name}": correlation(found, true),
                f"corr_decision_{name}": correlation(found[decides], true[decides]),
                f"sign_{name}": float((np.sign(found) == np.sign(true))[decides].mean()),
            }
        return result


def correlation(x: NDArray, y: NDArray) -> float:
    """Pearson's; 0 where one of them does not vary."""
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / scale if scale > 1e-12 else 0.0


RATES = ("gamma_mean", "lambda_mean", "contraction", "effective_horizon", "sigma_corr", "skill")
"""Logged quantities that are kept."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one arm came to on one task with one seed."""

    windows: dict[str, dict[str, float]]
    """Numbers of `Judgement` and mean rates, by part of the run: learning and settled."""
    schedule: dict[str, list[float]]
    """What a yoked arm follows: gamma_mean or lambda_mean of every update."""


def play_frozen(task: Task, config: TrainConfig) -> list[Steps]:
    """The rollouts of the uniform policy: the same for every arm of a seed."""
    simulator = Simulator(task, config.num_envs, np.random.default_rng((config.seed, task.delay)))
    policy = uniform_policy(task)
    return [simulator.play(policy, config.num_steps) for _ in range(config.num_updates)]


def evaluate(
    task: Task, config: TrainConfig, data: list[Steps], *, as_terminal: bool = False
) -> Evaluation:
    """Learns critic and head of a frozen policy; judges the advantages on the way.

    Args:
        task: What was played.
        config: The arm.
        data: One rollout for each update.
        as_terminal: Mistake time limits for ends of the task.
    """
    policy = uniform_policy(task)
    exact = {
        "undiscounted": action_values(task, policy, 1.0),
        "gamma0": action_values(task, policy, DISCOUNTED),
    }
    learner = Learner(task, config, frozen=True)
    judged = {"learning": Judgement(exact=exact), "settled": Judgement(exact=exact)}
    rates: dict[str, list[dict[str, float]]] = {name: [] for name in judged}
    schedule: dict[str, list[float]] = {}
    settled_from = len(data) * 2 // 3
    for update, steps in enumerate(data):
        if as_terminal:
            steps = steps._replace(
                terminated=steps.terminated | steps.truncated,
                truncated=np.zeros_like(steps.truncated),
            )
        estimate = learner.update(steps)
        metrics = fetch(estimate.metrics)
        for key in ("gamma_mean", "lambda_mean"):
            if key in metrics:
                schedule.setdefault(key, []).append(metrics[key])
        if update >= config.vd_warmup:
            window = "settled" if update >= settled_from else "learning"
            judged[window].add(steps, estimate.advantages)
            rates[window].append({k: metrics[k] for k in RATES if metrics.get(k) is not None})
    windows = {}
    for window, judgement in judged.items():
        means = {
            k: float(np.mean([x[k] for x in rates[window] if k in x]))
            for k in RATES
            if any(k in x for x in rates[window])
        }
        windows[window] = judgement.numbers() | means
    return Evaluation(windows=windows, schedule=schedule)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a policy came to."""

    curve: list[float]
    """Probability of action 1 in state 0 after each update, and before the first."""
    value: float
    """Exact undiscounted return of the policy learned."""
    schedule: dict[str, list[float]]


def learn(task: Task, config: TrainConfig) -> Learned:
    """Trains a policy from uniform."""
    simulator = Simulator(task, config.num_envs, np.random.default_rng((config.seed, 0)))
    learner = Learner(task, config, frozen=False)
    policy = learner.probabilities()
    curve = [float(policy[0, 1])]
    schedule: dict[str, list[float]] = {}
    for _ in range(config.num_updates):
        metrics = fetch(learner.update(simulator.play(policy, config.num_steps)).metrics)
        for key in ("gamma_mean", "lambda_mean"):
            if key in metrics:
                schedule.setdefault(key, []).append(metrics[key])
        policy = learner.probabilities()
        curve.append(float(policy[0, 1]))
    value = float(action_values(task, policy, 1.0).v[0])
    return Learned(curve=curve, value=value, schedule=schedule)
