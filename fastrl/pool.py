"""The environment pool: many copies of one game behind gymnasium's vector interface."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from fastrl import _core

Array = NDArray[Any]
StepResult = tuple[Array, Array, Array, Array, dict[str, Any]]
Seed = int | Sequence[int] | NDArray[np.integer[Any]] | None


class EnvPool(gymnasium.vector.VectorEnv[Array, Array, Array]):
    """N environments of one game, stepped by a few native threads.

    Shapes: N = num_envs, M = batch_size. Everything is in order of `env_id`, except in
    asynchronous mode (M < N), where a batch holds the M environments that finished first.

    `obs` (N, *shape) uint8, `reward` (N,) float32, `terminated` and `truncated` (N,) bool. `info`:

    =================  =========  ====================================================
    env_id             int32      which environment a row is
    reward             float32    the game's reward, never clipped
    game_over          bool       the full game ended with this step
    episode_return     float64    sum of the game's rewards so far, this step included
    episode_length     int32      agent steps so far, this step included
    =================  =========  ====================================================

    and what a game adds, int32: Atari's `lives`, `frame_number`, `episode_frame_number`.

    Autoreset, for an episode that ends at step t:

    - `NextStep`: step t returns the last observation; step t+1 ignores its action, returns the
      first observation of the next episode, reward 0 and both flags false.
    - `SameStep`: step t returns the first observation of the next episode, and the end in
      `info["final_obs"]` and `info["final_info"]`, valid where `info["_final_obs"]` is true.
      These keys are there only when some episode ended.
    - `Disabled`: nothing happens; the next step of that environment is a `ValueError` until
      `reset(options={"reset_mask": mask})`.

    The arrays belong to the caller: they are written once, by the workers, and their memory is
    used again only after Python has dropped them.

    One thread may call a pool at a time (`close` excepted). Results depend on seed, environment
    index and actions alone, never on threads, batch size or scheduling.
    """

    def __init__(
        self,
        core: _core.Pool,
        *,
        ids: Sequence[str] = (),
        action_meanings: tuple[str, ...] | None = None,
    ) -> None:
        """Wraps a native pool; `fastrl.make` is the way to get one.

        Args:
            core: The pool.
            ids: What environments play, in turn; none: all of them the pool's id.
            action_meanings: Names of the actions, where they have some.
        """
        self._core = core
        config = core.config
        self.id = config.id
        self.num_envs = config.num_envs
        self.batch_size = config.batch_size
        self.num_threads = config.num_threads
        self.autoreset_mode = AutoresetMode[config.autoreset.name]
        self.env_names = tuple(
            (ids or [self.id])[i % max(len(ids), 1)] for i in range(self.num_envs)
        )
        """(N,) ids: what each environment plays."""
        if action_meanings is not None:
            self.action_meanings = action_meanings
        self.metadata = {
            "autoreset_mode": self.autoreset_mode,
            "render_modes": ["rgb_array"] if core.can_render else [],
        }
        self.render_mode = "rgb_array" if core.can_render else None
        self.single_observation_space: gymnasium.Space[Array] = gymnasium.spaces.Box(
            0, core.obs_high, core.obs_shape, np.uint8
        )
        self.single_action_space: gymnasium.Space[Any] = gymnasium.spaces.Discrete(core.num_actions)
        if core.action_bounds:
            low, high = np.asarray(core.action_bounds, dtype=np.float32).T
            self.single_action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._out: dict[str, Any] = {}
        self._sent_out: dict[str, Array] = {}

    @cached_property
    def observation_space(self) -> gymnasium.Space[Array]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """All N observations. Made when asked for: gymnasium's bounds are four arrays like it."""
        return batch_space(self.single_observation_space, self.num_envs)

    def reset(
        self,
        *,
        seed: Seed = None,
        options: Mapping[str, Any] | None = None,
        out: Any = None,
    ) -> tuple[Array, dict[str, Any]]:
        """Starts new episodes and returns every environment's observation.

        Args:
            seed: An int s seeds environment i with s + i; a sequence gives one seed each; None
                lets every random stream run on (Atari: the console stays switched on, too).
                Below 2**64, for Atari below 2**31.
            options: `{"reset_mask": mask}`, mask (N,) bool, resets the chosen environments only;
                the others' rows show their present state.
            out: As in `step`.

        Raises:
            ValueError: A seed or mask of the wrong length or range, an unknown option, or a mask
                while environments are in flight.
        """
        arrays = writable(out)
        mask = reset_mask(options, self.num_envs)
        chosen: list[int] = [] if mask is None else mask.tolist()
        return self._core.reset(self._seeds(seed), chosen, arrays)

    def step(self, actions: ArrayLike, out: Any = None) -> StepResult:
        """Steps every environment. Synchronous pools only.

        Args:
            actions: (N,) integers in [0, num_actions), or (N, K) floats where
                `single_action_space` is a Box.
            out: Where to write: an array for the observations, or a dict with any of `obs`,
                `reward`, `terminated`, `truncated`. Arrays are C-contiguous, of the exact shape
                and dtype, and anything numpy can view: numpy, torch on the CPU (pinned or not),
                DLPack, the buffer protocol.

        Returns:
            obs, reward, terminated, truncated, info: see the class.

        Raises:
            ValueError: An action or `out` that does not fit; nothing was stepped.
            RuntimeError: Not reset, closed, or a game failed.
        """
        return self._core.step(actions, writable(out) if out is not None else {})

    def async_reset(self, *, seed: Seed = None) -> None:
        """Starts a reset of all environments; `recv` returns them as they finish."""
        self._core.async_reset(self._seeds(seed))

    def send(self, actions: ArrayLike, env_id: ArrayLike, out: Any = None) -> None:
        """Starts a step of some environments and returns at once.

        Args:
            actions: For K environments; as in `step`.
            env_id: (K,) integers: whose actions they are. None may be in flight.
            out: As in `step`; synchronous pools only (elsewhere give it to `recv`).
        """
        arrays = writable(out)
        if arrays and self.batch_size != self.num_envs:
            raise ValueError(
                f"send(out=) needs batch_size == num_envs, here {self.batch_size} and "
                f"{self.num_envs}: batches form in order of completion, so give out to recv"
            )
        self._core.send(actions, env_id, arrays)
        if arrays:
            self._sent_out = arrays

    def recv(self, timeout: float | None = None, out: Any = None) -> StepResult:
        """Waits for the next batch of M results.

        Args:
            timeout: Seconds; None waits without limit.
            out: Arrays of length M that the batch is *copied* into (`send(out=)` does not copy).

        Raises:
            TimeoutError: The batch was not complete in time; nothing is lost, call again.
            RuntimeError: Fewer than M environments are in flight, or a game failed.
        """
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be at least 0 seconds, got {timeout}")
        arrays = writable(out)
        result = self._core.recv(timeout, self._sent_out)
        self._sent_out = {}
        return _copied(result, arrays) if arrays else result

    def get_state(self, env_ids: ArrayLike | None = None) -> bytes:
        """A snapshot of some environments (default: all): game, random stream, statistics."""
        return self._core.get_state(self._env_ids(env_ids))

    def set_state(self, state: bytes, env_ids: ArrayLike | None = None) -> None:
        """Puts a snapshot back, into the same or other environments of the same game and options.

        A snapshot of one environment may go into many.

        Raises:
            ValueError: It is damaged, of another game, other options or another number of
                environments; nothing was changed.
        """
        self._core.set_state(state, self._env_ids(env_ids))

    def render(self) -> tuple[Array, ...]:
        """What every environment's screen shows: N pictures (H, W, 3) uint8, red, green, blue.

        A tuple, as gymnasium has it, because games in one pool may have screens of different
        heights.

        Raises:
            NotImplementedError: The game has no screen.
        """
        if not self._core.can_render:
            raise NotImplementedError(f"{self.id} has no screen to render")
        return tuple(self._core.render())

    def stats(self) -> dict[str, int]:
        """Where the time went: steps, work_ns (in games, over threads), wall_ns (in calls)."""
        return self._core.stats()

    def close_extras(self, **kwargs: Any) -> None:
        """Stops the threads. Called by `close`, which is safe to call twice."""
        self._core.close()

    def _seeds(self, seed: Seed) -> list[int]:
        if seed is None:
            return []
        if isinstance(seed, int | np.integer):
            seeds = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = [int(s) for s in seed]
            if len(seeds) != self.num_envs:
                raise ValueError(f"seed needs {self.num_envs} values, got {len(seeds)}")
        limit = self._core.max_seed
        if min(seeds) < 0 or max(seeds) > limit:
            raise ValueError(f"a seed must be in [0, {limit}], got {min(seeds)} to {max(seeds)}")
        return seeds

    def _env_ids(self, env_ids: ArrayLike | None) -> Array:
        if env_ids is None:
            return np.arange(self.num_envs)
        ids = np.atleast_1d(np.asarray(env_ids))
        if ids.size == 0:
            raise ValueError("env_ids is empty: name at least one environment, or pass None")
        return ids


