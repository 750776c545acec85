"""Advantages with a discount, a lambda or a horizon of each state's own.

The expected values are sums written out. Rollouts are float64 unless it says float32.
"""

import ctypes
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastrl import advantages, kernels, ops

Rollout = dict[str, Tensor]
ENDS = ("terminated", "truncated")
SIZES = [(1, 1), (1, 7), (2, 300), (40, 3), (9, 2100)]


def make_rollout(num_steps: int, num_envs: int, seed: int, ends: float = 0.2) -> Rollout:
    rng = np.random.default_rng(seed)
    shape = (num_steps, num_envs)
    rollout = {k: rng.normal(size=shape) for k in ("rewards", "values", "next_values")}
    rollout |= {k: rng.random(shape) < ends for k in ENDS}
    return {k: torch.from_numpy(x) for k, x in rollout.items()}


@st.composite
def rollouts(draw: st.DrawFn) -> Rollout:
    """Rollouts whose episodes end never, often, or at every step, in either way or both."""
    shape = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    ends = draw(st.sampled_from([0.0, 0.25, 1.0]))
    return make_rollout(*shape, draw(st.integers(0, 2**32 - 1)), ends)


def chained(rollout: Rollout) -> Rollout:
    """The rollout whose steps reach the state that the next step leaves, unless they end."""
    going_on = ~(rollout["terminated"] | rollout["truncated"])[:-1]
    next_values = rollout["next_values"].clone()
    next_values[:-1] = torch.where(going_on, rollout["values"][1:], next_values[:-1])
    return rollout | {"next_values": next_values}


def unit_like(x: Tensor, seed: int) -> Tensor:
    """(T, N) in [0, 1], its ends included."""
    rng = np.random.default_rng(seed)
    rates = rng.choice([0.0, 1.0, *rng.random(6)], size=tuple(x.shape))
    return torch.from_numpy(rates).to(x.dtype)


def positive_like(x: Tensor, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.exp(rng.normal(size=tuple(x.shape)))).to(x.dtype)


def float32(rollout: Rollout) -> Rollout:
    return {k: x.float() if x.is_floating_point() else x for k, x in rollout.items()}


def mixture_of_n_step_returns(rollout: Rollout, gammas: Tensor, lambdas: Tensor) -> np.ndarray:
    """sum_n [prod_{i<n} lambda_{t+i}] (1 - lambda_{t+n}) G_n - V(s_t), each G_n written out."""
    r, v, v_next, terminated, truncated = (x.double().numpy() for x in rollout.values())
    gamma, lam = gammas.double().numpy(), lambdas.double().numpy()
    expected = np.zeros_like(r)
    for t, env in np.ndindex(r.shape):
        stop = t
        while stop < len(r) - 1 and not (terminated[stop, env] or truncated[stop, env]):
            stop += 1
        for last in range(t, stop + 1):
            n_step = sum(np.prod(gamma[t:i, env]) * r[i, env] for i in range(t, last + 1))
            if not terminated[last, env]:
                n_step += np.prod(gamma[t : last + 1, env]) * v_next[last, env]
            share = np.prod(lam[t:last, env]) * (1.0 if last == stop else 1.0 - lam[last, env])
            expected[t, env] += share * n_step
    return expected - v


# Oracle 1, and the bits of a constant.


@given(rollouts(), st.integers(0, 2**32 - 1))
def test_gae_mixes_n_step_returns_of_each_states_rates(rollout: Rollout, seed: int) -> None:
    rollout = chained(rollout)
    rates = {
        "gamma": unit_like(rollout["rewards"], seed),
        "gae_lambda": unit_like(rollout["rewards"], seed + 1),
    }
    expected = mixture_of_n_step_returns(rollout, rates["gamma"], rates["gae_lambda"])
    exact = advantages.gae(**rollout, **rates)
    rounded = ops.gae(**float32(rollout), **{k: x.float() for k, x in rates.items()})
    np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-12)
    # Twelve steps of float32 rounding on sums of numbers below about 20.
    np.testing.assert_allclose(rounded, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.2, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 0.99, 0.9999, 1.0])
@pytest.mark.parametrize("gae", [advantages.gae, ops.gae])
def test_tensors_filled_with_a_constant_give_its_bits(
    gae: Callable[..., Tensor], gamma: float, gae_lambda: float
) -> None:
    rollout = float32(make_rollout(40, 9, 1, 0.05))
    like = rollout["rewards"]
    expected = gae(**rollout, gamma=gamma, gae_lambda=gae_lambda)
    gammas, lambdas = torch.full_like(like, gamma), torch.full_like(like, gae_lambda)
    for rates in ((gammas, gae_lambda), (gamma, lambdas), (gammas, lambdas)):
        assert torch.equal(gae(**rollout, gamma=rates[0], gae_lambda=rates[1]), expected)


@pytest.mark.parametrize("per_step", [("gamma",), ("gae_lambda",), ("gamma", "gae_lambda")])
@pytest.mark.parametrize("size", SIZES)
def test_the_twin_of_gae_has_the_definitions_bits(
    size: tuple[int, int], per_step: tuple[str, ...]
) -> None:
    rollout = float32(make_rollout(*size, 2))
    rates: dict[str, Any] = {"gamma": 0.97, "gae_lambda": 0.9}
    rates |= {name: unit_like(rollout["rewards"], len(name)) for name in per_step}
    assert torch.equal(ops.gae(**rollout, **rates), advantages.gae(**rollout, **rates))


