"""GAE against its definition, and against what must hold for every rollout."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fastrl import _core, ops
from fastrl.advantages import gae

Rollout = dict[str, Tensor]
unit_interval = st.floats(0.0, 1.0)


@st.composite
def rollouts(draw: st.DrawFn) -> Rollout:
    """(T, N) float64 rollouts whose episodes end often: terminated, truncated, or both."""
    shape = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rollout = {k: rng.normal(size=shape) for k in ("rewards", "values", "next_values")}
    rollout |= {k: rng.random(shape) < 0.25 for k in ("terminated", "truncated")}
    return {k: torch.from_numpy(x) for k, x in rollout.items()}


def gae_by_definition(rollout: Rollout, gamma: float, lam: float) -> np.ndarray:
    """Eq. 16 as a sum over the rest of the episode: O(T^2), no recursion to get wrong."""
    r, v, v_next, terminated, truncated = (x.numpy() for x in rollout.values())
    td_errors = r + gamma * np.where(terminated, 0.0, v_next) - v
    expected = np.zeros_like(r)
    for t, n in np.ndindex(r.shape):
        for k in range(t, len(r)):
            expected[t, n] += (gamma * lam) ** (k - t) * td_errors[k, n]
            if terminated[k, n] or truncated[k, n]:
                break
    return expected


@given(rollouts(), unit_interval, unit_interval)
def test_gae_sums_td_errors_to_the_end_of_the_episode(
    rollout: Rollout, gamma: float, lam: float
) -> None:
    advantages = gae(**rollout, gamma=gamma, gae_lambda=lam)
    np.testing.assert_allclose(advantages, gae_by_definition(rollout, gamma, lam), atol=1e-10)


@given(rollouts(), st.data())
def test_an_episode_does_not_see_the_next_one(rollout: Rollout, data: st.DataObject) -> None:
    last = data.draw(st.integers(0, len(rollout["rewards"]) - 1), label="last step of the episode")
    rollout["truncated"][last] = True
    other = {k: x.clone() for k, x in rollout.items()}
    other["rewards"][last + 1 :] += 100.0

    ours, theirs = (gae(**x, gamma=0.99, gae_lambda=0.95) for x in (rollout, other))

    assert torch.equal(ours[: last + 1], theirs[: last + 1])


def test_gae_refuses_mixed_shapes() -> None:
    two, three = torch.zeros(4, 2), torch.zeros(4, 3)
    with pytest.raises(ValueError, match="one shape"):
        gae(two, three, two, two.bool(), two.bool(), gamma=0.99, gae_lambda=0.95)


def test_gae_refuses_a_discount_outside_the_unit_interval() -> None:
    x = torch.zeros(4, 2)
    with pytest.raises(ValueError, match=r"gamma=1\.5"):
        gae(x, x, x, x.bool(), x.bool(), gamma=1.5, gae_lambda=0.95)


def in_float32(rollout: Rollout) -> Rollout:
    return {k: x.float() if x.is_floating_point() else x for k, x in rollout.items()}


@given(rollouts(), unit_interval, unit_interval)
def test_the_cpp_twin_agrees_with_the_definition(
    rollout: Rollout, gamma: float, lam: float
) -> None:
    rollout = in_float32(rollout)
    exact = {k: x.double() if x.is_floating_point() else x for k, x in rollout.items()}

    ours = ops.gae(**rollout, gamma=gamma, gae_lambda=lam)

    # Twelve steps of float32 rounding on sums of numbers below about 10.
    np.testing.assert_allclose(ours, gae_by_definition(exact, gamma, lam), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("num_envs", [1, 3, 255, 256, 257, 1024])
@pytest.mark.parametrize("num_steps", [1, 2, 128])
def test_the_cpp_twin_equals_the_float32_definition_in_every_bit(
    num_steps: int, num_envs: int
) -> None:
    rollout = random_rollout(num_steps, num_envs)
    ours = ops.gae(**rollout, gamma=0.99, gae_lambda=0.95)
    assert torch.equal(ours, gae(**rollout, gamma=0.99, gae_lambda=0.95))


def test_a_terminal_state_may_have_a_value_that_is_not_a_number() -> None:
    rollout = random_rollout(8, 300)
    rollout["next_values"][rollout["terminated"]] = float("nan")
    assert torch.isfinite(ops.gae(**rollout, gamma=0.99, gae_lambda=0.95)).all()


def test_the_cpp_twin_takes_views_that_are_not_contiguous() -> None:
    rollout = random_rollout(8, 6)
    views = {k: x[:, ::2] for k, x in rollout.items()}
    expected = gae(**views, gamma=0.9, gae_lambda=0.8)
    assert torch.equal(ops.gae(**views, gamma=0.9, gae_lambda=0.8), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": torch.zeros(4, 3)}, r"one shape .*'values': \(4, 3\)"),
        ({"values": torch.zeros(4, 2, dtype=torch.float64)}, r"values must be .*float32.*float64"),
        ({"truncated": torch.zeros(4, 2)}, r"truncated must be .*bool.*float32"),
        ({"rewards": torch.zeros(4, 2, requires_grad=True)}, r"rewards requires grad"),
        ({"next_values": torch.zeros(4, 2, device="meta")}, r"next_values on meta"),
        ({"gae_lambda": -0.1}, r"gae_lambda=-0\.1"),
    ],
)
def test_the_kernels_refuse_what_they_would_misread(change: dict[str, Any], message: str) -> None:
    x = torch.zeros(4, 2)
    arguments: dict[str, Any] = {
        "rewards": x, "values": x, "next_values": x,
        "terminated": x.bool(), "truncated": x.bool(), "gamma": 0.99, "gae_lambda": 0.95,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        ops.gae(**(arguments | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"values": np.zeros((4, 3), np.float32)},
            r"values must have shape \(4, 2\), got \(4, 3\)",
        ),
        ({"out": np.zeros((4, 2))}, r"out must be float32, got float64"),
        ({"terminated": np.zeros((4, 2), np.uint8)}, r"terminated must be bool, got uint8"),
        ({"rewards": np.zeros(4, np.float32)}, r"rewards must have shape \(T, N\), got \(4,\)"),
        ({"values": np.zeros((2, 4), np.float32).T}, r"values must be C-contiguous"),
        ({"gamma": float("nan")}, r"gamma=nan"),
    ],
)
def test_the_binding_refuses_what_it_would_misread(change: dict[str, Any], message: str) -> None:
    arguments = binding_arguments()
    with pytest.raises(ValueError, match=message):
        _core.gae(**(arguments | change))


def test_the_binding_refuses_an_output_that_is_an_input_or_read_only() -> None:
    arguments = binding_arguments()
    with pytest.raises(ValueError, match="overlap"):
        _core.gae(**(arguments | {"out": arguments["values"]}))
    arguments["out"].flags.writeable = False
    with pytest.raises(ValueError, match="writeable"):
        _core.gae(**arguments)


def binding_arguments() -> dict[str, Any]:
    arrays = {k: np.zeros((4, 2), np.float32) for k in ("rewards", "values", "next_values", "out")}
    arrays |= {k: np.zeros((4, 2), np.bool_) for k in ("terminated", "truncated")}
    return {**arrays, "gamma": 0.99, "gae_lambda": 0.95}


def random_rollout(num_steps: int, num_envs: int) -> Rollout:
    rng = torch.Generator().manual_seed(num_steps * 10_000 + num_envs)
    shape = (num_steps, num_envs)
    rollout = {k: torch.randn(shape, generator=rng) for k in ("rewards", "values", "next_values")}
    return rollout | {
        k: torch.rand(shape, generator=rng) < 0.1 for k in ("terminated", "truncated")
    }
