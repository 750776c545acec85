"""Learned discounts on made-up rollouts: maps, bounds, invariances, controls, calibration.

Oracles 4, 5, 7, 8, 10, 11 and 12 of the specification; tests/oracle/test_discount_ppo.py has 2, 3.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastrl import advantages as plain
from fastrl.config import TrainConfig, config_for
from fastrl.discount import (
    NUM_MEMBERS,
    explained_gamma,
    head_spec,
    make_estimator,
    steps_to_end,
    tilted,
)
from fastrl.estimators import Ema, Estimate, Gae, bounded_log_variance, fetch, gaussian_nll
from fastrl.horizon import LagStatistics, VarianceHorizon, explained_weights, precision_weights
from fastrl.models import make_policy
from fastrl.ppo import Batch, ppo_loss
from fastrl.rollout import Rollout

CPU = torch.device("cpu")
STATE_DEPENDENT = ["variance-gamma", "variance-lambda", "variance-lambda-ensemble"]
LEARNED = [
    *STATE_DEPENDENT,
    "variance-horizon",
    "variance-horizon-return",
    "variance-horizon-lite",
    "stream-lag",
    "stream-time",
]


def config_of(advantage: str, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {"advantage": advantage, "vd_warmup": 0, "vd_horizon": 8}
    return config_for("MinAtar/Breakout-v1", **(values | changes))


def rollout_of(
    config: TrainConfig, seed: int, steps: int = 40, envs: int = 6, **changes: Tensor
) -> Rollout:
    """Random numbers; an episode ends every ten steps or so."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(steps, envs, *shape, generator=generator)

    ends = torch.rand(2, steps, envs, generator=generator) < 0.05
    spec = head_spec(config)
    head = normal(spec.num_outputs + 1) if spec else normal(1)
    columns: dict[str, Any] = {
        "obs": torch.zeros(steps + 1, envs, 1, dtype=torch.uint8),
        "actions": torch.zeros(steps, envs, dtype=torch.int64),
        "logprobs": torch.zeros(steps, envs),
        "values": normal(),
        "next_values": normal(),
        "rewards": normal(),
        "terminated": ends[0],
        "truncated": ends[1],
        "valid": torch.ones(steps, envs, dtype=torch.bool),
        "head": head[..., 1:] if spec else None,
        "next_head": normal(spec.num_outputs) if spec else None,
    }
    return Rollout(**(columns | changes))


def estimated(config: TrainConfig, *rollouts: Rollout) -> Estimate:
    """What a fresh estimator makes of the last rollout, having seen those before it."""
    estimator = make_estimator(config, CPU)
    estimates = [estimator.estimate(rollout) for rollout in rollouts]
    return estimates[-1]


def of_gae(config: TrainConfig, rollout: Rollout) -> Tensor:
    return Gae(config).estimate(rollout).advantages


# Maps.


@given(st.floats(-1e6, 1e6))
def test_a_log_variance_is_bounded_smooth_and_exact_at_zero(raw: float) -> None:
    x = torch.tensor([raw, 0.0], dtype=torch.float64, requires_grad=True)
    bounded = bounded_log_variance(x)
    [slope] = torch.autograd.grad(bounded.sum(), x)
    assert -9.0 <= bounded[0] <= 3.0
    assert 0.0 <= slope[0] <= 1.0
    assert bounded[1] == 0.0
    assert slope[1] == 1.0


@given(
    st.sampled_from([0.0, 0.2, 0.5, 0.8, 0.9, 0.95, 0.97, 0.99, 0.995, 0.999, 0.9999, 1.0]),
    st.floats(-3, 3),
)
def test_tilted_odds_divide_the_horizon_and_are_exact_at_zero(rate: float, tilt: float) -> None:
    tilts = torch.tensor([tilt, 0.0])
    found = tilted(rate, tilts, 0.0, 1.0)
    assert found[1] == torch.tensor(rate), "not the bits of the rate"
    if 0.0 < rate < 1.0:
        odds = rate / (1.0 - rate) * math.exp(-tilt)
        assert float(found[0]) == pytest.approx(odds / (1.0 + odds), abs=5e-7)


def test_the_explained_share_interpolates_the_log_horizon() -> None:
    log_variance = torch.tensor([-9.0, math.log(0.5), 0.0, 3.0])
    low, high = 0.8, 0.9995
    gamma = explained_gamma(0.99, log_variance, 1.0, low, high, torch.tensor(1.0))
    horizons = 1.0 / (1.0 - gamma.double())
    assert horizons[0] == pytest.approx(2000.0, rel=2e-3)
    assert horizons[1] == pytest.approx(math.sqrt(5.0 * 2000.0), rel=1e-3)
    assert horizons[2:].tolist() == pytest.approx([5.0, 5.0], rel=1e-6)
    untrusted = explained_gamma(0.99, log_variance, 1.0, low, high, torch.tensor(0.0))
    assert torch.equal(untrusted, torch.full((4,), 0.99))


