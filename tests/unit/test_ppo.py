"""What the update does besides its formulas (for those see tests/oracle/test_ppo_cleanrl.py)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fastrl.config import TrainConfig, config_for
from fastrl.models import make_policy
from fastrl.ppo import Batch, UpdateStats, minibatch_indices, ppo_update


def batch_of(size: int, **changes: torch.Tensor) -> Batch:
    generator = torch.Generator().manual_seed(0)
    columns = {
        "obs": torch.randint(0, 2, (size, 5), dtype=torch.uint8, generator=generator),
        "actions": torch.randint(0, 3, (size,), generator=generator),
        "logprobs": torch.full((size,), -1.0986),
        "advantages": torch.randn(size, generator=generator),
        "returns": torch.randn(size, generator=generator),
        "values": torch.randn(size, generator=generator),
    }
    return Batch(**(columns | changes))


def updated(batch: Batch, config: TrainConfig) -> tuple[nn.Module, UpdateStats]:
    torch.manual_seed(1)
    policy = make_policy("mlp", (5,), 3, obs_high=1)
    optimizer = torch.optim.Adam(policy.parameters(), lr=config.learning_rate)
    return policy, ppo_update(policy, optimizer, batch, config, torch.Generator().manual_seed(2))


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 2**31))
def test_minibatches_are_a_partition_into_equal_parts(steps: int, parts: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    minibatches = list(minibatch_indices(steps, parts, generator))

    assert sorted(torch.cat(minibatches).tolist()) == list(range(steps))
    sizes = {len(index) for index in minibatches}
    assert max(sizes) - min(sizes) <= 1
    assert len(minibatches) == min(parts, steps)


def test_the_generator_decides_the_update() -> None:
    config = config_for("Catch-v0")
    ours, _ = updated(batch_of(64), config)
    theirs, _ = updated(batch_of(64), config)
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    )


def test_target_kl_stops_after_the_epoch_that_passes_it() -> None:
    config = config_for("Catch-v0", num_minibatches=2, update_epochs=5, learning_rate=0.1)
    assert updated(batch_of(64), config)[1].num_gradients == 10

    stopped = TrainConfig.from_dict(config.to_dict() | {"target_kl": 1e-6})

    assert updated(batch_of(64), stopped)[1].num_gradients == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_an_error(bad: float) -> None:
    spoilt = torch.zeros(64)
    spoilt[7] = bad
    with pytest.raises(FloatingPointError, match=r"not finite: .*value_loss=(nan|inf)"):
        updated(batch_of(64, returns=spoilt), config_for("Catch-v0"))


def test_explained_variance_of_equal_returns_is_undefined() -> None:
    _, stats = updated(batch_of(64, returns=torch.zeros(64)), config_for("Catch-v0"))
    assert stats.explained_variance is None


def test_explained_variance_of_perfect_values_is_one() -> None:
    returns = torch.arange(64.0)
    _, stats = updated(batch_of(64, returns=returns, values=returns), config_for("Catch-v0"))
    assert stats.explained_variance == 1.0


def test_one_step_in_a_minibatch_is_not_normalised_to_nan() -> None:
    config = config_for("Catch-v0", num_envs=1, num_steps=3, num_minibatches=3)
    _, stats = updated(batch_of(3), config)
    assert stats.num_gradients == 3 * config.update_epochs
