"""Rollouts of hand-made environments whose every value is known.

The policy values an observation at its number, so `values` and `next_values` can be read off.
"""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastrl.advantages import gae
from fastrl.config import AutoresetMode, config_for
from fastrl.estimators import Gae
from fastrl.rewards import RewardScaler
from fastrl.rollout import Episodes, Rollout, RolloutCollector
from fastrl.train import make_batch


class Walk:
    """Each environment walks 10 * episode + 1, + 2, ... and pays its position / 100.

    Episode e of environment i ends after lengths[i][e] steps, as ends[i][e] says: "T" terminates,
    "C" is cut (truncated), "L" loses a life (terminated, but the game goes on).
    """

    def __init__(self, lengths: list[list[int]], ends: list[str], mode: AutoresetMode) -> None:
        self.num_envs = len(lengths)
        self.lengths, self.ends, self.mode = lengths, ends, mode
        self.episode = [0] * self.num_envs
        self.at = [0] * self.num_envs
        self.over = [False] * self.num_envs
        self.lost = [False] * self.num_envs
        self.game_return = np.zeros(self.num_envs)
        self.game_length = np.zeros(self.num_envs, dtype=np.int32)

    def position(self, env: int) -> int:
        return 10 * (self.episode[env] + 1) + self.at[env]

    def obs(self) -> NDArray[np.uint8]:
        return np.array([[self.position(i)] for i in range(self.num_envs)], dtype=np.uint8)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return self.obs(), {}

    def info(self, game_over: NDArray[np.bool_]) -> dict[str, Any]:
        return {
            "game_over": game_over.copy(),
            "episode_return": self.game_return.copy(),
            "episode_length": self.game_length.copy(),
        }

    def begin(self, env: int, new_game: bool) -> None:
        self.episode[env] += 1
        self.at[env] = 0
        if new_game:
            self.game_return[env], self.game_length[env] = 0.0, 0

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        reward = np.zeros(self.num_envs, dtype=np.float32)
        terminated, truncated, game_over = np.zeros((3, self.num_envs), dtype=np.bool_)
        for i in range(self.num_envs):
            if self.over[i]:
                self.begin(i, True)
                continue
            if self.lost[i]:
                self.begin(i, False)
            self.at[i] += 1
            reward[i] = self.position(i) / 100
            self.game_return[i] += reward[i]
            self.game_length[i] += 1
            if self.at[i] == self.lengths[i][self.episode[i]]:
                end = self.ends[i][self.episode[i]]
                terminated[i], truncated[i], game_over[i] = end in "TL", end == "C", end != "L"
        ended = terminated | truncated
        if self.mode == "NextStep":
            self.over, self.lost = game_over.tolist(), (ended & ~game_over).tolist()
            return self.obs(), reward, terminated, truncated, self.info(game_over)
        final = {"final_obs": self.obs(), "_final_obs": ended}
        final |= {"final_info": self.info(game_over), "_final_info": ended}
        for i in np.flatnonzero(ended).tolist():
            self.begin(i, bool(game_over[i]))
        info = self.info(np.zeros_like(game_over)) | (final if ended.any() else {})
        return self.obs(), reward, terminated, truncated, info


class ValuesTheNumber(nn.Module):
    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(obs), 3), obs[:, 0].float()


def collected(
    walk: Walk, *num_steps: int, policy: nn.Module | None = None
) -> list[tuple[Rollout, Episodes]]:
    collector = RolloutCollector(
        walk,
        num_steps=num_steps[0],
        autoreset_mode=walk.mode,
        scaler=RewardScaler("none", walk.num_envs, 0.9),
        generator=torch.Generator().manual_seed(0),
    )
    collector.reset(None)
    rollouts: list[tuple[Rollout, Episodes]] = []
    for steps in num_steps:
        collector.num_steps = steps
        rollouts.append(collector.collect(policy or ValuesTheNumber())[:2])
    return rollouts


LENGTHS, ENDS = [[2, 3, 9], [3, 9]], ["CTC", "TT"]


def test_next_step_bootstraps_from_the_final_observation_and_marks_the_reset() -> None:
    [(rollout, _)] = collected(Walk(LENGTHS, ENDS, "NextStep"), 6)

    assert rollout.obs[:, 0].squeeze(-1).tolist() == [10, 11, 12, 20, 21, 22, 23]
    assert rollout.valid[:, 0].tolist() == [True, True, False, True, True, True]
    assert rollout.next_values[:, 0].tolist() == [11, 12, 20, 21, 22, 23]
    assert rollout.truncated[:, 0].tolist() == [False, True, False, False, False, False]
    assert rollout.terminated[:, 0].tolist() == [False] * 5 + [True]
    assert rollout.rewards[:, 0].tolist() == pytest.approx([0.11, 0.12, 0, 0.21, 0.22, 0.23])
    assert rollout.valid[:, 1].tolist() == [True, True, True, False, True, True]