def test_lag_weights_are_those_of_the_specification() -> None:
    """Its table: raw precision makes the agent myopic, the explained share does not."""
    sigma = torch.tensor([0.01, 0.05, 0.15, 0.25, 0.35, 0.45, 0.49, 0.5], dtype=torch.float64)
    reward = torch.full_like(sigma, 0.25)
    explained = explained_weights(sigma.square(), reward, 1.0)
    assert explained.tolist() == pytest.approx((1 - sigma.square() / 0.25).tolist())
    assert explained[[0, 7]].tolist() == pytest.approx([0.9996, 0.0])

    precision = precision_weights(sigma.square(), reward, 1.0, "max")
    # The floor 0.05 * 0.5 takes the place of sigma 0.01.
    expected = [(1 / max(s, 0.025) ** 2 - 4) / (1600 - 4) for s in sigma.tolist()]
    assert precision.tolist() == pytest.approx(expected)
    assert precision_weights(sigma.square(), reward, 1.0, "sum").sum() == pytest.approx(1.0)
    assert not precision_weights(reward * 2, reward, 1.0, "max").any(), "no lag beats the guess"


def test_a_running_mean_is_corrected_for_its_start() -> None:
    mean = Ema((2,), CPU)
    assert mean.value().tolist() == [0.0, 0.0]
    for x in (1.0, 3.0, math.nan):
        mean.update(torch.tensor([x, 7.0]), torch.tensor([True, x == 3.0]))
    weights = 0.01 * 0.99 + 0.01
    expected = (0.01 * 0.99 * 1.0 + 0.01 * 3.0) / weights
    assert mean.value().tolist() == pytest.approx([expected, 7.0])


# Oracles.


@pytest.mark.parametrize("advantage", STATE_DEPENDENT[:2])
@pytest.mark.parametrize("constant", [-40.0, -0.7, 1.3])
def test_equal_confidence_everywhere_is_gae(advantage: str, constant: float) -> None:
    """Oracle 4."""
    config = config_of(advantage)
    before, rollout = rollout_of(config, 0), rollout_of(config, 1)
    alike = torch.full_like(rollout.head, constant)
    rollout = dataclasses.replace(rollout, head=alike, next_head=alike)
    ours, theirs = estimated(config, before, rollout).advantages, of_gae(config, rollout)
    assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()


@pytest.mark.parametrize(
    "changes",
    [
        {"advantage": "variance-gamma"},
        {"advantage": "variance-gamma", "vd_signal": "td", "vd_ref": "self"},
        {"advantage": "variance-gamma", "vd_map": "ev", "vd_base": "var", "vd_skill_gate": True},
        {"advantage": "variance-lambda"},
        {"advantage": "variance-lambda-ensemble"},
        {"advantage": "variance-horizon"},
        {"advantage": "variance-horizon-return"},
        {"advantage": "variance-horizon-lite"},
        {"advantage": "stream-lag"},
    ],
)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_unit_of_reward_does_not_matter(changes: dict[str, Any], scale: float) -> None:
    """Oracle 5: rates and what the heads learn stay, advantages scale; over several updates.

    What the value predicts scales with the reward; a log variance does not.
    """
    config = config_of(**changes)
    spec = head_spec(config)
    assert spec is not None
    unit = torch.full((spec.num_outputs,), scale)
    if not config.estimator.startswith("variance-horizon"):
        unit[0] = 1.0
    ours, theirs = (make_estimator(config, CPU) for _ in range(2))
    for update in range(4):
        rollout = rollout_of(config, update)
        assert rollout.head is not None
        assert rollout.next_head is not None
        scaled = dataclasses.replace(
            rollout,
            rewards=rollout.rewards * scale,
            values=rollout.values * scale,
            next_values=rollout.next_values * scale,
            head=rollout.head * unit,
            next_head=rollout.next_head * unit,
        )
        a, b = ours.estimate(rollout), theirs.estimate(scaled)
        torch.testing.assert_close(b.advantages / scale, a.advantages, rtol=1e-4, atol=1e-4)
        assert a.head_targets is not None
        assert b.head_targets is not None
        index = torch.arange(100)
        losses = [
            x.loss(
                r.values.flatten()[index],
                r.head.flatten(0, 1)[index],
                e.head_targets.flatten(0, 1)[index],
            )
            for x, r, e in ((ours, rollout, a), (theirs, scaled, b))
            if r.head is not None and e.head_targets is not None
        ]
        assert float(losses[1]) == pytest.approx(float(losses[0]), rel=1e-4)
        for name, x in fetch(a.metrics).items():
            if name.startswith(("gamma", "lambda", "horizon", "z2", "sigma_corr", "skill")):
                assert fetch(b.metrics)[name] == pytest.approx(x, rel=1e-4, abs=1e-5), name


def test_the_closed_form_is_the_likelihoods_best_variance() -> None:
    """Oracle 7: one free variance for each lag, fitted by gradient descent on the likelihood."""
    config = config_of("variance-horizon", vd_horizon=4)
    rollout = rollout_of(config, 3, envs=16)
    assert rollout.head is not None
    lags = LagStatistics(config, CPU)
    lags.observe(rollout, rollout.head)
    targets, known = plain.lag_targets(
        rollout.rewards, torch.zeros_like(rollout.head), rollout.terminated, rollout.truncated
    )
    squared_error = (targets - rollout.head).square().double()

    log_variance = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_variance], max_iter=100, tolerance_change=1e-14)

    def likelihood() -> Tensor:
        optimizer.zero_grad()
        loss = (gaussian_nll(log_variance, squared_error) * known).sum() / known.sum()
        loss.backward()
        return loss

    optimizer.step(likelihood)

    fitted = log_variance.detach().exp()
    torch.testing.assert_close(lags.squared_error.value(), fitted, rtol=1e-4, atol=0)


