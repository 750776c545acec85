"""The native observation against ale-py: colours, and every kind of resize.

ale_py.AtariVectorEnv is a black box. One that observes the screen in its own size gives the source
images; one with the same seed and actions and another size must give what the native resize makes
of them, byte for byte.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import native_module
import numpy as np
import pytest
from ale_py import ALEInterface, AtariVectorEnv, LoggerMode, roms
from numpy.typing import NDArray

Image = NDArray[np.uint8]

# The height of the screen, of every height there is.
GAMES = {"pong": 210, "carnival": 214, "pooyan": 220, "journey_escape": 230, "air_raid": 250}
SIZES = {
    (84, 84): "the usual one",
    (210, 160): "NTSC: a copy",
    (250, 160): "PAL: a copy; NTSC: taller",
    (105, 80): "NTSC: blocks of 2 x 2",
    (125, 80): "PAL: blocks of 2 x 2",
    (70, 40): "NTSC: blocks of 3 x 4",
    (42, 40): "NTSC: blocks of 5 x 4",
    (50, 32): "PAL: blocks of 5 x 5",
    (210, 80): "NTSC: blocks of 1 x 2",
    (105, 160): "NTSC: blocks of 2 x 1",
    (6, 5): "NTSC: blocks of 35 x 32",
    (1, 1): "one block, or one area",
    (1, 160): "a row",
    (210, 1): "a column",
    (96, 96): "areas",
    (64, 64): "areas across, or down and across",
    (83, 37): "primes",
    (110, 80): "areas down, blocks across",
    (105, 81): "blocks down, areas across",
    (209, 159): "a little smaller",
    (211, 161): "a little larger",
    (250, 200): "enlarged",
    (420, 320): "NTSC: doubled",
    (500, 160): "taller: PAL doubled",
    (210, 320): "wider",
    (210, 161): "a little wider",
    (160, 210): "shorter and wider",
    (84, 320): "shorter and doubled",
    (300, 84): "taller and narrower",
    (499, 331): "enlarged, primes",
}


@cache
def observed(game: str, height: int, width: int, grey: bool) -> Image:
    """(frames, height, width) bytes, or (frames, height, width, 3)."""
    ALEInterface.setLoggerMode(LoggerMode.Error)
    envs = AtariVectorEnv(
        game=game,
        num_envs=1,
        img_height=height,
        img_width=width,
        grayscale=grey,
        stack_num=1,
        num_threads=1,
    )
    source = np.random.default_rng(5)
    frames = [envs.reset(seed=3)[0]]
    for _ in range(8):
        actions = source.integers(0, envs.single_action_space.n, 1)
        frames.append(envs.step(actions)[0])
    envs.close()
    return np.concatenate(frames)[:, 0]


def check(game: str, height: int, width: int, *, grey: bool) -> None:
    native = native_module.build("atari_image", "atari")
    sources = observed(game, GAMES[game], 160, grey)
    theirs = observed.__wrapped__(game, height, width, grey)
    assert len(sources) == len(theirs) == 9
    assert len(np.unique(sources)) > 2
    for i, (source, expected) in enumerate(zip(sources, theirs, strict=True)):
        for plain in (True, False):
            ours = native.resized(source, height, width, plain)
            assert np.array_equal(ours, expected), f"image {i}, {plain=}: {first(ours, expected)}"


def first(ours: Image, theirs: Image) -> str:
    where = tuple(np.argwhere(ours != theirs)[0].tolist())
    return f"{ours[where]} instead of {theirs[where]} at {where}"


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("game", ["pong", "air_raid"])
def test_a_grey_image_is_resized_as_in_ale(game: str, height: int, width: int) -> None:
    check(game, height, width, grey=True)


@pytest.mark.parametrize(
    ("height", "width"),
    [
        (84, 84),
        (210, 160),
        (105, 80),
        (42, 40),
        (105, 160),
        (1, 1),
        (83, 37),
        (250, 200),
        (84, 320),
    ],
)
def test_a_colour_image_is_resized_as_in_ale(height: int, width: int) -> None:
    check("pong", height, width, grey=False)


@pytest.mark.parametrize("game", ["carnival", "pooyan", "journey_escape"])
def test_a_screen_of_any_height_is_resized_as_in_ale(game: str) -> None:
    for height, width in ((84, 84), (GAMES[game] // 2, 80), (100, 100)):
        check(game, height, width, grey=True)
    check(game, 84, 84, grey=False)


@pytest.mark.slow
@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("game", GAMES)
def test_every_image_is_resized_as_in_ale(game: str, height: int, width: int, grey: bool) -> None:
    check(game, height, width, grey=grey)


def images(shape: tuple[int, ...]) -> list[Image]:
    """Noise, and what gives many halves to round: few values, two values, stripes."""
    source = np.random.default_rng(7)
    pictures = [source.integers(0, 256, shape)]
    pictures += [source.choice(source.integers(0, 256, n), shape) for n in (2, 3, 8)]
    pictures += [source.choice([0, 255], shape), np.full(shape, 255)]
    for axis in (0, 1):
        lines = source.integers(0, 256, [n if i == axis else 1 for i, n in enumerate(shape)])
        pictures.append(np.broadcast_to(lines, shape))
    steps = np.zeros(shape, int)  # Every third row is the one above, but for one pixel.
    for y in range(0, shape[0], 3):
        steps[y, source.integers(0, shape[1])] = source.integers(1, 256)
    pictures.append(np.cumsum(steps, axis=0) % 256)
    return [picture.astype(np.uint8) for picture in pictures]


VECTORS = ["none", "avx2", "avx512", "vbmi"]


@pytest.fixture(params=range(len(VECTORS)), ids=VECTORS)
def at_a_level(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The native module, which uses these vector instructions and no better ones."""
    native = native_module.build("atari_image", "atari")
    if request.param > native.best_vectors:
        pytest.skip(f"this processor has no {VECTORS[request.param]}")
    native.use_vectors(request.param)
    yield native
    native.use_vectors(native.best_vectors)


