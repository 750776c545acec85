"""What the agent is trained on, made from what the game pays.

Shapes: N environments.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.config import RewardScaling

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


class RewardScaler:
    """none: unchanged. clip: the sign. return_std: see `ReturnStd`."""

    def __init__(self, scaling: RewardScaling, num_envs: int, gamma: float) -> None:
        """Starts with no statistics."""
        self._clip = scaling == "clip"
        self._return_std = ReturnStd(num_envs, gamma) if scaling == "return_std" else None

    def __call__(
        self, rewards: FloatArray, ended: BoolArray, terminated: BoolArray, valid: BoolArray
    ) -> FloatArray:
        """Scales the rewards of one step.

        Args:
            rewards: (N,) as the environment paid them.
            ended: (N,) the episode ended with this step.
            terminated: (N,) it ended because the task did.
            valid: (N,) this was a step of an episode, not the reset step of NextStep.

        Returns:
            (N,) float32.
        """
        if self._clip:
            return np.sign(rewards)
        if self._return_std is not None:
            return self._return_std(rewards, ended, terminated, valid)
        return rewards

    def state_dict(self) -> dict[str, Any]:
        """Everything that a checkpoint must keep; empty without statistics."""
        return {} if self._return_std is None else self._return_std.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        if self._return_std is not None:
            self._return_std.load_state_dict(state)


class ReturnStd:
    """Divides rewards by the running standard deviation of the discounted return.

    gymnasium 1.x `wrappers/vector/stateful_reward.py`, NormalizeReward, in its SAME_STEP form: the
    accumulated return of an environment starts from 0 in every episode, and reset steps of
    NextStep do not count. (In gymnasium's NEXT_STEP form a truncated episode's return, and the
    last reward of a terminated one, leak into the episode that follows; here they do not.)
    """

    EPSILON = 1e-8
    """Added to the variance. Source: gymnasium."""

    def __init__(self, num_envs: int, gamma: float) -> None:
        """Starts as gymnasium does: mean 0, variance 1, weight 1e-4."""
        self.gamma = gamma
        self.accumulated = np.zeros(num_envs, dtype=np.float32)
        self.mean = 0.0
        self.variance = 1.0
        self.count = 1e-4

    def __call__(
        self, rewards: FloatArray, ended: BoolArray, terminated: BoolArray, valid: BoolArray
    ) -> FloatArray:
        """Updates the statistics with one step, then scales it. See `RewardScaler`."""
        going_on = np.float32(self.gamma) * ~terminated
        self.accumulated = np.where(
            valid, self.accumulated * going_on + rewards, self.accumulated
        ).astype(np.float32, copy=False)
        counted = self.accumulated if valid.all() else self.accumulated[valid]
        if counted.size:
            self._include(counted.mean(), counted.var(), counted.size)
        self.accumulated[ended] = 0.0
        return (rewards / np.sqrt(self.variance + self.EPSILON)).astype(np.float32)

    def _include(self, mean: np.float32, variance: np.float32, count: int) -> None:
        """Parallel variance (Chan et al. 1979), in gymnasium's order and precision."""
        delta = float(mean) - self.mean
        total = self.count + count
        m2 = (
            self.variance * self.count
            + float(variance * np.float32(count))
            + delta * delta * self.count * count / total
        )
        self.mean += delta * count / total
        self.variance = m2 / total
        self.count = total

    def state_dict(self) -> dict[str, Any]:
        """Statistics and the returns under way."""
        return {
            "accumulated": self.accumulated.tolist(),
            "mean": self.mean,
            "variance": self.variance,
            "count": self.count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        self.accumulated = np.asarray(state["accumulated"], dtype=np.float32)
        self.mean = float(state["mean"])
        self.variance = float(state["variance"])
        self.count = float(state["count"])
