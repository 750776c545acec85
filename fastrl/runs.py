"""Run folders as they are found on disk: what was trained, how far it got, what it logged.

Reads config.json, metrics.jsonl, episodes.jsonl and summary.json of a run at any stage, and what a
sweep wrote beside them.
"""

from __future__ import annotations

import glob
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from fastrl.aggregates import Floats
from fastrl.config import MAY_CHANGE_ON_RESUME
from fastrl.machine import hardware_slug

BOOKKEEPING = MAY_CHANGE_ON_RESUME | {"env_id", "preset", "seed", "yoked_run"}
"""Config fields that do not make another variant."""

CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run folder."""

    path: Path
    config: Mapping[str, Any]
    started: bool
    """Whether it has a config; otherwise all that is known is what its sweep planned."""
    variant: str | None
    """The name that a sweep gave it."""
    machine: str | None
    """Where it ran, if that was written down."""
    status: str
    """finished, interrupted, failed, unfinished, or what the sweep says (running, waiting)."""
    error: str | None
    """Why it failed, one line."""
    reached: int
    """Agent steps taken."""
    steps: Floats
    """(E,) agent steps of the run when each game ended."""
    returns: Floats
    """(E,) undiscounted, unclipped."""
    seconds: Floats
    """(E,) seconds of training when each game ended."""
    metrics: Mapping[str, Floats]
    """Columns of metrics.jsonl, (U,) or (U, L); NaN where a line has no such number."""

    @property
    def env_id(self) -> str:
        """What was played."""
        return str(self.config["env_id"])

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.config["seed"])

    @property
    def total_steps(self) -> int:
        """Agent steps it was asked to take; 0 when it never began."""
        return int(self.config.get("total_steps", 0))


def find_runs(paths: Sequence[str | Path]) -> dict[Path, Mapping[str, Any]]:
    """The run folders in and under `paths`, each once, in order, with what their sweep says.

    Raises:
        ValueError: There is none, or a path is no folder.
    """
    if not paths:
        raise ValueError("compare needs at least one run folder")
    sweeps: dict[Path, dict[Path, dict[str, Any]]] = {}
    found: dict[Path, Mapping[str, Any]] = {}
    for given in map(str, paths):
        matches = sorted(glob.glob(given)) if glob.has_magic(given) else [given]
        folders = [folder for match in matches for folder in _run_folders(Path(match))]
        if not folders:
            raise ValueError(f"{given} is not a run folder, and there is none in it")
        for folder in folders:
            sweep = next((up for up in folder.parents if (up / "sweep.json").is_file()), None)
            if sweep is not None and sweep not in sweeps:
                sweeps[sweep] = _read_sweep(sweep)
            found[folder] = sweeps[sweep].get(folder, {}) if sweep is not None else {}
    return found


def _run_folders(folder: Path) -> Iterator[Path]:
    if (folder / "config.json").is_file():
        yield folder
    elif (folder / "sweep.json").is_file():
        yield from _read_sweep(folder)
    elif folder.is_dir():
        for inside in sorted(path for path in folder.iterdir() if path.is_dir()):
            yield from _run_folders(inside)


def read_run(run_dir: Path, facts: Mapping[str, Any] = MappingProxyType({})) -> Run:
    """Reads a run folder, however far the run got.

    Args:
        run_dir: The folder; it need not exist when its sweep planned it.
        facts: What the sweep says, from `find_runs`.

    Raises:
        ValueError: A file in it cannot be understood.
    """
    path = run_dir / "config.json"
    started = path.is_file()
    config = _json_object(path) if started else {key: facts[key] for key in ("env_id", "seed")}
    missing = [key for key in ("env_id", "seed", "total_steps") if key not in config]
    if started and missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    summary_path = run_dir / "summary.json"
    summary = _json_object(summary_path) if summary_path.is_file() else {}
    status = str(summary.get("status", facts.get("status", "unfinished")))
    error = facts.get("error")
    steps, returns, seconds = _read_episodes(run_dir / "episodes.jsonl")
    metrics = _read_metrics(run_dir / "metrics.jsonl")
    reached = [float(summary.get("global_step", 0)), *steps[-1:]]
    reached += [float(metrics["global_step"][-1])] if len(metrics["global_step"]) else []
    return Run(
        path=run_dir,
        config=config,
        started=started,
        variant=facts.get("variant"),
        machine=facts.get("machine"),
        status="failed" if error and status != "finished" else status,
        error=error,
        reached=int(max(reached)),
        steps=steps,
        returns=returns,
        seconds=seconds,
        metrics=metrics,
    )


def _read_sweep(folder: Path) -> dict[Path, dict[str, Any]]:
    """What sweep.json says of each of its runs: env_id, variant, seed, status, error, machine."""
    path = folder / "sweep.json"
    sweep = _json_object(path)
    hardware = sweep.get("origin", {}).get("hardware")
    machine = None
    if hardware is not None:
        machine = " + ".join([hardware_slug(hardware), *hardware.get("gpus", ())])
    try:
        return {folder / run["dir"]: {**run, "machine": machine} for run in sweep["runs"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the record of a sweep: it lacks {error}") from error


def _json_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object")
    return cast(dict[str, Any], found)


def _json_rows(path: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of a JSON Lines file in blocks; an unfinished last line is skipped."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        while lines := file.readlines(CHUNK_BYTES):
            if not lines[-1].endswith(b"\n"):
                lines.pop()
            # One array is parsed twice as fast as its lines are one by one.
            text = b",".join(line for line in lines if line.strip())
            try:
                rows = json.loads(b"[" + text + b"]")
            except ValueError as error:
                raise ValueError(f"{path} has a line that is not JSON: {error}") from error
            yield rows


def _read_episodes(path: Path) -> tuple[Floats, Floats, Floats]:
    columns: tuple[list[float], list[float], list[float]] = ([], [], [])
    try:
        for rows in _json_rows(path):
            for column, key in zip(columns, ("global_step", "return", "wall_s"), strict=True):
                column += [row[key] for row in rows]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} has a line without {error}") from error
    steps, returns, seconds = (np.array(column, dtype=np.float64) for column in columns)
    return steps, returns, seconds


def _read_metrics(path: Path) -> dict[str, Floats]:
    rows = [row for block in _json_rows(path) for row in block]
    keys = {key for row in rows for key, value in row.items() if not isinstance(value, str)}
    keys |= {"global_step", "wall_s"}
    return {key: _column([row.get(key) for row in rows]) for key in keys}


def _column(values: list[Any]) -> Floats:
    """Numbers, or lists of them, as an array; what is missing becomes NaN."""
    lists = [cast(list[Any], value) for value in values if isinstance(value, list)]
    width = max(map(len, lists), default=0)
    if not width:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    blank = [None] * width
    rows = [(list(value or []) + blank)[:width] for value in values]
    return np.array(rows, dtype=np.float64)


def group_names(runs: Sequence[Run], by: Sequence[str] = ()) -> list[str]:
    """The group of each run.

    Raises:
        ValueError: A run's config has no such field.
    """
    if by:
        for run in runs:
            unknown = [key for key in by if key != "variant" and key not in run.config]
            if unknown and run.started:
                raise ValueError(
                    f"{run.path} has no config field {unknown[0]!r}; "
                    f"there are variant, {', '.join(run.config)}"
                )
        return [_label(run, by) for run in runs]
    if all(run.variant for run in runs):
        return [str(run.variant) for run in runs]
    differing = sorted({key for same in by_env(runs).values() for key in differing_fields(same)})
    return [
        _label(run, differing) if differing else str(run.config.get("advantage", "runs"))
        for run in runs
    ]


def _label(run: Run, keys: Sequence[str]) -> str:
    """`variance-lambda`, or `gamma=0.99, gae_lambda=0.9`."""
    words: list[str] = []
    for key in keys:
        value = run.variant if key == "variant" else run.config.get(key)
        alone = key in ("variant", "advantage")
        words.append(str(value) if alone else f"{key}={plain(value)}")
    return ", ".join(words)


def plain(value: Any) -> str:
    """A config value in a label."""
    return value if isinstance(value, str) else json.dumps(value)


def by_env(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each environment, in order."""
    found: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        found[run.env_id].append(run)
    return found


def differing_fields(runs: Sequence[Run], ignored: frozenset[str] = BOOKKEEPING) -> set[str]:
    """Config fields in which the runs differ."""
    configs = [run.config for run in runs if run.started]
    # A field that some runs lack is younger than they are: it says nothing of a difference.
    counts = Counter(key for config in configs for key in config)
    keys = {key for key, count in counts.items() if count == len(configs)} - ignored
    return {key for key in keys if len({plain(config[key]) for config in configs}) > 1}