@given(st.integers(0, 10_000), st.integers(0, 39), st.integers(0, 5))
def test_less_confidence_in_a_state_moves_what_led_to_it_and_nothing_else(
    seed: int, t: int, env: int
) -> None:
    """Oracle 8, the centre held fixed (vd_base var)."""
    config = config_of("variance-gamma", vd_base="var", gae_lambda=1.0)
    before, rollout = rollout_of(config, 0), rollout_of(config, seed)
    assert rollout.next_head is not None
    raised = rollout.next_head.clone()
    raised[t, env, 0] += 0.5
    doubted = dataclasses.replace(rollout, next_head=raised)
    estimators = [make_estimator(config, CPU) for _ in range(2)]
    for estimator in estimators:
        estimator.estimate(before)

    ours, theirs = (
        x.estimate(r).advantages for x, r in zip(estimators, (rollout, doubted), strict=True)
    )

    moved = ours != theirs
    ended = (rollout.terminated | rollout.truncated)[:t, env].nonzero()
    first = int(ended[-1]) + 1 if len(ended) else 0
    allowed = torch.zeros_like(moved)
    allowed[first : t + 1, env] = True
    assert not (moved & ~allowed).any()
    assert bool(moved[t, env]) == (not rollout.terminated[t, env])


def test_less_confidence_shortens_the_horizon_and_raises_lambda() -> None:
    tilts = torch.linspace(-3, 3, 50)
    assert (tilted(0.99, 0.5 * tilts, 0.8, 0.9995).diff() < 0).all()
    assert (tilted(0.95, -0.5 * tilts, 0.5, 0.995).diff() > 0).all()


def learning(config: TrainConfig) -> tuple[Any, Batch, Any]:
    """A policy, a batch and an estimator that has judged it."""
    torch.manual_seed(0)
    policy = make_policy(config, (5,), 3, obs_high=1)
    estimator = make_estimator(config, CPU)
    obs = torch.randint(0, 2, (41, 6, 5), dtype=torch.uint8)
    with torch.no_grad():
        _, values, head = policy(obs.flatten(0, 1))
    values, head = values.view(41, 6), head.view(41, 6, -1)
    rollout = rollout_of(
        config,
        0,
        obs=obs,
        values=values[:-1],
        next_values=values[1:],
        head=head[:-1],
        next_head=head[1:],
    )
    estimate = estimator.estimate(rollout)
    assert estimate.head_targets is not None
    batch = Batch(
        obs=obs[:-1].flatten(0, 1),
        actions=rollout.actions.flatten(),
        logprobs=torch.full((240,), -1.0986),
        advantages=estimate.advantages.flatten(),
        returns=estimate.returns.flatten(),
        values=estimate.values.flatten(),
        head_targets=estimate.head_targets.flatten(0, 1),
    )
    return policy, batch, estimator


def gradients(policy: Any, loss: Tensor) -> dict[str, Tensor]:
    policy.zero_grad(set_to_none=True)
    loss.backward()
    return {name: x.grad for name, x in policy.named_parameters() if x.grad is not None}


@pytest.mark.parametrize("advantage", LEARNED)
def test_gradients_go_where_they_are_meant_to(advantage: str) -> None:
    """Oracle 10: PPO's loss does not see the head; the head's sees the body only if it may."""
    config = config_of(advantage, policy="mlp")
    policy, batch, estimator = learning(config)
    index = torch.arange(100)
    spec = head_spec(config)
    assert spec is not None

    alone = gradients(policy, ppo_loss(policy, batch, index, config)[0])
    assert not any(name.startswith("value_head") for name in alone)

    _, values, head = policy(batch.obs[index])
    assert batch.head_targets is not None
    of_head = gradients(policy, estimator.loss(values, head, batch.head_targets[index]))
    through_value = config.vd_loss != "decoupled"
    assert any(name.startswith("critic") for name in of_head) == through_value
    through_body = spec.num_through_body > 0 or through_value
    assert any(name.startswith("body") for name in of_head) == through_body
    assert not any(name.startswith("actor") for name in of_head)
    assert of_head["value_head.weight"].abs().max() > 0


@pytest.mark.parametrize("advantage", STATE_DEPENDENT)
def test_the_heads_loss_leaves_ppos_gradient_as_it_is(advantage: str) -> None:
    config = config_of(advantage, policy="mlp")
    policy, batch, estimator = learning(config)
    index = torch.arange(100)
    alone = gradients(policy, ppo_loss(policy, batch, index, config)[0])
    both = gradients(policy, ppo_loss(policy, batch, index, config, estimator)[0])
    assert all(torch.equal(both[name], x) for name, x in alone.items())


