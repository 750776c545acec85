"""`return_std` against gymnasium's NormalizeReward, bit for bit.

Peer: gymnasium.wrappers.vector.NormalizeReward of the installed gymnasium (1.x).
"""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import NormalizeReward
from numpy.typing import NDArray

from fastrl.rewards import RewardScaler

STEPS, N, GAMMA = 400, 5, 0.97


class Recorded(VectorEnv[Any, Any, Any]):
    """Plays back rewards and ends."""

    def __init__(
        self,
        rewards: NDArray[np.float32],
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        mode: AutoresetMode,
    ) -> None:
        self.num_envs = rewards.shape[1]
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = gymnasium.spaces.Discrete(1)
        self.single_action_space = gymnasium.spaces.Discrete(1)
        self.steps = zip(rewards, terminated, truncated, strict=True)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(self.num_envs), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        return np.zeros(self.num_envs), *next(self.steps), {}


def recording(seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Rewards of changing scale; episodes that terminate, are truncated, or both at once."""
    rng = np.random.default_rng(seed)
    scale = np.exp(rng.normal(0.0, 2.0, (STEPS, 1)))
    rewards = (rng.normal(0.5, 1.0, (STEPS, N)) * scale).astype(np.float32)
    return rewards, rng.random((STEPS, N)) < 0.1, rng.random((STEPS, N)) < 0.1


def gymnasium_scaled(
    rewards: NDArray[np.float32],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    mode: AutoresetMode,
) -> NDArray[np.float32]:
    env = NormalizeReward(Recorded(rewards, terminated, truncated, mode), gamma=GAMMA)
    env.reset()
    return np.stack([env.step(np.zeros(N))[1].astype(np.float32) for _ in rewards])


@pytest.mark.parametrize("seed", range(3))
def test_same_step_equals_gymnasium(seed: int) -> None:
    rewards, terminated, truncated = recording(seed)
    scaler = RewardScaler("return_std", N, GAMMA)
    played = np.ones(N, dtype=np.bool_)

    ours = np.stack(
        [
            scaler(r, a | b, a, played)
            for r, a, b in zip(rewards, terminated, truncated, strict=True)
        ]
    )

    expected = gymnasium_scaled(rewards, terminated, truncated, AutoresetMode.SAME_STEP)
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("seed", range(3))
def test_next_step_equals_gymnasium_where_gymnasium_does_not_leak(seed: int) -> None:
    """Gymnasium's NEXT_STEP carries the last reward of a terminated episode into the next one.

    With a last reward of 0 there is nothing to carry, and the two must agree.
    """
    rewards, terminated, _ = recording(seed)
    truncated = np.zeros_like(terminated)
    for t in range(1, STEPS):
        resetting = terminated[t - 1]
        terminated[t] &= ~resetting
        rewards[t] *= ~resetting
    rewards *= ~terminated
    scaler = RewardScaler("return_std", N, GAMMA)
    resetting = np.zeros(N, dtype=np.bool_)

    ours: list[NDArray[np.float32]] = []
    for r, ended in zip(rewards, terminated, strict=True):
        ours.append(scaler(r, ended, ended, ~resetting))
        resetting = ended

    expected = gymnasium_scaled(rewards, terminated, truncated, AutoresetMode.NEXT_STEP)
    np.testing.assert_array_equal(np.stack(ours), expected)


def test_next_step_counts_what_same_step_counts() -> None:
    """The reset step of NextStep changes nothing: same rewards, same statistics."""
    rng = np.random.default_rng(5)
    same, following = (RewardScaler("return_std", 1, GAMMA) for _ in range(2))
    yes, no = np.ones(1, dtype=np.bool_), np.zeros(1, dtype=np.bool_)
    for _ in range(300):
        reward = rng.normal(size=1).astype(np.float32)
        ended, terminated = (rng.random(1) < 0.2 for _ in range(2))
        terminated &= ended
        expected = same(reward, ended, terminated, yes)
        np.testing.assert_array_equal(following(reward, ended, terminated, yes), expected)
        if ended[0]:
            following(np.zeros(1, dtype=np.float32), no, no, no)

    assert following.state_dict() == same.state_dict()


def test_clip_is_the_sign_and_none_the_identity() -> None:
    rewards = np.array([-3.0, -0.5, 0.0, 0.25, 7.0], dtype=np.float32)
    flags = np.zeros(5, dtype=np.bool_)

    clipped = RewardScaler("clip", 5, GAMMA)(rewards, flags, flags, ~flags)
    unchanged = RewardScaler("none", 5, GAMMA)(rewards, flags, flags, ~flags)

    np.testing.assert_array_equal(clipped, [-1.0, -1.0, 0.0, 1.0, 1.0])
    np.testing.assert_array_equal(unchanged, rewards)
