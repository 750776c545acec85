"""Observations by reference: every frame is kept once, however many observations show it.

An Atari observation is the newest S frames, so that each frame is in S observations; kept as
stacks, a rollout would be S times as large. Here a rollout keeps frames, and an observation is
where its frames are. The pool gives the newest frame alone (`stack_num=1`); frames from before an
episode's first are blank, as they are in the stacks that pools give.

Shapes: F frames, S frames of a stack (1: the observation is a frame).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Observations:
    """Observations whose frames are in one store."""

    frames: Tensor
    """(F, *frame_shape) uint8."""
    rows: Tensor
    """(..., S) int64: the frames of each observation, oldest first."""

    @classmethod
    def of(cls, obs: Tensor) -> "Observations":
        """Those of a tensor (T, N, *shape), each with a frame of its own."""
        frames = obs.flatten(0, 1)
        rows = torch.arange(len(frames), device=obs.device).view(*obs.shape[:2], 1)
        return cls(frames=frames, rows=rows)

    def __len__(self) -> int:
        """Size of the first dimension."""
        return len(self.rows)

    def __getitem__(self, index: Any) -> Tensor:
        """(..., S * frame_shape[0], *frame_shape[1:]) uint8, copied: those at `index`."""
        rows = self.rows[index]
        found = self.frames.index_select(0, rows.flatten())
        return found.view(*rows.shape[:-1], rows.shape[-1] * found.shape[1], *found.shape[2:])

    def at(self, index: Any) -> "Observations":
        """Those at `index`, uncopied."""
        return Observations(frames=self.frames, rows=self.rows[index])

    def flatten(self) -> "Observations":
        """In one dimension."""
        return Observations(frames=self.frames, rows=self.rows.flatten(0, -2))


class FrameStore:
    """The frames of a rollout of T steps of N environments, and those before it that are seen."""

    def __init__(
        self,
        num_steps: int,
        num_envs: int,
        frame_shape: tuple[int, ...],
        stack: int,
        device: torch.device,
    ) -> None:
        """Allocates it, blank.

        Args:
            num_steps: T.
            num_envs: N.
            frame_shape: Of what an environment shows in one step.
            stack: Newest frames in an observation (S).
            device: Where they are kept.
        """
        self.num_steps = num_steps
        self.stack = stack
        self._num_envs = num_envs
        self._before = stack - 1
        size = 1 + (num_steps + 1 + self._before) * num_envs
        self.frames = torch.zeros((size, *frame_shape), dtype=torch.uint8, device=device)
        """The blank frame, then those of each step, from S - 1 before the first to T."""

    def at(self, t: int) -> Tensor:
        """(N, *frame_shape) what the environments show at step t, from -(S - 1) to T: a view."""
        first = 1 + (t + self._before) * self._num_envs
        return self.frames[first : first + self._num_envs]

    def rows(self, t: int, age: NDArray[np.int64], envs: slice = slice(None)) -> NDArray[np.int64]:
        """Where the frames are that some environments observe at step t.

        Args:
            t: The step.
            age: (n,) steps since the environments' games began.
            envs: Which environments these are.

        Returns:
            (n, S).
        """
        newest = 1 + (t + self._before) * self._num_envs + np.arange(self._num_envs)[envs]
        back = np.arange(self._before, -1, -1)
        rows = newest[:, None] - back * self._num_envs
        return np.where(back <= age[:, None], rows, 0)

    def last(self, num_steps: int) -> Tensor:
        """(S, N, *frame_shape) copied: the frames that are seen at step `num_steps`."""
        first, end = (1 + k * self._num_envs for k in (num_steps, num_steps + self.stack))
        frames = self.frames[first:end].clone()
        return frames.view(self.stack, self._num_envs, *frames.shape[1:])

    def begin(self, last: Tensor) -> None:
        """Starts a rollout where another one ended; `last` is what it gave."""
        frames = last.flatten(0, 1).to(self.frames.device)
        self.frames[1 : 1 + len(frames)] = frames