def test_the_likelihoods_gradient_is_that_of_finite_differences() -> None:
    """Oracle 10."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(50, dtype=torch.float64, generator=generator) * 4
    z2 = torch.rand(50, dtype=torch.float64, generator=generator) * 100
    assert torch.autograd.gradcheck(
        lambda x: gaussian_nll(bounded_log_variance(x), z2).mean(), raw.requires_grad_()
    )


@pytest.mark.parametrize("advantage", [*STATE_DEPENDENT, "stream-time"])
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("kind", ["ends", "silence", "random"])
def test_whatever_the_head_says_the_advantages_are_finite(
    advantage: str, steps: int, kind: str
) -> None:
    """Oracle 11: outputs of 1e4, NaN and infinity; all steps terminal; no reward; T = 1."""
    config = config_of(advantage, num_steps=8)
    estimator = make_estimator(config, CPU)
    wild = torch.tensor([1e4, -1e4, math.nan, math.inf, -math.inf, 0.3])
    for update in range(4):
        rollout = rollout_of(config, update, steps=steps)
        assert rollout.head is not None
        head = wild[torch.randint(0, 6, rollout.head.shape)]
        changes: dict[str, Tensor] = {"head": head, "next_head": head.flip(1)}
        zero = torch.zeros_like(rollout.rewards)
        if kind == "ends":
            changes["terminated"] = torch.ones_like(rollout.terminated)
        if kind == "silence":
            changes |= {"rewards": zero, "values": zero, "next_values": zero}
        rollout = dataclasses.replace(rollout, **changes)

        estimate = estimator.estimate(rollout)

        assert torch.isfinite(estimate.advantages).all()
        assert torch.isfinite(estimate.returns).all()
        logged = fetch(estimate.metrics)
        for rate, low, high in (("gamma", 0.8, 0.9995), ("lambda", 0.0, 1.0)):
            for name in ("mean", "q05", "q95"):
                found = logged.get(f"{rate}_{name}")
                assert found is None or low - 1e-6 <= found <= high + 1e-6
        assert logged["sigma_base2"] is not None
        assert estimate.head_targets is not None
        flat = head.flatten(0, 1).requires_grad_()
        targets = estimate.head_targets.flatten(0, 1)
        assert torch.isfinite(targets[:, 0]).all()
        loss = gaussian_nll(bounded_log_variance(flat[:, 0]), targets[:, 0]).mean()
        loss.backward()
        assert torch.isfinite(loss)
        assert flat.grad is not None
        assert torch.isfinite(flat.grad).all()


def test_numbers_that_are_none_are_counted() -> None:
    config = config_of("variance-lambda")
    rollout = rollout_of(config, 0, terminated=torch.zeros(40, 6, dtype=torch.bool))
    assert rollout.next_head is not None
    rollout.next_head[3:5, 2, 0] = math.nan
    rollout.next_head[7, 1, 0] = math.inf
    assert fetch(estimated(config, rollout).metrics)["nonfinite"] == 3


def test_without_any_return_every_state_is_alike() -> None:
    """Degenerate batches: z^2 is 1 and there is no tilt, whatever the head says."""
    config = config_of("variance-gamma", vd_ref="self")
    zero = torch.zeros(40, 6)
    silent = rollout_of(config, 0, rewards=zero, values=zero, next_values=zero)
    heard = rollout_of(config, 1)
    estimator = make_estimator(config, CPU)
    for _ in range(2):
        estimate = estimator.estimate(silent)
        assert estimate.head_targets is not None
        assert (estimate.head_targets[..., 0] == 1.0).all()
    assert torch.equal(estimator.estimate(heard).advantages, of_gae(config, heard))
    assert not torch.equal(estimator.estimate(heard).advantages, of_gae(config, heard))


@pytest.mark.parametrize("advantage", ["variance-gamma", "variance-lambda"])
def test_a_known_variance_is_learned_and_calibrated(advantage: str) -> None:
    """Oracle 12: sixteen states whose rewards have standard deviations from 0.1 to 3."""
    config = config_of(advantage, vd_ref="self")
    estimator = make_estimator(config, CPU)
    sigma = torch.logspace(-1, math.log10(3.0), 16)
    spec = head_spec(config)
    assert spec is not None
    head = torch.zeros(16, spec.num_outputs, requires_grad=True)
    optimizer = torch.optim.Adam([head], lr=0.1)
    generator = torch.Generator().manual_seed(0)

    def play(*shape: int) -> tuple[Tensor, Estimate]:
        """Every step ends an episode: its return is its reward, and the value is 0."""
        state = torch.randint(0, 16, shape, generator=generator)
        seen = head.detach()[state]
        none, all_ = torch.zeros(shape), torch.ones(shape, dtype=torch.bool)
        columns = {"values": none, "next_values": none, "terminated": all_, "truncated": ~all_}
        columns["rewards"] = sigma[state] * torch.randn(shape, generator=generator)
        columns["valid"] = all_
        rollout = rollout_of(config, 0, 1, 1, **columns, head=seen, next_head=seen)
        return state.flatten(), estimator.estimate(rollout)

    for update in range(120):
        optimizer.param_groups[0]["lr"] = 0.15 * (1 - update / 120)
        state, estimate = play(64, 64)
        assert estimate.head_targets is not None
        optimizer.zero_grad()
        targets = estimate.head_targets.flatten(0, 1)
        estimator.loss(torch.zeros(64 * 64), head[state], targets).backward()
        optimizer.step()
    state, estimate = play(512, 512)
    assert estimate.head_targets is not None

    found = bounded_log_variance(head.detach()[:, 0])
    order = found[state].argsort()
    ratios = (estimate.head_targets[..., 0].flatten() / found[state].exp())[order]
    deciles = [float(part.mean()) for part in ratios.tensor_split(10)]
    assert deciles == pytest.approx([1.0] * 10, abs=0.05)
    logged = fetch(estimate.metrics)
    assert logged["z2_by_decile"] == pytest.approx([1.0] * 10, abs=0.3)  # of 4096 states
    assert logged["sigma_corr"] > 0.4
    relative = 2 * sigma.log() - sigma.square().mean().log()
    torch.testing.assert_close(found, relative, rtol=0, atol=0.1)
    assert logged["skill"] > 0.1


# Controls.


def rates_of(config: TrainConfig, rollout: Rollout) -> Tensor:
    estimator: Any = make_estimator(config, CPU)
    estimator.estimate(rollout_of(config, 99))
    reading = estimator.confidence.read(rollout, rollout.next_head[..., 0])
    gamma, gae_lambda = estimator.rates(reading)
    return gamma if isinstance(gamma, Tensor) else gae_lambda


@pytest.mark.parametrize("advantage", ["variance-gamma", "variance-lambda"])
def test_shuffled_rates_are_the_same_ones_elsewhere(advantage: str) -> None:
    config = config_of(advantage)
    rollout = rollout_of(config, 1)
    reached = ~rollout.terminated
    plain_rates = rates_of(config, rollout)
    shuffled = rates_of(config_of(advantage, control="shuffled"), rollout)
    assert torch.equal(shuffled[reached].sort().values, plain_rates[reached].sort().values)
    assert (shuffled != plain_rates)[reached].float().mean() > 0.9
    assert np.corrcoef(shuffled[reached], plain_rates[reached])[0, 1] < 0.3


@pytest.mark.parametrize(
    ("advantage", "option"), [("variance-gamma", "vd_eta"), ("variance-lambda", "vd_zeta")]
)
def test_negated_is_the_exponent_with_the_other_sign(advantage: str, option: str) -> None:
    config = config_of(advantage)
    rollout = rollout_of(config, 1)
    negated = rates_of(config_of(advantage, control="negated"), rollout)
    assert torch.equal(negated, rates_of(config_of(advantage, **{option: -0.5}), rollout))
    assert not torch.equal(negated, rates_of(config, rollout))


@pytest.mark.parametrize(
    ("advantage", "key", "rate"),
    [
        ("variance-gamma", "gamma_mean", "gamma"),
        ("variance-lambda", "lambda_mean", "gae_lambda"),
        ("variance-lambda-ensemble", "lambda_mean", "gae_lambda"),
        ("variance-horizon-lite", "gamma_mean", "gamma"),
    ],
)
def test_yoked_follows_the_other_runs_mean(
    tmp_path: Path, advantage: str, key: str, rate: str
) -> None:
    schedule = [0.9, 0.7, 0.8]
    lines = (json.dumps({"update": i + 1, key: x}) for i, x in enumerate(schedule))
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = config_of(advantage, control="yoked", yoked_run=str(tmp_path))
    estimator = make_estimator(config, CPU)
    for update, expected in enumerate([*schedule, 0.8, 0.8]):
        rollout = rollout_of(config, update)
        estimate = estimator.estimate(rollout)
        fixed = config_of("gae", **{rate: expected})
        assert torch.equal(estimate.advantages, of_gae(fixed, rollout))
        assert fetch(estimate.metrics)[key] == pytest.approx(expected, rel=1e-6)


def test_a_run_that_cannot_be_followed_is_named(tmp_path: Path) -> None:
    config = config_of("variance-gamma", control="yoked", yoked_run=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"yoked_run {tmp_path} is not a run folder"):
        make_estimator(config, CPU)
    (tmp_path / "metrics.jsonl").write_text('{"update": 1}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="did not log gamma_mean in every update"):
        make_estimator(config, CPU)


def test_warmup_lets_confidence_in_by_degrees() -> None:
    config = config_of("variance-lambda", vd_warmup=4)
    estimator = make_estimator(config, CPU)
    trusts = [fetch(estimator.estimate(rollout_of(config, i)).metrics)["trust"] for i in range(6)]
    assert trusts == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0, 1.0])


def test_a_head_without_skill_is_not_listened_to() -> None:
    """Random outputs predict worse than a constant."""
    config = config_of("variance-gamma", vd_skill_gate=True)
    before, rollout = rollout_of(config, 0), rollout_of(config, 1)
    estimate = estimated(config, before, rollout)
    assert fetch(estimate.metrics)["skill"] < 0
    assert torch.equal(estimate.advantages, of_gae(config, rollout))


# Ensemble and lags.


def test_members_of_the_ensemble_learn_their_own_steps() -> None:
    config = config_of("variance-lambda-ensemble", policy="mlp")
    policy, batch, estimator = learning(config)
    assert batch.head_targets is not None
    learns = batch.head_targets[:, 2:]
    assert learns.shape == (240, NUM_MEMBERS)
    assert set(learns.unique().tolist()) == {0.0, 1.0}
    assert learns.mean() == pytest.approx(0.5, abs=0.1)
    _, values, head = policy(batch.obs)
    head.retain_grad()
    estimator.loss(values, head, batch.head_targets).backward()
    assert torch.equal(head.grad[:, 1:] != 0, learns == 1)


def test_members_differ_from_the_start_and_the_policy_does_not() -> None:
    policies = []
    for advantage in ("gae", "variance-lambda-ensemble"):
        torch.manual_seed(3)
        policies.append(make_policy(config_of(advantage), (10, 10, 4), 3))
    ppo, ours = (policy.state_dict() for policy in policies)
    assert all(torch.equal(ours[name], x) for name, x in ppo.items())
    members = ours["value_head.weight"]
    assert not members[0].any()
    assert len({tuple(row.tolist()) for row in members[1:]}) == NUM_MEMBERS


def test_an_ensemble_of_one_mind_differs_from_gae_only_near_an_end() -> None:
    """vd_lmax 0: the control of signals that are constant."""
    config = config_of("variance-lambda-ensemble", vd_lmax=0.0)
    before, rollout = rollout_of(config, 0), rollout_of(config, 1)
    endless = dataclasses.replace(
        rollout,
        terminated=torch.zeros_like(rollout.terminated),
        truncated=torch.zeros_like(rollout.truncated),
    )
    ours = estimated(config, before, endless).advantages
    torch.testing.assert_close(ours, of_gae(config, endless), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(
        estimated(config, before, rollout).advantages, of_gae(config, rollout)
    )


def test_the_first_lag_weights_are_the_fixed_discount() -> None:
    config = config_of("variance-horizon", vd_warmup=20)
    rollout = rollout_of(config, 0)
    assert rollout.head is not None
    assert rollout.next_head is not None
    weights = config.gamma ** torch.arange(8)
    expected = plain.variance_horizon(
        rollout.rewards,
        rollout.head,
        rollout.next_head,
        rollout.terminated,
        rollout.truncated,
        weights,
    )
    estimate = estimated(config, rollout)
    torch.testing.assert_close(estimate.advantages, expected)
    torch.testing.assert_close(estimate.values, rollout.head @ weights)
    torch.testing.assert_close(estimate.returns - estimate.values, estimate.advantages)


def test_a_value_equal_to_the_weighted_predictions_gives_the_same_advantage() -> None:
    """A-R = A where V = sum_k w_k mu_k."""
    config = config_of("variance-horizon", vd_warmup=20)
    rollout = rollout_of(config, 0)
    assert rollout.head is not None
    values = rollout.head @ config.gamma ** torch.arange(8)
    rollout = dataclasses.replace(rollout, values=values)
    ours = estimated(config_of("variance-horizon-return", vd_warmup=20), rollout)
    torch.testing.assert_close(
        ours.advantages, estimated(config, rollout).advantages, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(ours.returns, ours.advantages + values)


@pytest.mark.parametrize("advantage", ["variance-horizon", "variance-horizon-lite"])
def test_heads_that_predict_nothing_leave_the_fixed_discount(advantage: str) -> None:
    """Random predictions explain less than a constant: the weights' sum is below 1."""
    config = config_of(advantage, vd_warmup=0)
    estimator = make_estimator(config, CPU)
    for seed in range(3):
        logged = fetch(estimator.estimate(rollout_of(config, seed)).metrics)
    horizon = sum(config.gamma**k for k in range(8))
    if advantage == "variance-horizon-lite":
        horizon = 1 / (1 - config.gamma)
        assert logged["gamma_mean"] == pytest.approx(config.gamma, rel=1e-6)
    assert logged["effective_horizon"] == pytest.approx(horizon, rel=1e-5)


