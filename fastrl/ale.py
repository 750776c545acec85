"""Atari through ale-py: `ale_py.AtariVectorEnv` behind the interface of `EnvPool`.

Observations, rewards, flags and the emulator's own infos are ale-py's, byte for byte (rewards as
float32 instead of int32); tests/oracle/test_ale_backend.py holds them to it. Added here: unclipped
rewards, statistics of full games, `Disabled` autoreset, timeouts, checked arguments.

It is the reference for the native console (fastrl/atari.py), which says what a lost life means.
What this backend cannot do is refused by name: snapshots, `mode`, `difficulty`, RAM observations,
pictures, `reset` of an asynchronous pool (use `async_reset`), and `send` to other environments than
those received last.
"""

import importlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from fastrl.atari import AleOptions, ale_game, make_options
from fastrl.cpus import available_cpus
from fastrl.pool import reset_mask, writable

Array = NDArray[Any]
StepResult = tuple[Array, Array, Array, Array, dict[str, Any]]
Seed = int | Sequence[int] | NDArray[np.integer[Any]] | None

# ale-py takes its seeds as 32-bit signed integers, and -1 for "none".
_MAX_SEED = 2**31 - 1
_FIELDS = ("obs", "reward", "terminated", "truncated")


class AleEnvPool(gymnasium.vector.VectorEnv[Array, Array, Array]):
    """N environments of one Atari game, run by ale-py. See `EnvPool` for the interface.

    `info` has, beside the keys of every pool, ale-py's `lives`, `frame_number` and
    `episode_frame_number`, (N,) int32. `final_info` has the keys of every pool alone: ale-py does
    not say what its own were at the end.

    One thread may call a pool at a time.
    """

    # So that `close` is safe after a constructor that raised.
    _env: Any = None
    _executor: ThreadPoolExecutor | None = None

    def __init__(
        self,
        id: str,
        num_envs: int = 1,
        num_threads: int = 0,
        batch_size: int = 0,
        autoreset_mode: str | AutoresetMode = "NextStep",
        **options: Any,
    ) -> None:
        """Checks the arguments, then loads the game.

        Args:
            id: "ALE/<game>-v5", game one of `fastrl.atari.GAMES`.
            num_envs: Environments (N).
            num_threads: Threads that step them; 0: one for each CPU this process may use.
            batch_size: Results per `recv` (M); 0: all N, that is synchronous.
            autoreset_mode: "NextStep", "SameStep" or "Disabled".
            options: See `AleOptions`.

        Raises:
            ValueError: An argument is unknown or out of range.
        """
        game = ale_game(id).name
        self.options = _options(options)
        mode = AutoresetMode(autoreset_mode)
        for name, value, low in (
            ("num_envs", num_envs, 1),
            ("num_threads", num_threads, 0),
            ("batch_size", batch_size, 0),
        ):
            if value < low:
                raise ValueError(f"{name} must be at least {low}, got {value}")
        if batch_size > num_envs:
            raise ValueError(f"batch_size must be at most num_envs {num_envs}, got {batch_size}")

        self.id = id
        self.num_envs = int(num_envs)
        self.batch_size = int(batch_size) or self.num_envs
        self.num_threads = min(int(num_threads) or available_cpus(), self.num_envs)
        self.autoreset_mode = mode
        self.metadata = {"autoreset_mode": mode, "render_modes": []}
        self.render_mode = None

        self._game = game
        self._env = self._load()
        obs_space, action_space = self._env.single_observation_space, self._env.single_action_space
        self.single_observation_space = obs_space
        self.single_action_space = action_space
        self._obs_shape: tuple[int, ...] = obs_space.shape
        self._action_shape: tuple[int, ...] = action_space.shape
        self._action_range: tuple[Any, Any] = (
            (action_space.low, action_space.high)
            if self.options.continuous
            else (0, int(action_space.n) - 1)
        )
        self.observation_space = batch_space(obs_space, self.num_envs)
        self.action_space = batch_space(action_space, self.num_envs)
        self.action_meanings = tuple(action.name for action in self._env.ale.get_action_set())

        self._process = os.getpid()
        self._fetch: Future[StepResult] | None = None  # a recv of ale-py that outlived a timeout
        self._first: StepResult | None = None  # the batch that ale-py's reset returned
        self._in_flight = 0  # environments whose result was not received yet
        self._due = np.empty(0, dtype=np.int32)  # the batch received last, if it has no actions yet
        # By environment, (N,).
        self._episode_return = np.zeros(self.num_envs, dtype=np.float64)
        self._episode_length = np.zeros(self.num_envs, dtype=np.int32)
        self._starting = np.zeros(self.num_envs, dtype=np.bool_)  # the next result begins a game
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)  # Disabled: waits for a reset
        self._lives = np.zeros(self.num_envs, dtype=np.int32)
        self._start_frame = np.zeros(self.num_envs, dtype=np.int32)  # frame_number of the game's 0

    def reset(
        self,
        *,
        seed: Seed = None,
        options: Mapping[str, Any] | None = None,
        out: Any = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Starts new games and returns every environment's observation. Synchronous pools only.

        Args:
            seed: As ale-py has it. An int s seeds the environments that are reset with s, s + 1,
                ...; a sequence gives each of them one seed; None lets the random streams run on.
            options: `{"reset_mask": mask}`, mask (N,) bool, resets the chosen environments only;
                the others' rows show their present state.
            out: As in `step`.

        Raises:
            ValueError: A seed or mask of the wrong length or range, an unknown option, or a mask
                while environments are in flight or before the first reset.
        """
        self._check_usable()
        if self.batch_size != self.num_envs:
            raise ValueError(
                f"ale-py cannot reset all environments at once when batch_size {self.batch_size} "
                f"is below num_envs {self.num_envs}: use async_reset and recv"
            )
        mask = reset_mask(options, self.num_envs)
        seeds = _seeds(seed, self.num_envs if mask is None else int(np.count_nonzero(mask)))
        targets = self._targets(out)
        if mask is not None and not self._due.size:
            raise ValueError(
                "reset_mask needs a reset of all environments before it, and none in flight"
            )
        while self._in_flight:
            self._receive(None)

        env_options = None if mask is None else {"reset_mask": mask}
        obs, info = self._env.reset(seed=seeds, options=env_options)

        self._due = info["env_id"]
        chosen = slice(None) if mask is None else mask
        for array in (self._episode_return, self._episode_length, self._starting, self._ended):
            array[chosen] = 0
        self._watch(info)
        info["reward"] = np.zeros(self.num_envs, dtype=np.float32)
        info["game_over"] = self._ended | self._starting
        info["episode_return"] = self._episode_return.copy()
        info["episode_length"] = self._episode_length.copy()
        return _write(targets, obs=obs)["obs"], info

    def step(self, actions: ArrayLike, out: Any = None) -> StepResult:
        """Steps every environment. Synchronous pools only.

        Args:
            actions: (N,) integers in [0, num_actions); (N, 3) floats if `continuous`.
            out: Where to copy to: an array for the observations, or a dict with any of `obs`,
                `reward`, `terminated`, `truncated`, as in `EnvPool`. ale-py owns its buffers, so
                here this costs a copy.

        Returns:
            obs, reward, terminated, truncated, info: see the class.

        Raises:
            ValueError: An action or `out` that does not fit, or an ended environment in
                `Disabled` mode; nothing was stepped.
            RuntimeError: Not reset, closed, or asynchronous.
        """
        if self.batch_size != self.num_envs:
            raise RuntimeError(
                f"batch_size {self.batch_size} is below num_envs {self.num_envs}: use send and recv"
            )
        targets = self._targets(out)
        self._send(actions, None)
        return self._recv(None, targets)

    def async_reset(self, *, seed: Seed = None) -> None:
        """Resets all environments; `recv` returns them as they finish.

        What is in flight is dropped. If it does not fill whole batches, ale-py has to load the
        game again.
        """
        self._check_usable()
        seeds = _seeds(seed, self.num_envs)
        while self._in_flight >= self.batch_size:
            self._receive(None)
        if self._in_flight:
            self._env = self._load()
        obs, info = self._env.reset(seed=seeds)
        zeros = np.zeros(self.batch_size, dtype=np.int32)
        self._first = obs, zeros, zeros > 0, zeros > 0, info
        self._in_flight = self.num_envs
        self._due = np.empty(0, dtype=np.int32)
        self._starting[:] = True
        self._ended[:] = False

    def send(self, actions: ArrayLike, env_id: ArrayLike) -> None:
        """Starts a step of the environments that `recv` returned last, and returns at once.

        Args:
            actions: (M,) integers, or (M, 3) floats if `continuous`.
            env_id: (M,) integers: whose actions they are, the environments of the last `recv` in
                any order. ale-py can step no others.

        Raises:
            ValueError: As in `step`, or other environments; nothing was stepped.
            RuntimeError: The last batch has its actions already.
        """
        self._send(actions, np.asarray(env_id))

    def recv(self, timeout: float | None = None, out: Any = None) -> StepResult:
        """Waits for the next batch of M results.

        Args:
            timeout: Seconds; None waits without limit.
            out: As in `step`, of length M.

        Raises:
            TimeoutError: The batch was not complete in time; nothing is lost, call again.
            RuntimeError: Fewer than M environments are in flight.
        """
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be at least 0 seconds, got {timeout}")
        return self._recv(timeout, self._targets(out))

    def get_state(self, env_ids: ArrayLike | None = None) -> bytes:
        """Not possible with this backend."""
        raise NotImplementedError("the ale backend has no snapshots: AtariVectorEnv offers none")

    def set_state(self, state: bytes, env_ids: ArrayLike | None = None) -> None:
        """Not possible with this backend."""
        raise NotImplementedError("the ale backend has no snapshots: AtariVectorEnv offers none")

    def close_extras(self, **kwargs: Any) -> None:
        """Stops the threads. Called by `close`, which is safe to call twice."""
        if self._executor is not None and self._process == os.getpid():
            self._executor.shutdown()  # a recv that still runs ends by itself: its steps do
        self._executor = None
        self._env = None

    def _load(self) -> Any:
        ale_py: Any = importlib.import_module("ale_py")  # untyped
        arguments = {field.name: getattr(self.options, field.name) for field in fields(AleOptions)}
        arguments["reward_clipping"] = False  # clipped here: the statistics need the reward
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            arguments["life_loss_info"] = False  # told apart here from the end of the game
        # ale-py has no Disabled: an ended environment is not stepped, so it is reset by mask only.
        native_mode = self.autoreset_mode
        if native_mode is AutoresetMode.DISABLED:
            native_mode = AutoresetMode.NEXT_STEP
        return ale_py.AtariVectorEnv(
            self._game,
            self.num_envs,
            batch_size=self.batch_size,
            num_threads=self.num_threads,
            autoreset_mode=native_mode,
            **arguments,
        )

    def _send(self, actions: ArrayLike, env_id: Array | None) -> None:
        self._check_usable()
        if not self._due.size:
            raise RuntimeError("no batch waits for actions: reset or receive one first")
        checked = self._actions(actions)
        if env_id is not None:
            if env_id.dtype.kind not in "iu" or sorted(env_id.flat) != sorted(self._due):
                raise ValueError(
                    f"env_id must be the environments received last, {self._due.tolist()} in any "
                    f"order, got {env_id.tolist()}: ale-py can step no others"
                )
            row = np.empty(self.num_envs, dtype=np.intp)
            row[env_id] = np.arange(self.batch_size)
            checked = checked[row[self._due]]
        if self._ended[self._due].any():
            raise ValueError(
                f"environments {np.flatnonzero(self._ended).tolist()} have ended: reset them "
                "with options={'reset_mask': mask}"
            )
        self._env.send(checked)
        self._due = np.empty(0, dtype=np.int32)
        self._in_flight += self.batch_size

    def _recv(self, timeout: float | None, targets: dict[str, Array]) -> StepResult:
        self._check_usable()
        if self._due.size:
            raise RuntimeError(
                f"environments {self._due.tolist()} wait for actions: send them first, because "
                "ale-py can step only the batch received last"
            )
        if not self._in_flight:
            raise RuntimeError("no environment is in flight: reset first")
        obs, reward, terminated, truncated, info = self._follow(*self._receive(timeout))
        self._due = info["env_id"]
        result = _write(targets, obs=obs, reward=reward, terminated=terminated, truncated=truncated)
        return result["obs"], result["reward"], result["terminated"], result["truncated"], info

    def _receive(self, timeout: float | None) -> StepResult:
        """ale-py's recv cannot time out: with a timeout, a thread waits in our place."""
        if self._first is not None:
            result, self._first = self._first, None
        elif self._fetch is None and timeout is None:
            result = self._env.recv()
        else:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, thread_name_prefix="fastrl-ale-recv")
            if self._fetch is None:
                self._fetch = self._executor.submit(self._env.recv)
            try:
                result = self._fetch.result(timeout)
            except TimeoutError:
                raise TimeoutError(
                    f"no batch of {self.batch_size} within {timeout} s; nothing is lost, call "
                    "recv again"
                ) from None
            self._fetch = None
        self._in_flight -= self.batch_size
        return result

    def _follow(
        self,
        obs: Array,
        raw_reward: Array,
        terminated: Array,
        truncated: Array,
        info: dict[str, Any],
    ) -> StepResult:
        """Clips the reward, tells lost lives from ends, and keeps the statistics of games."""
        env_id = info["env_id"]
        starts = self._starting[env_id]
        game_over = terminated | truncated
        if self.options.life_loss_info:
            if self.autoreset_mode is AutoresetMode.SAME_STEP:
                # Lives are already the next game's, but the frames of a game count from its start.
                start_frame = info["frame_number"] - info["episode_frame_number"]
                game_over &= start_frame != self._start_frame[env_id]
            else:
                terminated = terminated | ((info["lives"] < self._lives[env_id]) & ~starts)
        self._watch(info)

        episode_return = np.where(starts, 0.0, self._episode_return[env_id] + raw_reward)
        episode_length = np.where(starts, 0, self._episode_length[env_id] + 1).astype(np.int32)
        info["reward"] = raw_reward.astype(np.float32)
        info["game_over"] = game_over
        reward = info["reward"]
        if self.options.reward_clipping:
            reward = np.clip(reward, -1.0, 1.0)
        self._starting[env_id] = False
        match self.autoreset_mode:
            case AutoresetMode.NEXT_STEP:
                self._starting[env_id] = game_over
            case AutoresetMode.DISABLED:
                self._ended[env_id] = game_over
            case AutoresetMode.SAME_STEP:
                ended = terminated | truncated
                if ended.any():
                    # ale-py writes this only for the rows that it resets.
                    lost_life = ended & ~game_over
                    info["final_obs"][lost_life] = obs[lost_life]
                    final_info = {name: info[name] for name in ("env_id", "reward", "game_over")}
                    final_info["episode_return"] = episode_return
                    final_info["episode_length"] = episode_length
                    info["_final_obs"] = info["_final_info"] = ended
                    info["final_info"] = final_info
                    episode_return = np.where(game_over, 0.0, episode_return)
                    episode_length = np.where(game_over, 0, episode_length).astype(np.int32)
        self._episode_return[env_id] = info["episode_return"] = episode_return
        self._episode_length[env_id] = info["episode_length"] = episode_length
        return obs, reward, terminated, truncated, info

    def _watch(self, info: dict[str, Any]) -> None:
        env_id = info["env_id"]
        self._lives[env_id] = info["lives"]
        self._start_frame[env_id] = info["frame_number"] - info["episode_frame_number"]

    def _check_usable(self) -> None:
        if self._env is None:
            raise RuntimeError("the pool is closed")
        if self._process != os.getpid():
            raise RuntimeError(
                f"the pool was made in process {self._process} and this is its fork "
                f"{os.getpid()}, where its threads do not exist: make it after the fork"
            )

    def _actions(self, actions: ArrayLike) -> Array:
        given = np.asarray(actions)
        low, high = self._action_range
        kinds, dtype = ("iuf", np.float32) if self.options.continuous else ("iu", np.int64)
        shape = (self.batch_size, *self._action_shape)
        if given.shape != shape:
            raise ValueError(f"actions must have shape {shape}, got {given.shape}")
        if given.dtype.kind not in kinds:
            raise ValueError(f"actions must be {np.dtype(dtype).name}, got {given.dtype}")
        inside = (given >= low) & (given <= high)  # a NaN is not
        if not inside.all():
            raise ValueError(f"actions must be in [{low}, {high}], got {given[~inside][0]}")
        return given.astype(dtype)

    def _targets(self, out: Any) -> dict[str, Array]:
        """`out` as arrays by field, checked before anything is stepped."""
        targets = writable(out)
        shapes: dict[str, tuple[int, ...]] = {name: (self.batch_size,) for name in _FIELDS}
        shapes["obs"] += self._obs_shape
        dtypes = dict(zip(_FIELDS, (np.uint8, np.float32, np.bool_, np.bool_), strict=True))
        for name, array in targets.items():
            if name not in _FIELDS:
                raise ValueError(f"out has no field '{name}'; it has {', '.join(_FIELDS)}")
            if array.shape != shapes[name] or array.dtype != dtypes[name]:
                raise ValueError(
                    f"out['{name}'] must be {np.dtype(dtypes[name])} of shape {shapes[name]}, "
                    f"got {array.dtype} of shape {array.shape}"
                )
            if not array.flags.writeable:
                raise ValueError(f"out['{name}'] is read-only")
        return targets