# Oracle 5: the unit of the rewards.


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_advantages_scale_with_the_rewards(scale: float) -> None:
    rollout = make_rollout(30, 4, 3, 0.05)
    scaled = {k: x * scale if x.is_floating_point() else x for k, x in rollout.items()}
    gammas = unit_like(rollout["rewards"], 1)
    ours, theirs = (
        ops.gae(**float32(x), gamma=gammas.float(), gae_lambda=0.9) for x in (scaled, rollout)
    )
    torch.testing.assert_close(ours, theirs * scale, rtol=1e-5, atol=1e-5 * scale)

    lags = make_lags(rollout, 8, 4)
    scaled_lags = {k: x if k == "weights" else x * scale for k, x in lags.items()}
    ours, theirs = (
        ops.variance_horizon(**float32(x))
        for x in (steps(scaled) | scaled_lags, steps(rollout) | lags)
    )
    torch.testing.assert_close(ours, theirs * scale, rtol=1e-5, atol=1e-5 * scale)


# Oracle 6: the horizon.


def steps(rollout: Rollout) -> Rollout:
    return {k: rollout[k] for k in ("rewards", *ENDS)}


def make_lags(rollout: Rollout, num_lags: int, seed: int, shared: bool = False) -> Rollout:
    rng = np.random.default_rng(seed)
    block = (*rollout["rewards"].shape, num_lags)
    lags = {
        "means": rng.normal(size=block),
        "next_means": rng.normal(size=block),
        "weights": rng.random(num_lags if shared else block),
    }
    return {k: torch.from_numpy(x) for k, x in lags.items()}


@st.composite
def lagged_rollouts(draw: st.DrawFn) -> Rollout:
    """The arguments of variance_horizon; H below, at and above T."""
    rollout = draw(rollouts())
    seed = draw(st.integers(0, 2**32 - 1))
    return steps(rollout) | make_lags(rollout, draw(st.integers(1, 16)), seed, draw(st.booleans()))


def lagged_target(
    rollout: Rollout, t: int, env: int, k: int, n_step: int | None = None
) -> tuple[float, bool]:
    """x_{t,k} and whether it was observed, found by walking from t."""
    num_steps = len(rollout["rewards"])
    for i in range(t, num_steps):
        if i - t == k:
            return float(rollout["rewards"][i, env]), True
        if rollout["terminated"][i, env]:
            return 0.0, True
        if rollout["truncated"][i, env] or i == num_steps - 1 or i + 1 - t == n_step:
            return float(rollout["next_means"][i, env, k - (i + 1 - t)]), False
    raise AssertionError