def test_the_one_discount_is_the_horizon_that_can_be_explained() -> None:
    """Explained shares 0.9^k: a horizon of 10, of which eight lags are seen."""
    config = config_of("variance-horizon-lite", gamma_low=0.5, vd_horizon=8)
    estimator: Any = make_estimator(config, CPU)
    shares = 0.9 ** torch.arange(8, dtype=torch.float64)
    estimator.lags.variance.update(torch.ones(8))
    estimator.lags.squared_error.update(1.0 - shares)
    assert float(estimator._horizon()) == pytest.approx(10.0, rel=1e-6)


def test_what_is_predicted_perfectly_counts_fully() -> None:
    """Rewards 1, 2, 3 in turn, known from the state: the weights become 1."""
    config = config_of("variance-horizon", vd_horizon=6)
    beat = (torch.arange(46) % 3 + 1.0).unsqueeze(-1).expand(46, 6)
    heads = torch.stack([beat[k : k + 41] for k in range(6)], dim=-1)
    none = torch.zeros(40, 6, dtype=torch.bool)
    rollout = rollout_of(
        config,
        0,
        rewards=beat[:40].contiguous(),
        terminated=none,
        truncated=none,
        head=heads[:-1],
        next_head=heads[1:],
    )
    estimate = estimated(config, rollout, rollout)
    assert fetch(estimate.metrics)["lag_weights"] == pytest.approx([1.0] * 6, abs=1e-6)
    assert estimate.advantages.abs().max() < 1e-6


