"""Policies: shapes, scaling, initialisation, and errors that name the observation."""

import math

import pytest
import torch

from fastrl.config import config_for
from fastrl.models import POLICIES, auto_policy, make_policy

SHAPES = {
    "nature_cnn": (4, 84, 84),
    "impala_resnet": (4, 84, 84),
    "minatar_cnn": (10, 10, 7),
    "mlp": (128,),
    "mlp_small": (128,),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_maps_uint8_to_logits_and_values(name: str) -> None:
    policy = make_policy(name, SHAPES[name], 6)
    obs = torch.randint(0, 256, (3, *SHAPES[name]), dtype=torch.uint8)

    logits, values = policy(obs)

    assert logits.shape == (3, 6)
    assert values.shape == (3,)
    assert logits.dtype == values.dtype == torch.float32
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", POLICIES)
def test_the_same_generator_state_gives_the_same_weights(name: str) -> None:
    policies = []
    for _ in range(2):
        torch.manual_seed(5)
        policies.append(make_policy(name, SHAPES[name], 6))
    ours, theirs = (policy.state_dict() for policy in policies)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", POLICIES)
def test_weights_are_orthogonal_with_cleanrls_gains(name: str) -> None:
    policy = make_policy(name, SHAPES[name], 6)
    for module in policy.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            gain = {policy.actor: 0.01, policy.critic: 1.0}.get(module, math.sqrt(2.0))
            singular = torch.linalg.svdvals(module.weight.detach().flatten(1))
            # An orthogonal matrix has equal singular values; float32 SVD leaves 1e-5.
            torch.testing.assert_close(singular, torch.full_like(singular, gain), rtol=1e-4, atol=0)
            assert not module.bias.any()


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ((4, 84, 84), "nature_cnn"),
        ((10, 10, 4), "minatar_cnn"),
        ((128,), "mlp"),
        ((1, 10, 5), "mlp"),
    ],
)
def test_auto_picks_by_observation(shape: tuple[int, ...], name: str) -> None:
    assert auto_policy(shape) == name
    automatic = make_policy(config_for("Catch-v0"), shape, 3)
    named = make_policy(name, shape, 3)
    assert automatic.state_dict().keys() == named.state_dict().keys()


def test_the_scale_of_observations_travels_with_the_weights() -> None:
    trained = make_policy("mlp", (5,), 3, obs_high=1)
    loaded = make_policy("mlp", (5,), 3, obs_high=255)
    loaded.load_state_dict(trained.state_dict())
    obs = torch.ones(2, 5, dtype=torch.uint8)

    assert torch.equal(trained(obs)[0], loaded(obs)[0])


def test_the_minatar_convolution_reads_the_grid_as_it_is() -> None:
    """Channels-last memory changes the speed, not the result."""
    policy = make_policy("minatar_cnn", (10, 10, 4), 3, obs_high=1)
    obs = (torch.rand(6, 10, 10, 4) < 0.2).to(torch.uint8)
    convolution = next(m for m in policy.modules() if isinstance(m, torch.nn.Conv2d))
    plain = torch.nn.functional.conv2d(
        obs.permute(0, 3, 1, 2).float().contiguous(),
        convolution.weight.contiguous(),
        convolution.bias,
    )
    flat = plain.permute(0, 2, 3, 1).flatten(1)
    rest = list(policy.body)[3:]

    expected = policy.actor(torch.nn.Sequential(*rest)(flat))

    torch.testing.assert_close(policy(obs)[0], expected)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("nature_cnn", (128,)),
        ("nature_cnn", (4, 10, 10)),
        ("minatar_cnn", (2, 2, 4)),
        ("impala_resnet", (4, 84)),
    ],
)
def test_an_observation_that_does_not_fit_is_named(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"{name} .*shape"):
        make_policy(name, shape, 3)


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(ValueError, match="unknown policy 'resnet'; there are auto, nature_cnn"):
        make_policy("resnet", (4, 84, 84), 3)