@given(lagged_rollouts(), st.none() | st.integers(1, 18))
def test_the_horizon_sums_weighted_surprises(rollout: Rollout, n_step: int | None) -> None:
    means, weights = rollout["means"], rollout["weights"].expand_as(rollout["means"])
    expected = torch.zeros_like(rollout["rewards"])
    returns = torch.zeros_like(expected)
    for t, env, k in np.ndindex(*means.shape):
        target, _ = lagged_target(rollout, t, env, k, n_step)
        returns[t, env] += weights[t, env, k] * target
        expected[t, env] += weights[t, env, k] * (target - means[t, env, k])

    without = {k: x for k, x in rollout.items() if k != "means"}
    torch.testing.assert_close(
        advantages.variance_horizon(**rollout, n_step=n_step), expected, rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        advantages.variance_horizon_return(**without, n_step=n_step), returns, rtol=0, atol=1e-12
    )
    # Sixteen float32 terms below about 5.
    ours = ops.variance_horizon(**float32(rollout), n_step=n_step)
    torch.testing.assert_close(ours, expected.float(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("n_step", [None, 1, 3])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("num_lags", [1, 5, 64])
@pytest.mark.parametrize("size", SIZES[:-1])
def test_the_twin_of_the_horizon_has_the_definitions_bits(
    size: tuple[int, int], num_lags: int, shared: bool, n_step: int | None
) -> None:
    rollout = make_rollout(*size, 5, 0.05)
    arguments = float32(steps(rollout) | make_lags(rollout, num_lags, 6, shared))
    without = {k: x for k, x in arguments.items() if k != "means"}
    for name, inputs in (("variance_horizon", arguments), ("variance_horizon_return", without)):
        ours, theirs = (getattr(x, name)(**inputs, n_step=n_step) for x in (ops, advantages))
        assert torch.equal(ours, theirs), name


def discounted(gamma: float, num_lags: int) -> Tensor:
    return gamma ** torch.arange(num_lags, dtype=torch.float64)


def test_discounted_lags_telescope_into_fixed_horizon_td_errors() -> None:
    """A_t = sum_i gamma^i [r_{t+i} + gamma V_{H-i-1}(s_{t+i+1}) - V_{H-i}(s_{t+i})], V_h of h lags.

    De Asis et al. 2020 (arXiv:1909.03906).
    """
    gamma, num_lags = 0.97, 16
    rollout = make_rollout(60, 2, 7, 0.03)
    rollout["next_values"][:-1] = rollout["values"][1:]
    lags = make_lags(rollout, num_lags, 8)
    lags["next_means"][:-1] = lags["means"][1:]
    weights = discounted(gamma, num_lags)

    def value(means: Tensor, horizon: int) -> float:
        return float((weights * means)[:horizon].sum())

    expected = torch.zeros_like(rollout["rewards"])
    for t, env in np.ndindex(*expected.shape):
        for i in range(min(num_lags, len(expected) - t)):
            s = t + i
            ahead = value(lags["next_means"][s, env], num_lags - i - 1)
            td_error = rollout["rewards"][s, env] - value(lags["means"][s, env], num_lags - i)
            if not rollout["terminated"][s, env]:
                td_error += gamma * ahead
            expected[t, env] += gamma**i * td_error
            if rollout["terminated"][s, env] or rollout["truncated"][s, env]:
                break

    ours = advantages.variance_horizon(**(steps(rollout) | lags | {"weights": weights}))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_one_sampled_step_is_the_td_error_of_the_discounted_lags() -> None:
    """r_t + gamma V_{H-1}(s_{t+1}) - V_H(s_t), wherever the step leads but to a terminal state."""
    gamma, num_lags = 0.97, 12
    rollout = make_rollout(40, 3, 11, 0.1)
    lags = make_lags(rollout, num_lags, 12) | {"weights": discounted(gamma, num_lags)}
    value = lags["means"] @ lags["weights"]
    ahead = lags["next_means"][..., :-1] @ lags["weights"][1:]
    expected = rollout["rewards"] + ahead.masked_fill(rollout["terminated"], 0.0) - value

    ours = advantages.variance_horizon(**(steps(rollout) | lags), n_step=1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("module", [ops, advantages])
@pytest.mark.parametrize("n_step", [0, -1])
def test_fewer_than_one_step_is_refused(module: Any, n_step: int) -> None:
    rollout = make_rollout(4, 2, 18)
    arguments = float32(steps(rollout) | make_lags(rollout, 3, 19))
    with pytest.raises(ValueError, match=f"n_step must be at least 1, or None, got {n_step}"):
        module.variance_horizon(**arguments, n_step=n_step)


def test_on_closed_episodes_the_discounted_horizon_is_gae_with_lambda_1() -> None:
    gamma, num_lags = 0.97, 32
    rollout = make_rollout(60, 2, 9, 0.0)
    for env, ends in enumerate([(11, 29, 47, 59), (0, 1, 31, 59)]):
        rollout["terminated"][list(ends), env] = True
    lags = make_lags(rollout, num_lags, 10)
    lags["weights"] = discounted(gamma, num_lags)
    for name, means in (("values", "means"), ("next_values", "next_means")):
        rollout[name] = (lags[means] * lags["weights"]).sum(-1)
    rollout["next_values"][:-1] = rollout["values"][1:]

    ours = advantages.variance_horizon(**(steps(rollout) | lags))

    expected = advantages.gae(**rollout, gamma=gamma, gae_lambda=1.0)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


@given(lagged_rollouts())
def test_the_return_less_the_weighted_means_is_the_advantage(rollout: Rollout) -> None:
    without = {k: x for k, x in rollout.items() if k != "means"}
    baseline = (rollout["weights"] * rollout["means"]).sum(-1)
    torch.testing.assert_close(
        advantages.variance_horizon_return(**without) - baseline,
        advantages.variance_horizon(**rollout),
        rtol=0,
        atol=1e-12,
    )


@given(lagged_rollouts(), st.data())
def test_no_environment_sees_another_one(rollout: Rollout, data: st.DataObject) -> None:
    num_envs = rollout["rewards"].shape[1]
    env = data.draw(st.integers(0, num_envs - 1), label="environment that changes")
    other = {k: x.clone() for k, x in float32(rollout).items()}
    for name in ("rewards", "means", "next_means"):
        other[name][:, env] += 100.0
    for name in ENDS:
        other[name][:, env] ^= True
    others = [i for i in range(num_envs) if i != env]
    for module in (ops, advantages):
        ours, theirs = (module.variance_horizon(**x) for x in (float32(rollout), other))
        assert torch.equal(ours[:, others], theirs[:, others])


@given(lagged_rollouts(), st.data())
def test_the_horizon_of_an_episode_does_not_see_the_next_one(
    rollout: Rollout, data: st.DataObject
) -> None:
    last = data.draw(st.integers(0, len(rollout["rewards"]) - 1), label="last step of the episode")
    rollout = float32(rollout)
    rollout[data.draw(st.sampled_from(ENDS))][last] = True
    other = {k: x.clone() for k, x in rollout.items()}
    for name in ("rewards", "means", "next_means"):
        other[name][last + 1 :] = float("nan")
    for module in (ops, advantages):
        ours, theirs = (module.variance_horizon(**x) for x in (rollout, other))
        assert torch.equal(ours[: last + 1], theirs[: last + 1])


@pytest.mark.parametrize("module", [ops, advantages])
def test_dying_costs_what_is_lost(module: Any) -> None:
    """Half of the choices give 20 steps that pay 1 each, the others end after the first.

    The means are those that `lag_rewards` teaches. Masking what follows a death instead would give
    both choices an advantage of 0.
    """
    num_lags = 64
    rewards = torch.ones(20, 2)
    terminated, truncated = torch.zeros(20, 2, dtype=torch.bool), torch.zeros(20, 2).bool()
    terminated[19, 0] = terminated[0, 1] = True
    targets, known = module.lag_rewards(
        rewards, terminated, truncated, torch.tensor([0, 1]), num_lags
    )
    assert known.all()
    means = targets.mean(0).expand(20, 2, num_lags)
    next_means = torch.full((20, 2, num_lags), float("nan"))  # of states that nothing may ask

    survived, died = module.variance_horizon(
        rewards, means, next_means, terminated, truncated, discounted(0.97, num_lags).float()
    )[0].tolist()

    assert survived == pytest.approx(7.1, abs=0.01)
    assert survived - died == pytest.approx(sum(0.97**k for k in range(1, 20)), abs=1e-4)
    assert survived - died == pytest.approx(14.2, abs=0.01)


@given(lagged_rollouts(), st.data())
def test_lag_rewards_are_the_observed_targets(rollout: Rollout, data: st.DataObject) -> None:
    rollout = float32(rollout)
    num_steps, num_envs, num_lags = rollout["means"].shape
    num_cells = num_steps * num_envs
    index = torch.tensor(data.draw(st.lists(st.integers(0, num_cells - 1))), dtype=torch.int64)
    expected = torch.zeros(num_steps, num_envs, num_lags)
    observed = torch.zeros(num_steps, num_envs, num_lags, dtype=torch.bool)
    for t, env, k in np.ndindex(*expected.shape):
        expected[t, env, k], observed[t, env, k] = lagged_target(rollout, t, env, k)

    inputs = {k: rollout[k] for k in ("rewards", "next_means", *ENDS)}
    targets, known = advantages.lag_targets(**inputs)
    assert torch.equal(targets, expected)
    assert torch.equal(known, observed)
    for module in (ops, advantages):
        targets, known = module.lag_rewards(**steps(rollout), index=index, horizon=num_lags)
        assert torch.equal(known, observed.flatten(0, 1)[index])
        assert torch.equal(targets, (expected * observed).flatten(0, 1)[index])


@given(lagged_rollouts(), st.integers(0, 2**32 - 1))
def test_lag_moments_are_those_of_the_observed_targets(rollout: Rollout, seed: int) -> None:
    rollout = float32(rollout)
    valid = torch.from_numpy(np.random.default_rng(seed).random(rollout["rewards"].shape) < 0.8)
    blocks = {k: rollout[k] for k in ("rewards", "next_means", *ENDS)}
    targets, known = advantages.lag_targets(**blocks)
    for module in (ops, advantages):
        moments = module.lag_moments(**steps(rollout), means=rollout["means"], valid=valid)
        for k in range(targets.shape[-1]):
            chosen = known[..., k] & valid
            x = targets[..., k][chosen].double().numpy()
            mu = rollout["means"][..., k][chosen].double().numpy()
            assert moments.num_known[k] == len(x)
            expected = [x.mean(), x.var(), ((x - mu) ** 2).mean()] if len(x) else [0.0, 0.0, 0.0]
            ours = [float(m[k]) for m in moments[1:]]
            assert ours == pytest.approx(expected, rel=1e-12, abs=1e-14)


def test_the_squared_error_of_a_lag_is_its_most_likely_variance() -> None:
    """Oracle 7: no other variance gives the observed targets a smaller Gaussian NLL."""
    rollout = float32(make_rollout(50, 3, 12, 0.02))
    lags = float32(make_lags(rollout, 4, 13))
    valid = torch.ones(50, 3, dtype=torch.bool)
    moments = ops.lag_moments(**steps(rollout), means=lags["means"], valid=valid)
    targets, known = advantages.lag_targets(**steps(rollout), next_means=lags["next_means"])
    errors = (targets - lags["means"]).double().square()

    def nll(variance: Tensor) -> Tensor:
        each = (variance.log() + errors / variance).masked_fill(~known, 0.0)
        return each.sum((0, 1)) / moments.num_known

    best = nll(moments.squared_error)
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        assert (nll(moments.squared_error * factor) > best).all()


# Oracle 8: who is moved by a state's discount or lambda.


def reach(rollout: Rollout, t: int, env: int) -> slice:
    """The steps of the episode of step t, up to t."""
    ended = (rollout["terminated"] | rollout["truncated"])[:t, env].tolist()
    return slice(t - ended[::-1].index(True) if True in ended else 0, t + 1)


@given(rollouts(), st.sampled_from(["gamma", "gae_lambda"]), st.data())
def test_a_rate_moves_only_the_steps_of_its_episode_that_lead_to_it(
    rollout: Rollout, moved: str, data: st.DataObject
) -> None:
    t = data.draw(st.integers(0, len(rollout["rewards"]) - 1), label="step")
    env = data.draw(st.integers(0, rollout["rewards"].shape[1] - 1), label="environment")
    rates = {k: torch.full_like(rollout["rewards"], 0.9) for k in ("gamma", "gae_lambda")}
    lower = rates | {moved: rates[moved].clone()}
    lower[moved][t, env] = 0.5

    ours, theirs = (advantages.gae(**rollout, **x) for x in (rates, lower))

    dead, cut = (bool(rollout[name][t, env]) for name in ENDS)
    reached = not dead and (moved == "gamma" or (not cut and t + 1 < len(ours)))
    expected = torch.zeros_like(rollout["terminated"])
    if reached:
        expected[reach(rollout, t, env), env] = True
    assert torch.equal(ours != theirs, expected)


@given(rollouts(), st.sampled_from(["error", "noise"]), st.data())
def test_an_error_moves_only_the_lambdas_that_lead_to_it(
    rollout: Rollout, moved: str, data: st.DataObject
) -> None:
    t = data.draw(st.integers(0, len(rollout["rewards"]) - 1), label="step")
    env = data.draw(st.integers(0, rollout["rewards"].shape[1] - 1), label="environment")
    signals = {k: torch.ones_like(rollout["rewards"]) for k in ("error", "noise")}
    higher = signals | {moved: signals[moved].clone()}
    higher[moved][t, env] = 50.0

    ours, theirs = (
        advantages.blended_lambda(**x, **{k: rollout[k] for k in ENDS}, gamma=0.99, gae_lambda=0.8)
        for x in (signals, higher)
    )

    allowed = torch.zeros_like(rollout["terminated"])
    allowed[reach(rollout, t, env), env] = True
    if moved == "noise" or rollout["terminated"][t, env]:
        allowed[t, env] &= moved == "error"  # nu_t is of the step before the state of lambda_{t+1}
    change = theirs - ours
    assert not (change != 0)[~allowed].any()
    here = change[t, env]
    assert here > 0 if moved == "error" else here == 0
    earlier = change[reach(rollout, t, env).start : t, env]
    if moved == "noise":
        assert (earlier < 0).all()  # noise ahead: bootstrap


# Oracle 9: C2.


def riccati(rollout: Rollout, error: Tensor, noise: Tensor, gamma: float, lam: float) -> np.ndarray:
    """The recursion of `blended_lambda`, one number at a time in float64."""
    start = 1 / (1 - gamma**2 * lam)
    unit = lam / ((1 - lam) * (1 - gamma**2 * lam))
    e2, nu2 = unit * error.double().numpy(), noise.double().numpy()
    lambdas = np.zeros_like(e2)
    for env in range(e2.shape[1]):
        variance = start
        for t in reversed(range(len(e2))):
            dead, cut = (bool(rollout[name][t, env]) for name in ENDS)
            if dead or cut:
                variance = start
            lambdas[t, env] = e2[t, env] / (e2[t, env] + variance)
            if dead:
                variance = nu2[t, env]
            elif cut:
                variance = nu2[t, env] + gamma**2 * e2[t, env]
            else:
                harmonic = 1 / (1 / e2[t, env] + 1 / variance)
                variance = nu2[t, env] + gamma**2 * harmonic
    return lambdas


@given(rollouts(), st.integers(0, 2**32 - 1))
def test_the_blend_follows_its_recursion_and_mixes_returns_with_it(
    rollout: Rollout, seed: int
) -> None:
    gamma, lam = 0.97, 0.9
    rollout = chained(rollout)
    error, noise = (
        positive_like(rollout["rewards"], seed),
        positive_like(rollout["rewards"], ~seed & 7),
    )
    expected = riccati(rollout, error, noise, gamma, lam)

    ours, lambdas = advantages.blended_gae(
        **rollout, error=error, noise=noise, gamma=gamma, gae_lambda=lam
    )

    np.testing.assert_allclose(lambdas, expected, rtol=0, atol=1e-12)
    gammas = torch.full_like(lambdas, gamma)
    mixture = mixture_of_n_step_returns(rollout, gammas, torch.from_numpy(expected))
    np.testing.assert_allclose(ours, mixture, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("gamma", "lam"), [(0.99, 0.95), (0.9, 0.5), (1.0, 0.9), (0.99, 0.0)])
def test_constant_signals_without_ends_are_gae(gamma: float, lam: float) -> None:
    rollout = float32(make_rollout(200, 3, 14, 0.0))
    ones = torch.ones_like(rollout["rewards"])
    ours, lambdas = ops.blended_gae(**rollout, error=ones, noise=ones, gamma=gamma, gae_lambda=lam)
    expected = ops.gae(**rollout, gamma=gamma, gae_lambda=lam)
    torch.testing.assert_close(lambdas, ones * lam, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-5)


def test_before_a_terminal_state_the_blend_trusts_the_rewards() -> None:
    """Constant signals: nearly nothing is left to happen, so lambda rises above its anchor."""
    x = torch.ones(50, 1, dtype=torch.float64)
    terminated = torch.zeros(50, 1, dtype=torch.bool)
    terminated[40] = True
    lambdas = advantages.blended_lambda(
        x, x, terminated, ~terminated & False, gamma=0.99, gae_lambda=0.95
    )
    assert lambdas[37:40, 0].tolist() == pytest.approx([0.989, 0.993, 0.996], abs=6e-4)
    assert lambdas[41:, 0].tolist() == pytest.approx([0.95] * 9, abs=1e-12)


@pytest.mark.parametrize(("error", "noise"), [(1.0, 1.0), (0.02, 1.0), (0.3, 4.0), (5.0, 0.2)])
def test_far_from_any_end_the_blend_is_the_best_constant_lambda(error: float, noise: float) -> None:
    gamma, lam = 0.99, 0.95
    unit, _ = advantages.blend_constants(gamma, lam)
    like = torch.ones(3000, 1, dtype=torch.float64)
    none = torch.zeros(3000, 1, dtype=torch.bool)
    lambdas = advantages.blended_lambda(
        like * error, like * noise, none, none, gamma=gamma, gae_lambda=lam
    )
    grid = np.linspace(0.0, 0.9999, 100_000)
    bias = gamma**2 * (1 - grid) ** 2 * error * unit
    mean_squared_error = (noise + bias) / (1 - gamma**2 * grid**2)
    assert float(lambdas[0]) == pytest.approx(grid[mean_squared_error.argmin()], abs=2e-5)


@pytest.mark.parametrize("size", SIZES)
def test_the_twin_of_the_blend_has_the_definitions_bits(size: tuple[int, int]) -> None:
    rollout = float32(make_rollout(*size, 15))
    signals = {k: positive_like(rollout["rewards"], len(k)) for k in ("error", "noise")}
    signals["error"][::3], signals["noise"][::4] = 0.0, 0.0
    rates = {"gamma": 0.97, "gae_lambda": 0.9}
    expected, expected_lambdas = advantages.blended_gae(**rollout, **signals, **rates)

    ours, lambdas = ops.blended_gae(**rollout, **signals, **rates)

    assert torch.equal(lambdas, expected_lambdas)
    assert torch.equal(ours, expected)
    ends = {k: rollout[k] for k in ENDS}
    assert torch.equal(ops.blended_lambda(**signals, **ends, **rates), lambdas)


# Oracle 11: what must never come out.


@given(rollouts(), st.data())
def test_every_blend_is_finite_and_between_0_and_1(rollout: Rollout, data: st.DataObject) -> None:
    rollout = float32(rollout)
    size = st.sampled_from([0.0, 1e-45, 1e-30, 1.0, 1e10, 1e30])
    shape = rollout["rewards"].shape
    rows = st.lists(size, min_size=shape.numel(), max_size=shape.numel())
    error, noise = (torch.tensor(data.draw(rows)).reshape(shape) for _ in range(2))
    rates = {"gamma": data.draw(st.sampled_from([0.0, 0.99, 1.0])), "gae_lambda": 0.95}
    rollout["next_values"][rollout["terminated"]] = float("nan")
    for module in (ops, advantages):
        ours, lambdas = module.blended_gae(**rollout, error=error, noise=noise, **rates)
        assert torch.isfinite(ours).all()
        assert ((lambdas >= 0) & (lambdas <= 1)).all()


def test_neither_error_nor_noise_is_neutral() -> None:
    zeros = torch.zeros(3, 1)
    terminated = torch.tensor([[False], [True], [False]])
    lambdas = ops.blended_lambda(
        zeros, zeros, terminated, ~terminated & False, gamma=0.9, gae_lambda=0.7
    )
    assert lambdas[0] == torch.tensor(0.7)


@given(rollouts(), st.integers(0, 2**32 - 1))
def test_only_means_that_are_asked_reach_an_advantage(rollout: Rollout, seed: int) -> None:
    """next_means may hold anything where no episode is cut."""
    arguments = float32(steps(rollout) | make_lags(rollout, 6, seed))
    unread = ~arguments["truncated"] | arguments["terminated"]
    unread[-1] = arguments["terminated"][-1]
    arguments["next_means"][unread] = float("nan")
    for module in (ops, advantages):
        assert torch.isfinite(module.variance_horizon(**arguments)).all()


@pytest.mark.parametrize("module", [ops, advantages])
@pytest.mark.parametrize("rate", [1.5, -0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["gamma", "gae_lambda"])
def test_a_rate_outside_0_to_1_is_refused(module: Any, name: str, rate: float) -> None:
    rollout = float32(make_rollout(4, 2, 16))
    rates: dict[str, Any] = {"gamma": 0.9, "gae_lambda": 0.9}
    with pytest.raises(ValueError, match=rf"{name}"):
        module.gae(**rollout, **(rates | {name: rate}))
    each = torch.full((4, 2), 0.9)
    each[2, 1] = rate
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\]"):
        module.gae(**rollout, **(rates | {name: each}))


@pytest.mark.parametrize("module", [ops, advantages])
@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["error", "noise"])
def test_a_signal_that_is_no_variance_is_refused(module: Any, name: str, bad: float) -> None:
    rollout = float32(make_rollout(4, 2, 17))
    signals = {k: torch.ones(4, 2) for k in ("error", "noise")}
    signals[name][1, 1] = bad
    with pytest.raises(ValueError, match=rf"{name} must be finite and not negative"):
        module.blended_gae(**rollout, **signals, gamma=0.9, gae_lambda=0.9)


@pytest.mark.parametrize("module", [ops, advantages])
def test_a_blend_cannot_be_anchored_at_1(module: Any) -> None:
    rollout = float32(make_rollout(4, 2, 17))
    ones = torch.ones(4, 2)
    with pytest.raises(ValueError, match=r"gae_lambda in \[0, 1\), got .*gae_lambda=1"):
        module.blended_gae(**rollout, error=ones, noise=ones, gamma=0.9, gae_lambda=1.0)


@pytest.mark.parametrize("module", [ops, advantages])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"means": torch.zeros(4, 2)}, r"\(T, N, H\)"),
        ({"next_means": torch.zeros(4, 2, 5)}, r"'next_means': \(4, 2, 5\)"),
        ({"weights": torch.zeros(4)}, r"'weights': \(4,\)"),
        ({"truncated": torch.zeros(4, 3).bool()}, r"'truncated': \(4, 3\)"),
    ],
)
def test_lags_that_do_not_fit_are_refused(
    module: Any, change: dict[str, Tensor], message: str
) -> None:
    rollout = make_rollout(4, 2, 18)
    arguments = float32(steps(rollout) | make_lags(rollout, 3, 19))
    with pytest.raises(ValueError, match=message):
        module.variance_horizon(**(arguments | change))


