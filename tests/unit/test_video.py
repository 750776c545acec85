"""Pictures of observations, and films of them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fastrl import video


def test_cells_take_the_colour_of_their_last_channel() -> None:
    grid = np.zeros((10, 10, 4), dtype=np.uint8)
    grid[2, 3, [0, 2]] = 1

    picture = video.draw(grid)

    assert picture.shape == (10 * video.CELL, 10 * video.CELL, 3)
    inside = picture[2 * video.CELL : 3 * video.CELL, 3 * video.CELL : 4 * video.CELL]
    assert (inside == video.PALETTE[2]).all()
    assert (picture[0, 0] == video.BACKGROUND).all()


def test_a_board_with_one_channel_in_front_is_a_grid() -> None:
    board = np.zeros((1, 10, 5), dtype=np.uint8)
    board[0, 9, 4] = 1

    picture = video.draw(board)

    assert picture.shape == (10 * video.CELL, 5 * video.CELL, 3)
    assert (picture[-1, -1] == video.PALETTE[0]).all()


@pytest.mark.parametrize("shape", [(4, 84, 84), (1, 84, 84), (4, 84, 84, 3)])
def test_the_newest_frame_of_a_stack_is_drawn(shape: tuple[int, ...]) -> None:
    frames = np.zeros(shape, dtype=np.uint8)
    frames[-1] = 200

    picture = video.draw(frames)

    assert picture.shape == (336, 336, 3)
    assert (picture == 200).all()


def test_ram_is_not_a_picture() -> None:
    with pytest.raises(ValueError, match=r"\(128,\) are not pictures"):
        video.draw(np.zeros(128, dtype=np.uint8))


def test_a_film_has_every_frame_and_appears_when_it_is_complete(tmp_path: Path) -> None:
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="the video extra")
    path = tmp_path / "film.mp4"

    with video.VideoWriter(path, frames_per_second=15) as film:
        for _ in range(12):
            film.write(video.draw(np.zeros((10, 10, 4), dtype=np.uint8)))
        assert not path.exists()

    frames, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
    assert frames == 12
    assert list(tmp_path.iterdir()) == [path]


def test_a_film_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="the video extra")

    def shoot() -> None:
        with video.VideoWriter(tmp_path / "film.mp4", frames_per_second=15) as film:
            film.write(video.draw(np.zeros((10, 10, 4), dtype=np.uint8)))
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        shoot()

    assert list(tmp_path.iterdir()) == []


def test_a_missing_encoder_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)

    with pytest.raises(video.MissingVideoSupport, match=r"pip install 'fastrl\[video\]'"):
        video.VideoWriter(tmp_path / "film.mp4", frames_per_second=15)


@pytest.mark.parametrize("name", ["film.gif", "missing/film.mp4"])
def test_a_place_that_cannot_hold_the_film_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        video.VideoWriter(tmp_path / name, frames_per_second=15)
