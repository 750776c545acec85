"""Group-relative advantages: the formula, the common starts, and that they teach."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_resume import assert_same_run, lines, small
from torch import Tensor, nn

import fastrl
from fastrl import checkpoint, cli
from fastrl.config import AutoresetMode, config_for, replace
from fastrl.estimators import GroupRelative
from fastrl.group import EPSILON, Groups, attempts, group_advantages
from fastrl.observations import Observations
from fastrl.ppo import sample_actions
from fastrl.rewards import RewardScaler
from fastrl.rollout import Rollout, RolloutCollector
from fastrl.train import make_batch, train


def by_definition(
    rewards: np.ndarray, ended: np.ndarray, group_size: int, gamma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Attempt by attempt: each lasts until its slowest member has ended, or the rollout has."""
    num_steps, num_envs = rewards.shape
    advantages, active = np.zeros_like(rewards), np.zeros_like(ended)
    for first in range(0, num_envs, group_size):
        start = 0
        while start < num_steps:
            lasts = []
            for n in range(first, first + group_size):
                ends = [t for t in range(start, num_steps) if ended[t, n]]
                lasts.append(ends[0] if ends else num_steps - 1)
            returns = [
                sum(gamma ** (t - start) * rewards[t, first + m] for t in range(start, last + 1))
                for m, last in enumerate(lasts)
            ]
            for m, last in enumerate(lasts):
                a = (returns[m] - np.mean(returns)) / (np.std(returns) + EPSILON)
                advantages[start : last + 1, first + m] = a
                active[start : last + 1, first + m] = True
            start = max(lasts) + 1
    return advantages, active


@settings(max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 15),
    st.integers(1, 3),
    st.integers(2, 4),
    st.floats(0.0, 1.0),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_advantages_are_the_groups_normalised_returns(
    seed: int, steps: int, groups: int, group_size: int, gamma: float, ends: float
) -> None:
    rng = np.random.default_rng(seed)
    rewards = rng.integers(-2, 3, size=(steps, groups * group_size)).astype(np.float64)
    ended = rng.random(rewards.shape) < ends

    advantages, active = group_advantages(
        torch.from_numpy(rewards), torch.from_numpy(ended), group_size=group_size, gamma=gamma
    )

    expected, learned = by_definition(rewards, ended, group_size, gamma)
    np.testing.assert_array_equal(active, learned)
    np.testing.assert_allclose(advantages[active], expected[learned], atol=1e-9)


def test_a_bandit_rates_each_arm_against_the_others() -> None:
    """Every step is an episode; returns 1, 0, 0, 1 have mean 1/2 and standard deviation 1/2."""
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0], [3.0, 3.0, 3.0, 3.0]])
    advantages, active = group_advantages(
        rewards, torch.ones(2, 4, dtype=torch.bool), group_size=4, gamma=0.5
    )
    rated = 0.5 / (0.5 + EPSILON)
    assert advantages[0].tolist() == pytest.approx([rated, -rated, -rated, rated])
    assert advantages[1].tolist() == [0.0] * 4, "arms that pay alike teach nothing"
    assert bool(active.all())


def test_an_episode_that_ends_inside_keeps_its_return_and_what_follows_is_not_learned() -> None:
    rewards = torch.tensor([[0.0, 0.0], [4.0, 2.0], [100.0, 2.0], [100.0, 6.0], [1.0, 3.0]])
    ended = torch.tensor([[False, False], [True, False], [False, False], [True, True], [False] * 2])

    advantages, active = group_advantages(rewards, ended, group_size=2, gamma=0.5)

    # Returns from the common start: 4/2 = 2 against 2/2 + 2/4 + 6/8 = 2.25; then 1 against 3.
    first, second = 0.125 / (0.125 + EPSILON), 1.0 / (1.0 + EPSILON)
    assert active[:, 0].tolist() == [True, True, False, False, True]
    assert active[:, 1].tolist() == [True] * 5
    assert advantages[:2, 0].tolist() == pytest.approx([-first] * 2)
    assert advantages[:4, 1].tolist() == pytest.approx([first] * 4)
    assert advantages[4].tolist() == pytest.approx([-second, second])


