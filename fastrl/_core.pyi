"""
The native part of fastrl: environment pools and kernels.
"""
from __future__ import annotations
import collections.abc
import enum
import numpy
import typing
__all__: list[str] = ['AtariGame', 'Autoreset', 'Pool', 'PoolConfig', 'atari_games', 'blended_gae', 'blended_lambda', 'gae', 'lag_moments', 'lag_rewards', 'make_atari', 'register_games', 'variance_horizon']
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
def blended_gae(rewards: numpy.ndarray, values: numpy.ndarray, next_values: numpy.ndarray, terminated: numpy.ndarray, truncated: numpy.ndarray, error: numpy.ndarray, noise: numpy.ndarray, gamma: typing.SupportsFloat | typing.SupportsIndex, gae_lambda: typing.SupportsFloat | typing.SupportsIndex, unit: typing.SupportsFloat | typing.SupportsIndex, start: typing.SupportsFloat | typing.SupportsIndex, out: numpy.ndarray, lambdas: numpy.ndarray) -> None:
    """
    Fills out and lambdas, (T, N) float32; see fastrl.ops.blended_gae.
    """
def blended_lambda(error: numpy.ndarray, noise: numpy.ndarray, terminated: numpy.ndarray, truncated: numpy.ndarray, gamma: typing.SupportsFloat | typing.SupportsIndex, gae_lambda: typing.SupportsFloat | typing.SupportsIndex, unit: typing.SupportsFloat | typing.SupportsIndex, start: typing.SupportsFloat | typing.SupportsIndex, lambdas: numpy.ndarray) -> None:
    """
    Fills lambdas (T, N) float32; see fastrl.ops.blended_lambda.
    """
def gae(rewards: numpy.ndarray, values: numpy.ndarray, next_values: numpy.ndarray, terminated: numpy.ndarray, truncated: numpy.ndarray, gamma: typing.SupportsFloat | typing.SupportsIndex | numpy.ndarray, gae_lambda: typing.SupportsFloat | typing.SupportsIndex | numpy.ndarray, out: numpy.ndarray) -> None:
    """
    Fills out (T, N) float32 with generalized advantage estimates; see fastrl.ops.gae.
    """
def lag_moments(rewards: numpy.ndarray, means: numpy.ndarray, terminated: numpy.ndarray, truncated: numpy.ndarray, valid: numpy.ndarray, num_known: numpy.ndarray, moments: numpy.ndarray) -> None:
    """
    Fills num_known (H,) int64 and moments (3, H) float64: mean, variance, squared error.
    """
def lag_rewards(rewards: numpy.ndarray, terminated: numpy.ndarray, truncated: numpy.ndarray, index: numpy.ndarray, targets: numpy.ndarray, known: numpy.ndarray) -> None:
    """
    Fills targets (M, H) float32 and known (M, H) bool; see fastrl.ops.lag_rewards.
    """
def make_atari(config: PoolConfig, cartridges: collections.abc.Sequence[tuple[str, bytes]], action_set: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], options: dict[str, typing.Any], translate: bool = True) -> Pool:
    """
    A pool whose environment i plays cartridge i % len(cartridges): (name, image). The images must be those of the games' md5. `action_set`: what action i does. `translate`: run the cartridges as machine code; with FASTRL_VERIFY=1 in the environment the plain console runs beside each and their first difference raises RuntimeError.
    """
def register_games(add: typing.Any) -> None:
    """
    Calls add(id, num_actions, obs_shape, factory) for every game.
    """
def variance_horizon(rewards: numpy.ndarray, means: numpy.ndarray | None, next_means: numpy.ndarray, terminated: numpy.ndarray, truncated: numpy.ndarray, weights: numpy.ndarray, out: numpy.ndarray, num_sampled: typing.SupportsInt | typing.SupportsIndex) -> None:
    """
    Fills out (T, N) float32; see fastrl.ops.variance_horizon. Without means: the return.
    """
