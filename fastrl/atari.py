"""Atari on the native console: options, ROMs, and pools of one or several games.

Observations, rewards, flags and infos are those of `ale_py.AtariVectorEnv` 0.12.1, byte for byte;
tests/oracle/test_atari_pool.py holds them to it. The ROMs are ale-py's own; it is loaded when a
pool is made, to say where they are.

Lost lives, as ale-py has them:

- `life_loss_info=True`: a lost life sets `terminated` and the game goes on; `game_over` is false.
  This is the episodic life of DQN and CleanRL.
- `episodic_life=True`: a lost life ends the game and a new one starts, with all lives. Games are
  one life long, and so are their returns; `game_over` is true.

Everywhere `game_over` means that a new game starts next: in `NextStep` the step after it is the
reset.
"""

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np

from fastrl import _core
from fastrl.pool import EnvPool

ACTION_MEANINGS = (
    "NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN",
    "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT", "UPFIRE", "RIGHTFIRE",
    "LEFTFIRE", "DOWNFIRE", "UPRIGHTFIRE", "UPLEFTFIRE", "DOWNRIGHTFIRE", "DOWNLEFTFIRE",
)  # fmt: skip
"""ALE's names of actions 0 to 17."""


def _camel(rom: str) -> str:
    """`space_invaders` to `SpaceInvaders`."""
    return rom.title().replace("_", "")


GAMES: Mapping[str, _core.AtariGame] = {_camel(game.name): game for game in _core.atari_games()}
"""The games by their name in `ALE/<name>-v5`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AleOptions:
    """Options of `ale_py.AtariVectorEnv` 0.12.1: its names, its defaults."""

    frameskip: int = 4
    """Frames per agent step; the action is repeated."""
    repeat_action_probability: float = 0.0
    """Probability, per frame, that the previous action is used again (sticky actions)."""
    max_num_frames_per_episode: int = 108_000
    """Frames after which a game is truncated: 30 minutes."""
    noop_max: int = 30
    """A game starts with a random number of no-ops, below this."""
    use_fire_reset: bool = True
    """A game with a FIRE action gets it in place of the first no-op."""
    episodic_life: bool = False
    """A lost life ends the game, and a new game starts (see the module)."""
    life_loss_info: bool = False
    """A lost life sets `terminated`, and the game goes on (see the module)."""
    reward_clipping: bool = True
    """The reward is clipped to [-1, 1]; `info["reward"]` is not."""
    full_action_space: bool = False
    """All 18 actions instead of those that the game uses."""
    continuous: bool = False
    """Actions are (radius, angle, fire) of a stick instead of a number."""
    continuous_action_threshold: float = 0.5
    """Where the stick and the button count as pressed."""
    img_height: int = 84
    """Rows of an observation."""
    img_width: int = 84
    """Columns of an observation."""
    grayscale: bool = True
    """Gray (stack, H, W) instead of RGB (stack, H, W, 3)."""
    stack_num: int = 4
    """Newest frames in an observation."""
    maxpool: bool = True
    """A frame is the maximum of the last two emulated ones."""
    thread_affinity_offset: int = -1
    """First CPU that threads are pinned to; -1 does not pin."""

    def __post_init__(self) -> None:
        """Refuses what ale-py would crash or hang on."""
        lowest = {"noop_max": 0, "thread_affinity_offset": -1}
        for field in fields(AleOptions):
            name, value, kind = field.name, getattr(self, field.name), cast(Any, field.type)
            if (kind is bool) != isinstance(value, bool):
                raise ValueError(f"{name} must be {kind.__name__}, got {value!r}")
            if kind is int:
                least = lowest.get(name, 1)
                if not isinstance(value, int | np.integer) or value < least:
                    raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
            if kind is float and not (
                isinstance(value, int | float | np.number) and 0.0 <= value <= 1.0
            ):
                raise ValueError(f"{name} must be in [0, 1], got {value!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AtariOptions(AleOptions):
    """Options of the native console: those of `AtariVectorEnv` and what ALE has beside it."""

    stack_num: int = 0
    """Newest frames in an observation; 0: 4 pictures, or 1 RAM."""
    mode: int | None = None
    """Game mode, one that ALE lists for the game; None: its default."""
    difficulty: int | None = None
    """Difficulty, one that ALE lists for the game; None: 0."""
    obs_type: Literal["screen", "ram"] = "screen"
    """ram: an observation is the console's memory, (128,) or (stack, 128), and nothing is drawn."""
    render_mode: Literal["rgb_array"] | None = None
    """For `gymnasium.make_vec`; it changes nothing: `render` always works."""
    rom_path: str | Path | None = None
    """An image of the game's ROM; None: the one that ale-py ships."""
    translate: Literal["on", "off"] = "on"
    """on: ROMs become machine code (x86-64 Linux); off: an interpreter runs them. Only the speed
    depends on it."""

    def __post_init__(self) -> None:
        """Refuses values that no game has.

        Raises:
            ValueError: A value is out of range; the message names both.
        """
        if self.obs_type not in ("screen", "ram"):
            raise ValueError(f"obs_type must be 'screen' or 'ram', got {self.obs_type!r}")
        if self.render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {self.render_mode!r}")
        if self.translate not in ("on", "off"):
            raise ValueError(f"translate must be 'on' or 'off', got {self.translate!r}")
        if self.stack_num == 0:
            object.__setattr__(self, "stack_num", 1 if self.obs_type == "ram" else 4)
        AleOptions.__post_init__(self)
        for name in ("mode", "difficulty"):
            value = getattr(self, name)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0
            ):
                raise ValueError(f"{name} must be an integer >= 0 or None, got {value!r}")
        if self.rom_path is not None and not isinstance(cast(Any, self.rom_path), str | Path):
            raise ValueError(f"rom_path must be a path or None, got {self.rom_path!r}")
        if self.thread_affinity_offset != -1:
            raise ValueError(
                f"thread_affinity_offset={self.thread_affinity_offset!r}: the native backend does "
                "not pin threads; allowed is -1"
            )