def test_same_step_bootstraps_from_final_obs_and_wastes_no_step() -> None:
    [(rollout, _)] = collected(Walk(LENGTHS, ENDS, "SameStep"), 6)

    assert rollout.obs[:, 0].squeeze(-1).tolist() == [10, 11, 20, 21, 22, 30, 31]
    assert bool(rollout.valid.all())
    assert rollout.next_values[:2, 0].tolist() == [11, 12], "12 is what the cut step reached"
    assert rollout.truncated[:, 0].tolist() == [False, True, False, False, False, False]
    assert rollout.terminated[:, 0].tolist() == [False, False, False, False, True, False]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_both_modes_teach_the_same_steps(mode: AutoresetMode) -> None:
    """Per step of experience: observation, reward, and an advantage worked out by hand."""
    config = config_for("Catch-v0", num_envs=1, num_steps=6, gamma=0.5, gae_lambda=0.5)
    [(rollout, _)] = collected(Walk([[2, 2, 9]], ["CTC"], mode), 6)

    batch, num_steps = make_batch(rollout, Gae(config).estimate(rollout))

    # delta = r + 0.5 * V(next) - V; the cut keeps V(next), the termination drops it.
    delta = [0.11 + 5.5 - 10, 0.12 + 6 - 11, 0.21 + 10.5 - 20, 0.22 - 21]
    expected = [delta[0] + 0.25 * delta[1], delta[1], delta[2] + 0.25 * delta[3], delta[3]]
    assert batch.obs[:4].squeeze(-1).tolist() == [10, 11, 20, 21]
    assert batch.advantages[:4].tolist() == pytest.approx(expected, rel=1e-6)
    assert num_steps == (4 if mode == "NextStep" else 6)
    assert 12 not in batch.obs[:], "a final observation is nobody's decision"
    torch.testing.assert_close(batch.returns, batch.advantages + batch.values)


class WithHead(ValuesTheNumber):
    """Outputs of a value head: the number, doubled and halved."""

    def forward(self, obs: Tensor) -> tuple[Tensor, ...]:
        logits, values = super().forward(obs)
        return logits, values, torch.stack((2 * values, values / 2), dim=-1)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_the_value_head_is_read_where_the_value_is(mode: AutoresetMode) -> None:
    """At the successor before any autoreset, too."""
    walk = Walk(LENGTHS, ENDS, mode)
    [(rollout, _)] = collected(walk, 6, policy=WithHead())

    assert rollout.head is not None
    assert rollout.next_head is not None
    twice_and_half = torch.tensor([2.0, 0.5])
    assert torch.equal(rollout.head, rollout.values.unsqueeze(-1) * twice_and_half)
    assert torch.equal(rollout.next_head, rollout.next_values.unsqueeze(-1) * twice_and_half)
    assert rollout.next_head[1, 0].tolist() == [24.0, 6.0], "12 is what the cut step reached"


def test_a_lost_life_is_terminal_and_the_step_after_it_is_real() -> None:
    [(rollout, _)] = collected(Walk([[2, 2, 9]], ["LTT"], "NextStep"), 6)

    assert rollout.obs[:, 0].squeeze(-1).tolist() == [10, 11, 12, 21, 22, 30, 31]
    assert rollout.terminated[:, 0].tolist() == [False, True, False, True, False, False]
    assert rollout.valid[:, 0].tolist() == [True, True, True, True, False, True]


def test_a_reset_that_falls_on_the_next_rollout_is_marked_there() -> None:
    first, second = collected(Walk([[2, 9]], ["TT"], "NextStep"), 2, 3)

    assert first[0].terminated[:, 0].tolist() == [False, True]
    assert first[0].valid[:, 0].tolist() == [True, True]
    assert second[0].valid[:, 0].tolist() == [False, True, True]


@pytest.mark.parametrize(("mode", "steps"), [("NextStep", [4, 6, 10]), ("SameStep", [4, 6, 10])])
def test_episodes_are_full_games(mode: AutoresetMode, steps: list[int]) -> None:
    """A lost life ends an episode of learning, not the game; `steps` count real steps only."""
    walk = Walk([[2, 2, 9], [3, 2, 9]], ["CLT", "TCT"], mode)
    [(_, episodes)] = collected(walk, 6)

    # Environment 0 is cut after two steps; environment 1 ends after three, then after two more.
    assert episodes.env_ids.tolist() == [0, 1, 1]
    assert episodes.returns.tolist() == pytest.approx([0.23, 0.36, 0.43])
    assert episodes.lengths.tolist() == [2, 3, 2]
    assert episodes.steps.tolist()[:1] == steps[:1]
    assert (np.diff(episodes.steps) > 0).all()


def test_the_reset_step_leaks_nothing_into_the_advantages() -> None:
    """Whatever the policy thinks of the observation at a reset, the steps before do not move."""
    [(rollout, _)] = collected(Walk(LENGTHS, ENDS, "NextStep"), 6)

    def advantages(values: Tensor) -> Tensor:
        return gae(
            rollout.rewards,
            values,
            rollout.next_values,
            rollout.terminated,
            rollout.truncated,
            gamma=0.9,
            gae_lambda=0.9,
        )[rollout.valid]

    spoilt = torch.where(rollout.valid, rollout.values, torch.full_like(rollout.values, 1e6))
    assert torch.equal(advantages(rollout.values), advantages(spoilt))