@pytest.mark.parametrize("height", [*range(200, 251), 63, 100])
def test_the_fast_resize_is_the_plain_one(at_a_level: Any, height: int) -> None:
    native = at_a_level
    sizes = [(84, 84), (83, 84), (64, 64), (96, 96), (1, 1), (2, 159), (height, 160), (300, 200)]
    sizes += [(84, 16), (84, 40), (height, 100)]
    for width, channels in ((160, 1), (160, 3), (41, 1), (96, 1)):
        for image in images((height, width, channels)):
            for size in sizes:
                fast, plain = (native.resized(image, *size, plain) for plain in (False, True))
                assert np.array_equal(fast, plain), (image.shape, size, first(fast, plain))


def screen_pairs() -> list[tuple[Image, Image]]:
    """Two frames a pair: noise, stripes, and what changes little from row to row and in time.

    Of every colour, and of even ones: others are rare on a screen.
    """
    source = np.random.default_rng(9)
    pairs = [tuple(source.integers(0, 256, (2, rows, 160))) for rows in (210, 3)]
    for change in (0.001, 0.05):
        rows = source.integers(0, 256, 160)[None].repeat(210, axis=0)
        screens = []
        for _ in range(2):
            rows = np.where(source.random(rows.shape) < change, source.integers(0, 256), rows)
            screens.append(rows)
        pairs.append(tuple(screens))
    odd = source.random((210, 1)) < 0.1
    pairs += [tuple(screen & (0xFE | odd[: len(screen)]) for screen in pair) for pair in pairs]
    return [(first.astype(np.uint8), second.astype(np.uint8)) for first, second in pairs]


@pytest.mark.parametrize("pal", [False, True])
def test_colours_are_looked_up(at_a_level: Any, pal: bool) -> None:
    native = at_a_level
    palettes = json.loads((native_module.ROOT / "envs/atari/palettes.json").read_text())
    hexadecimal = palettes["pal" if pal else "ntsc"]
    grey = np.frombuffer(bytes.fromhex("".join(hexadecimal["grey"])), np.uint8)
    rgb = np.frombuffer(bytes.fromhex("".join(hexadecimal["rgb"])), np.uint8).reshape(256, 3)
    for screen, other in screen_pairs():
        assert np.array_equal(native.grey(pal, screen), grey[screen])
        assert np.array_equal(native.rgb(pal, screen), rgb[screen])
        for greys, table in ((True, grey), (False, rgb)):
            expected = np.maximum(table[screen], table[other])
            for older, plain in ((None, False), (other, False), (other, True)):
                out = table[other].copy()
                changed = (out != expected).reshape(len(out), -1).any(axis=1)
                rows = [True] * len(out)
                assert native.pool(pal, greys, screen, older, out, plain, rows) == changed.tolist()
                assert np.array_equal(out, expected)


@pytest.mark.parametrize("plain", [False, True])
def test_only_rows_that_may_have_changed_are_pooled(at_a_level: Any, plain: bool) -> None:
    native = at_a_level
    draws = np.random.default_rng(0)
    before = draws.integers(0, 256, size=(2, 210, 160), dtype=np.uint8)
    after = before.copy()
    rows = draws.random(210) < 0.3
    after[:, rows] = draws.integers(0, 256, size=(2, rows.sum(), 160), dtype=np.uint8)
    after[0, ~rows] ^= 1  # They are not looked at.
    out, whole = np.zeros((2, 210, 160), np.uint8)
    everywhere = [True] * 210
    native.pool(False, True, before[0], before[1], out, plain, everywhere)
    kept = out.copy()
    changed = native.pool(False, True, after[0], after[1], out, plain, rows.tolist())
    native.pool(False, True, after[0], after[1], whole, plain, everywhere)
    np.testing.assert_array_equal(out[rows], whole[rows])
    np.testing.assert_array_equal(out[~rows], kept[~rows])
    np.testing.assert_array_equal(changed, (out != kept).any(axis=1))