def _write(targets: dict[str, Array], **results: Array) -> dict[str, Array]:
    """Copies results into the caller's arrays, where there are any."""
    for name, array in targets.items():
        if name in results:
            np.copyto(array, results[name])
            results[name] = array
    return results


def _options(options: Mapping[str, Any]) -> AleOptions:
    given = dict(options)
    only_native = {"mode": None, "difficulty": None, "obs_type": "screen"}
    only_native |= {"rom_path": None, "render_mode": None, "translate": "on"}
    for name, default in only_native.items():
        if given.pop(name, default) != default:
            raise ValueError(
                f"{name}={options[name]!r}: the ale backend has only the default {name}, because "
                "AtariVectorEnv does not offer it"
            )
    return make_options(AleOptions, given)


def _seeds(seed: Seed, count: int) -> NDArray[np.int32] | None:
    """One seed for each environment that is reset, as ale-py counts them."""
    if seed is None:
        return None
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool):
        values = [int(seed) + i for i in range(count)]
    elif isinstance(seed, Sequence | np.ndarray) and not isinstance(seed, str):
        values = [int(s) for s in seed]
        if len(values) != count:
            raise ValueError(f"seed needs {count} values, one for each reset, got {len(values)}")
    else:
        raise ValueError(f"seed must be an int, a sequence of ints or None, got {seed!r}")
    if values and not (min(values) >= 0 and max(values) <= _MAX_SEED):
        raise ValueError(f"seeds must be in [0, {_MAX_SEED}], got {min(values)} to {max(values)}")
    return np.asarray(values, dtype=np.int32)
