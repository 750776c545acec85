"""What `make` can make: every id, and how."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode

from fastrl import _core
from fastrl.ale import AleEnvPool
from fastrl.atari import GAMES, make_atari
from fastrl.cpus import available_cpus
from fastrl.pool import EnvPool

_AUTORESET_MODES = {
    "NextStep": _core.Autoreset.NEXT_STEP,
    "SameStep": _core.Autoreset.SAME_STEP,
    "Disabled": _core.Autoreset.DISABLED,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvSpec:
    """What is known of an environment before it is made."""

    id: str
    num_actions: int
    obs_shape: tuple[int, ...]
    backends: tuple[str, ...] = ("native",)
    """What can play it, the default first: "native" (C++ in this library), "ale"
    (ale_py.AtariVectorEnv)."""


_Factory = Callable[[_core.PoolConfig, dict[str, Any]], _core.Pool]
_specs: dict[str, EnvSpec] = {}
_factories: dict[str, _Factory] = {}


def register(id: str, num_actions: int, obs_shape: tuple[int, ...], factory: _Factory) -> None:
    """Adds a native game; `csrc/bindings/register.h` calls it.

    Raises:
        ValueError: The id is taken.
    """
    if id in _specs:
        raise ValueError(f"an environment '{id}' is registered already")
    _specs[id] = EnvSpec(id=id, num_actions=num_actions, obs_shape=obs_shape)
    _factories[id] = factory


def list_envs() -> list[str]:
    """Every id that `make` accepts, sorted."""
    return sorted(_specs)


def spec(id: str) -> EnvSpec:
    """What is known of `id`.

    Raises:
        ValueError: Unknown id; the message names the closest ones.
    """
    if id not in _specs:
        close = _close_ids(id)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; see fastrl.list_envs()"
        raise ValueError(f"there is no environment '{id}'{hint}")
    return _specs[id]


def _close_ids(id: str) -> list[str]:
    """Up to three ids that are spelt like `id`, or whose game is: `brakout` is a Breakout."""
    named: dict[str, list[str]] = {}
    for name in list_envs():
        game = name.rpartition("/")[2].rpartition("-")[0]
        for key in {name.lower(), game.lower()}:
            named.setdefault(key, []).append(name)
    close = difflib.get_close_matches(id.lower(), named, n=3)
    return list(dict.fromkeys(name for key in close for name in named[key]))[:3]


def make(
    id: str | Sequence[str],
    num_envs: int = 1,
    num_threads: int = 0,
    batch_size: int = 0,
    autoreset_mode: str | AutoresetMode = "NextStep",
    backend: str | None = None,
    **options: Any,
) -> EnvPool | AleEnvPool:
    """Makes a pool of `num_envs` environments.

    Args:
        id: One of `list_envs()`. Several Atari ids make a pool in which environment i plays game
            i modulo their number; its actions are those of the games if they have the same set, in
            the same order, and else all 18.
        num_envs: Environments (N).
        num_threads: Threads that step them; 0: one for each CPU this process may use (affinity
            mask and cgroup quota). Never more than `num_envs`.
        batch_size: Results per `recv` (M); 0: all N, that is synchronous.
        autoreset_mode: "NextStep", "SameStep" or "Disabled"; see `EnvPool`.
        backend: One of the game's backends (`spec(id).backends`); None: "native".
        options: The game's own. `max_episode_steps` (agent steps, 0: none) for Catch and MinAtar;
            `sticky_action_prob`, `difficulty_ramping` for MinAtar; `fastrl.atari.AtariOptions` for
            ALE (those of `ale_py.AtariVectorEnv`, and with the native backend a few more).

    Raises:
        ValueError: An argument is unknown or out of range; no thread was started.
    """
    ids = [id] if isinstance(id, str) else list(id)
    if not ids:
        raise ValueError("id is empty: name at least one environment")
    found = [spec(one) for one in ids]
    name = ids[0] if isinstance(id, str) else ",".join(ids)
    if len(ids) > 1 and not all(one.startswith("ALE/") for one in ids):
        raise ValueError(f"only Atari games (ALE/...) share a pool, got {name}")
    for one in found:
        if backend is not None and backend not in one.backends:
            raise ValueError(f"backend={backend!r}: {one.id} has {', '.join(one.backends)}")
    mode = _autoreset(autoreset_mode)
    for argument, value in (
        ("num_envs", num_envs),
        ("num_threads", num_threads),
        ("batch_size", batch_size),
    ):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(f"{argument} must be an integer, got {value!r}")
    if backend == "ale":
        if len(ids) > 1:
            raise ValueError(f"the ale backend has one game a pool, got {name}")
        return AleEnvPool(ids[0], num_envs, num_threads, batch_size, mode, **options)
    config = _core.PoolConfig(
        id=name,
        num_envs=num_envs,
        batch_size=batch_size,
        num_threads=num_threads,
        num_cpus=available_cpus(),
        autoreset=_AUTORESET_MODES[mode],
    )
    if name.startswith("ALE/"):
        return make_atari(ids, config, **options)
    return EnvPool(_factories[name](config, options))


def _autoreset(mode: str | AutoresetMode) -> str:
    name = mode.value if isinstance(mode, AutoresetMode) else mode
    if name not in _AUTORESET_MODES:
        raise ValueError(f"autoreset_mode must be one of {list(_AUTORESET_MODES)}, got {mode!r}")
    return name


def _gymnasium_id(id: str) -> str:
    """`ALE/Pong-v5` is `fastrl/Pong-v5`, `MinAtar/Breakout-v1` is `fastrl/MinAtar-Breakout-v1`."""
    return "fastrl/" + id.removeprefix("ALE/").replace("/", "-")


def _register_all() -> None:
    _core.register_games(register)
    for name, game in GAMES.items():
        id = f"ALE/{name}-v5"
        _specs[id] = EnvSpec(
            id=id,
            num_actions=len(game.minimal_actions),
            obs_shape=(4, 84, 84),
            backends=("native", "ale"),
        )
    for id in _specs:
        gymnasium.register(  # pyright: ignore[reportUnknownMemberType]
            id=_gymnasium_id(id), vector_entry_point="fastrl:make", kwargs={"id": id}
        )


_register_all()
