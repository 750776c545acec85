"""Observations kept as frames are the pool's own stacks, byte for byte."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fastrl
from fastrl.config import AutoresetMode
from fastrl.observations import FrameStore
from fastrl.rewards import RewardScaler
from fastrl.rollout import Rollout, RolloutCollector

CUT = {"max_num_frames_per_episode": 40}
"""Ten agent steps: many games end within a rollout."""
CASES = [
    ("ALE/Breakout-v5", 4, CUT),
    ("ALE/Breakout-v5", 4, {"use_fire_reset": True, "life_loss_info": True}),
    ("ALE/Breakout-v5", 2, CUT | {"stack_num": 2, "grayscale": False, "img_height": 12}),
]


class Recorder(nn.Module):
    """Acts at random; its value is a checksum of what it sees, which it keeps."""

    def __init__(self, num_actions: int, obs_size: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.randint(-9, 10, (obs_size,), generator=generator).double()
        self.num_actions = num_actions

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(obs), self.num_actions), (
            obs.flatten(1).double() @ self.weight
        ).float()


def collected(
    pools: list[Any], stack: int, policy: nn.Module, mode: AutoresetMode
) -> list[tuple[Rollout, np.ndarray, Any]]:
    """Three rollouts of 25 steps, their observations and episodes."""
    num_envs = sum(pool.num_envs for pool in pools)
    collector = RolloutCollector(
        *pools,
        num_steps=25,
        autoreset_mode=mode,
        scaler=RewardScaler("none", num_envs, 0.9),
        generator=torch.Generator().manual_seed(0),
        stack=stack,
    )
    collector.reset(list(range(num_envs)))
    found: list[tuple[Rollout, np.ndarray, Any]] = []
    for _ in range(3):
        rollout, episodes, _ = collector.collect(policy)
        found.append((rollout, rollout.obs[:].numpy(), episodes))
    return found


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize(("env_id", "stack", "options"), CASES)
def test_stacks_of_kept_frames_are_the_pools(
    env_id: str, stack: int, options: dict[str, Any], mode: AutoresetMode
) -> None:
    def make(**changes: Any) -> Any:
        both = options | changes
        return fastrl.make(env_id, num_envs=3, num_threads=1, autoreset_mode=mode, **both)

    whole = make()
    policy = Recorder(
        int(whole.single_action_space.n), int(np.prod(whole.single_observation_space.shape))
    )
    expected = collected([whole], 1, policy, mode)
    found = collected([make(stack_num=1)], stack, policy, mode)

    ended = 0
    for (theirs, their_obs, _), (ours, our_obs, _) in zip(expected, found, strict=True):
        assert np.array_equal(their_obs, our_obs)
        assert torch.equal(theirs.next_values, ours.next_values), "final observations, too"
        assert torch.equal(theirs.rewards, ours.rewards)
        ended += int((theirs.terminated | theirs.truncated).sum())
    assert ended > 0, "no episode ended"
    assert not expected[0][1][0, :, 0].any(), "the oldest frame of a first observation is blank"


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_two_pools_play_what_one_plays(mode: AutoresetMode) -> None:
    """Given the actions, environments know nothing of each other."""

    class Greedy(Recorder):
        def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
            _, values = super().forward(obs)
            chosen = values.abs().long() % self.num_actions
            return 1e6 * nn.functional.one_hot(chosen, self.num_actions).float(), values

    def make(num_envs: int) -> Any:
        options: dict[str, Any] = {**CUT, "stack_num": 1}
        return fastrl.make("ALE/Breakout-v5", num_envs, 1, autoreset_mode=mode, **options)

    policy = Greedy(4, 4 * 84 * 84)
    one = collected([make(6)], 4, policy, mode)
    two = collected([make(2), make(4)], 4, policy, mode)

    for (theirs, their_obs, their_games), (ours, our_obs, our_games) in zip(one, two, strict=True):
        assert np.array_equal(their_obs, our_obs)
        for name in ("actions", "values", "next_values", "rewards", "terminated", "valid"):
            assert torch.equal(getattr(theirs, name), getattr(ours, name)), name
        for name in ("steps", "env_ids", "returns", "lengths"):
            assert np.array_equal(getattr(their_games, name), getattr(our_games, name)), name
    assert sum(len(games.steps) for *_, games in one) > 6
    assert len(set(one[0][0].actions.flatten().tolist())) > 1


def test_a_resumed_collector_has_the_frames_before() -> None:
    """The state between two rollouts holds all that the next observation shows."""

    def make() -> Any:
        return fastrl.make("ALE/Pong-v5", num_envs=2, num_threads=1, stack_num=1)

    def collector(pool: Any) -> RolloutCollector:
        return RolloutCollector(
            pool,
            num_steps=6,
            autoreset_mode="NextStep",
            scaler=RewardScaler("none", 2, 0.9),
            generator=torch.Generator().manual_seed(0),
            stack=4,
        )

    policy = Recorder(6, 4 * 84 * 84)
    first_pool, second_pool = make(), make()
    first, second = collector(first_pool), collector(second_pool)
    first.reset([1, 2])
    first.collect(policy)
    second.reset([3, 4])
    second_pool.set_state(first_pool.get_state())
    second.load_state_dict(first.state_dict())
    second.generator.set_state(first.generator.get_state())

    ours, theirs = second.collect(policy)[0], first.collect(policy)[0]
    assert torch.equal(ours.obs[:], theirs.obs[:])
    assert torch.equal(ours.values, theirs.values)


def test_a_store_says_which_frames_are_blank() -> None:
    store = FrameStore(2, 2, (1,), 3, torch.device("cpu"))
    for t in range(-2, 3):
        store.at(t)[:] = torch.tensor([[10 + t], [20 + t]])
    age = np.array([5, 1])
    assert store.frames[torch.as_tensor(store.rows(1, age))].squeeze(-1).tolist() == [
        [9, 10, 11],
        [0, 20, 21],
    ]
    assert store.rows(1, age[1:], slice(1, 2)).tolist() == store.rows(1, age)[1:].tolist()
    store.begin(store.last(2))
    assert store.at(0).flatten().tolist() == [12, 22]
    assert store.at(-2).flatten().tolist() == [10, 20]