def test_equal_returns_have_advantage_zero_to_the_last_bit() -> None:
    """A rounding error over its own standard deviation would be an advantage of 1."""
    rewards = torch.full((50, 7), 0.1) * torch.linspace(-300, 300, 50).unsqueeze(1)
    advantages, _ = group_advantages(
        rewards, torch.zeros(50, 7, dtype=torch.bool), group_size=7, gamma=0.99
    )
    assert float(advantages.abs().max()) < 1e-7


class Decided(nn.Module):
    """Acts by the observation and its own step alone: members in one state act alike."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.num_actions, self.calls = num_actions, 0

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        pixels = obs.flatten(1).long()
        action = ((pixels * torch.arange(pixels.shape[1])).sum(1) + self.calls) % self.num_actions
        return 1e4 * nn.functional.one_hot(action, self.num_actions).float(), torch.zeros(len(obs))


class Random(nn.Module):
    """Every action alike."""

    def __init__(self, num_actions: int) -> None:
        super().__init__()
        self.num_actions = num_actions

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(obs), self.num_actions), torch.zeros(len(obs))


SEEDS = list(range(100, 108))


def rollouts(
    env_id: str,
    policy: type[Decided] | type[Random],
    mode: AutoresetMode,
    *,
    num_rollouts: int = 3,
    num_steps: int = 40,
    group_size: int = 4,
    **options: Any,
) -> list[Rollout]:
    """Of 8 environments, in groups."""
    pool = fastrl.make(env_id, num_envs=8, num_threads=1, autoreset_mode=mode, **options)
    collector = RolloutCollector(
        pool,
        num_steps=num_steps,
        autoreset_mode=mode,
        scaler=RewardScaler("none", 8, 0.9),
        generator=torch.Generator().manual_seed(0),
        groups=Groups(pool, group_size),
    )
    collector.reset(SEEDS)
    play = policy(int(pool.single_action_space.n))
    kept: list[Rollout] = []
    for _ in range(num_rollouts):
        rollout, *_ = collector.collect(play)
        obs = Observations(frames=rollout.obs.frames.clone(), rows=rollout.obs.rows)
        kept.append(dataclasses.replace(rollout, obs=obs))
    return kept


GAMES = [
    ("Catch-v0", {}),
    ("MinAtar/Breakout-v1", {"sticky_action_prob": 0.25}),
    ("MinAtar/SpaceInvaders-v1", {"max_episode_steps": 13}),
    ("ALE/Pong-v5", {"max_num_frames_per_episode": 60}),
]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize(("env_id", "options"), GAMES)
def test_members_that_act_alike_have_the_same_rollout(
    env_id: str, options: dict[str, Any], mode: AutoresetMode
) -> None:
    """Screen, rewards, ends and luck: nothing but the actions can tell members apart."""
    for rollout in rollouts(env_id, Decided, mode, num_rollouts=2, **options):
        for column in (rollout.obs[:], rollout.rewards, rollout.terminated, rollout.truncated):
            grouped = column.view(len(column), 2, 4, *column.shape[2:])
            assert torch.equal(grouped, grouped[:, :, :1].expand_as(grouped))
        assert not torch.equal(rollout.obs[:, 0], rollout.obs[:, 4]), "two groups, two starts"
        assert bool((rollout.terminated | rollout.truncated).any()), "no episode ended"
        assert torch.equal(rollout.valid[:, 0], rollout.valid[:, 3])


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize(("env_id", "options"), GAMES[:3])
def test_every_attempt_starts_in_one_state(
    env_id: str, options: dict[str, Any], mode: AutoresetMode
) -> None:
    """The collector and the estimator agree where attempts begin, and the members do part."""
    begun = parted = 0
    for rollout in rollouts(env_id, Random, mode, **options):
        number, age, active = attempts(rollout.terminated | rollout.truncated, 4)
        grouped = rollout.obs[:-1].view(40, 2, 4, -1)
        alike = (grouped == grouped[:, :, :1]).all(-1).all(-1)  # (T, groups)
        starts = age.view(40, 2, 4)[:, :, 0] == 0
        assert bool(alike[starts].all())
        assert bool(active.view(40, 2, 4)[starts].all())
        begun += int(starts.sum()) - 2
        parted += int((~alike).sum())
        assert torch.equal(number[0], torch.zeros(8, dtype=torch.int64))
    assert begun > 2, "no attempt began inside a rollout"
    assert parted > 20


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_leader_plays_on_as_if_it_were_alone(mode: AutoresetMode) -> None:
    played = rollouts("MinAtar/Breakout-v1", Random, mode, sticky_action_prob=0.25)
    alone = fastrl.make(
        "MinAtar/Breakout-v1", num_envs=2, autoreset_mode=mode, sticky_action_prob=0.25
    )
    obs, _ = alone.reset(seed=[SEEDS[0], SEEDS[4]])
    for rollout in played:
        for t in range(len(rollout.actions)):
            assert np.array_equal(obs, rollout.obs[t, [0, 4]])
            obs, reward, *_ = alone.step(rollout.actions[t, [0, 4]].numpy())
            assert np.array_equal(reward, rollout.rewards[t, [0, 4]])


def test_members_act_on_their_own() -> None:
    """The other half of common luck: equal logits, different draws."""
    actions, _ = sample_actions(torch.zeros(64, 4), torch.Generator().manual_seed(0))
    assert len(set(actions.tolist())) == 4


def group_config(run_dir: Path, **changes: Any) -> Any:
    return small(run_dir, **({"advantage": "group", "group_size": 4} | changes))


def test_a_batch_leaves_out_what_is_not_learned_but_counts_it() -> None:
    config = config_for("Catch-v0", num_envs=8, num_steps=40, advantage="group", group_size=4)
    [rollout] = rollouts("MinAtar/Breakout-v1", Random, "NextStep", num_rollouts=1)
    ended = rollout.terminated | rollout.truncated
    advantages, active = group_advantages(rollout.rewards, ended, group_size=4, gamma=config.gamma)

    batch, num_steps = make_batch(rollout, GroupRelative(config).estimate(rollout))

    assert num_steps == int(rollout.valid.sum()) < 8 * 40
    assert len(batch.actions) == int((rollout.valid & active).sum()) < num_steps
    assert torch.equal(batch.advantages, advantages[rollout.valid & active])


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_run_of_groups_resumes_bit_exactly(tmp_path: Path, mode: str) -> None:
    whole = group_config(
        tmp_path / "whole", env_id="MinAtar/Breakout-v1", anneal_lr=False, autoreset_mode=mode
    )
    part = replace(whole, run_dir=str(tmp_path / "part"), total_steps=7 * 128)
    train(whole)
    train(part)

    train(replace(part, total_steps=whole.total_steps), resume=tmp_path / "part")

    assert_same_run(tmp_path / "part", tmp_path / "whole")


def test_there_is_no_critic_and_only_leaders_games_are_told(tmp_path: Path) -> None:
    train(group_config(tmp_path / "run", total_steps=128, checkpoint_every=1))

    first, last = (
        checkpoint.load(path)["policy"] for path in sorted(checkpoint.all_paths(tmp_path / "run"))
    )
    changed = {name for name in first if not torch.equal(first[name], last[name])}
    assert "actor.weight" in changed
    assert not any(name.startswith("critic") for name in changed)
    assert all(line["value_loss"] == 0.0 for line in lines(tmp_path / "run", "metrics.jsonl"))
    told = lines(tmp_path / "run", "episodes.jsonl")
    assert {line["env_id"] for line in told} == {0, 4}
    assert {line["length"] for line in told} == {9}
    assert lines(tmp_path / "run", "metrics.jsonl")[-1]["global_step"] == 128


def test_groups_learn_catch(tmp_path: Path) -> None:
    """A perfect player gets 1, a random one about -0.6."""
    config = config_for("Catch-v0", run_dir=str(tmp_path / "run"), torch_threads=1)
    summary = train(replace(config, advantage="group", total_steps=50_000))
    assert summary.mean_return is not None
    assert summary.mean_return > 0.8


def test_a_backend_without_snapshots_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "train ALE/Pong-v5 --env-options backend=ale --advantage group --run-dir"
    assert cli.main([*line.split(), str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert "advantage group needs snapshots of the environments: the ale backend has no" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"group_size": 1}, "group_size must be an integer >= 2, got 1"),
        ({"group_size": 3}, "group_size must be a divisor of num_envs 8 with advantage group"),
        ({"reward_scaling": "return_std"}, "reward_scaling must be none or clip with advantage"),
        ({"teacher": "run"}, "teacher must be empty with advantage group, got 'run'"),
    ],
)
def test_what_does_not_go_with_groups_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        group_config(Path("run"), **changes)
