"""Films of games: what a screen shows, or else observations, MinAtar and Catch as cells."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

CELL = 32
"""Side of a grid cell in pixels."""
FRAME_SCALE = 4
"""An Atari frame of 84 x 84 is drawn at 336 x 336."""
SCREEN_SCALE = (2, 4)
"""Down and across: a television shows the 160 pixels of a line twice as wide as high."""
SMALLEST_FRAME = 36
"""Observations at least this wide and high are frames; smaller ones are grids of cells."""

# One colour per channel of a grid (MinAtar has at most ten); background is near black.
PALETTE = np.array(
    [
        (94, 201, 98), (253, 231, 37), (239, 84, 84), (86, 156, 239), (214, 116, 224),
        (255, 158, 66), (72, 209, 204), (240, 240, 240), (160, 110, 60), (150, 150, 150),
    ],
    dtype=np.uint8,
)  # fmt: skip
BACKGROUND = np.array((18, 18, 24), dtype=np.uint8)


class MissingVideoSupport(ValueError):
    """imageio-ffmpeg is not installed."""


def draw(obs: Image) -> Image:
    """A picture of one observation.

    Args:
        obs: (stack, H, W) or (stack, H, W, 3) frames, of which the newest is drawn, or a grid of
            zeros and ones, (H, W, C) or (1, H, W). Where channels overlap the last one is seen.

    Returns:
        (height, width, 3) RGB with even sides.

    Raises:
        ValueError: The observation is not a picture (RAM, for example).
    """
    if obs.ndim in (3, 4) and min(obs.shape[1:3]) >= SMALLEST_FRAME:
        newest = obs[-1] if obs.ndim == 4 else np.repeat(obs[-1][..., None], 3, axis=-1)
        picture = newest.repeat(FRAME_SCALE, axis=0).repeat(FRAME_SCALE, axis=1)
    elif obs.ndim == 3:
        cells = obs.transpose(1, 2, 0) if obs.shape[0] == 1 else obs
        picture = _draw_cells(cells).repeat(CELL, axis=0).repeat(CELL, axis=1)
    else:
        raise ValueError(f"observations of shape {obs.shape} are not pictures: no video of them")
    return np.ascontiguousarray(picture)


def enlarge(screen: Image) -> Image:
    """A screen (H, W, 3), as `EnvPool.render` gives it, at (2 * H, 4 * W, 3)."""
    down, across = SCREEN_SCALE
    return screen.repeat(down, axis=0).repeat(across, axis=1)


class VideoWriter:
    """Writes pictures of one size into an MP4 file, which appears when the film is complete."""

    def __init__(self, path: Path, *, frames_per_second: float) -> None:
        """Checks what can be checked before the first game is played.

        Raises:
            MissingVideoSupport: imageio-ffmpeg is not installed.
            ValueError: The name does not end in .mp4, or nothing can be written there.
        """
        if path.suffix != ".mp4":
            raise ValueError(f"a video's name must end in .mp4, got {path}")
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise ValueError(f"cannot write {path}: the folder must exist and be writable")
        _imageio_ffmpeg()
        self.path = path
        self._beside = path.with_name(f".{path.stem}.part.mp4")
        self._rate = frames_per_second
        self._stream: Any = None

    def write(self, picture: Image) -> None:
        """Appends a picture (height, width, 3), both sides even."""
        if self._stream is None:
            height, width, _ = picture.shape
            self._stream = _imageio_ffmpeg().write_frames(
                str(self._beside),
                (width, height),
                fps=self._rate,
                macro_block_size=2,
                ffmpeg_log_level="error",
            )
            self._stream.send(None)
        self._stream.send(picture)

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the film and moves it into place; drops it when an exception passes."""
        if self._stream is None:
            return
        self._stream.close()
        if kind is None:
            self._beside.replace(self.path)
        else:
            self._beside.unlink(missing_ok=True)


def _draw_cells(cells: Image) -> Image:
    """(H, W, C) zeros and ones to (H, W, 3) colours."""
    channels = cells.shape[-1]
    last = channels - 1 - np.flip(cells != 0, axis=-1).argmax(axis=-1)
    colours = PALETTE[last % len(PALETTE)]
    return np.where(cells.any(axis=-1, keepdims=True), colours, BACKGROUND)


def _imageio_ffmpeg() -> Any:
    try:
        import imageio_ffmpeg  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise MissingVideoSupport(
            "--video needs imageio-ffmpeg, which is not installed: pip install 'fastrl[video]'"
        ) from None
    return cast(Any, imageio_ffmpeg)
