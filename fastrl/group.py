"""Group-relative advantages: a critic's place is taken by other attempts from the same start.

GRPO (Shao et al. 2024, arXiv:2402.03300, section 4.1) asks a language model the same question G
times and measures each answer against the others. Here the question is a state of the game: G
environments, a *group*, are put into one state and play on from there until each of them has ended
its episode; then, and at the start of every rollout, all of them are put into one state again. What
lies between is an *attempt*. The state is always that of the group's first environment, its
*leader*, which therefore plays an ordinary unbroken sequence of games: starts are distributed as
the policy's own states are, and the leaders' games are the ones to report. (The others' are not:
those that a new attempt cuts off are the long ones.)

    R_i = sum over the attempt of gamma^k r_k      k steps after the common start
    A_i = (R_i - mean_j R_j) / (std_j R_j + EPSILON)      for every step of member i's attempt

- *Discount.* The config's gamma, from the common start. GRPO's is 1.
- *Ends.* An attempt lasts at most to the end of the rollout, and nothing is estimated beyond: the
  policy learns to do well within num_steps. A time limit ends an attempt as a termination does.
- *A member that ends early* has its return; it goes on as the pool lets it, into games that nothing
  is learned from, because they have no counterpart in the group, until the last member has ended.
  Those steps are counted as steps of the run: they are what the method costs.
- *Randomness.* A snapshot holds the environment's random stream, so members meet the same luck for
  as long as they draw equally often, and differ by their actions alone. They are not reseeded: the
  actions come from another stream, so given the luck the members are still independent draws of
  the policy and the mean of the others a baseline that knows nothing of member i's action; luck
  that all share drops out of the difference, where reseeding would leave it in as noise (common
  random numbers). The price is that a rollout sees N / G strands of luck instead of N.
- *Bias.* Division by the group's own standard deviation gives a group whose attempts hardly
  differ as much weight as any other (Liu et al. 2025, arXiv:2503.20783); this is GRPO's choice.
  Its division by the length of an attempt, which that paper corrects, is not made: every step
  counts alike.

Shapes: T rollout steps, N environments, G of them a group, next to each other.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EPSILON = 1e-4
"""Added to the standard deviation of the returns: attempts that differ by rounding teach nothing.
Source: trl's GRPOTrainer."""


class Groups:
    """Puts the members of each group into the state of their leader, when an attempt begins."""

    def __init__(self, pool: Any, group_size: int) -> None:
        """Call `begin` before a rollout and `step` after each of its steps.

        Args:
            pool: N environments with snapshots, in synchronous mode.
            group_size: G, which divides N.
        """
        self._pool = pool
        num_envs: int = pool.num_envs
        self._members = np.arange(num_envs, dtype=np.int64).reshape(-1, group_size)
        self._playing = np.ones(self._members.shape, dtype=np.bool_)

    def begin(self, rows: Sequence[NDArray[Any]]) -> None:
        """Begins an attempt in every group.

        Args:
            rows: Arrays (N, ...) of what the caller knows of each environment; members get their
                leader's row.
        """
        self._playing[:] = True
        self._gather(self._members, rows)

    def step(self, ended: NDArray[np.bool_], rows: Sequence[NDArray[Any]]) -> None:
        """Begins an attempt in the groups whose last member has ended.

        Args:
            ended: (N,) bool, the episode ended with this step.
            rows: As in `begin`.
        """
        self._playing &= ~ended.reshape(self._members.shape)
        over = ~self._playing.any(axis=1)
        self._playing[over] = True
        self._gather(self._members[over], rows)

    def _gather(self, groups: NDArray[np.int64], rows: Sequence[NDArray[Any]]) -> None:
        for leader, *others in groups.tolist():
            self._pool.set_state(self._pool.get_state([leader]), others)
        for row in rows:
            row[groups] = row[groups[:, :1]]


def require_snapshots(pool: Any) -> None:
    """Checks, before anything is trained, that `Groups` can work.

    Args:
        pool: Environments that have been reset.

    Raises:
        ValueError: They have no snapshots.
    """
    try:
        pool.get_state([0])
    except NotImplementedError as error:
        raise ValueError(f"advantage group needs snapshots of the environments: {error}") from error


def attempts(ended: Tensor, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which attempt each step of a rollout belongs to, by the rule of `Groups`.

    Args:
        ended: (T, N) bool, the episode ended with this step.
        group_size: G.

    Returns:
        (T, N) int64, the number of the group's attempt, from 0; (T, N) int64, steps since it began;
        (T, N) bool, whether the member was still in it.
    """
    num_steps, num_envs = ended.shape
    number, age = (torch.empty((num_steps, num_envs), dtype=torch.int64) for _ in range(2))
    active = torch.empty((num_steps, num_envs), dtype=torch.bool)
    playing = torch.ones((num_envs // group_size, group_size), dtype=torch.bool)
    attempt, steps = torch.zeros((2, len(playing), 1), dtype=torch.int64)
    for t, end in enumerate(ended.cpu().reshape(num_steps, *playing.shape)):
        number[t] = attempt.expand_as(playing).flatten()
        age[t] = steps.expand_as(playing).flatten()
        active[t] = playing.flatten()
        playing = playing & ~end
        over = ~playing.any(dim=1, keepdim=True)
        playing = playing | over
        attempt, steps = attempt + over, torch.where(over, 0, steps + 1)
    return number.to(ended.device), age.to(ended.device), active.to(ended.device)


def group_advantages(
    rewards: Tensor, ended: Tensor, *, group_size: int, gamma: float
) -> tuple[Tensor, Tensor]:
    """The advantages of a rollout, by the formula at the head of this file.

    Computed in float64, so that equal returns have advantage 0 and not a rounding error over
    another. The standard deviation is that of the G returns (no Bessel's correction).

    Args:
        rewards: (T, N) float.
        ended: (T, N) bool, the episode ended with this step.
        group_size: G.
        gamma: Discount per agent step.

    Returns:
        (T, N) advantages, and (T, N) bool: the steps to learn from.
    """
    number, age, active = attempts(ended, group_size)
    discounted = rewards.double() * gamma ** age.double() * active
    returns = torch.zeros_like(discounted).scatter_add_(0, number, discounted)  # (attempt, N)
    grouped = returns.view(len(returns), -1, group_size)
    differences = grouped - grouped.mean(dim=2, keepdim=True)
    std = differences.square().mean(dim=2, keepdim=True).sqrt()
    normalised = (differences / (std + EPSILON)).flatten(1)
    return normalised.gather(0, number).to(rewards.dtype), active
