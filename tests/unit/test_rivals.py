"""One gamma and lambda for all states: the meta-gradient against differences, and its direction."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fastrl import advantages as plain
from fastrl.config import TrainConfig, config_for
from fastrl.discount import make_estimator
from fastrl.estimators import Gae
from fastrl.observations import Observations
from fastrl.rivals import ExplainedLambda, MetaGradient, gae_slopes
from fastrl.rollout import Rollout

CPU = torch.device("cpu")


class Table(nn.Module):
    """Logits and a value for each of some states, which are observed as their number."""

    def __init__(self, num_states: int, num_actions: int, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.logits = nn.Parameter(
            torch.randn(num_states, num_actions, generator=generator).to(dtype)
        )
        self.values = nn.Parameter(torch.randn(num_states, generator=generator).to(dtype))

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        state = obs[:, 0].long()
        return self.logits[state], self.values[state]


def config_of(advantage: str, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {"advantage": advantage, "vd_warmup": 0, "num_envs": 64}
    return config_for("MinAtar/Breakout-v1", **(values | changes))


def rollout_of(seed: int, steps: int = 30, envs: int = 64, **changes: Tensor) -> Rollout:
    """Random states, actions and rewards; an episode ends every ten steps or so."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn(steps, envs, generator=generator)

    ends = torch.rand(2, steps, envs, generator=generator) < 0.05
    states = torch.randint(3, (steps + 1, envs, 1), generator=generator)
    columns: dict[str, Any] = {
        "obs": Observations.of(states.to(torch.uint8)),
        "actions": torch.randint(2, (steps, envs), generator=generator),
        "logprobs": torch.zeros(steps, envs),
        "values": normal(),
        "next_values": normal(),
        "rewards": normal(),
        "terminated": ends[0],
        "truncated": ends[1],
        "valid": torch.rand(steps, envs, generator=generator) < 0.9,
        "head": None,
        "next_head": None,
    }
    return Rollout(**(columns | changes))


