"""
The native part of fastrl: environment pools and kernels.
"""
from __future__ import annotations
import collections.abc
import enum
import numpy
import typing
__all__: list[str] = ['AtariGame', 'Autoreset', 'Pool', 'PoolConfig', 'atari_games', 'gae', 'make_atari', 'register_games']
class Autoreset(enum.Enum):
    """
    gymnasium's AutoresetMode.
    """
    DISABLED: typing.ClassVar[Autoreset]
    NEXT_STEP: typing.ClassVar[Autoreset]
    SAME_STEP: typing.ClassVar[Autoreset]
    @classmethod
    def __new__(cls, value):
        ...
class PoolConfig:
    """
    How a pool is made; the game's options are apart.
    """
    def __init__(self, *, id: str, num_envs: typing.SupportsInt | typing.SupportsIndex, batch_size: typing.SupportsInt | typing.SupportsIndex, num_threads: typing.SupportsInt | typing.SupportsIndex, num_cpus: typing.SupportsInt | typing.SupportsIndex, autoreset: Autoreset) -> None:
        ...
    @property
    def autoreset(self) -> Autoreset:
        ...
    @property
    def batch_size(self) -> int:
        ...
    @property
    def id(self) -> str:
        ...
    @property
    def identity(self) -> str:
        ...
    @property
    def max_episode_steps(self) -> int:
        ...
    @property
    def num_cpus(self) -> int:
        ...
    @property
    def num_envs(self) -> int:
        ...
    @property
    def num_threads(self) -> int:
        ...
class Pool:
    """
    The native half of fastrl.EnvPool, which documents it.
    """
    def async_reset(self, seeds: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex]) -> None:
        ...
    def close(self) -> None:
        ...
    def get_state(self, env_ids: typing.Any) -> bytes:
        ...
    def recv(self, timeout: typing.SupportsFloat | typing.SupportsIndex | None, out: collections.abc.Mapping[str, numpy.ndarray]) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray, dict[str, typing.Any]]:
        """
        `out`: the arrays that were handed to send, to be returned in their places.
        """
    def render(self) -> list[numpy.ndarray]:
        ...
    def reset(self, seeds: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], mask: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], out: collections.abc.Mapping[str, numpy.ndarray]) -> tuple[numpy.ndarray, dict[str, typing.Any]]:
        ...
    def send(self, actions: typing.Any, env_id: typing.Any, out: collections.abc.Mapping[str, numpy.ndarray]) -> None:
        ...
    def set_state(self, state: bytes, env_ids: typing.Any) -> None:
        ...
    def stats(self) -> dict[str, int]:
        ...
    def step(self, actions: typing.Any, out: collections.abc.Mapping[str, numpy.ndarray]) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray, dict[str, typing.Any]]:
        ...
    @property
    def action_bounds(self) -> list[typing.Annotated[list[float], "FixedSize(2)"]]:
        """
        Lowest and highest value of each float of an action; empty: an action is an integer.
        """
    @property
    def can_render(self) -> bool:
        ...
    @property
    def config(self) -> PoolConfig:
        ...
    @property
    def max_seed(self) -> int:
        ...
    @property
    def num_actions(self) -> int:
        ...
    @property
    def obs_high(self) -> int:
        ...
    @property
    def obs_shape(self) -> tuple[int, ...]:
        ...
class AtariGame:
    """
    What is known of a game before its ROM is read.
    """
    @property
    def difficulties(self) -> list[int]:
        ...
    @property
    def legal_actions(self) -> list[int]:
        ...
    @property
    def md5(self) -> str:
        """
        Of the image that ale-py ships.
        """
    @property
    def minimal_actions(self) -> list[int]:
        ...
    @property
    def modes(self) -> list[int]:
        """
        The first is the default.
        """
    @property
    def name(self) -> str:
        """
        ale-py's name of the ROM.
        """
    @property
    def size(self) -> int:
        """
        Bytes that an image has at least.
        """
def atari_games() -> list[AtariGame]:
    """
    Every game that the native console plays.
    """
def gae(rewards: numpy.ndarray, values: numpy.ndarray, next_values: numpy.ndarray, terminated: numpy.ndarray, truncated: numpy.ndarray, gamma: typing.SupportsFloat | typing.SupportsIndex, gae_lambda: typing.SupportsFloat | typing.SupportsIndex, out: numpy.ndarray) -> None:
    """
    Fills out (T, N) float32 with generalized advantage estimates; see fastrl.ops.gae.
    """
def make_atari(config: PoolConfig, cartridges: collections.abc.Sequence[tuple[str, bytes]], action_set: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], options: dict[str, typing.Any]) -> Pool:
    """
    A pool whose environment i plays cartridge i % len(cartridges): (name, image). The images must be those of the games' md5. `action_set`: what action i does.
    """
def register_games(add: typing.Any) -> None:
    """
    Calls add(id, num_actions, obs_shape, factory) for every game.
    """
