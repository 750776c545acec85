"""Collects experience from environment pools into time-major tensors.

With several pools the policy decides for one while the environments of the others step. On CUDA,
what crosses to the device is each environment's newest frame and where its stack begins, and what
comes back are the actions: the host waits for nothing else.

Shapes: T rollout steps, N environments, n of them in one pool, S frames of an observation's stack.

What a step t means in the two autoreset modes, when the episode of an environment ends at t:

| buffer           | NextStep                              | SameStep                         |
|------------------|---------------------------------------|----------------------------------|
| obs[t + 1]       | the final observation                 | the first of the next episode    |
| next_values[t]   | V(obs[t + 1])                         | V(info["final_obs"]), truncation |
| step t + 1       | the reset: valid[t + 1] is False      | a step like any other            |
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastrl.config import AutoresetMode
from fastrl.graphs import Captured
from fastrl.group import Groups
from fastrl.observations import FrameStore, Observations
from fastrl.ppo import sample_actions
from fastrl.ranks import ALONE, Ranks
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

    def step(self, actions: Any) -> Any:
        """Steps every environment."""
        ...

    def send(self, actions: Any, env_id: Any, out: Any = None) -> None:
        """Starts a step of every environment."""
        ...

    def recv(self) -> Any:
        """Waits for it."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """T steps of N environments, on the device that learns."""

    obs: Observations
    """(T + 1, N); the last row is where the next rollout starts. Its frames are the collector's:
    they hold until it collects again."""
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


class _EpisodeLog:
    """Full games, as they finish in one pool or another."""

    def __init__(self) -> None:
        self._parts: list[tuple[int, int, NDArray[np.int64], dict[str, Any]]] = []

    def add(self, t: int, first: int, finished: NDArray[np.int64], info: dict[str, Any]) -> None:
        """At step t, some environments of a pool whose first one is `first`."""
        if finished.size:
            self._parts.append((t, first, finished, info))

    def done(self, steps_played: NDArray[np.int64]) -> Episodes:
        """`steps_played` (T,): of all environments, up to and with each step."""

        def joined(column: list[Any], dtype: Any) -> NDArray[Any]:
            return np.concatenate(column).astype(dtype) if column else np.zeros(0, dtype)

        parts = sorted(self._parts, key=lambda part: part[:2])
        return Episodes(
            steps=joined([np.full(len(at), steps_played[t]) for t, _, at, _ in parts], np.int64),
            env_ids=joined([first + at for _, first, at, _ in parts], np.int32),
            returns=joined([info["episode_return"][at] for *_, at, info in parts], np.float64),
            lengths=joined([info["episode_length"][at] for *_, at, info in parts], np.int32),
        )


class _Books:
    """What the pools said in a rollout."""

    def __init__(self, num_steps: int, num_envs: int) -> None:
        self.rewards = np.empty((num_steps, num_envs), dtype=np.float32)
        self.terminated = np.empty((num_steps, num_envs), dtype=np.bool_)
        self.truncated = np.empty((num_steps, num_envs), dtype=np.bool_)
        self.valid = np.empty((num_steps, num_envs), dtype=np.bool_)
        self.episodes = _EpisodeLog()
        self.cut: list[tuple[int, NDArray[np.int64], Tensor]] = []
        """Step t, the environments (k,) that it cut short, and their final observations."""


class _Side:
    """One of the pools: where it is among the environments, and what was last seen of it."""

    def __init__(self, pool: Pool, first: int, stack: int, device: torch.device) -> None:
        cuda = device.type == "cuda"
        count = pool.num_envs
        self.envs = slice(first, first + count)
        self.obs = np.zeros(0, dtype=np.uint8)
        """(n, *frame_shape); on CUDA in pinned memory, where the pool writes."""
        self.age = np.zeros(count, dtype=np.int64)
        """(n,) steps since each game began."""
        self.resetting = np.zeros(count, dtype=np.bool_)
        """(n,) whether the next step is a reset."""
        self.rows = torch.zeros((count, stack), dtype=torch.int64, device=device)
        """(n, S) where the frames of the observations are."""
        self._pool = pool
        self._cuda = cuda
        self._ids = np.arange(count)
        self._rows = torch.zeros((count, stack), dtype=torch.int64, pin_memory=cuda)
        self._actions = torch.zeros(count, dtype=torch.int64, pin_memory=cuda)
        self._arrived = torch.cuda.Event() if cuda else None
        self._out: dict[str, Any] = {}
        self._result: Any = None

    def show(self, obs: NDArray[np.uint8]) -> None:
        """Sets `obs` to a copy."""
        memory = torch.empty(obs.shape, dtype=torch.uint8, pin_memory=self._cuda)
        self._out = {"obs": memory} if self._cuda else {}
        self.obs = memory.numpy()
        self.obs[:] = obs

    def put(self, store: FrameStore, t: int) -> None:
        """Queues the transfer of what is seen at step t."""
        store.at(t)[self.envs].copy_(torch.as_tensor(self.obs), non_blocking=True)
        self._rows.numpy()[:] = store.rows(t, self.age, self.envs)
        self.rows.copy_(self._rows, non_blocking=True)

    def fetch(self, actions: Tensor) -> NDArray[np.int64]:
        """The actions (n,) on the host."""
        self._actions.copy_(actions, non_blocking=True)
        if self._arrived is not None:
            self._arrived.record()
            self._arrived.synchronize()
        return self._actions.numpy()

    def act(self, actions: NDArray[np.int64], *, alone: bool) -> None:
        """Starts a step; takes it, where nothing else is to be done meanwhile."""
        if alone and not self._cuda:
            self._result = self._pool.step(actions)
        else:
            self._pool.send(actions, self._ids, out=self._out)

    def receive(self) -> Any:
        """What the pool says of the step."""
        result, self._result = self._result, None
        return self._pool.recv() if result is None else result


class RolloutCollector:
    """Steps pools with a policy. Its state between rollouts is in `state_dict`."""

    def __init__(
        self,
        *pools: Pool,
        num_steps: int,
        autoreset_mode: AutoresetMode,
        scaler: RewardScaler,
        generator: torch.Generator,
        stack: int = 1,
        groups: Groups | None = None,
        cuda_graphs: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        """Call `reset` or `load_state_dict` before `collect`.

        Args:
            *pools: The environments, in synchronous mode; N in all.
            num_steps: Steps per rollout (T).
            autoreset_mode: The pools'.
            scaler: Makes the reward that is learned from.
            generator: Draws the actions; its device is where observations go.
            stack: Newest frames in an observation (S), of which the pools show the last.
            groups: Puts environments into common states; for one pool and no stack.
            cuda_graphs: Whether inference is captured; on CUDA.
            ranks: Who have as many environments each.
        """
        self.num_steps = num_steps
        self.num_envs = sum(pool.num_envs for pool in pools)
        self.scaler = scaler
        self.generator = generator
        self.groups = groups
        self.ranks = ranks
        self._pools = pools
        self._stack = stack
        self._cuda_graphs = cuda_graphs
        self._next_step_mode = autoreset_mode == "NextStep"
        self._sides: list[_Side] = []
        for pool in pools:
            first = self._sides[-1].envs.stop if self._sides else 0
            self._sides.append(_Side(pool, first, stack, generator.device))
        self._last = torch.zeros(0, dtype=torch.uint8)
        self._store: FrameStore | None = None
        self._policy: nn.Module | None = None
        self._decide: list[Callable[[], tuple[Tensor, ...]]] = []

    def reset(self, seeds: list[int] | None) -> None:
        """Starts every environment anew, environment i from seeds[i]."""
        shown = [
            np.asarray(pool.reset(seed=seeds and seeds[side.envs])[0])
            for pool, side in zip(self._pools, self._sides, strict=True)
        ]
        newest = torch.as_tensor(np.concatenate(shown))
        last = torch.zeros((self._stack, *newest.shape), dtype=torch.uint8)
        last[-1] = newest
        age = torch.zeros(self.num_envs, dtype=torch.int64)
        self.load_state_dict({"obs": last, "age": age, "resetting": age.bool()})

    def state_dict(self) -> dict[str, Any]:
        """The frames that the next actions answer, the games' ages, and which step is a reset."""
        return {
            "obs": self._last.cpu(),
            "age": torch.as_tensor(np.concatenate([side.age for side in self._sides])),
            "resetting": torch.as_tensor(np.concatenate([side.resetting for side in self._sides])),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`; the pools' own state is restored by their owner."""
        self._last = state["obs"]
        for side in self._sides:
            side.show(self._last[-1, side.envs].numpy())
            side.age = state["age"][side.envs].numpy().copy()
            side.resetting = state["resetting"][side.envs].numpy().copy()

    @torch.no_grad()
    def collect(self, policy: nn.Module) -> tuple[Rollout, Episodes, Seconds]:
        """Plays T steps.

        Args:
            policy: Maps uint8 observations to logits, values and, with a value head, its outputs.

        Returns:
            The rollout, the full games that finished in it, and the seconds spent.
        """
        clock = time.perf_counter
        begun = clock()
        steps, num_envs, device = self.num_steps, self.num_envs, self.generator.device
        store = self._begin(policy)
        rows = torch.empty((steps + 1, num_envs, self._stack), dtype=torch.int64, device=device)
        obs = Observations(frames=store.frames, rows=rows)
        actions = torch.empty((steps, num_envs), dtype=torch.int64, device=device)
        logprobs = torch.empty((steps, num_envs), device=device)
        outputs: list[Tensor] = []  # values (T + 1, N); with a value head its own (T + 1, N, K)
        books, seconds = _Books(steps, num_envs), Seconds()

        for t in range(steps + 1):
            for side, decide in zip(self._sides, self._decide, strict=True):
                envs = side.envs
                waiting = clock()
                result = side.receive() if t > 0 else None
                received = clock()
                if result is not None:
                    self._note(side, t, result, books, obs)
                deciding = clock()
                side.put(store, t)
                rows[t, envs] = side.rows
                if t < steps:
                    actions[t, envs], logprobs[t, envs], *found = decide()
                    chosen = side.fetch(actions[t, envs])
                    decided = clock()
                    side.act(chosen, alone=len(self._sides) == 1)
                else:
                    _, *found = policy(obs[t, envs])
                    decided = clock()
                seconds.env += received - waiting + clock() - decided
                seconds.inference += decided - deciding
                for k, output in enumerate(found):
                    if k == len(outputs):
                        outputs.append(output.new_empty((steps + 1, num_envs, *output.shape[1:])))
                    outputs[k][t, envs] = output
        self._last = store.last(steps)

        next_outputs = [output[1:].clone() for output in outputs]
        for t, cut, final in books.cut:
            envs = torch.as_tensor(cut).to(device)
            for next_output, at_end in zip(next_outputs, policy(final)[1:], strict=True):
                next_output[t, envs] = at_end
        rewards = self._scaled(books)
        rollout = Rollout(
            obs=obs,
            actions=actions,
            logprobs=logprobs,
            values=outputs[0][:-1],
            next_values=next_outputs[0],
            rewards=torch.as_tensor(rewards).to(device),
            terminated=torch.as_tensor(books.terminated).to(device),
            truncated=torch.as_tensor(books.truncated).to(device),
            valid=torch.as_tensor(books.valid).to(device),
            head=outputs[1][:-1] if len(outputs) > 1 else None,
            next_head=next_outputs[1] if len(outputs) > 1 else None,
        )
        episodes = books.episodes.done(np.count_nonzero(books.valid, axis=1).cumsum())
        seconds.copy = clock() - begun - seconds.env - seconds.inference
        return rollout, episodes, seconds

    def stages(self, policy: nn.Module) -> Mapping[str, Callable[[], object]]:
        """What a step of all environments is made of, each part alone, to be measured.

        The host waits for each part. The collector is of no use afterwards.
        """
        store = self._begin(policy)
        chosen = [np.zeros(side.age.shape, dtype=np.int64) for side in self._sides]

        def env() -> None:
            for side, actions in zip(self._sides, chosen, strict=True):
                side.act(actions, alone=len(self._sides) == 1)
            for side in self._sides:
                side.receive()

        def copy() -> None:
            for side in self._sides:
                side.put(store, 0)
            if store.frames.is_cuda:
                torch.cuda.synchronize()

        @torch.no_grad()
        def inference() -> None:
            for i, (side, decide) in enumerate(zip(self._sides, self._decide, strict=True)):
                chosen[i] = side.fetch(decide()[0]).copy()

        return {"inference": inference, "env": env, "copy": copy}

    def _begin(self, policy: nn.Module) -> FrameStore:
        """The store, with what is seen at step 0; `_decide` for this policy."""
        if self.groups is not None:
            [side] = self._sides
            self.groups.begin((side.obs, side.resetting))
            self._last[-1] = torch.as_tensor(side.obs)
        if self._store is None or self._store.num_steps != self.num_steps:
            shape = tuple(self._last.shape[2:])
            device = self.generator.device
            self._store = FrameStore(self.num_steps, self.num_envs, shape, self._stack, device)
            self._policy = None
        self._store.begin(self._last)
        if policy is not self._policy:
            self._policy = policy
            self._decide = [self._decision(policy, self._store, side) for side in self._sides]
        return self._store

    def _decision(
        self, policy: nn.Module, store: FrameStore, side: _Side
    ) -> Callable[[], tuple[Tensor, ...]]:
        """Actions, their log-probabilities, values and outputs of the value head at `side.rows`."""
        seen = Observations(frames=store.frames, rows=side.rows)

        def decide() -> tuple[Tensor, ...]:
            logits, *outputs = policy(seen[:])
            return *sample_actions(logits, self.generator, self.ranks), *outputs

        return Captured(decide, self.generator) if self._cuda_graphs else decide

    def _note(self, side: _Side, t: int, result: Any, books: _Books, obs: Observations) -> None:
        """Books the step that led to t."""
        shown, reward, terminated, truncated, info = result
        at = t - 1, side.envs
        books.rewards[at], books.terminated[at], books.truncated[at] = reward, terminated, truncated
        books.valid[at] = ~side.resetting
        first = side.envs.start
        if self._next_step_mode:
            books.episodes.add(t - 1, first, np.flatnonzero(info["game_over"]), info)
            side.resetting = np.asarray(info["game_over"])  # not after a mere lost life
        elif "final_info" in info:
            last = info["final_info"]
            over = np.flatnonzero(info["_final_info"] & last["game_over"])
            books.episodes.add(t - 1, first, over, last)
            cut = np.flatnonzero(truncated & ~terminated)
            if cut.size:
                newest = torch.as_tensor(info["final_obs"][cut]).to(obs.frames.device)
                before = obs[t - 1, first + cut]
                stack = torch.cat((before, newest), dim=1)[:, newest.shape[1] :]
                books.cut.append((t - 1, first + cut, stack))
        side.obs, side.age = shown, np.asarray(info["episode_length"], dtype=np.int64)
        if self.groups is not None:
            side.resetting = side.resetting.copy()  # may be an array that the pool gave away
            self.groups.step(terminated | truncated, (side.obs, side.resetting))

    def _scaled(self, books: _Books) -> NDArray[np.float32]:
        """(T, N) rewards to learn from."""
        ended = books.terminated | books.truncated
        steps = zip(books.rewards, ended, books.terminated, books.valid, strict=True)
        return np.stack([self.scaler(*step) for step in steps])