@pytest.mark.parametrize("size", [(84, 84), (63, 37), (105, 80), (250, 200)])
def test_only_what_changed_is_resized(at_a_level: Any, size: tuple[int, int]) -> None:
    native = at_a_level
    source = np.random.default_rng(11)
    # Bands that come again: a line is the same as the last one resized, not as the one above.
    bands = source.choice(np.array([10, 200], np.uint8), (30, 42, 1)).repeat(5, 1).repeat(160, 2)
    pictures = [*images((210, 160)), *bands]
    last = native.resized(pictures[0], *size, plain=True)
    image = pictures[0].copy()
    for picture in pictures:
        changed = (source.random(21) < source.choice([0.0, 0.1, 0.5])).repeat(10)
        image = np.where(changed[:, None], picture, image)
        expected = native.resized(image, *size, plain=True)
        last = native.updated(image, last, changed.tolist())
        assert np.array_equal(last, expected), first(last, expected)


@pytest.mark.parametrize("size", [(0, 84), (84, -1)])
def test_a_size_must_be_positive(size: tuple[int, int]) -> None:
    native = native_module.build("atari_image", "atari")
    with pytest.raises(ValueError, match=f"must be positive, got {min(size)}"):
        native.resized(np.zeros((210, 160), np.uint8), *size, plain=False)


# Programs of our own. ale-py takes any 4 KB image whose file has the name of a game it knows.

NTSC, PAL, PAL_WITH_COLOUR_LOSS = 262, 312, 313  # Lines to a frame; an odd number loses colour.


def bands(lines: int, frames: int | None = None) -> bytes:
    """Every line in another colour; after `frames` the processor stops in the middle of one."""
    half = (lines - 3) // 2
    code = bytes.fromhex(f"A9 {frames or 0:02X} 85 80 A2 FF 9A")
    start = len(code)
    code += bytes.fromhex("A9 02 85 00 85 02 85 02 85 02 A9 00 85 00 85 01")  # VSYNC, three lines.
    for count in (half, lines - 3 - half):
        code += bytes.fromhex(f"A2 {count:02X}")
        code += bytes.fromhex("84 09 85 02 C8 C8 CA D0 F7")  # COLUBK = Y, WSYNC, Y += 2
        if frames and count == half:
            code += bytes.fromhex("C6 80 D0 01 02")  # Jams.
    code += bytes((0x4C, start, 0xF0))
    return code.ljust(0xFFC, b"\xea") + bytes((0x00, 0xF0, 0x00, 0xF0))


@cache
def screens(image: bytes, folder: Path) -> tuple[Image, Image, Image]:
    """Palette indices, greys and colours of 120 frames, one below the other."""
    path = folder / "krull.bin"
    path.write_bytes(image)
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.loadROM(str(path))
    frames = []
    for _ in range(120):
        ale.act(0)
        frames.append((ale.getScreen(), ale.getScreenGrayscale(), ale.getScreenRGB()))
    return tuple(np.concatenate(pictures) for pictures in zip(*frames, strict=True))


@pytest.mark.parametrize(
    ("lines", "frames", "reached"),
    [
        (NTSC, None, range(0, 256, 2)),
        (NTSC, 180, range(8)),  # A frame that does not end is greyed.
        (PAL, None, range(0, 256, 2)),
        (PAL_WITH_COLOUR_LOSS, None, range(1, 256, 2)),
        (PAL, 180, range(8)),
    ],
)
def test_every_colour_is_that_of_ale(
    lines: int, frames: int | None, reached: range, tmp_path: Path
) -> None:
    native = native_module.build("atari_image", "atari")
    indices, grey, rgb = screens(bands(lines, frames), tmp_path)

    assert set(reached) <= set(np.unique(indices).tolist())
    assert np.array_equal(native.grey(lines != NTSC, indices), grey)
    assert np.array_equal(native.rgb(lines != NTSC, indices), rgb)


@pytest.mark.parametrize("game", GAMES)
def test_the_colours_of_a_game_are_those_of_ale(game: str) -> None:
    native = native_module.build("atari_image", "atari")
    ale = ALEInterface()
    ale.loadROM(str(roms.get_rom_path(game)))
    for _ in range(60):
        ale.act(1)
        screen = ale.getScreen()
        assert screen.shape == (GAMES[game], 160)
        pal = game == "air_raid"
        assert np.array_equal(native.grey(pal, screen), ale.getScreenGrayscale())
        assert np.array_equal(native.rgb(pal, screen), ale.getScreenRGB())
