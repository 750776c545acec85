"""What `fastrl bench pool` steps: our pool and its peers, behind one interface.

Every contender gets its random actions from the same generator, drawn before the clock starts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

ACTION_ROWS = 64
"""Batches of random actions, used in turn."""


class Contender(Protocol):
    """A vector environment under test, ours or a peer's."""

    name: str
    threads: int
    num_envs: int

    def step(self) -> None:
        """Steps every environment once, with the next batch of random actions."""
        ...

    def close(self) -> None:
        """Releases it."""
        ...


class Ours:
    """A fastrl pool."""

    def __init__(
        self,
        env_id: str,
        num_envs: int,
        num_threads: int,
        *,
        name: str = "",
        backend: str = "native",
        **options: Any,
    ) -> None:
        """Makes, resets and seeds the pool; `options` are the game's."""
        import fastrl

        self.name = name or f"fastrl ({num_threads} thread{'s' * (num_threads > 1)})"
        if backend != "native":
            self.name = f"backend {backend} of fastrl"
        self.threads, self.num_envs = num_threads, num_envs
        self._pool: Any = fastrl.make(
            env_id, num_envs=num_envs, num_threads=num_threads, backend=backend, **options
        )
        self._pool.reset(seed=0)
        self._actions = random_actions(int(self._pool.single_action_space.n), num_envs, np.int64)

    def step(self) -> None:
        """One batch."""
        self._pool.step(next(self._actions))

    def close(self) -> None:
        """Stops the threads."""
        self._pool.close()

    def stats(self) -> dict[str, int] | None:
        """The pool's clocks since it was made; None from a backend without them."""
        try:
            return self._pool.stats()
        except NotImplementedError:
            return None


class OursAsync:
    """A fastrl pool that gives back half of its environments, whichever have stepped first."""

    def __init__(self, env_id: str, num_envs: int, num_threads: int) -> None:
        """Makes and seeds the pool, and starts its reset."""
        import fastrl

        batch_size = max(1, num_envs // 2)
        self.name = "recv() and send() of half of them"
        self.threads, self.num_envs = num_threads, 2 * batch_size
        self._pool: Any = fastrl.make(
            env_id, num_envs=num_envs, num_threads=num_threads, batch_size=batch_size
        )
        self._pool.async_reset(seed=0)
        self._actions = random_actions(int(self._pool.single_action_space.n), batch_size, np.int64)

    def step(self) -> None:
        """Two batches."""
        for _ in range(2):
            *_, info = self._pool.recv()
            self._pool.send(next(self._actions), info["env_id"])

    def close(self) -> None:
        """Stops the threads."""
        self._pool.close()


class AleVector:
    """`ale_py.AtariVectorEnv`, as it comes."""

    def __init__(self, game: str, num_envs: int, num_threads: int) -> None:
        """Makes and resets it."""
        import ale_py

        self.name, self.threads, self.num_envs = "ale-py AtariVectorEnv", num_threads, num_envs
        make = cast(Any, ale_py).AtariVectorEnv
        self._env: Any = make(_snake(game), num_envs, num_threads=num_threads)
        self._env.reset(seed=0)
        self._actions = random_actions(int(self._env.single_action_space.n), num_envs, np.int64)

    def step(self) -> None:
        """One batch."""
        self._env.step(next(self._actions))

    def close(self) -> None:
        """Stops the threads."""
        self._env.close()


class EnvPoolPeer:
    """EnvPool in synchronous mode, as it comes (its resize is ale-py's: area interpolation)."""

    def __init__(self, env_id: str, num_envs: int, num_threads: int) -> None:
        """Makes and resets it."""
        envpool: Any = importlib.import_module("envpool")  # untyped, and not always there

        self.name, self.threads, self.num_envs = "EnvPool", num_threads, num_envs
        make = envpool.make_gymnasium
        self._env: Any = make(env_id, num_envs=num_envs, num_threads=num_threads, seed=0)
        self._env.reset()
        self._actions = random_actions(int(self._env.action_space.n), num_envs, np.int32)

    def step(self) -> None:
        """One batch."""
        self._env.step(next(self._actions))

    def close(self) -> None:
        """Stops the threads."""
        self._env.close()


class MinAtarPackage:
    """The `minatar` package: a Python loop over environments, on one core.

    Each step also copies the observation into a batch, and an ended game is reset at once: what a
    trainer needs, and what a pool does.
    """

    def __init__(self, game: str, num_envs: int) -> None:
        """Makes, seeds and resets the environments."""
        minatar: Any = importlib.import_module("minatar")  # untyped, and not always there

        self.name, self.threads, self.num_envs = "minatar package", 1, num_envs
        make = minatar.Environment
        self._envs: list[Any] = [make(game) for _ in range(num_envs)]
        for index, env in enumerate(self._envs):
            env.seed(index)
            env.reset()
        self._obs = np.empty((num_envs, *self._envs[0].state_shape()), dtype=np.bool_)
        self._rewards = np.empty(num_envs, dtype=np.float32)
        self._terminated = np.empty(num_envs, dtype=np.bool_)
        allowed = np.asarray(self._envs[0].minimal_action_set())
        draws = random_actions(len(allowed), num_envs, np.int64)
        self._actions = (allowed[row].tolist() for row in draws)

    def step(self) -> None:
        """One batch."""
        for index, (env, action) in enumerate(zip(self._envs, next(self._actions), strict=True)):
            reward, terminated = env.act(action)
            if terminated:
                env.reset()
            self._obs[index] = env.state()
            self._rewards[index] = reward
            self._terminated[index] = terminated

    def close(self) -> None:
        """Nothing to release."""


def random_actions(
    num_actions: int, num_envs: int, dtype: type[np.integer[Any]]
) -> Iterator[NDArray[Any]]:
    """Batches of uniform random actions, (num_envs,) each, without end."""
    rows = np.random.default_rng(0).integers(num_actions, size=(ACTION_ROWS, num_envs), dtype=dtype)
    while True:
        yield from rows


def peers_of(
    env_id: str, num_envs: int, num_threads: int, *, own_backend: bool = True
) -> tuple[list[Contender], list[str]]:
    """The installed peers that play `env_id`, and the names of those that are not installed.

    `own_backend`: our wrapper of ale-py too.
    """
    family, _, name = env_id.rpartition("/")
    game = name.rpartition("-")[0]
    makers: list[tuple[str, str, Callable[[], Contender]]] = []
    if family == "ALE":
        makers = [
            ("ale_py", "ale-py", lambda: AleVector(game, num_envs, num_threads)),
            ("envpool", "envpool", lambda: EnvPoolPeer(name, num_envs, num_threads)),
        ]
        if own_backend:
            wrapped = lambda: Ours(env_id, num_envs, num_threads, backend="ale")  # noqa: E731
            makers.insert(1, ("ale_py", "ale-py", wrapped))
    elif family == "MinAtar":
        makers = [("minatar", "MinAtar", lambda: MinAtarPackage(_snake(game), num_envs))]
    elif env_id == "Catch-v0":
        makers = [("envpool", "envpool", lambda: EnvPoolPeer(env_id, num_envs, num_threads))]
    installed = [make() for module, _, make in makers if find_spec(module) is not None]
    missing = [package for module, package, _ in makers if find_spec(module) is None]
    return installed, list(dict.fromkeys(missing))


def _snake(game: str) -> str:
    """`SpaceInvaders` to `space_invaders`, as ale-py and minatar call games."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in game).removeprefix("_")