def reset_mask(options: Mapping[str, Any] | None, num_envs: int) -> Array | None:
    """The mask (num_envs,) bool in the options of `reset`; None resets all.

    Raises:
        ValueError: Another option, shape or dtype.
    """
    if not options:
        return None
    if unknown := set(options) - {"reset_mask"}:
        raise ValueError(f"reset has no option {sorted(unknown)}; it has 'reset_mask'")
    mask = np.asarray(options["reset_mask"])
    if mask.shape != (num_envs,) or mask.dtype != np.bool_:
        raise ValueError(
            f"reset_mask must be bool of shape ({num_envs},), got {mask.dtype} of shape "
            f"{mask.shape}"
        )
    return mask


def writable(out: Any) -> dict[str, Array]:
    """`out` as numpy views of the caller's memory, by field."""
    if out is None:
        return {}
    fields = cast(Mapping[str, Any], out) if isinstance(out, Mapping) else {"obs": out}
    return {name: _view(name, array) for name, array in fields.items()}


def _view(name: str, array: Any) -> Array:
    if isinstance(array, np.ndarray):
        return cast(Array, array)
    if hasattr(array, "numpy"):  # torch: DLPack would come out read-only
        return array.numpy()
    try:
        if hasattr(array, "__dlpack__"):
            return np.from_dlpack(array)
        return np.asarray(memoryview(array))
    except (TypeError, BufferError, RuntimeError) as error:
        raise ValueError(
            f"out['{name}'] must be an array in CPU memory that can be written (numpy, torch, "
            f"DLPack or buffer protocol), got {type(array).__name__}: {error}"
        ) from error


def _copied(result: StepResult, arrays: dict[str, Array]) -> StepResult:
    fields = dict(zip(("obs", "reward", "terminated", "truncated"), result[:4], strict=True))
    for name, array in arrays.items():
        if name not in fields:
            raise ValueError(f"out has no field '{name}'; it has {', '.join(fields)}")
        if array.shape != fields[name].shape or array.dtype != fields[name].dtype:
            raise ValueError(
                f"out['{name}'] must be {fields[name].dtype} of shape {fields[name].shape}, "
                f"got {array.dtype} of shape {array.shape}"
            )
        np.copyto(array, fields[name])
        fields[name] = array
    return fields["obs"], fields["reward"], fields["terminated"], fields["truncated"], result[4]


def get_include() -> str:
    """The include path for games in C++ (`#include "csrc/bindings/register.h"`)."""
    package = Path(__file__).parent
    installed = package / "include"
    return str(installed if installed.is_dir() else package.parent)
