"""A trained policy that learns no more: the reference of a KL penalty, the teacher of a student.

A run keeps a copy of it in its own folder (`reference.pt`, itself a checkpoint to load from), so
that it can be resumed when the original has been trained further, moved or deleted.

Shapes: B steps, A actions.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fastrl
from fastrl import checkpoint
from fastrl.config import TrainConfig
from fastrl.models import make_policy
from fastrl.ppo import Indexed

FILE = "reference.pt"
"""The copy in the folder of the run."""
CHUNK = 4096
"""Observations per forward pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interface:
    """What a policy must take and give to play some environments."""

    obs_shape: tuple[int, ...]
    """Of one observation."""
    obs_high: int
    """Largest value of an observation."""
    num_actions: int
    action_meanings: tuple[str, ...]
    """Names of the actions, where they have some."""

    @classmethod
    def of(cls, pool: Any, stack: int = 1) -> Interface:
        """That of a pool, of whose observations the newest `stack` make one."""
        space = pool.single_observation_space
        return cls(
            obs_shape=(stack * space.shape[0], *space.shape[1:]),
            obs_high=int(np.max(space.high)),
            num_actions=int(pool.single_action_space.n),
            action_meanings=tuple(getattr(pool, "action_meanings", None) or ()),
        )

    def __str__(self) -> str:
        names = f" ({', '.join(self.action_meanings)})" if self.action_meanings else ""
        return (
            f"observations {self.obs_shape} up to {self.obs_high} and {self.num_actions}"
            f" actions{names}"
        )


class FrozenPolicy:
    """A policy whose weights stay as they are."""

    def __init__(self, policy: nn.Module) -> None:
        """Switches the policy's gradients off."""
        self.policy = policy.eval().requires_grad_(False)

    @torch.no_grad()
    def log_probs(self, obs: Indexed) -> Tensor:
        """Log-probabilities (B, A) of all actions.

        Args:
            obs: (B, *obs_shape) uint8, on the policy's device.
        """
        starts = range(0, len(obs), CHUNK)
        return torch.cat(
            [torch.log_softmax(self.policy(obs[i : i + CHUNK])[0], -1) for i in starts]
        )

    def logprobs(self, obs: Indexed, actions: Tensor) -> Tensor:
        """Log-probabilities (B,) of the actions (B,) int64 that were taken."""
        return self.log_probs(obs).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def open_reference(
    source: str,
    config: TrainConfig,
    run_dir: Path,
    interface: Interface,
    device: torch.device,
    *,
    resumed: bool,
) -> FrozenPolicy | None:
    """The frozen policy of a run, if it has one.

    Args:
        source: Run folder, of which the newest checkpoint counts, or a checkpoint; may be empty.
        config: The run's.
        run_dir: The run's folder, which gets the copy.
        interface: Of the run's environments.
        device: Where the policy is put.
        resumed: Read the copy in `run_dir`; `source` is not looked at.

    Raises:
        FileNotFoundError: There is no such run or checkpoint, or it has no checkpoint yet.
        ValueError: It is damaged, or was trained on other observations or actions.
    """
    if not source:
        return None
    state = checkpoint.load(run_dir / FILE) if resumed else _load(Path(source))
    theirs = TrainConfig.from_json(state["config"])
    _check_interface(source, theirs, config, interface)
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        policy = make_policy(
            theirs, interface.obs_shape, interface.num_actions, obs_high=interface.obs_high
        )
    policy.load_state_dict(state["policy"])
    if not resumed:
        checkpoint.save(run_dir / FILE, {"config": state["config"], "policy": state["policy"]})
    return FrozenPolicy(policy.to(device))


def _load(source: Path) -> dict[str, Any]:
    if not source.is_dir():
        return checkpoint.load(source)
    return checkpoint.load_newest_good(source)[1]


def _check_interface(source: str, theirs: TrainConfig, ours: TrainConfig, mine: Interface) -> None:
    """Raises: ValueError: their observations or actions are not ours."""
    if (theirs.env_id, theirs.make_options) == (ours.env_id, ours.make_options):
        return
    other: Any = fastrl.make(theirs.env_id, num_threads=1, **theirs.make_options)
    with contextlib.closing(other):
        found = Interface.of(other)
    if found != mine:
        raise ValueError(
            f"{source} was trained on {theirs.env_id} with {found}, but this run is"
            f" of {ours.env_id} with {mine}"
        )
