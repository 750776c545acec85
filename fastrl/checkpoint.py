"""Checkpoints: written whole or not at all, checked before they are believed.

A checkpoint is a torch zip file of tensors, numbers, strings, lists and dicts, so that reading
one runs no code from it (`weights_only=True`).
"""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

FORMAT = 2
"""Changes when a checkpoint of the old kind can no longer be resumed."""

KEPT = 2
"""Checkpoints kept per run: the newest, and one to fall back on."""


class CorruptCheckpointError(ValueError):
    """The file is damaged, or is not a checkpoint of this version."""


def path_for(run_dir: Path, global_step: int) -> Path:
    """Where the checkpoint at `global_step` belongs."""
    return run_dir / "checkpoints" / f"step_{global_step:012d}.pt"


def all_paths(run_dir: str | Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    return sorted((Path(run_dir) / "checkpoints").glob("step_*.pt"), reverse=True)


def latest(run_dir: str | Path) -> Path:
    """The newest checkpoint of a run.

    Raises:
        FileNotFoundError: There is none.
    """
    paths = all_paths(run_dir)
    if not paths:
        raise FileNotFoundError(f"{run_dir} has no checkpoint in {Path(run_dir) / 'checkpoints'}")
    return paths[0]


def save(path: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint atomically and deletes all but the last `KEPT` of its folder.

    The file appears under its name only when it is complete and on disk: a crash at any moment
    leaves the earlier checkpoints as they were.

    Raises:
        OSError: The folder cannot be written; the message names the checkpoint.
    """
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                torch.save({"format": FORMAT, **state}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        for old in sorted(path.parent.glob("step_*.pt"), reverse=True)[KEPT:]:
            old.unlink()
    except OSError as error:
        raise OSError(error.errno, f"cannot write checkpoint {path}: {error.strerror}") from error
    except RuntimeError as error:  # torch's zip writer reports a full disk this way
        raise OSError(f"cannot write checkpoint {path}: {error}") from error


def load(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        CorruptCheckpointError: It is damaged or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CorruptCheckpointError(f"checkpoint {path} is damaged in {damaged}")
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except CorruptCheckpointError:
        raise
    except Exception as error:  # whatever a damaged file makes zipfile or the unpickler say
        raise CorruptCheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:  # pyright: ignore[reportUnknownMemberType]
        raise CorruptCheckpointError(f"checkpoint {path} is not of format {FORMAT}")
    return state  # pyright: ignore[reportUnknownVariableType]


def load_newest_good(run_dir: str | Path) -> tuple[Path, dict[str, Any], list[str]]:
    """The newest checkpoint that can be read, and a warning for each that could not.

    Raises:
        FileNotFoundError: The run has no checkpoint.
        CorruptCheckpointError: None of them can be read.
    """
    latest(run_dir)
    warnings: list[str] = []
    for path in all_paths(run_dir):
        try:
            return path, load(path), warnings
        except CorruptCheckpointError as error:
            warnings.append(f"warning: {error}; falling back to the one before")
    raise CorruptCheckpointError(f"no readable checkpoint in {run_dir}: " + "; ".join(warnings))
