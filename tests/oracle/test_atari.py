"""The native Atari 2600 in lockstep with ale-py, frame by frame.

lockstep.py says what is compared. `make test` plays one game of every cartridge type and controller
and begins all 104; the slow tests play every mode of all of them (atari_exactness.py).
"""

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from atari_exactness import Check, run_game
from atari_native import MACHINES, build
from atari_vectors import GAMES, Native, differences, golden_rows, read
from lockstep import Pair, held_actions, rom_path

CONSOLE_VECTORS = read("atari_console.json")


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    """Every test runs on every console."""
    return request.param


# A game for every cartridge type, controller and oddity that a game is known to use.
CORNERS = {
    "breakout": "2K, a paddle, the stack in the TIA",
    "pong": "two pairs of paddles, swapped",
    "backgammon": "a paddle that is read frames after its dump",
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


@pytest.mark.parametrize("game", CORNERS)
def test_a_game_of_every_kind_is_the_one_ale_plays(game: str, machine: str) -> None:
    Pair(game, machine=machine).play(240, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("game", GAMES)
def test_every_mode_and_difficulty_of_a_game_is_the_one_ale_plays(game: str, machine: str) -> None:
    num_frames = 2_000 if machine == "plain" else 20_000
    assert run_game(machine, game, num_frames) == []


@pytest.mark.parametrize("game", GAMES)
def test_a_game_begins_with_the_numbers_of_ale(game: str, machine: str) -> None:
    def load(game: str, **settings: Any) -> Native:
        return Native(game, machine, **settings)

    expected = CONSOLE_VECTORS[game]
    first = {**expected, "rows": expected["rows"][:2]}
    assert list(differences(first, golden_rows(load, game, 60))) == []


@pytest.mark.parametrize(
    ("game", "mode", "difficulty"),
    [("adventure", 2, 3), ("berzerk", 3, 0), ("double_dunk", 5, 0), ("klax", 1, 0), ("pong", 1, 3)],
)
def test_a_mode_is_chosen_as_ale_chooses_it(
    game: str, mode: int, difficulty: int, machine: str
) -> None:
    pair = Pair(game, machine=machine)
    pair.set_mode(mode)
    pair.set_difficulty(difficulty)
    pair.reset()
    pair.play(60, seed=3)


def test_frame_skip_and_reward_limits_are_those_of_ale(machine: str) -> None:
    Pair("boxing", machine=machine, frame_skip=5, reward_min=-1, reward_max=1).play(120, seed=4)


def test_the_frame_limit_is_that_of_ale(machine: str) -> None:
    pair = Pair("pong", machine=machine, frame_skip=4, max_num_frames_per_episode=50)
    pair.play(40, seed=5)


def test_an_illegal_action_is_none_as_in_ale(machine: str) -> None:
    Pair("skiing", machine=machine).play(120, seed=5)


def test_losing_a_life_truncates_as_in_ale(machine: str) -> None:
    Pair("road_runner", machine=machine, truncate_on_loss_of_life=True, frame_skip=4).play(
        80, seed=6
    )


def test_a_paddle_turns_as_far_as_in_ale(machine: str) -> None:
    Pair("kaboom", machine=machine, repeat_action_probability=0.0).play(120, seed=7, strength=0.7)


@pytest.mark.parametrize("game", ["pong", "pitfall2", "elevator_action"])
def test_a_restored_snapshot_plays_on_as_if_never_left(game: str, machine: str) -> None:
    assert Check(machine, game, "snapshot", "60 acts", frames=60).run()["ok"]


# Programs of our own. ale-py takes any 4 KB image whose file has the name of a game it knows.

Program = Callable[[int], bytes]
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


def timer_program(seed: int) -> bytes:
    """A frame of timers that run out just before or after somebody reads them."""
    source = random.Random(seed)
    code = bytearray((0xA2, 0xFF, 0x9A, 0xA9, 2, 0x85, VSYNC))
    for block in range(100):
        if block == 10:
            code.extend((0xA9, 0, 0x85, VSYNC))
        every_cycle_or_8 = source.choice((0x94, 0x95))
        code.extend((0xA9, source.randrange(4), 0x8D, every_cycle_or_8, 0x02))
        for _ in range(source.randrange(1, 4)):
            for _ in range(source.randrange(6)):
                code.extend(source.choice(((0xEA,), (0x04, 0x80))))  # Two cycles or three.
            intim_or_instat = source.choice((0x84, 0x84, 0x85))
            code.extend((0xAD, intim_or_instat, 0x02, 0x85, source.randrange(0x80, 0xF0)))
    code.extend((0x4C, 0x00, 0xF0))
    return image_of(code)


def frame_program(seed: int) -> bytes:
    """Frames of any length: cut short, ended late, or too long for one update.

    With an odd seed the button jams the processor, and the picture stays as far as it is.
    """
    source = random.Random(seed)
    code = bytearray((0xA2, 0xFF, 0x9A))

    def lines(most: int) -> None:
        """A stripe of colour; no store but to WSYNC."""
        code.extend((0xA9, source.randrange(256), 0x85, 0x09, 0xA2, source.randint(1, most)))
        code.extend((0x85, WSYNC, 0xCA, 0xD0, 0xFB))

    def vsync() -> None:
        """For less than a line, about a line, or more."""
        code.extend((0xA9, 2, 0x85, VSYNC))
        code.extend(source.choice(((0x85, WSYNC), (0x85, WSYNC) * 3, (0x04, 0x80))))
        for _ in range(source.choice((0, source.randrange(38)))):
            code.append(0xEA)
        code.extend((0xA9, 0, 0x85, VSYNC))

    def wait() -> None:
        """Up to 50,000 instructions, of which none is for the TIA."""
        code.extend((0xA0, source.randint(1, 100), 0xA2, 0, 0xCA, 0xD0, 0xFD, 0x88, 0xD0, 0xF8))

    for register in (*range(0x04, 0x0A), *range(0x0D, 0x10), *range(0x1B, 0x20)):
        shown = register < 0x0A or source.random() < 0.3  # Few objects, so that some are alone.
        code.extend((0xA9, source.randrange(256) if shown else 0, 0x85, register))
    for i in range(40):
        if seed % 2 == 1 and i % 8 == 0:
            lines(100)
            code.extend((0xA5, 0x0C, 0x30, 0x01, 0x02))
        source.choice((lambda: lines(40), lambda: lines(120), lambda: lines(255), vsync, wait))()
        if source.random() < 0.2:
            vsync()
    code.extend((0x4C, 0x00, 0xF0))
    return image_of(code)


def sweep_program(seed: int) -> bytes:
    """Writes that come a cycle later on every line, so that each meets the beam everywhere."""
    source = random.Random(seed)
    code = bytearray((0xA2, 0xFF, 0x9A))
    for address in range(0x80, 0xC0):
        code.extend((0xA9, source.randrange(256), 0x85, address))
    frame = 0xF000 + len(code)
    code.extend((0xA9, 2, 0x85, VSYNC, *(0x85, WSYNC) * 3, 0xA9, 0, 0x85, VSYNC, 0x85, VBLANK))
    for register in (*range(0x04, 0x0C), *range(0x0D, 0x10), *range(0x1B, 0x28)):
        code.extend((0xA5, source.randrange(0x80, 0xC0), 0x85, register))
    for part in range(6):
        for register in range(0x1D, 0x20):  # Missiles and ball are there.
            code.extend((0xA9, 2, 0x85, register))
        code.extend((0xA9, 39, 0x85, 0xF8, 0x85, WSYNC))
        loop = 0xF000 + len(code)
        code.extend((0xE6, source.randrange(0x80, 0xC0)))
        cycles = 5 + 5 + 2 + 3
        for _ in range(7):
            register = source.choice((0x2A, 0x2A, *range(0x10, 0x15), *range(0x04, 0x2D)))
            if register not in range(0x15, 0x1B):  # Sound.
                code.extend((0xA5, source.randrange(0x80, 0xC0), 0x85, register))
                cycles += 6
        code.extend((0x04, 0x80) if cycles % 2 == 0 else ())
        cycles += 3 if cycles % 2 == 0 else 0
        code.extend((0xEA,) * ((77 - cycles) // 2))
        code.extend((0xC6, 0xF8, 0xF0, 0x03, 0x4C, loop & 0xFF, loop >> 8))
        for register in range(0x08):  # Who has met?
            code.extend((0xA5, register, 0x85, 0xC0 + 8 * part + register))
        code.extend((0x85, 0x2C))
    code.extend((0x4C, frame & 0xFF, frame >> 8))
    return image_of(code)


def strobe_program(seed: int) -> bytes:
    """Positions that are reset, a few cycles after an HMOVE, while it is still at work."""
    source = random.Random(seed)
    code = bytearray((0xA2, 0xFF, 0x9A, 0xA9, 2, 0x85, VSYNC, *(0x85, WSYNC) * 3))
    for register in (VBLANK, VSYNC):
        code.extend((0xA9, 0, 0x85, register))
    for register in (0x06, 0x07, 0x08, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F):  # Colours, everything shown.
        code.extend((0xA9, source.randrange(256) | 2, 0x85, register))

    def wait(cycles: int) -> None:
        code.extend((0x04, 0x80) if cycles % 2 else ())
        code.extend((0xEA,) * ((cycles - 3 * (cycles % 2)) // 2))

    delays = (0, *range(2, 19))
    every = list(itertools.product((0, 2, 3), delays, range(0x10, 0x15)))
    random.Random(0).shuffle(every)
    for before, after, strobe in every[seed % 3 :: 3]:
        code.extend((0xA9, source.randrange(256), 0x85, source.randrange(0x20, 0x25), 0x85, WSYNC))
        wait(before)
        code.extend((0x85, 0x2A))
        wait(after)
        code.extend((0x85, strobe, 0x85, WSYNC))
        if source.random() < 0.3:  # A missile leaves its player.
            missile = source.randrange(2)
            code.extend((0xA9, source.randrange(8), 0x85, 0x04 + missile))
            code.extend((0xA9, 2, 0x85, 0x28 + missile, 0xA9, 0, 0x85, 0x28 + missile))
    code.extend((0x4C, 0x00, 0xF0))
    return image_of(code)


WAIT_LINES = (0x85, WSYNC, 0xCA, 0xD0, 0xFB)
"""As many as X says."""


class LineCode(bytearray):
    """Machine code that draws line by line."""

    FRAMES = 0xF0
    """Where a program counts its frames."""

    def in_frames(self, mask: int, which: int, *what: int) -> None:
        """Takes a part of a line: what follows the next WSYNC stays where it is."""
        self.extend((0xA5, self.FRAMES, 0x29, mask, 0xC9, which, 0xD0, len(what), *what))

    def store(self, value: int, *registers: int) -> None:
        self.extend((0xA9, value))
        for register in registers:
            self.extend((0x85, register))

    def begin_frame(self, *registers: int) -> None:
        """These registers are 0 then, too."""
        self.store(2, VSYNC)
        self.extend((0x85, WSYNC) * 3)
        self.store(0, VSYNC, VBLANK, *registers)

    def lines(self, count: int) -> None:
        self.extend((0xA2, count, *WAIT_LINES))

    def gather(self) -> None:
        """Every object is wide, and at the same place."""
        self.store(0x37, 0x04, 0x05)
        self.store(0x30, 0x0A)
        self.extend((0x85, WSYNC, *(0xEA,) * 20))
        for strobe in range(0x10, 0x15):
            self.extend((0x85, strobe))


def meeting_program(seed: int) -> bytes:
    """Frames in which two objects meet, that ask who has met, or that clear the latches.

    All at random: what is read may have happened long ago.
    """
    source = random.Random(seed)
    code = LineCode((0xA2, 0xFF, 0x9A))

    code.gather()
    start = 0xF000 + len(code)
    shapes = [(0x1B,), (0x1C,), (0x1D,), (0x1E,), (0x1F,), (0x0D, 0x0E, 0x0F)]
    for i in range(24):
        code.begin_frame()
        code.lines(40)
        pair = source.sample(shapes, 2) if source.random() < 0.5 else []
        events = [lambda pair=pair: code.store(0xFF, *(x for shape in pair for x in shape))]
        if source.random() < 0.2:
            events.append(lambda: code.extend((0x85, 0x2C)))
        if source.random() < 0.4:
            asked = [x for pin in range(8) for x in (0xA5, pin, 0x85, 0x80 + (8 * i + pin) % 112)]
            events.append(lambda asked=asked: code.extend(asked))
        if source.random() < 0.4:  # Seen for a part of a line: before, among or behind the others.
            shape = source.choice(shapes)

            def glimpse(shape: tuple[int, ...] = shape, wait: int = source.randrange(32)) -> None:
                code.extend((0x85, WSYNC, *(0xEA,) * wait))
                code.store(0xFF, *shape)
                code.store(0, *shape)

            events.append(glimpse)
        source.shuffle(events)
        count = 40
        for event in events:
            event()
            count += (height := source.randint(1, 20))
            code.lines(height)
        code.store(0, *range(0x1B, 0x20), 0x0D, 0x0E, 0x0F)
        code.lines(source.randint(225, 235) - count)
        for _ in range(10):  # About the last line of the picture: a comb for the next one.
            if source.random() < 0.2:
                code.extend((*(0xEA,) * 34, 0x85, 0x2A))
            code.lines(1)
    code.extend((0x4C, start & 0xFF, start >> 8))
    return image_of(code)


def latent_program(seed: int) -> bytes:
    """Frames in which objects come and go by every register that shows or hides them.

    Every line changes one of them, moves one, clears the latches or asks for some, or does nothing.
    """
    source = random.Random(seed)
    code = LineCode((0xA2, 0xFF, 0x9A))

    for colour, register in ((0x1E, 0x06), (0x5E, 0x07), (0x9E, 0x08), (0x02, 0x09)):
        code.store(colour, register)
    code.gather()
    start = 0xF000 + len(code)
    shown = [*range(0x1B, 0x20), *range(0x25, 0x2A), 0x0D, 0x0E, 0x0F] * 2
    shown += [VBLANK, *range(0x04, 0x0D)]
    for _ in range(2):
        code.begin_frame(0x0D, 0x0E, 0x0F)
        code.lines(36)
        for _ in range(140):
            code.extend((0x85, WSYNC, *(0xEA,) * source.choice((0, 0, 0, 8, 24))))
            draw = source.random()
            if draw < 0.55:
                code.store(source.choice((0, 0, 2, 0x37, 0xFF)), source.choice(shown))
            elif draw < 0.65:
                code.extend((0x85, source.choice((*range(0x10, 0x15), 0x2A))))
                if source.random() < 0.5:  # A copy may be hidden on this line.
                    code.store(0xFF, source.choice((0x1B, 0x1C)))
            elif draw < 0.7:
                code.extend((0x85, 0x2C))
            elif draw < 0.85:
                code.extend((0xA5, source.randrange(8), 0x85, source.randrange(0x80, 0xF0)))
        code.lines(80)
    code.extend((0x4C, start & 0xFF, start >> 8))
    return image_of(code)


def steady_program(seed: int) -> bytes:
    """The same frame again and again: but objects move, and some frames do or ask for more."""
    source = random.Random(seed)
    code = LineCode((0xA2, 0xFF, 0x9A))

    def in_some_frames(*what: int) -> None:
        code.in_frames(source.choice((1, 3, 7, 15)), source.choice((0, 1)), *what)

    for colour, register in ((0x1E, 0x06), (0x5E, 0x07), (0x9E, 0x08), (0x02, 0x09)):
        code.store(colour, register)
    code.gather()
    for motion in range(0x20, 0x25):
        code.store(source.choice((0, 0, 0x10, 0xF0, 0x30)), motion)
    start = 0xF000 + len(code)
    shown = [*range(0x1B, 0x20), 0x0D, 0x0E, 0x0F]
    code.begin_frame(*shown)
    code.store(0xFF, *source.sample(shown, 2))
    code.extend((0xE6, code.FRAMES))
    code.lines(36)
    count = 39
    while count < 220:
        draw = source.random()
        if draw < 0.25:
            code.store(source.choice((0, 0xFF)), source.choice(shown))
        elif draw < 0.45:
            in_some_frames(0xA9, source.choice((0, 0xFF)), 0x85, source.choice(shown))
        elif draw < 0.48:
            code.extend((0x85, 0x2C))
        elif draw < 0.5:
            in_some_frames(0x85, 0x2C)
        elif draw < 0.6:
            code.store(source.choice((0, 0x02, 0x80, 0x82)), VBLANK)
        elif draw < 0.9:
            pin = source.randrange(12)
            in_some_frames(0xA5, pin, 0x85, 0x80 + pin)
        else:
            code.extend((0x85, WSYNC, 0x85, 0x2A))
            count += 1
        count += (height := source.randint(1, 8))
        code.lines(height)
    code.store(2, VBLANK)
    code.lines(max(1, 262 - count))
    code.extend((0x4C, start & 0xFF, start >> 8))
    return image_of(code)


def mirrored_program(seed: int) -> bytes:
    """Lines in which nothing happens, after the playfield was mirrored at the end of a line.

    In every frame the objects, all in one place, are further to the left.
    """
    source = random.Random(seed)
    code = LineCode((0xA2, 0xFF, 0x9A))
    for colour, register in ((0x1E, 0x06), (0x5E, 0x07), (0x9E, 0x08), (0x02, 0x09)):
        code.store(colour, register)
    code.gather()
    code.store(source.choice((0x10, 0x20)), *range(0x20, 0x25))
    code.store(0x5A, 0x0D, 0x0E)
    start = 0xF000 + len(code)
    code.begin_frame(0x1B, 0x1D)
    code.extend((0xE6, code.FRAMES, 0x85, WSYNC, 0x85, 0x2A))
    code.lines(36)
    count = 40
    while count < 200:
        code.in_frames(15, source.randrange(16), 0xA9, source.choice((0x44, 0x46)), 0x85, 0x09)
        heights = [source.randint(*some) for some in ((1, 5), (5, 14), (1, 4), (1, 9))]
        code.lines(heights[0])
        code.extend((0x85, WSYNC, *(0xEA,) * 23))
        code.store(source.choice((0x30, 0x31)), 0x0A)
        code.lines(heights[1])
        shown = source.choice((0x1B, 0x1D))
        code.store(0xFF, shown)
        code.lines(heights[2])
        code.store(0, shown)
        code.lines(heights[3])
        count += 1 + sum(heights)
    code.store(2, VBLANK)
    code.store(0x02, 0x09)
    code.lines(max(1, 262 - count))
    code.extend((0x4C, start & 0xFF, start >> 8))
    return image_of(code)


def forgotten_program(seed: int) -> bytes:
    """Every frame clears the latches; two objects meet in few frames, and few frames ask."""
    source = random.Random(seed)
    code = LineCode((0xA2, 0xFF, 0x9A))
    heights = [source.randint(6, 40) for _ in range(4)]

    def lines_of_colours(count: int) -> None:
        code.extend((0xA2, count, 0x86, 0x09, 0x85, WSYNC, 0xCA, 0xD0, 0xF9))

    code.gather()
    start = 0xF000 + len(code)
    shown, other = source.sample((0x1B, 0x1C, 0x1D, 0x1E, 0x1F, 0x0D), 2)
    meet, ask = source.sample(range(8), 2)
    questions = [x for pin in range(8) for x in (0xA5, pin, 0x85, 0x80 + pin)]
    code.begin_frame(*range(0x1B, 0x20), 0x0D)
    code.store(0xFF, shown)
    code.extend((0xE6, code.FRAMES))
    code.lines(40)
    code.in_frames(7, ask, *questions)
    lines_of_colours(heights[0])
    code.store(0, 0x2C)
    lines_of_colours(heights[1])
    code.in_frames(7, meet, 0xA9, 0xFF, 0x85, other)
    lines_of_colours(heights[2])
    code.in_frames(7, meet, *questions)
    lines_of_colours(heights[3])
    code.store(0, other)
    lines_of_colours(219 - sum(heights))
    code.extend((0x4C, start & 0xFF, start >> 8))
    return image_of(code)


def star_program(seed: int) -> bytes:
    """Frames in which missile 0 becomes the stars of Cosmic Ark, and others."""
    source = random.Random(seed)
    code = LineCode((0xA2, 0xFF, 0x9A))
    hmm0 = 0x22

    code.store(0x1E, 0x06)
    code.gather()
    start = 0xF000 + len(code)
    code.begin_frame()
    code.extend((0xE6, code.FRAMES))
    code.store(2, 0x1D)
    code.lines(source.randint(36, 60))
    make = (0xA9, 0x70, 0x85, hmm0, 0x85, WSYNC, 0x85, 0x2A, 0xA9, 0x60, *(0xEA,) * 8, 0x85, hmm0)
    code.in_frames(source.choice((1, 3, 7)), source.choice((0, 1)), *make)
    code.lines(source.randint(1, 40))
    for _ in range(source.randint(4, 30)):
        code.extend((0x85, WSYNC, *(0xEA,) * source.choice((0, 4, 12, 24))))
        draw = source.random()
        if draw < 0.4:
            code.store(source.choice((0x20, 0x20, 0x20, 0x07)), 0x04)
        elif draw < 0.5:
            code.extend((0x85, 0x12))
        elif draw < 0.6:
            code.store(source.choice((0, 2)), 0x1D)
        elif draw < 0.7:
            code.store(source.choice((0, 0xFF)), 0x0D, 0x0F)
        elif draw < 0.9:
            code.extend((0xA5, source.randrange(8), 0x85, source.randrange(0x80, 0xF0)))
        elif draw < 0.93:
            code.extend((0x85, 0x2A))
        code.lines(source.randint(1, 4))
    code.lines(source.choice((60, 100)))
    code.extend((0x4C, start & 0xFF, start >> 8))
    return image_of(code)


def busy_program(seed: int) -> bytes:
    """Frames that tell the TIA more than is remembered of one, and others."""
    source = random.Random(seed)
    code = LineCode((0xA2, 0xFF, 0x9A))

    code.gather()
    start = 0xF000 + len(code)
    code.begin_frame()
    code.extend((0xE6, code.FRAMES))
    code.lines(source.randint(30, 50))
    code.store(source.randrange(256), 0x06, 0x0D, source.choice((0x0E, 0x1B, 0x1D, 0x1F)))
    two_colours = (0x86, 0x09, 0x84, 0x09)
    repeat = (0x38, 0xE9, 0x01, 0xD0, 0xBB)
    busy = (0xA2, 0x1E, 0xA0, 0x44, 0xA9, 120, *two_colours * 16, *repeat)  # 3,840, in 165 lines
    mask = source.choice((1, 3))
    which = source.randint(0, mask)
    for frame in range(mask + 1):
        code.in_frames(mask, frame, *(busy if frame == which else (0xA2, 165, *WAIT_LINES)))
    if source.random() < 0.5:
        code.extend((0xA5, source.randrange(8), 0x85, source.randrange(0x80, 0xF0)))
    code.extend((0xA5, code.FRAMES, 0x85, 0x09))
    code.lines(source.randint(30, 50))
    code.extend((0x4C, start & 0xFF, start >> 8))
    return image_of(code)


def indexed_program(seed: int) -> bytes:
    """Registers that are chosen by an index or changed where they are, and calls by BRK."""
    source = random.Random(seed)
    # BRK comes here: the P that it has pushed and the one that it leaves are added to $F1.
    code = LineCode((0x4C, 0x11, 0xF0, 0x68, 0x48, 0x65, 0xF1, 0x2A, 0x85, 0xF1))
    code.extend((0x08, 0x68, 0x65, 0xF1, 0x85, 0xF1, 0x40))
    code.extend((0xA2, 0xFF, 0x9A))
    code.gather()
    start = 0xF000 + len(code)
    code.begin_frame()
    code.lines(40)
    for _ in range(110):
        code.extend((0x85, WSYNC, *(0xEA,) * source.choice((0, 0, 4, 20))))
        value = source.choice((0, 0, 2, 0x37, 0xFF, source.randrange(256)))
        first = source.randrange(WSYNC, 0x2D)
        index = source.choice((0, 0, 1, 1, 2, 4, 8, 0x90 - first))
        draw = source.random()
        if draw < 0.25:  # STA first,X
            code.extend((0xA2, index, 0xA9, value, 0x95, first))
        elif draw < 0.4:  # STY first,X
            code.extend((0xA2, index, 0xA0, value, 0x94, first))
        elif draw < 0.55:  # STX first,Y
            code.extend((0xA0, index, 0xA2, value, 0x96, first))
        elif draw < 0.75:  # ASL, ROL, LSR, ROR, DEC, INC
            change = source.choice((0x06, 0x26, 0x46, 0x66, 0xC6, 0xE6))
            if source.random() < 0.8:
                code.extend((change, first))
            else:
                code.extend((change | 0x08, source.choice((0x80, 0x81, 0x82, 0x83)), 0x02))
        elif draw < 0.85:
            code.extend((source.choice((0x18, 0x38)), 0xA9, value, 0x00, 0xEA))
        else:
            code.extend((0xA5, source.randrange(8), 0x85, source.randrange(0x80, 0xF0)))
    code.lines(100)
    code.extend((0x4C, start & 0xFF, start >> 8))
    image = bytearray(image_of(code))
    image[0xFFE:] = bytes((0x03, 0xF0))
    return bytes(image)


def odd_place_program(seed: int) -> bytes:
    """A stack in the TIA, and code that runs through its registers into memory."""
    source = random.Random(seed)
    code = bytearray((0xA9, 2, 0x85, VSYNC, *(0x85, WSYNC) * 3, 0xA9, 0, 0x85, VSYNC))
    code.extend((0x85, WSYNC) * 40)
    for _ in range(60):
        code.extend((0xA2, source.choice((2, 3, 4, 0x0F, 0x1D, 0x2B, 0x30)), 0x9A))
        for _ in range(source.randrange(4)):
            behind = 0xF000 + len(code) + 3
            call = (0x20, behind & 0xFF, behind >> 8)
            code.extend(source.choice((call, (0x48,), (0x08,), (0x68,), (0x28,))))
        code.extend((0xEA,) * source.randrange(4))
        code.extend((0xA9, source.randrange(256), 0x85, 0x09))
    # In memory at $FE: STA; at $80 and $81: NOP; at $82: JMP back. Between them the TIA, in which
    # the byte on the bus makes a NOP of three bytes.
    in_memory = (0x85, 0xC0, 0xEA, 0xEA, 0x4C, 0x00, 0xF0)
    for address, value in zip((*range(0xFE, 0x100), *range(0x80, 0x85)), in_memory, strict=True):
        code.extend((0xA9, value, 0x85, address))
    # With the button down the store is one to the TIA, so late that it ends the frame: the byte
    # on the bus is then the last one that the rules have read, the one at $FF.
    code.extend((0xA5, 0x0C, 0x30, 14, 0xA9, 0x0C, 0x85, 0xFF))
    code.extend((0xA0, 20, 0xA2, 0, 0xCA, 0xD0, 0xFD, 0x88, 0xD0, 0xF8))
    code.extend((0xA2, 0xF0, 0x9A, 0xA9, 0x0C, 0x4C, 0xFE, 0x00))
    return image_of(code)


def memory_program(seed: int) -> bytes:
    """Code in memory, in pieces that jump to one another by any mirror; $F0 says which ones."""
    source = random.Random(seed)
    code = bytearray((0x4C, 0x0B, 0xF0, 0xA5, 0xFF, 0x65, 0xF0, 0x2A, 0x85, 0xF0, 0x60))
    call = (0x20, 0x03, 0xF0)  # The high byte of where it returns to is added to $F0.
    code.extend((0xA2, 0xFF, 0x9A, 0xA9, 2, 0x85, VSYNC, *(0x85, WSYNC) * 3))
    code.extend((0xA9, 0, 0x85, VSYNC, *(0x85, WSYNC) * 40))
    # Branches, and what the fast processor leaves to the plain one.
    first = [(opcode, 0) for opcode in range(0x10, 0x100, 0x20)]
    first += [(0xEA,), (0x83, 0xC0), (0xC9, source.randrange(256)), (0x0B, source.randrange(256))]
    pieces = [(*source.choice(first), *call * source.randrange(2)) for _ in range(8)]
    order = source.sample(range(8), 8)
    ram = [0x80 + 8 * piece + (source.randrange(32) << 8 & 0xD00) for piece in range(8)]
    ram = [address | source.randrange(8) << 13 for address in ram]
    targets = {piece: ram[behind] for piece, behind in itertools.pairwise(order)}
    for piece in range(8):
        target = targets.get(piece, 0xF000)
        jump = (0x4C, target & 0xFF, target >> 8)
        for address, value in enumerate((*pieces[piece], *jump), 0x80 + 8 * piece):
            code.extend((0xA9, value, 0x85, address))
    target = ram[order[0]]
    code.extend((0x4C, target & 0xFF, target >> 8))
    return image_of(code)


def bus_program(seed: int) -> bytes:
    """The byte that is left on the bus is the next opcode, BRK: a loop through the TIA."""
    code = bytearray((0xA9, 2, 0x85, VSYNC, *(0x85, WSYNC) * 3, 0xA9, 0x0C, 0x85, VSYNC))
    code.extend((0x85, WSYNC) * 60)
    code.extend((0xE6, 0x90, 0xA2, 0xF0, 0x9A, 0xA0, 0, 0x84, 0xC0))
    match seed:
        case 0:  # A load at the very end of memory.
            for address, value in zip(range(0xFD, 0x100), (0xB9, 0xC0, 0x00), strict=True):
                code.extend((0xA9, value, 0x85, address))
            code.extend((0x4C, 0xFD, 0x04))
        case 1:  # A jump.
            code.extend((0x4C, 0x10, 0x00))
        case 2:  # A jump through memory.
            code.extend((0xA9, 0x10, 0x85, 0xB0, 0x84, 0xB1, 0x6C, 0xB0, 0x00))
        case 3:  # A return.
            code.extend((0x98, 0x48, 0xA9, 0x10, 0x48, 0x60))
        case _:  # A call.
            code.extend((0x20, 0x10, 0x00))
    return image_of(code)


def image_of(code: bytes) -> bytes:
    """4 KB that begin with the code and start it."""
    image = bytearray(4096)
    image[: len(code)] = code
    image[0xFFC:] = bytes((0x00, 0xF0, 0x00, 0xF0))
    return bytes(image)


def play_program(
    machine: str, seed: int, folder: Path, num_frames: int, program: Program = random_program
) -> None:
    image = folder / "krull.bin"
    image.write_bytes(program(seed))
    pair = Pair("krull", image, machine, repeat_action_probability=0.0)
    pair.game = f"program {seed}"
    for action in held_actions(seed, num_frames):
        pair.act(action)
        if pair.over:
            break


@pytest.mark.parametrize("seed", range(8))
def test_a_random_program_runs_as_in_ale(seed: int, tmp_path: Path, machine: str) -> None:
    play_program(machine, seed, tmp_path, 10)


@pytest.mark.parametrize("seed", range(2))
def test_a_timer_runs_out_as_in_ale(seed: int, tmp_path: Path, machine: str) -> None:
    play_program(machine, seed, tmp_path, 5, timer_program)


@pytest.mark.parametrize("seed", range(6))
def test_a_write_at_any_clock_does_as_in_ale(seed: int, tmp_path: Path, machine: str) -> None:
    play_program(machine, seed, tmp_path, 10, sweep_program)


@pytest.mark.parametrize("seed", range(3))
def test_a_strobe_after_hmove_does_as_in_ale(seed: int, tmp_path: Path, machine: str) -> None:
    play_program(machine, seed, tmp_path, 10, strobe_program)


@pytest.mark.parametrize("seed", range(4))
def test_who_has_met_is_known_as_long_as_in_ale(seed: int, tmp_path: Path, machine: str) -> None:
    play_program(machine, seed, tmp_path, 100, meeting_program)


@pytest.mark.parametrize("seed", range(4))
def test_what_comes_and_goes_is_met_as_in_ale(seed: int, tmp_path: Path, machine: str) -> None:
    play_program(machine, seed, tmp_path, 40, latent_program)


def test_stack_and_code_in_the_registers_do_as_in_ale(tmp_path: Path, machine: str) -> None:
    play_program(machine, 0, tmp_path, 20, odd_place_program)


@pytest.mark.parametrize("seed", range(6))
def test_code_in_memory_runs_as_in_ale(seed: int, tmp_path: Path, machine: str) -> None:
    play_program(machine, seed, tmp_path, 10, memory_program)


@pytest.mark.parametrize(
    "program", [steady_program, mirrored_program, forgotten_program, star_program, busy_program]
)
@pytest.mark.parametrize("seed", range(4))
def test_frame_after_frame_is_that_of_ale(
    seed: int, program: Program, tmp_path: Path, machine: str
) -> None:
    play_program(machine, seed, tmp_path, 80, program)


@pytest.mark.parametrize("seed", range(6))
def test_registers_by_an_index_are_those_of_ale(seed: int, tmp_path: Path, machine: str) -> None:
    play_program(machine, seed, tmp_path, 20, indexed_program)


@pytest.mark.parametrize("seed", range(5))
def test_the_byte_left_on_the_bus_is_that_of_ale(seed: int, tmp_path: Path, machine: str) -> None:
    play_program(machine, seed, tmp_path, 20, bus_program)


@pytest.mark.parametrize("seed", range(6))
def test_a_frame_ends_as_in_ale(seed: int, tmp_path: Path, machine: str) -> None:
    play_program(machine, seed, tmp_path, 60, frame_program)


# The fast consoles against the plain one: more than ale-py shows, and frames that nobody looks at.

FAST_MACHINES = [machine for machine in MACHINES if machine != "plain"]


def where_consoles_part(machine: str, game: str, num_frames: int, seed: int) -> str:
    image = rom_path(game).read_bytes()
    return getattr(build(), machine).part(game, image, True, num_frames, seed)


def where_programs_part(
    machine: str, seed: int, program: Program = random_program, num_frames: int = 40
) -> str:
    return getattr(build(), machine).part("krull", program(seed), False, num_frames, seed)


@pytest.mark.parametrize("fast", FAST_MACHINES)
@pytest.mark.parametrize("game", CORNERS)
def test_the_fast_console_of_a_game_of_every_kind_is_the_plain_one(game: str, fast: str) -> None:
    for seed in (11, 12):  # In greys, too.
        assert where_consoles_part(fast, game, 400, seed) == ""


def rehearsed_resets(machine: str, game: str, num_resets: int) -> tuple[int, str]:
    """Frames that were taken from the rehearsal, and where it parts from the plain console."""
    image = rom_path(game).read_bytes()
    return getattr(build(), machine).part_after_resets(game, image, True, num_resets, 200, seed=5)


@pytest.mark.parametrize("fast", FAST_MACHINES)
@pytest.mark.parametrize(
    ("game", "num_rehearsed"),
    [("breakout", 804), ("qbert", 792), ("klax", 756), ("seaquest", 198), ("berzerk", 63)],
)
def test_a_reset_that_is_rehearsed_ends_as_one_that_is_played(
    game: str, num_rehearsed: int, fast: str
) -> None:
    assert rehearsed_resets(fast, game, 12) == (num_rehearsed, "")


@pytest.mark.parametrize("fast", FAST_MACHINES)
def test_a_picture_from_before_the_end_of_a_rehearsal_is_not_taken_for_that_of_the_end(
    fast: str,
) -> None:
    code = LineCode((0xA2, 0xFF, 0x9A))
    code.store(0, code.FRAMES)
    start = 0xF000 + len(code)
    code.begin_frame()
    code.store(0x44, 0x09)
    code.extend((0xA5, code.FRAMES, 0xC9, 8, 0x90, 8, 0xC9, 68, 0xB0, 4))
    code.store(0x88, 0x09)  # In frames 8 to 67.
    # The timer, which a reset sets at random: consoles meet before frame 4.
    code.in_frames(0xFF, 2, 0x8D, 0x96, 0x02)
    code.extend((0xE6, code.FRAMES))
    code.lines(60)
    for colour in range(2, 42, 2):
        code.store(colour, 0x06)
        code.lines(4)
    code.lines(119)
    code.extend((0x4C, start & 0xFF, start >> 8))
    machine = getattr(build(), fast)
    assert machine.part_after_resets("krull", image_of(code), False, 12, 60, seed=5) == (771, "")


@pytest.mark.slow
@pytest.mark.parametrize("fast", FAST_MACHINES)
@pytest.mark.parametrize("game", GAMES)
def test_rehearsed_resets_of_every_game_end_as_played_ones(game: str, fast: str) -> None:
    assert rehearsed_resets(fast, game, 40)[1] == ""


@pytest.mark.slow
@pytest.mark.parametrize("fast", FAST_MACHINES)
@pytest.mark.parametrize("game", GAMES)
def test_the_fast_console_of_every_game_is_the_plain_one(game: str, fast: str) -> None:
    assert where_consoles_part(fast, game, 5000, seed=12) == ""


@pytest.mark.parametrize("fast", FAST_MACHINES)
@pytest.mark.parametrize(
    ("program", "seeds", "num_frames"),
    [
        (random_program, range(2000, 2060), 40),
        (meeting_program, range(80), 60),
        (latent_program, range(120), 24),
        (steady_program, range(80), 80),
        (mirrored_program, range(100), 60),
        (forgotten_program, range(40), 80),
        (star_program, range(40), 24),
        (busy_program, range(20), 40),
        (frame_program, range(20), 60),
        (memory_program, range(60), 8),
        (indexed_program, range(80), 8),
    ],
)
def test_the_fast_console_runs_programs_as_the_plain_one(
    program: Program, seeds: range, num_frames: int, fast: str
) -> None:
    for seed in seeds:
        assert where_programs_part(fast, seed, program, num_frames) == "", seed


@pytest.mark.slow
@pytest.mark.parametrize("fast", FAST_MACHINES)
def test_the_fast_console_runs_many_random_programs_as_the_plain_one(fast: str) -> None:
    for seed in range(3000, 5000):
        assert where_programs_part(fast, seed) == "", seed


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(20))
def test_many_random_programs_run_as_in_ale(batch: int, tmp_path: Path, machine: str) -> None:
    for seed in range(1000 + 50 * batch, 1050 + 50 * batch):
        play_program(machine, seed, tmp_path, 20)
