"""The native Atari 2600 and ale-py side by side: given the same, they must say the same.

ale-py is a black box: it is given a cartridge, a seed and actions, and after every frame memory,
screen, reward, lives, end and frame counters must be the same bytes. Nothing is synchronised and
nothing has a tolerance.
"""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ale_py import ALEInterface, LoggerMode, roms
from atari_native import build

NUM_ACTIONS = 18


class Difference(AssertionError):
    """The first frame on which the two are not the same, and how."""


def rom_path(game: str) -> Path:
    return Path(roms.get_rom_path(game))


def native_options(settings: dict[str, Any]) -> Any:
    """ale-py's settings as those of the native console."""
    options = build().Options()
    for name, value in settings.items():
        setattr(options, "seed" if name == "random_seed" else name, value)
    return options


def load_native(machine: str, game: str, **settings: Any) -> Any:
    """A bundled game on the native console alone."""
    image = rom_path(game).read_bytes()
    return getattr(build(), machine)(game, image, True, native_options(settings))


def load_ale(path: Path, **settings: Any) -> ALEInterface:
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    for name, value in settings.items():
        match value:
            case bool():
                ale.setBool(name, value)
            case int():
                ale.setInt(name, value)
            case float():
                ale.setFloat(name, value)
    ale.loadROM(str(path))
    return ale


class Pair:
    """Both machines, loaded alike; every method does the same to both and compares them."""

    def __init__(
        self, game: str, image: Path | None = None, machine: str = "plain", **options: Any
    ) -> None:
        known = image is None
        path = image or rom_path(game)
        settings = {"random_seed": 123, "repeat_action_probability": 0.25, "frame_skip": 1}
        settings |= options

        self.game = game
        self.theirs = load_ale(path, **settings)
        self.ours = getattr(build(), machine)(
            game, path.read_bytes(), known, native_options(settings)
        )
        self.frames = 0
        self._ram = np.zeros(self.theirs.getRAMSize(), np.uint8)
        self._screen = np.zeros(self.theirs.getScreenDims(), np.uint8)
        self._compare("after load")
        if known:
            self._compare_facts(path)

    def act(self, action: int, strength: float = 1.0) -> None:
        self.frames += 1
        theirs = self.theirs.act(action, strength)
        ours = self.ours.act(action, strength, self.frames % 4 >= 2)
        if theirs != ours:
            raise Difference(f"{self.game} frame {self.frames}: reward {ours}, not {theirs}")
        self._compare("frame")

    def reset(self) -> None:
        self.theirs.reset_game()
        self.ours.reset()
        self._compare("reset after frame")

    def set_mode(self, mode: int) -> None:
        self.theirs.setMode(mode)
        self.ours.mode = mode

    def set_difficulty(self, difficulty: int) -> None:
        self.theirs.setDifficulty(difficulty)
        self.ours.difficulty = difficulty

    @property
    def over(self) -> bool:
        return self.theirs.game_over()

    def play(self, num_frames: int, seed: int, strength: float = 1.0) -> None:
        """Random actions out of all 18, each held for a while; a reset when the game is over."""
        for action in held_actions(seed, num_frames):
            self.act(action, strength)
            if self.over:
                self.reset()

    def _compare(self, where: str) -> None:
        theirs = self.theirs
        theirs.getRAM(self._ram)
        theirs.getScreen(self._screen)
        counts = (
            theirs.lives(),
            theirs.game_over(with_truncation=False),
            theirs.game_truncated(),
            theirs.getFrameNumber(),
            theirs.getEpisodeFrameNumber(),
        )
        difference = self.ours.difference(self._ram, self._screen, counts)
        if difference:
            raise Difference(f"{self.game} {where} {self.frames}: {difference}")

    def _compare_facts(self, path: Path) -> None:
        facts = build().games[self.game]
        assert hashlib.md5(path.read_bytes()).hexdigest() == facts["md5"]
        minimal = [action.value for action in self.theirs.getMinimalActionSet()]
        legal = [action.value for action in self.theirs.getLegalActionSet()]
        assert (minimal, legal) == (facts["minimal_actions"], facts["legal_actions"]), self.game
        assert self.theirs.getAvailableModes() == facts["modes"], self.game
        assert self.theirs.getAvailableDifficulties() == facts["difficulties"], self.game


def held_actions(seed: int, num_frames: int) -> Iterator[int]:
    source = random.Random(seed)
    action, left = 0, 0
    for _ in range(num_frames):
        if left == 0:
            action, left = source.randrange(NUM_ACTIONS), source.choice((1, 2, 4, 8, 16, 30))
        left -= 1
        yield action