def scanned(rollout: Rollout) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What `gae` reads of a rollout."""
    ends = rollout.terminated, rollout.truncated
    return rollout.rewards, rollout.values, rollout.next_values, *ends


def test_slopes_of_gae_are_those_of_automatic_differentiation() -> None:
    rollout = rollout_of(0)
    gamma, gae_lambda = (torch.tensor(x, requires_grad=True) for x in (0.97, 0.8))
    rates = [x.expand_as(rollout.rewards) for x in (gamma, gae_lambda)]
    inputs = scanned(rollout)
    advantages = plain.gae(*inputs, gamma=rates[0], gae_lambda=rates[1])
    found = gae_slopes(rollout, advantages.detach(), 0.97, 0.8)
    for t, n in ((0, 0), (11, 3), (29, 5)):
        slopes = torch.autograd.grad(advantages[t, n], (gamma, gae_lambda), retain_graph=True)
        for ours, theirs in zip(found, slopes, strict=True):
            torch.testing.assert_close(ours[t, n], theirs, rtol=1e-4, atol=1e-5)


def test_the_meta_gradient_is_the_effect_of_a_small_step() -> None:
    """Both directions of eta, each tried: a step on one half, judged on the other."""
    config = config_of("meta-gradient", gamma=0.9, gae_lambda=0.7)
    policy = Table(3, 2, torch.float64)
    estimator = make_estimator(config, CPU, policy)
    assert isinstance(estimator, MetaGradient)
    drawn = rollout_of(1)
    log_probs = policy(drawn.obs.at(slice(-1)).flatten()[:])[0].log_softmax(-1).detach()
    logprobs = log_probs.gather(-1, drawn.actions.flatten().unsqueeze(-1)).view_as(drawn.rewards)
    rollout = rollout_of(1, logprobs=logprobs)
    generator = estimator.generator.get_state()
    judging, teaching = estimator._halves(rollout)
    envs = [set((half % 64).tolist()) for half in (judging, teaching)]
    assert len(envs[0]) == len(envs[1]) == 32
    assert not envs[0] & envs[1]
    assert rollout.valid.flatten()[judging].all()
    estimator.generator.set_state(generator)

    inputs = scanned(rollout)
    doubles = [x.double() if x.is_floating_point() else x for x in inputs]

    def normalised(x: Tensor) -> Tensor:
        return (x - x.mean()) / (x.std() + 1e-8)

    def outcome(weights: dict[str, Tensor], steps: Tensor) -> tuple[Tensor, Tensor]:
        obs = rollout.obs.at(slice(-1)).flatten()[steps]
        logits, values = torch.func.functional_call(policy, weights, (obs,))
        actions = rollout.actions.flatten()[steps].unsqueeze(-1)
        return logits.log_softmax(-1).gather(-1, actions).squeeze(-1), values

    final = plain.gae(*doubles, gamma=0.9, gae_lambda=1.0).flatten()
    step_size = 1e-4

    def judged(log_odds: Tensor) -> Tensor:
        gamma, gae_lambda = log_odds.sigmoid().tolist()
        advantages = plain.gae(*doubles, gamma=gamma, gae_lambda=gae_lambda).flatten()[teaching]
        weights = {name: x.detach().requires_grad_() for name, x in policy.named_parameters()}
        logprobs, values = outcome(weights, teaching)
        policy_loss = -(normalised(advantages) * logprobs).mean()
        targets = (advantages + rollout.values.flatten()[teaching]).detach()
        # The gradient of the squared error where the values are those of the rollout.
        value_loss = -((targets - rollout.values.flatten()[teaching]) * values).mean()
        loss = policy_loss + config.vf_coef * value_loss
        slopes = torch.autograd.grad(loss, list(weights.values()))
        moved = {
            name: (x - step_size * slope).detach()
            for (name, x), slope in zip(weights.items(), slopes, strict=True)
        }
        return (normalised(final[judging]) * outcome(moved, judging)[0]).mean()

    found = estimator.gradient(rollout, plain.gae(*inputs, gamma=0.9, gae_lambda=0.7))
    centre = estimator.log_odds.detach()
    for i in range(2):
        nudge = torch.zeros(2, dtype=torch.float64)
        nudge[i] = 1e-3
        difference = (judged(centre + nudge) - judged(centre - nudge)) / (2e-3 * step_size)
        torch.testing.assert_close(found[i], difference, rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize(("delay", "rises"), [(5, True), (0, False)])
def test_lambda_follows_what_pays(delay: int, rises: bool) -> None:
    """Late rewards take a large lambda; prompt ones amid noise, a small one."""
    config = config_of("meta-gradient", gamma=0.99, gae_lambda=0.8, meta_lr=0.05)
    policy = Table(1, 2, torch.float32)
    policy.logits.data.zero_()
    estimator = make_estimator(config, CPU, policy)
    assert isinstance(estimator, MetaGradient)
    start = estimator.log_odds.detach().clone()
    zeros = torch.zeros(30, 64)
    for seed in range(60):
        drawn = rollout_of(seed)
        earned = 2.0 * drawn.actions.float() - 1.0
        rewards = drawn.rewards.clone() if delay == 0 else zeros.clone()
        rewards[delay:] += earned[: len(earned) - delay]
        rollout = rollout_of(
            seed,
            obs=Observations.of(torch.zeros(31, 64, 1, dtype=torch.uint8)),
            logprobs=torch.full((30, 64), 0.5).log(),
            rewards=rewards,
            values=zeros,
            next_values=zeros,
            terminated=zeros.bool(),
            truncated=zeros.bool(),
        )
        estimator.estimate(rollout)
    change = float((estimator.log_odds.detach() - start)[1])
    assert (change > 0.3) if rises else (change < -0.3), change


def test_gamma_and_lambda_stay_within_their_bounds() -> None:
    config = config_of("meta-gradient", meta_lr=50.0)
    estimator = make_estimator(config, CPU, Table(3, 2, torch.float32))
    for seed in range(6):
        metrics = estimator.estimate(rollout_of(seed)).metrics
        assert 0.8 - 1e-6 <= metrics["gamma_mean"] <= 0.9995 + 1e-6
        assert 0.5 - 1e-6 <= metrics["lambda_mean"] <= 0.995 + 1e-6


def test_what_is_not_finite_moves_nothing() -> None:
    estimator = make_estimator(config_of("meta-gradient"), CPU, Table(3, 2, torch.float32))
    assert isinstance(estimator, MetaGradient)
    start = estimator.log_odds.detach().clone()
    estimator.estimate(rollout_of(0, rewards=torch.full((30, 64), torch.inf)))
    assert torch.equal(estimator.log_odds, start)


def test_lambda_falls_as_the_critic_explains_more() -> None:
    """Returns that are known, with errors of a known share of their variance."""
    config = config_of("explained-lambda", gamma=0.99, gae_lambda=0.9)
    found: list[float] = []
    for share in (0.0, 0.25, 1.0):
        estimator = make_estimator(config, CPU)
        assert isinstance(estimator, ExplainedLambda)
        generator = torch.Generator().manual_seed(3)
        known, unknown = torch.randn(2, 400, 64, generator=generator)
        zeros = torch.zeros(400, 64)
        # Every step ends an episode: the return is the reward.
        rollout = rollout_of(
            0,
            steps=400,
            rewards=known * (1.0 - share) ** 0.5 + unknown * share**0.5,
            values=known * (1.0 - share) ** 0.5,
            next_values=zeros,
            terminated=~zeros.bool(),
            valid=~zeros.bool(),
        )
        first = estimator.estimate(rollout)
        assert torch.equal(first.advantages, Gae(config).estimate(rollout).advantages)
        metrics = estimator.estimate(rollout).metrics
        assert float(metrics["skill"]) == pytest.approx(1.0 - share, abs=0.02)
        found.append(float(metrics["lambda_mean"]))
    assert found == pytest.approx([0.5, 0.5 + 0.25 * 0.495, 0.995], abs=0.01)


def test_the_advantages_are_gaes_of_the_lambda_that_is_logged() -> None:
    config = config_of("explained-lambda", gae_lambda=0.9)
    estimator = make_estimator(config, CPU)
    rollouts = [rollout_of(seed) for seed in range(3)]
    estimate = [estimator.estimate(rollout) for rollout in rollouts][-1]
    last = rollouts[-1]
    expected = plain.gae(
        *scanned(last),
        gamma=config.gamma,
        gae_lambda=float(estimate.metrics["lambda_mean"]),
    )
    torch.testing.assert_close(estimate.advantages, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(estimate.advantages, Gae(config).estimate(last).advantages)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gamma_high": 1.0}, "gamma_high must be a number < 1"),
        ({"lambda_low": 0.0}, "lambda_low must be a number > 0"),
        ({"gamma": 0.7}, "gamma must be in"),
        ({"num_envs": 1}, "num_envs must be an integer >= 2"),
        ({"meta_lr": -1.0}, "meta_lr must be a number >= 0"),
        ({"control": "shuffled"}, "control must be one of none"),
    ],
)
def test_a_config_without_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config_of("meta-gradient", **changes)
