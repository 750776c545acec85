"""Policies: uint8 observations in, action logits and a state value out.

Shapes: N environments, A actions, C channels, H x W pixels. Orthogonal initialisation with the
gains of CleanRL's ppo_atari_envpool.py: sqrt(2) inside, 0.01 for the policy, 1 for the value.
"""

import math
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from fastrl.config import Policy, TrainConfig
from fastrl.discount import HeadSpec, head_spec

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class ActorCritic(nn.Module):
    """A body with two heads, and a third where the advantage estimator asks for one.

    `obs_scale` travels in the state dict, so a checkpoint knows how its observations were scaled.
    """

    obs_scale: Tensor
    bf16 = False
    """Whether the body computes in bfloat16; the weights and the heads keep their precision."""
    channels_last = False
    """Whether frames are put in channels-last memory, for convolutions whose weights are."""

    def __init__(self, body: nn.Module, features: int, num_actions: int, obs_high: int) -> None:
        """Puts the heads on `body`, which maps scaled float observations to (N, features)."""
        super().__init__()
        self.body = body
        self.actor = _init(nn.Linear(features, num_actions), 0.01)
        self.critic = _init(nn.Linear(features, 1), 1.0)
        self.value_head: ValueHead | None = None
        self.register_buffer("obs_scale", torch.tensor(1.0 / obs_high))

    def forward(self, obs: Tensor) -> tuple[Tensor, ...]:
        """Evaluates a batch.

        Args:
            obs: (N, *obs_shape) uint8.

        Returns:
            Logits (N, A) and values (N,), float32; with a value head its outputs (N, K) too.
        """
        x = obs.to(self.obs_scale.dtype) * self.obs_scale
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        if self.bf16:
            # Without its cache, which a captured graph would outlive.
            with torch.autocast(obs.device.type, torch.bfloat16, cache_enabled=False):
                features = self.body(x).to(self.obs_scale.dtype)
        else:
            features = self.body(x)
        outputs = self.actor(features), self.critic(features).squeeze(-1)
        return outputs if self.value_head is None else (*outputs, self.value_head(features))


class ValueHead(nn.Module):
    """K linear outputs that an advantage estimator learns beside the value, see `HeadSpec`.

    Zero at first, but for the ensemble's, which come from a generator of their own: with the same
    seed every other weight is that of a policy without this head.
    """

    def __init__(self, features: int, spec: HeadSpec) -> None:
        """Seeds the ensemble's weights with torch's initial seed."""
        super().__init__()
        self.num_through_body = spec.num_through_body
        self.weight = nn.Parameter(torch.zeros(spec.num_outputs, features))
        self.bias = nn.Parameter(torch.zeros(spec.num_outputs))
        if spec.num_members:
            generator = torch.Generator().manual_seed(torch.initial_seed())
            with torch.no_grad():
                members = self.weight[-spec.num_members :]
                members.normal_(std=features**-0.5, generator=generator)

    def forward(self, features: Tensor) -> Tensor:
        """(N, features) to (N, K) float32."""
        split = self.num_through_body
        if split in (0, len(self.bias)):
            seen = features if split else features.detach()
            return nn.functional.linear(seen, self.weight, self.bias).float()
        through = nn.functional.linear(features, self.weight[:split], self.bias[:split])
        apart = nn.functional.linear(features.detach(), self.weight[split:], self.bias[split:])
        return torch.cat((through, apart), dim=-1).float()


class ChannelsLastImage(nn.Module):
    """(N, H, W, C) as (N, C, H, W) without a copy; the strides stay channels-last."""

    def forward(self, x: Tensor) -> Tensor:
        """Permutes the view."""
        return x.permute(0, 3, 1, 2)


class FlattenChannelsLast(nn.Module):
    """(N, C, H, W) in channels-last memory to (N, H * W * C) without a copy."""

    def forward(self, x: Tensor) -> Tensor:
        """Flattens in memory order."""
        return x.permute(0, 2, 3, 1).flatten(1)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), both 3 x 3."""

    def __init__(self, channels: int) -> None:
        """Keeps the number of channels."""
        super().__init__()
        self.conv0 = _init(nn.Conv2d(channels, channels, 3, padding=1))
        self.conv1 = _init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Adds the correction."""
        return x + self.conv1(torch.relu(self.conv0(torch.relu(x))))


def nature_cnn(obs_shape: tuple[int, ...], num_actions: int, obs_high: int = 255) -> ActorCritic:
    """32-64-64 convolutions and 512 units on (C, H, W) frames (Mnih et al. 2015)."""
    channels, height, width = _image_shape("nature_cnn", obs_shape)
    convolutions = nn.Sequential(
        _init(nn.Conv2d(channels, 32, 8, stride=4)),
        nn.ReLU(),
        _init(nn.Conv2d(32, 64, 4, stride=2)),
        nn.ReLU(),
        _init(nn.Conv2d(64, 64, 3)),
        nn.ReLU(),
        nn.Flatten(),
    )
    size = _output_size("nature_cnn", convolutions, (channels, height, width))
    body = nn.Sequential(convolutions, _init(nn.Linear(size, 512)), nn.ReLU())
    return ActorCritic(body, 512, num_actions, obs_high)


