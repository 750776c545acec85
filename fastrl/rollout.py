"""Collects experience from an environment pool into time-major tensors.

Shapes: T rollout steps, N environments, `shape` of one observation.

What a step t means in the two autoreset modes, when the episode of an environment ends at t:

| buffer           | NextStep                              | SameStep                         |
|------------------|---------------------------------------|----------------------------------|
| obs[t + 1]       | the final observation                 | the first of the next episode    |
| next_values[t]   | V(obs[t + 1])                         | V(info["final_obs"]), truncation |
| step t + 1       | the reset: valid[t + 1] is False      | a step like any other            |
"""

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastrl.config import AutoresetMode
from fastrl.group import Groups
from fastrl.ppo import sample_actions
from fastrl.rewards import RewardScaler


class Pool(Protocol):
    """The part of `fastrl.EnvPool` that a rollout uses."""

    @property
    def num_envs(self) -> int:
        """N."""
        ...

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Starts every episode anew."""
        ...

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every environment."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """T steps of N environments, on the device that learns."""

    obs: Tensor
    """(T + 1, N, *shape) uint8; the last row is where the next rollout starts."""
    actions: Tensor
    """(T, N) int64."""
    logprobs: Tensor
    """(T, N) log-probabilities of the actions."""
    values: Tensor
    """(T, N) V(s_t)."""
    next_values: Tensor
    """(T, N) V of the state that the step reached, before any autoreset."""
    rewards: Tensor
    """(T, N) scaled rewards."""
    terminated: Tensor
    """(T, N) bool."""
    truncated: Tensor
    """(T, N) bool."""
    valid: Tensor
    """(T, N) bool; False for the reset steps of NextStep, which are nobody's experience."""
    head: Tensor | None = None
    """(T, N, K) outputs of the value head at s_t, where the policy has one."""
    next_head: Tensor | None = None
    """(T, N, K) those of the state that the step reached, before any autoreset."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Episodes:
    """Full games that finished during a rollout, in order of time: arrays of one length."""

    steps: NDArray[np.int64]
    """Agent steps of all environments since the rollout began, this step included."""
    env_ids: NDArray[np.int32]
    """Which environment."""
    returns: NDArray[np.float64]
    """Undiscounted, unclipped."""
    lengths: NDArray[np.int32]
    """Agent steps."""

    def of(self, chosen: NDArray[np.bool_]) -> "Episodes":
        """Those where `chosen`, of the same length, is True."""
        return Episodes(
            steps=self.steps[chosen],
            env_ids=self.env_ids[chosen],
            returns=self.returns[chosen],
            lengths=self.lengths[chosen],
        )


@dataclass(kw_only=True, slots=True)
class Seconds:
    """Where the time of a rollout went."""

    env: float = 0.0
    inference: float = 0.0
    copy: float = 0.0


@dataclass(slots=True)
class _EpisodeLog:
    steps: list[NDArray[np.int64]] = field(default_factory=list[NDArray[np.int64]])
    env_ids: list[NDArray[np.int32]] = field(default_factory=list[NDArray[np.int32]])
    returns: list[NDArray[np.float64]] = field(default_factory=list[NDArray[np.float64]])
    lengths: list[NDArray[np.int32]] = field(default_factory=list[NDArray[np.int32]])

    def add(self, steps: int, finished: NDArray[np.int64], info: dict[str, Any]) -> None:
        if not finished.size:
            return
        self.steps.append(np.full(len(finished), steps, dtype=np.int64))
        self.env_ids.append(finished.astype(np.int32))
        self.returns.append(np.asarray(info["episode_return"], dtype=np.float64)[finished])
        self.lengths.append(np.asarray(info["episode_length"], dtype=np.int32)[finished])

    def done(self) -> Episodes:
        def joined(parts: list[Any], dtype: Any) -> NDArray[Any]:
            return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)

        return Episodes(
            steps=joined(self.steps, np.int64),
            env_ids=joined(self.env_ids, np.int32),
            returns=joined(self.returns, np.float64),
            lengths=joined(self.lengths, np.int32),
        )


class RolloutCollector:
    """Steps a pool with a policy. Its state between rollouts is in `state_dict`."""

    def __init__(
        self,
        pool: Pool,
        *,
        num_steps: int,
        autoreset_mode: AutoresetMode,
        scaler: RewardScaler,
        generator: torch.Generator,
        groups: Groups | None = None,
    ) -> None:
        """Call `reset` or `load_state_dict` before `collect`.

        Args:
            pool: The environments, in synchronous mode.
            num_steps: Steps per rollout (T).
            autoreset_mode: The pool's.
            scaler: Makes the reward that is learned from.
            generator: Draws the actions; its device is where observations go.
            groups: Puts environments into common states.
        """
        self.pool = pool
        self.num_steps = num_steps
        self.scaler = scaler
        self.generator = generator
        self.groups = groups
        self._next_step_mode = autoreset_mode == "NextStep"
        self._obs = np.zeros(0, dtype=np.uint8)
        self._resetting = np.zeros(pool.num_envs, dtype=np.bool_)

    def reset(self, seeds: list[int] | None) -> None:
        """Starts every environment anew, environment i from seeds[i]."""
        self._obs = np.asarray(self.pool.reset(seed=seeds)[0])
        self._resetting = np.zeros(self.pool.num_envs, dtype=np.bool_)

    def state_dict(self) -> dict[str, Any]:
        """The observation that the next action answers, and which step is a reset."""
        return {
            "obs": torch.as_tensor(self._obs.copy()),
            "resetting": torch.as_tensor(self._resetting.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`; the pool's own state is restored by its owner."""
        self._obs = state["obs"].numpy()
        self._resetting = state["resetting"].numpy()

    @torch.inference_mode()
    def collect(self, policy: nn.Module) -> tuple[Rollout, Episodes, Seconds]:
        """Plays T steps.

        Args:
            policy: Maps uint8 observations to logits, values and, with a value head, its outputs.

        Returns:
            The rollout, the full games that finished in it, and the seconds spent.
        """
        steps, num_envs = self.num_steps, self.pool.num_envs
        device = self.generator.device
        obs = torch.empty((steps + 1, *self._obs.shape), dtype=torch.uint8, device=device)
        actions = torch.empty((steps, num_envs), dtype=torch.int64, device=device)
        logprobs = torch.empty((steps, num_envs), device=device)
        values = torch.empty((steps + 1, num_envs), device=device)
        heads: list[Tensor] = []
        finals: list[tuple[int, NDArray[np.int64], tuple[Tensor, ...]]] = []
        rewards = np.empty((steps, num_envs), dtype=np.float32)
        terminated = np.empty((steps, num_envs), dtype=np.bool_)
        truncated = np.empty((steps, num_envs), dtype=np.bool_)
        valid = np.empty((steps, num_envs), dtype=np.bool_)
        log, seconds, steps_played = _EpisodeLog(), Seconds(), 0

        clock = time.perf_counter
        before = clock()
        if self.groups is not None:
            self._resetting = self._resetting.copy()  # may be an array that the pool gave away
            self.groups.begin((self._obs, self._resetting))
        obs[0] = torch.as_tensor(self._obs)
        for t in range(steps):
            copied = clock()
            logits, values[t], *head = policy(obs[t])
            heads += head
            actions[t], logprobs[t] = sample_actions(logits, self.generator)
            chosen = actions[t].cpu().numpy()
            decided = clock()
            self._obs, reward, terminated[t], truncated[t], info = self.pool.step(chosen)
            stepped = clock()

            valid[t] = ~self._resetting
            ended = terminated[t] | truncated[t]
            rewards[t] = self.scaler(reward, ended, terminated[t], valid[t])
            steps_played += num_envs - int(np.count_nonzero(self._resetting))
            if self._next_step_mode:
                log.add(steps_played, np.flatnonzero(info["game_over"]), info)
            elif "final_info" in info:
                last = info["final_info"]
                log.add(steps_played, np.flatnonzero(info["_final_info"] & last["game_over"]), last)
                cut = np.flatnonzero(truncated[t] & ~terminated[t])
                if cut.size:
                    final = torch.as_tensor(info["final_obs"][cut]).to(device)
                    finals.append((t, cut, policy(final)[1:]))
            if self._next_step_mode:
                self._resetting = np.asarray(info["game_over"])  # not after a mere lost life
            if self.groups is not None:
                self._resetting = self._resetting.copy()
                self.groups.step(ended, (self._obs, self._resetting))
            obs[t + 1] = torch.as_tensor(self._obs)

            seconds.copy += copied - before + clock() - stepped
            seconds.inference += decided - copied
            seconds.env += stepped - decided
            before = clock()

        _, values[steps], *head = policy(obs[steps])
        heads += head
        outputs = [values] + ([torch.stack(heads)] if heads else [])
        next_outputs = [x[1:].clone() for x in outputs]
        for t, cut, final in finals:
            envs = torch.as_tensor(cut).to(device)
            for next_output, at_end in zip(next_outputs, final, strict=True):
                next_output[t, envs] = at_end
        rollout = Rollout(
            obs=obs,
            actions=actions,
            logprobs=logprobs,
            values=values[:-1],
            next_values=next_outputs[0],
            rewards=torch.as_tensor(rewards).to(device),
            terminated=torch.as_tensor(terminated).to(device),
            truncated=torch.as_tensor(truncated).to(device),
            valid=torch.as_tensor(valid).to(device),
            head=outputs[1][:-1] if heads else None,
            next_head=next_outputs[1] if heads else None,
        )
        seconds.inference += clock() - before
        return rollout, log.done(), seconds