@pytest.mark.parametrize("module", [ops, advantages])
def test_lag_rewards_refuse_steps_that_are_not_there(module: Any) -> None:
    rollout = float32(steps(make_rollout(4, 2, 20)))
    for index, horizon, message in (
        (torch.tensor([0, 8]), 3, r"\[0, 8\)"),
        (torch.tensor([-1]), 3, r"got -1"),
        (torch.tensor([0.0]), 3, r"int64"),
        (torch.tensor([0]), 0, r"horizon must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            module.lag_rewards(**rollout, index=index, horizon=horizon)


# C3, the reference.


def inverse_variance_mixture(
    rollout: Rollout, error: Tensor, noise: Tensor, gamma: float
) -> np.ndarray:
    r, _, v_next, terminated, truncated = (x.numpy() for x in rollout.values())
    expected = np.zeros_like(r)
    for t, env in np.ndindex(r.shape):
        returns, precisions = [], []
        for last in range(t, len(r)):
            n = last - t + 1
            powers = gamma ** np.arange(n)
            alive = 0.0 if terminated[last, env] else 1.0
            bootstrap = gamma**n * v_next[last, env] if alive else 0.0
            returns.append(powers @ r[t : last + 1, env] + bootstrap)
            variance = powers**2 @ noise[t : last + 1, env].numpy()
            precisions.append(1 / (variance + alive * gamma ** (2 * n) * float(error[last, env])))
            if terminated[last, env] or truncated[last, env]:
                break
        expected[t, env] = np.average(returns, weights=precisions)
    return expected


@given(rollouts(), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 0.97, 1.0]))
def test_the_optimal_return_weighs_returns_by_their_precision(
    rollout: Rollout, seed: int, gamma: float
) -> None:
    error, noise = (positive_like(rollout["rewards"], s) for s in (seed, seed + 1))
    ours = advantages.optimal_lambda_return(**rollout, error=error, noise=noise, gamma=gamma)
    expected = inverse_variance_mixture(rollout, error, noise, gamma)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_variances_that_grow_by_1_over_lambda_make_the_optimal_return_gae() -> None:
    """Var_n ~ lambda^-(n-1), the last one times 1 - lambda (Konidaris et al. 2011)."""
    gamma, lam, num_steps = 0.97, 0.9, 30
    rollout = chained(make_rollout(num_steps, 2, 21, 0.0))
    reached = torch.arange(1, num_steps + 1, dtype=torch.float64)
    error = (lam ** -(reached - 1) * gamma ** (-2 * reached)).unsqueeze(-1).repeat(1, 2)
    error[-1] *= 1 - lam
    ours = advantages.optimal_lambda_return(
        **rollout, error=error, noise=torch.zeros_like(error), gamma=gamma
    )
    expected = advantages.gae(**rollout, gamma=gamma, gae_lambda=lam)
    torch.testing.assert_close(ours - rollout["values"], expected, rtol=0, atol=1e-12)