_Options = TypeVar("_Options", bound=AleOptions)


def ale_game(id: str) -> _core.AtariGame:
    """The game of "ALE/<game>-v5".

    Raises:
        ValueError: The id is not one.
    """
    name = id.removeprefix("ALE/").removesuffix("-v5")
    if id != f"ALE/{name}-v5" or name not in GAMES:
        raise ValueError(f"'{id}' is not ALE/<game>-v5 with a game of fastrl.atari.GAMES")
    return GAMES[name]


def make_options(kind: type[_Options], options: Mapping[str, Any]) -> _Options:
    """The options as a dataclass.

    Raises:
        ValueError: An option is unknown or out of range.
    """
    allowed = [field.name for field in fields(kind)]
    if unknown := sorted(set(options) - set(allowed)):
        raise ValueError(f"no option {', '.join(unknown)}; ALE games have {', '.join(allowed)}")
    return kind(**options)


def make_atari(ids: Sequence[str], config: _core.PoolConfig, **options: Any) -> EnvPool:
    """A pool in which environment i plays `ids[i % len(ids)]`.

    Args:
        ids: "ALE/<game>-v5".
        config: Its id is what the pool is called.
        options: See `AtariOptions`.

    Raises:
        ValueError: An option or the ROM does not fit.
    """
    games = [ale_game(id) for id in ids]
    chosen = make_options(AtariOptions, options)
    if chosen.rom_path is not None and len(set(ids)) > 1:
        raise ValueError(f"rom_path is one game's, but the pool has {', '.join(ids)}")
    images = {game.name: _read_rom(game, chosen.rom_path) for game in games}
    actions = action_set(games, chosen)
    passed: dict[str, Any] = {
        field.name: getattr(chosen, field.name)
        for field in fields(AleOptions)
        if field.name not in ("full_action_space", "thread_affinity_offset")
    }
    for name in ("mode", "difficulty"):
        value = getattr(chosen, name)
        passed[name] = -1 if value is None else value
    passed["ram"] = chosen.obs_type == "ram"
    cartridges = [(game.name, images[game.name]) for game in games]
    core = _core.make_atari(config, cartridges, actions, passed, chosen.translate == "on")
    return EnvPool(
        core,
        ids=ids,
        action_meanings=tuple(ACTION_MEANINGS[action] for action in actions),
    )


def action_set(games: Sequence[_core.AtariGame], options: AleOptions) -> list[int]:
    """What the numbers of actions mean: the games' set if they have the same, else all 18."""
    full = options.full_action_space or options.continuous
    sets = [game.legal_actions if full else game.minimal_actions for game in games]
    return sets[0] if all(one == sets[0] for one in sets) else list(range(18))


def _read_rom(game: _core.AtariGame, given: str | Path | None) -> bytes:
    if given is None:
        roms: Any = importlib.import_module("ale_py.roms")  # untyped
        path = Path(roms.get_rom_path(game.name))
    else:
        path = Path(given)
    try:
        image = path.read_bytes()
    except OSError as error:
        raise ValueError(f"rom_path={str(path)!r} cannot be read: {error.strerror}") from error
    md5 = hashlib.md5(image, usedforsecurity=False).hexdigest()
    if md5 != game.md5:
        raise ValueError(
            f"rom_path={str(path)!r} has {len(image)} bytes with md5 {md5}, which is not the ROM "
            f"of {game.name} that this console knows: that has md5 {game.md5} and "
            f"at least {game.size} bytes"
        )
    return image