def state_variance(**changes: Any) -> TrainConfig:
    return config_of("variance-horizon", vd_sigma="state", **changes)


def test_variances_that_know_no_state_weigh_lags_as_running_means_do() -> None:
    """log(sigma_k^2 / sigma_rk^2) of the running means, predicted everywhere."""
    shared = config_of("variance-horizon")
    before, rollout = (rollout_of(shared, seed, envs=32) for seed in (0, 1))
    assert before.head is not None
    # Predictions that are right but for a little noise, so that lags count.
    targets, _ = plain.lag_targets(
        before.rewards, torch.zeros_like(before.head), before.terminated, before.truncated
    )
    before = dataclasses.replace(before, head=targets + 0.3 * before.head)
    theirs = make_estimator(shared, CPU)
    assert isinstance(theirs, VarianceHorizon)
    theirs.estimate(before)
    ratio = (theirs.lags.squared_error.value() / theirs.lags.variance.value()).float()
    raw = 9.0 * torch.atanh(ratio.log() / 9.0)

    def with_variances(x: Rollout, variances: Tensor) -> Rollout:
        assert x.head is not None
        assert x.next_head is not None
        more = variances.expand_as(x.head)
        head, next_head = (torch.cat((y, more), dim=-1) for y in (x.head, x.next_head))
        return dataclasses.replace(x, head=head, next_head=next_head)

    ours = make_estimator(state_variance(), CPU)
    ours.estimate(with_variances(before, torch.zeros(8)))
    found = ours.estimate(with_variances(rollout, raw))
    expected = theirs.estimate(rollout)
    assert fetch(expected.metrics)["effective_horizon"] > 2.0
    torch.testing.assert_close(found.advantages, expected.advantages, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.values, expected.values, rtol=1e-4, atol=1e-4)

    unsure = with_variances(rollout, raw)
    assert unsure.head is not None
    unsure.head[3, 2, 8:] = 0.0  # explains nothing there
    less = ours.estimate(unsure)
    assert less.advantages[3, 2] == 0.0
    others = torch.ones(40, 32, dtype=torch.bool)
    others[3, 2] = False
    assert not torch.equal(found.advantages[3, 2], less.advantages[3, 2])
    torch.testing.assert_close(found.advantages[others], less.advantages[others])


