"""What a run reports: lines on disk always, Weights & Biases and TensorBoard when asked for.

Imports neither torch nor wandb: a sink imports its library when it is opened.
"""

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fastrl.config import TrainConfig

Metric = int | float | str | list[float | None] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run is; what an observer is shown after every update."""

    update: int
    global_step: int
    """Agent steps so far."""
    total_steps: int
    wall_s: float
    """Seconds of training so far, earlier sittings of a resumed run included."""
    steps_per_second: float
    """Agent steps per second of the last update, learning included."""
    time_shares: Mapping[str, float]
    """Share of env, inference, copy and learning in the last update; they add up to 1."""
    mean_return: float | None
    """Of the last 100 full games; None before the first."""
    num_episodes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSummary:
    """What a run came to."""

    env_id: str
    seed: int
    status: str
    """finished, or interrupted (by SIGINT or SIGTERM, after a checkpoint)."""
    global_step: int
    num_episodes: int
    mean_return: float | None
    """Undiscounted, unclipped, of the last 100 full games; None when none finished."""
    mean_length: float | None
    """Agent steps, of the same games."""
    wall_s: float
    steps_per_second: float
    """Agent steps per second over the whole run."""
    run_dir: str


class Observer(Protocol):
    """Somebody who watches a run, e.g. the terminal view in `fastrl.dashboard`."""

    def start(self, config: TrainConfig, run_dir: Path, global_step: int) -> None:
        """The run begins, or goes on from `global_step`."""
        ...

    def update(self, progress: Progress) -> None:
        """An update is done. Called in the training loop: must return at once."""
        ...

    def message(self, text: str) -> None:
        """Something that the user should know, one line."""
        ...

    def close(self, summary: RunSummary | None) -> None:
        """The run is over; no summary when it failed."""
        ...


class Sink(Protocol):
    """Where metrics go besides the run folder."""

    def write(self, metrics: Mapping[str, Metric]) -> None:
        """Takes the metrics of one update; they hold `global_step`."""
        ...

    def close(self) -> None:
        """Flushes."""
        ...


class JsonLines:
    """An append-only file, one JSON object per line, that a resumed run can cut back."""

    def __init__(self, path: Path, keep_bytes: int) -> None:
        """Opens the file and drops what follows the first `keep_bytes` bytes.

        Raises:
            ValueError: The file is shorter than that: it is not the one the checkpoint knows.
        """
        self.path = path
        self._file = path.open("ab")
        size = self._file.seek(0, os.SEEK_END)
        if size < keep_bytes:
            self._file.close()
            raise ValueError(f"{path} has {size} bytes, but the checkpoint knows {keep_bytes}")
        self._file.truncate(keep_bytes)
        self._file.seek(0, os.SEEK_END)

    def write(self, lines: Iterable[Mapping[str, Metric]]) -> None:
        """Appends and flushes, so that a killed process loses no line."""
        text = "".join(json.dumps(line) + "\n" for line in lines)
        self._file.write(text.encode())
        self._file.flush()

    def sync(self) -> int:
        """Forces everything to disk; returns the size in bytes, for a checkpoint."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class WandbSink:
    """Weights & Biases."""

    def __init__(self, config: TrainConfig, run_dir: Path) -> None:
        """Opens a W&B run named after the run folder; a resumed run continues its own."""
        import wandb

        id_file = run_dir / "wandb_id"
        if not id_file.exists():
            id_file.write_text(uuid.uuid4().hex[:8], encoding="utf-8")
        self._run: Any = wandb.init(
            project=config.wandb_project,
            mode=config.wandb_mode,
            dir=str(run_dir),
            name=run_dir.name,
            id=id_file.read_text(encoding="utf-8"),
            resume="allow" if config.wandb_mode == "online" else None,
            config=config.to_dict(),
        )

    def write(self, metrics: Mapping[str, Metric]) -> None:
        """Logs against agent steps."""
        present = {key: value for key, value in metrics.items() if value is not None}
        self._run.log(present, step=metrics["global_step"])

    def close(self) -> None:
        """Finishes the W&B run."""
        self._run.finish()


class TensorBoardSink:
    """TensorBoard event files in <run>/tensorboard."""

    def __init__(self, run_dir: Path, global_step: int) -> None:
        """Opens a writer; TensorBoard hides what an interrupted run wrote after `global_step`."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(
            str(run_dir / "tensorboard"), purge_step=global_step or None
        )

    def write(self, metrics: Mapping[str, Metric]) -> None:
        """Adds every number against agent steps."""
        step = metrics["global_step"]
        for key, value in metrics.items():
            if isinstance(value, (int, float)):
                self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        """Flushes the event file."""
        self._writer.close()


def open_sinks(config: TrainConfig, run_dir: Path, global_step: int) -> list[Sink]:
    """The sinks that the config asks for, apart from the files of the run folder."""
    sinks: list[Sink] = []
    if config.track:
        sinks.append(WandbSink(config, run_dir))
    if config.tensorboard:
        sinks.append(TensorBoardSink(run_dir, global_step))
    return sinks