def impala_resnet(obs_shape: tuple[int, ...], num_actions: int, obs_high: int = 255) -> ActorCritic:
    """Three residual stages of 16-32-32 channels and 256 units (Espeholt et al. 2018, fig. 3)."""
    channels, height, width = _image_shape("impala_resnet", obs_shape)
    layers: list[nn.Module] = []
    before = channels
    for after in (16, 32, 32):
        layers += [
            _init(nn.Conv2d(before, after, 3, padding=1)),
            nn.MaxPool2d(3, stride=2, padding=1),
            ResidualBlock(after),
            ResidualBlock(after),
        ]
        before = after
    convolutions = nn.Sequential(*layers, nn.ReLU(), nn.Flatten())
    size = _output_size("impala_resnet", convolutions, (channels, height, width))
    body = nn.Sequential(convolutions, _init(nn.Linear(size, 256)), nn.ReLU())
    return ActorCritic(body, 256, num_actions, obs_high)


def minatar_cnn(obs_shape: tuple[int, ...], num_actions: int, obs_high: int = 1) -> ActorCritic:
    """16 convolutions of 3 x 3 and 128 units on a (10, 10, C) grid (Young and Tian 2019).

    Layer normalisation before each rectifier, as in PQN (Gallici et al. 2024, arXiv:2407.04811):
    without it Breakout stays near a return of 6. Channels-last throughout: the observation's own
    layout, and the fast one for few channels.
    """
    height, width, channels = _image_shape("minatar_cnn", obs_shape)
    if min(height, width) < 3:
        raise ValueError(f"minatar_cnn cannot take observations of shape {obs_shape}")
    convolution = _init(nn.Conv2d(channels, 16, 3))
    convolution.weight.data = convolution.weight.data.to(memory_format=torch.channels_last)
    size = 16 * (height - 2) * (width - 2)
    body = nn.Sequential(
        ChannelsLastImage(),
        convolution,
        FlattenChannelsLast(),
        nn.LayerNorm(size),
        nn.ReLU(),
        _init(nn.Linear(size, 128)),
        nn.LayerNorm(128),
        nn.ReLU(),
    )
    return ActorCritic(body, 128, num_actions, obs_high)


def mlp(obs_shape: tuple[int, ...], num_actions: int, obs_high: int = 255) -> ActorCritic:
    """Two layers of 128 on the flattened observation: RAM, vectors, tiny grids."""
    body = nn.Sequential(
        nn.Flatten(),
        _init(nn.Linear(math.prod(obs_shape), 128)),
        nn.ReLU(),
        _init(nn.Linear(128, 128)),
        nn.ReLU(),
    )
    return ActorCritic(body, 128, num_actions, obs_high)


def mlp_small(obs_shape: tuple[int, ...], num_actions: int, obs_high: int = 255) -> ActorCritic:
    """One layer of 32 on the flattened observation: a student to distil into."""
    body = nn.Sequential(nn.Flatten(), _init(nn.Linear(math.prod(obs_shape), 32)), nn.ReLU())
    return ActorCritic(body, 32, num_actions, obs_high)


POLICIES = {
    "nature_cnn": nature_cnn,
    "impala_resnet": impala_resnet,
    "minatar_cnn": minatar_cnn,
    "mlp": mlp,
    "mlp_small": mlp_small,
}


def auto_policy(obs_shape: tuple[int, ...]) -> Policy:
    """The policy that fits an observation: frames, 10 x 10 grids, or anything else."""
    if len(obs_shape) == 3 and min(obs_shape[1:]) >= 36:
        return "nature_cnn"
    if len(obs_shape) == 3 and obs_shape[:2] == (10, 10):
        return "minatar_cnn"
    return "mlp"


def make_policy(
    config_or_name: TrainConfig | str,
    obs_shape: tuple[int, ...],
    num_actions: int,
    *,
    obs_high: int = 255,
) -> ActorCritic:
    """Builds a policy with fresh weights, drawn from torch's global generator.

    Args:
        config_or_name: A config, or the name of a policy, or "auto".
        obs_shape: Shape of one observation.
        num_actions: Number of discrete actions (A).
        obs_high: Largest value of an observation; inputs are divided by it.

    Raises:
        ValueError: The name is unknown, or the observation does not fit the network.
    """
    name = config_or_name.policy if isinstance(config_or_name, TrainConfig) else config_or_name
    if name == "auto":
        name = auto_policy(obs_shape)
    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}; there are auto, {', '.join(POLICIES)}")
    if num_actions < 1 or obs_high < 1:
        raise ValueError(
            f"num_actions and obs_high must be >= 1, got {num_actions=} and {obs_high=}"
        )
    policy = POLICIES[name](tuple(obs_shape), num_actions, obs_high)
    spec = head_spec(config_or_name) if isinstance(config_or_name, TrainConfig) else None
    if spec is not None:
        policy.value_head = ValueHead(policy.actor.in_features, spec)
    return policy


def _init(layer: Layer, gain: float = math.sqrt(2.0)) -> Layer:
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(cast(Tensor, layer.bias))
    return layer


def _image_shape(name: str, obs_shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(obs_shape) != 3 or min(obs_shape) < 1:
        raise ValueError(f"{name} needs observations of three dimensions, got shape {obs_shape}")
    first, second, third = obs_shape
    return first, second, third


def _output_size(name: str, layers: nn.Module, obs_shape: tuple[int, ...]) -> int:
    try:
        with torch.no_grad():
            return layers(torch.zeros(1, *obs_shape)).shape[1]
    except RuntimeError as error:
        raise ValueError(f"{name} cannot take observations of shape {obs_shape}") from error