def test_variances_at_zero_leave_the_fixed_discount() -> None:
    """The heads start there: nothing is explained, and the lags together weigh less than one."""
    config = state_variance()
    rollouts = [rollout_of(config, seed) for seed in range(2)]
    for rollout in rollouts:
        assert rollout.head is not None
        rollout.head[..., 8:] = 0.0
    assert rollouts[1].head is not None
    assert rollouts[1].next_head is not None
    expected = plain.variance_horizon(
        rollouts[1].rewards,
        rollouts[1].head[..., :8],
        rollouts[1].next_head[..., :8],
        rollouts[1].terminated,
        rollouts[1].truncated,
        config.gamma ** torch.arange(8),
    )
    torch.testing.assert_close(estimated(config, *rollouts).advantages, expected)


def test_state_variances_learn_the_errors_of_their_states_and_leave_the_body_alone() -> None:
    config = state_variance()
    rollout = rollout_of(config, 0, envs=64)
    assert rollout.head is not None
    assert rollout.next_head is not None
    calm = torch.arange(40).unsqueeze(-1).expand(40, 64) % 2 == 0
    targets, known = plain.lag_targets(
        rollout.rewards, torch.zeros(40, 64, 8), rollout.terminated, rollout.truncated
    )
    errors = torch.where(calm, 0.2, 0.8).unsqueeze(-1) * torch.randn(
        40, 64, 8, generator=torch.Generator().manual_seed(5)
    )
    means = targets - errors
    rollout = dataclasses.replace(rollout, head=torch.cat((means, torch.zeros(40, 64, 8)), dim=-1))
    estimator = make_estimator(config, CPU)
    assert isinstance(estimator, VarianceHorizon)
    estimate = estimator.estimate(rollout)
    assert estimate.head_targets is not None
    raw = torch.zeros(2, 8, requires_grad=True)
    optimizer = torch.optim.LBFGS([raw], max_iter=200)
    kinds = calm.flatten().long()
    index = estimate.head_targets.flatten()

    def loss() -> Tensor:
        optimizer.zero_grad()
        head = torch.cat((means.flatten(0, 1), raw[kinds]), dim=-1)
        value = estimator.loss(torch.zeros(len(index)), head, index)
        value.backward()
        return value

    optimizer.step(loss)
    fitted = bounded_log_variance(raw.detach()).exp()
    for kind in (0, 1):
        mine = (kinds == kind).unsqueeze(-1) & known.flatten(0, 1)
        squared = errors.flatten(0, 1).square().masked_fill(~mine, 0.0).sum(0) / mine.sum(0)
        expected = squared / estimator.lags.variance.value().float()
        torch.testing.assert_close(fitted[kind], expected, rtol=1e-2, atol=1e-4)

    alone = make_estimator(config_of("variance-horizon"), CPU)
    alone.estimate(dataclasses.replace(rollout, head=means))
    heads = [means.flatten(0, 1).clone().requires_grad_() for _ in range(2)]
    with_variances = torch.cat((heads[0], raw.detach()[kinds]), dim=-1)
    estimator.loss(torch.zeros(len(index)), with_variances, index).backward()
    alone.loss(torch.zeros(len(index)), heads[1], index).backward()
    assert heads[0].grad is not None
    assert heads[1].grad is not None
    # The lags' shares in the loss differ: they follow the weights, which are the states' own here.
    cosine = torch.nn.functional.cosine_similarity(heads[0].grad, heads[1].grad, dim=0)
    torch.testing.assert_close(cosine, torch.ones(8), rtol=0, atol=1e-4)


