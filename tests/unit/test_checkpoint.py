"""Checkpoints: whole or not at all, and believed only when intact."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from fastrl import checkpoint
from fastrl.checkpoint import CorruptCheckpointError

STATE: dict[str, Any] = {"policy": {"w": torch.arange(1000.0)}, "step": 3, "pool": None}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = checkpoint.path_for(tmp_path, 12)
    checkpoint.save(path, STATE)

    state = checkpoint.load(path)

    assert torch.equal(state["policy"]["w"], STATE["policy"]["w"])
    assert (state["step"], state["pool"]) == (3, None)
    assert checkpoint.latest(tmp_path) == path


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 90, 1000, 20000):
        checkpoint.save(checkpoint.path_for(tmp_path, step), STATE)
    assert [path.name for path in checkpoint.all_paths(tmp_path)] == [
        "step_000000020000.pt",
        "step_000000001000.pt",
    ]


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = checkpoint.path_for(tmp_path, 1)
    checkpoint.save(path, STATE)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])

    with pytest.raises(CorruptCheckpointError, match=path.name):
        checkpoint.load(path)


def test_one_flipped_bit_of_a_weight_is_noticed(tmp_path: Path) -> None:
    path = checkpoint.path_for(tmp_path, 1)
    checkpoint.save(path, STATE)
    damaged = bytearray(path.read_bytes())
    at = damaged.find(torch.arange(1000.0).numpy().tobytes()) + 2000
    damaged[at] ^= 1
    path.write_bytes(damaged)

    with pytest.raises(CorruptCheckpointError, match="damaged"):
        checkpoint.load(path)


def test_the_newest_good_one_is_found_with_a_warning(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(checkpoint.path_for(tmp_path, step), STATE)
    checkpoint.path_for(tmp_path, 2).write_bytes(b"nonsense")

    path, state, warnings = checkpoint.load_newest_good(tmp_path)

    assert path == checkpoint.path_for(tmp_path, 1)
    assert state["step"] == 3
    assert len(warnings) == 1
    assert "step_000000000002.pt" in warnings[0]


def test_no_good_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoint.load_newest_good(tmp_path)
    checkpoint.save(checkpoint.path_for(tmp_path, 1), STATE)
    checkpoint.path_for(tmp_path, 1).write_bytes(b"")
    with pytest.raises(CorruptCheckpointError, match="no readable checkpoint"):
        checkpoint.load_newest_good(tmp_path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"format": 0}, path)
    with pytest.raises(CorruptCheckpointError, match="format"):
        checkpoint.load(path)


def test_reading_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "trap.pt"
    torch.save({"format": checkpoint.FORMAT, "trap": Trap()}, path)

    with pytest.raises(CorruptCheckpointError):
        checkpoint.load(path)

    assert not (tmp_path / "sprung").exists()


def test_a_full_disk_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(checkpoint.path_for(tmp_path, 1), STATE)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write checkpoint .*step_000000000002\.pt: No space"):
        checkpoint.save(checkpoint.path_for(tmp_path, 2), STATE)

    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000000000001.pt"]
    checkpoint.load(checkpoint.latest(tmp_path))