def test_the_optimal_return_refuses_a_variance_of_0() -> None:
    rollout = make_rollout(3, 1, 22, 0.0)
    zeros = torch.zeros(3, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"1-step return of step 0 must be above 0"):
        advantages.optimal_lambda_return(**rollout, error=zeros, noise=zeros, gamma=0.9)


# The kernels.


def every_kernel(size: tuple[int, int]) -> list[tuple[Callable[..., Any], dict[str, Any]]]:
    """Calls of `fastrl.ops` that between them launch every kernel with every choice it has."""
    rollout = float32(make_rollout(*size, 23, 0.05))
    like = rollout["rewards"]
    gammas, lambdas = unit_like(like, 1), unit_like(like, 2)
    signals = {"error": positive_like(like, 3), "noise": positive_like(like, 4)}
    ends = {k: rollout[k] for k in ENDS}
    rates = {"gamma": 0.97, "gae_lambda": 0.9}
    lags, shared = (float32(make_lags(rollout, 16, 5, shared)) for shared in (False, True))
    without = {k: x for k, x in lags.items() if k != "means"}
    index = torch.randperm(like.numel(), generator=torch.Generator().manual_seed(6))
    index = index[: (like.numel() + 1) // 2]
    return [
        (ops.gae, rollout | rates),
        (ops.gae, rollout | rates | {"gamma": gammas}),
        (ops.gae, rollout | rates | {"gae_lambda": lambdas}),
        (ops.gae, rollout | {"gamma": gammas, "gae_lambda": lambdas}),
        (ops.blended_lambda, signals | ends | rates),
        (ops.blended_gae, rollout | signals | rates),
        (ops.variance_horizon, steps(rollout) | lags),
        (ops.variance_horizon, steps(rollout) | shared),
        (ops.variance_horizon, steps(rollout) | shared | {"n_step": 3}),
        (ops.variance_horizon_return, steps(rollout) | without),
        (ops.lag_rewards, steps(rollout) | {"index": index, "horizon": 16}),
    ]


def as_tuple(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else result


HOST = """
#define __CUDACC__
#define __global__
#define __device__
struct Index { int x; };
thread_local Index blockIdx, blockDim, threadIdx;
extern "C" void at(int block, int size, int thread) {
  blockIdx.x = block; blockDim.x = size; threadIdx.x = thread;
}
#include "csrc/ops/advantages.cu"
#include "csrc/ops/horizon.cu"
"""


class HostLaunch:
    """Runs a kernel that g++ compiled for the host, thread after thread, in place of a GPU."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.launched: set[str] = set()

    def load(self, source: str, name: str, device: int | None) -> str:
        assert (kernels.source_dir() / source).exists()
        self.launched.add(name)
        return name

    def LaunchConfig(self, *, grid: int, block: int) -> tuple[int, int]:
        return grid, block

    def launch(self, stream: object, config: tuple[int, int], kernel: str, *arguments: Any) -> None:
        raw = [ctypes.c_void_p(x) if isinstance(x, int) else x for x in arguments]
        for block, thread in np.ndindex(*config):
            self.library.at(block, config[1], thread)
            getattr(self.library, kernel)(*raw)


@pytest.fixture(scope="module")
def host_kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The CUDA sources, compiled for the host."""
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "host.cpp").write_text(HOST)
    flags = ["-std=c++20", "-O1", "-ffp-contract=off", "-w", "-shared", "-fPIC"]
    subprocess.run(
        ["g++", *flags, f"-I{kernels.source_dir()}", "host.cpp", "-o", "host.so"],
        cwd=folder,
        check=True,
    )
    return ctypes.CDLL(str(folder / "host.so"))


@pytest.mark.parametrize("size", [(1, 1), (5, 33), (12, 70)])
def test_what_is_launched_on_a_gpu_gives_the_bits_of_the_twins(
    size: tuple[int, int], host_kernels: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The .cu files and the order of their arguments, on a machine without a GPU."""
    cases = every_kernel(size)
    expected = [as_tuple(function(**arguments)) for function, arguments in cases]
    host = HostLaunch(host_kernels)
    check = ops._check
    monkeypatch.setattr(ops, "_check", lambda *args: check(*args) and "cuda")
    monkeypatch.setattr(ops, "_CurrentStream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(kernels, "load", host.load)
    monkeypatch.setattr(kernels, "cuda_core", lambda: host)

    for (function, arguments), theirs in zip(cases, expected, strict=True):
        for a, b in zip(as_tuple(function(**arguments)), theirs, strict=True):
            assert torch.equal(a, b), function.__name__
    assert host.launched == {"gae_kernel", "blend_kernel", "horizon_kernel", "lag_rewards_kernel"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("size", [(1, 1), (5, 33), (128, 1024), (16, 100_003)])
def test_the_cuda_kernels_equal_the_cpu_twins_in_every_bit(size: tuple[int, int]) -> None:
    for function, arguments in every_kernel(size):
        on_gpu = {k: x.cuda() if isinstance(x, Tensor) else x for k, x in arguments.items()}
        ours, theirs = function(**on_gpu), function(**arguments)
        for a, b in zip(as_tuple(ours), as_tuple(theirs), strict=True):
            assert torch.equal(a.cpu(), b), function.__name__


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_lag_moments_on_cuda_are_those_of_the_cpu() -> None:
    rollout = float32(make_rollout(128, 1024, 24, 0.05))
    means = make_lags(rollout, 16, 25)["means"].float()
    valid = unit_like(rollout["rewards"], 26) < 0.9
    arguments = steps(rollout) | {"means": means, "valid": valid}
    ours = ops.lag_moments(**{k: x.cuda() for k, x in arguments.items()})
    for a, b in zip(ours, ops.lag_moments(**arguments), strict=True):
        # Sums in float64 of a hundred thousand numbers, in another order.
        torch.testing.assert_close(a.cpu(), b, rtol=1e-11, atol=1e-13)
