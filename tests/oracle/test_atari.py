"""The native Atari 2600 in lockstep with ale-py, frame by frame.

ale-py is a black box: it is given a cartridge, a seed and actions, and after every frame memory,
screen, reward, lives, end and frame counters must be the same bytes. Nothing is synchronised and
nothing has a tolerance. `make test` plays one game of every cartridge type and controller;
the slow tests play all 104 games and every mode.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ale_py import ALEInterface, LoggerMode, roms
from atari_native import ROOT, build

GAMES = sorted(json.loads((ROOT / "envs/atari/games.json").read_text())["games"])

# A game for every cartridge type, controller and oddity that a game is known to use.
CORNERS = {
    "breakout": "2K, a paddle, the stack in the TIA",
    "pong": "two pairs of paddles, swapped",
    "surround": "2K, swapped ports",
    "space_invaders": "4K",
    "journey_escape": "the star effect of Cosmic Ark, a window longer than the frame",
    "air_raid": "PAL, presses SELECT",
    "qbert": "frames that do not end",
    "asteroids": "F8, no HMOVE blanks, INSTAT",
    "elevator_action": "F8SC",
    "crossbow": "F6, memory that survives a reset",
    "klax": "F6SC, PAL, rules that read the cartridge's memory",
    "montezuma_revenge": "E0",
    "robotank": "FE, missiles reset after HMOVE",
    "pitfall2": "DPC",
    "adventure": "a mode program that draws random numbers",
}


class Pair:
    """Both machines, loaded alike; every method does the same to both and compares them."""

    def __init__(self, game: str, image: Path | None = None, **options: Any) -> None:
        known = image is None
        path = image or Path(roms.get_rom_path(game))
        settings = {"random_seed": 123, "repeat_action_probability": 0.25, "frame_skip": 1}
        settings |= options

        ALEInterface.setLoggerMode(LoggerMode.Error)
        self.theirs = ALEInterface()
        native_options = build().Options()
        for name, value in settings.items():
            match value:
                case bool():
                    self.theirs.setBool(name, value)
                case int():
                    self.theirs.setInt(name, value)
                case float():
                    self.theirs.setFloat(name, value)
            setattr(native_options, "seed" if name == "random_seed" else name, value)
        self.theirs.loadROM(str(path))
        self.ours = build().Session(game, path.read_bytes(), known, native_options)
        self.where = f"{game} after load"
        self.frames = 0
        self.compare()
        if known:
            self.compare_facts(game, path)

    def compare_facts(self, game: str, path: Path) -> None:
        facts = build().games[game]
        assert hashlib.md5(path.read_bytes()).hexdigest() == facts["md5"]
        minimal = [action.value for action in self.theirs.getMinimalActionSet()]
        legal = [action.value for action in self.theirs.getLegalActionSet()]
        assert (minimal, legal) == (facts["minimal_actions"], facts["legal_actions"]), game
        assert self.theirs.getAvailableModes() == facts["modes"], game
        assert self.theirs.getAvailableDifficulties() == facts["difficulties"], game

    def compare(self) -> None:
        theirs, ours = self.theirs, self.ours
        assert theirs.getRAM().tobytes() == ours.ram().tobytes(), f"{self.where}: RAM"
        ours_screen, screen = ours.screen(), theirs.getScreen()
        assert screen.shape == ours_screen.shape, f"{self.where}: size of the screen"
        if not np.array_equal(screen, ours_screen):
            y, x = np.argwhere(screen != ours_screen)[0]
            raise AssertionError(f"{self.where}: screen from row {y}, column {x}")
        state = (theirs.lives(), theirs.game_over(with_truncation=False), theirs.game_truncated())
        assert state == (ours.lives(), ours.terminal(), ours.truncated()), self.where
        frames = (theirs.getFrameNumber(), theirs.getEpisodeFrameNumber())
        assert frames == ours.frames(), f"{self.where}: frame numbers"

    def act(self, action: int, strength: float = 1.0) -> None:
        self.frames += 1
        self.where = f"{self.where.split()[0]} frame {self.frames}"
        theirs = self.theirs.act(action, strength)
        assert theirs == self.ours.act(action, strength), f"{self.where}: reward"
        self.compare()

    def reset(self) -> None:
        self.where = f"{self.where.split()[0]} reset after frame {self.frames}"
        self.theirs.reset_game()
        self.ours.reset()
        self.compare()

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


def held_actions(seed: int, num_frames: int) -> Iterator[int]:
    source = random.Random(seed)
    action, left = 0, 0
    for _ in range(num_frames):
        if left == 0:
            action, left = source.randrange(18), source.choice((1, 2, 4, 8, 16, 30))
        left -= 1
        yield action


@pytest.mark.parametrize("game", CORNERS)
def test_a_game_of_every_kind_is_the_one_ale_plays(game: str) -> None:
    Pair(game).play(240, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("sticky", [0.25, 0.0])
@pytest.mark.parametrize("game", GAMES)
def test_every_game_is_the_one_ale_plays(game: str, sticky: float) -> None:
    pair = Pair(game, repeat_action_probability=sticky)
    pair.play(5000, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_every_mode_and_difficulty_is_the_one_ale_plays(game: str) -> None:
    pair = Pair(game)
    facts = build().games[game]
    modes, difficulties = facts["modes"], facts["difficulties"]
    for i, mode in enumerate(modes if game != "video_cube" else modes[::10]):
        pair.set_mode(mode)
        pair.set_difficulty(difficulties[i % len(difficulties)])
        pair.reset()
        pair.play(300, seed=mode)


@pytest.mark.parametrize(
    ("game", "mode", "difficulty"),
    [("adventure", 2, 3), ("berzerk", 3, 0), ("double_dunk", 5, 0), ("klax", 1, 0), ("pong", 1, 3)],
)
def test_a_mode_is_chosen_as_ale_chooses_it(game: str, mode: int, difficulty: int) -> None:
    pair = Pair(game)
    pair.set_mode(mode)
    pair.set_difficulty(difficulty)
    pair.reset()
    pair.play(60, seed=3)


def test_frame_skip_and_reward_limits_are_those_of_ale() -> None:
    Pair("boxing", frame_skip=5, reward_min=-1, reward_max=1).play(120, seed=4)


def test_the_frame_limit_is_that_of_ale() -> None:
    Pair("pong", max_num_frames_per_episode=50).play(120, seed=5)


def test_losing_a_life_truncates_as_in_ale() -> None:
    Pair("assault", truncate_on_loss_of_life=True, frame_skip=4).play(250, seed=6)


def test_a_paddle_turns_as_far_as_in_ale() -> None:
    Pair("kaboom", repeat_action_probability=0.0).play(120, seed=7, strength=0.7)


@pytest.mark.parametrize("game", ["pong", "pitfall2", "elevator_action"])
def test_a_restored_snapshot_plays_on_as_if_never_left(game: str) -> None:
    image = Path(roms.get_rom_path(game)).read_bytes()
    session = build().Session(game, image, True, build().Options())
    saved = session.save()

    def play() -> list[bytes]:
        return [
            bytes([session.act(action) & 0xFF])
            + session.ram().tobytes()
            + session.screen().tobytes()
            for action in held_actions(8, 60)
        ]

    first = play()
    session.restore(saved)

    assert play() == first


# Programs of our own. ale-py takes any 4 KB image whose file has the name of a game it knows.

VSYNC, VBLANK, WSYNC = 0x00, 0x01, 0x02


def random_program(seed: int) -> bytes:
    """A frame loop full of random instructions: every register, opcode and clock comes up.

    It counts lines in $F8; what jumps is left out, the rest of the 256 opcodes is in.
    """
    source = random.Random(seed)
    code = bytearray()

    def store(value: int, address: int) -> None:
        code.extend((0xA9, value, 0x85, address))

    def instruction() -> None:
        kind = source.random()
        if kind < 0.45:  # Something for the TIA.
            register = source.choice((*range(0x03, 0x2D), *range(0x0D, 0x16), *range(0x1B, 0x2D)))
            if source.random() < 0.8:
                code.extend((0xA9, source.randrange(256)))
            code.extend((source.choice((0x85, 0x86, 0x84, 0x87)), register))
        elif kind < 0.55:  # What it collided with, or the timer, into memory.
            address = source.choice((*range(0x00, 0x10), 0x284, 0x285, 0x280, 0x282, 0x286))
            code.extend((0xAD, address & 0xFF, address >> 8, 0x85, source.randrange(0x80, 0xF0)))
        elif kind < 0.6:
            code.extend((0xA9, source.randrange(256), 0x8D, source.randrange(0x94, 0x98), 0x02))
        elif kind < 0.65:
            code.extend((source.choice((0xF8, 0xD8, 0x38, 0x18, 0x08, 0x48, 0x68, 0x28, 0x9A)),))
        else:
            opcode = source.choice(PLAIN_OPCODES)
            size = SIZES[opcode]
            code.append(opcode)
            if size == 2:
                code.append(source.choice((source.randrange(256), source.randrange(0x80, 0xF0))))
            elif size == 3:
                address = source.choice((source.randrange(0x80, 0xF0), source.randrange(0x2000)))
                code.extend((address & 0xFF, address >> 8))

    code.extend((0xA2, 0xFF, 0x9A))
    store(2, VSYNC)
    code.extend((0x85, WSYNC) * 3)
    store(source.choice((0, 0, 2, 0x80)), VBLANK)
    store(0, VSYNC)
    for _ in range(source.randrange(3, 6)):
        store(source.randrange(30, 80), 0xF8)
        start = len(code)
        for _ in range(source.randrange(4, 24)):
            instruction()
        if source.random() < 0.8:
            code.extend((0x85, WSYNC))
        loop = 0xF000 + start
        code.extend((0xC6, 0xF8, 0xF0, 0x03, 0x4C, loop & 0xFF, loop >> 8))
        if source.random() < 0.3:
            store(source.choice((0, 2, 0x80, 0x82)), VBLANK)
    code.extend((0x4C, 0x00, 0xF0))
    assert len(code) < 0xF00
    image = bytearray(source.randbytes(4096))
    image[: len(code)] = code
    image[0xFFC:] = bytes((0x00, 0xF0, 0x00, 0xF0))
    return bytes(image)


JAMS = {0x02, 0x12, 0x22, 0x32, 0x42, 0x52, 0x62, 0x72, 0x92, 0xB2, 0xD2, 0xF2}
JUMPS = {0x00, 0x20, 0x40, 0x60, 0x4C, 0x6C, *range(0x10, 0x100, 0x20)}
PLAIN_OPCODES = sorted(set(range(256)) - JAMS - JUMPS)
# The low five bits of an opcode say how long it is: the columns of any opcode chart.
COLUMN_SIZES = [2, 2, 2, 2, 2, 2, 2, 2, 1, 2, 1, 2, 3, 3, 3, 3]
COLUMN_SIZES += [2, 2, 2, 2, 2, 2, 2, 2, 1, 3, 1, 3, 3, 3, 3, 3]
SIZES = {opcode: COLUMN_SIZES[opcode & 0x1F] for opcode in range(256)}


def play_program(seed: int, folder: Path, num_frames: int) -> None:
    image = folder / "krull.bin"
    image.write_bytes(random_program(seed))
    pair = Pair("krull", image, repeat_action_probability=0.0)
    pair.where = f"program-{seed}"
    for action in held_actions(seed, num_frames):
        pair.act(action)
        if pair.over:
            break


@pytest.mark.parametrize("seed", range(8))
def test_a_random_program_runs_as_in_ale(seed: int, tmp_path: Path) -> None:
    play_program(seed, tmp_path, 10)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(20))
def test_many_random_programs_run_as_in_ale(batch: int, tmp_path: Path) -> None:
    for seed in range(1000 + 50 * batch, 1050 + 50 * batch):
        play_program(seed, tmp_path, 20)