def test_only_means_train_the_body() -> None:
    policy = make_policy(state_variance(policy="mlp"), (4,), 2)
    assert policy.value_head is not None
    features = torch.randn(5, 128, requires_grad=True)
    [slope] = torch.autograd.grad(policy.value_head(features)[:, 8:].sum(), features)
    assert not slope.any()
    policy.value_head.weight.data.fill_(0.1)
    [slope] = torch.autograd.grad(policy.value_head(features)[:, :8].sum(), features)
    assert slope.abs().min() > 0.0


@pytest.mark.parametrize("advantage", ["variance-horizon", "variance-horizon-return"])
def test_n_steps_are_sampled_and_the_rest_predicted(advantage: str) -> None:
    config = config_of(advantage, vd_n_step=3, vd_warmup=20)
    rollout = rollout_of(config, 0)
    assert rollout.head is not None
    assert rollout.next_head is not None
    weights = config.gamma ** torch.arange(8)
    blocks = rollout.head, rollout.next_head
    if advantage == "variance-horizon":
        ends = rollout.terminated, rollout.truncated
        expected = plain.variance_horizon(rollout.rewards, *blocks, *ends, weights, n_step=3)
    else:
        ends = rollout.terminated, rollout.truncated
        returns = plain.variance_horizon_return(
            rollout.rewards, blocks[1], *ends, weights, n_step=3
        )
        expected = returns - rollout.values
    torch.testing.assert_close(
        estimated(config, rollout).advantages, expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(
    ("advantage", "changes", "said"),
    [
        ("variance-horizon-lite", {"vd_sigma": "state"}, "vd_sigma must be lag"),
        ("variance-gamma", {"vd_n_step": 2}, "vd_n_step must be 0"),
        ("variance-horizon", {"vd_n_step": -1}, "vd_n_step must be an integer >= 0"),
        ("variance-horizon", {"vd_sigma": "both"}, "vd_sigma must be one of lag, state"),
    ],
)
def test_options_of_lags_belong_to_lags(advantage: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config_of(advantage, **changes)


# Logs.


def test_steps_to_the_end_are_counted_where_the_end_is_seen() -> None:
    ended = torch.tensor([[0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1]]).bool().T
    assert steps_to_end(ended).T.tolist() == [[2, 1, 3, 2, 1, 0, 0], [7, 6, 5, 4, 3, 2, 1]]


def test_every_quantity_of_the_specification_is_logged() -> None:
    spread = ("mean", "q05", "q50", "q95", "clipped")
    common = {f"log_variance_{x}" for x in spread} | {
        *("sigma_corr", "z2_by_decile", "advantage_var", "contraction", "centre"),
        *("sigma_base2", "nonfinite", "log_variance_by_time_left", "skill"),
    }
    expected = {
        "variance-gamma": common | {f"{rate}_{x}" for rate in ("gamma", "horizon") for x in spread},
        "variance-lambda": common | {f"lambda_{x}" for x in spread},
        "variance-lambda-ensemble": common | {f"lambda_{x}" for x in spread},
        "variance-horizon": {"effective_horizon", "advantage_var", "skill"},
        "variance-horizon-lite": {"effective_horizon", "gamma_mean", "contraction", "skill"},
    }
    for advantage, names in expected.items():
        config = config_of(advantage)
        logged = fetch(estimated(config, rollout_of(config, 0), rollout_of(config, 1)).metrics)
        assert names <= logged.keys(), advantage
        json.dumps(logged, allow_nan=False)
        assert all(logged[name] is not None for name in names), advantage


def test_logged_rates_are_those_that_were_used() -> None:
    config = config_of("variance-gamma")
    rollout = rollout_of(config, 1)
    gamma = rates_of(config, rollout)[~rollout.terminated].sort().values
    estimator = make_estimator(config, CPU)
    estimator.estimate(rollout_of(config, 99))
    logged = fetch(estimator.estimate(rollout).metrics)
    assert logged["gamma_mean"] == pytest.approx(float(gamma.mean()))
    for percent in (5, 50, 95):
        expected = float(np.percentile(gamma, percent, method="lower"))
        assert logged[f"gamma_q{percent:02}"] == pytest.approx(expected)
        assert logged[f"horizon_q{percent:02}"] == pytest.approx(1 / (1 - expected), rel=1e-4)
    kept = gamma * config.gae_lambda
    assert logged["contraction"] == pytest.approx(float(((gamma - kept) / (1 - kept)).mean()))


def test_a_policy_without_the_head_is_refused() -> None:
    config = config_of("variance-gamma")
    rollout = dataclasses.replace(rollout_of(config, 0), head=None)
    with pytest.raises(ValueError, match="no value head"):
        make_estimator(config, CPU).estimate(rollout)
