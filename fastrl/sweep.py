"""Sweeps: a grid of environments x variants x seeds, each cell one run folder.

<sweep>/sweep.json                       the grid, and how each run stands; replaced atomically
        runs/<env>/<variant>/s<seed>/    an ordinary run folder; error.txt if it failed
        logs/<env>/<variant>/s<seed>.log what its process printed

The seed alone decides the initial weights, the environments and the random numbers of a run, so the
variants of a sweep are paired: the same seed is the same start for each of them.

A sweep file (TOML) holds any of

    envs = ["MinAtar/Breakout-v1"]
    variants = ["ppo", "mine"]          # names of fastrl/variants.py, or of tables below
    seeds = 5                           # 1 to 5; or a list of seeds
    [set]                               # options of `fastrl train` for every run
    total_steps = 1_000_000
    [variant.mine]                      # over the built-in variant of this name, or over `base`
    base = "variance-lambda"
    vd_zeta = 0.25
    [grid]                              # each variant once for each combination
    gamma = [0.99, 0.995]
"""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import signal
import string
import time
import tomllib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, Protocol, cast

from fastrl import machine
from fastrl.config import TrainConfig, config_for, replace
from fastrl.cpus import available_cpus
from fastrl.executors import INTERRUPTED, Executor, Job, LocalExecutor, RayExecutor
from fastrl.folders import locked, write_text
from fastrl.registry import spec
from fastrl.variants import VARIANTS

FORMAT = 1
"""Of sweep.json."""
POLL_S = 0.2
"""Seconds between two looks at the running jobs."""
TAIL_BYTES = 65_536
"""Enough for the last line of metrics.jsonl."""
MAX_SEED = 2**31 - 1
SWEEP_OWNS = ("env_id", "seed", "run_dir")
"""Fields of the config that the grid itself decides."""

Status = Literal["waiting", "running", "finished", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """What a sweep is asked to run."""

    envs: tuple[str, ...]
    variants: Mapping[str, Mapping[str, Any]]
    """Overrides of `TrainConfig` by the variant's name."""
    seeds: tuple[int, ...]
    common: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Overrides for every run; a variant's win over them."""

    def __post_init__(self) -> None:
        """Checks names and seeds; the overrides are checked by `planned_runs`.

        Raises:
            ValueError: Something is missing, unknown, given twice or out of range.
        """
        for name, values in (
            ("env", self.envs),
            ("variant", tuple(self.variants)),
            ("seed", self.seeds),
        ):
            if not values:
                raise ValueError(f"a sweep needs at least one {name}")
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{name} {', '.join(twice)} is given twice")
        for env_id in self.envs:
            spec(env_id)
        for name in self.variants:
            if not re.fullmatch(r"\w[\w.,=+-]*", name, re.ASCII):
                raise ValueError(
                    f"a variant's name is its folder's: letters, digits and . , = + - _,"
                    f" got {name!r}"
                )
        for seed in self.seeds:
            if not _is_seed(seed):
                raise ValueError(f"a seed is an integer in [0, {MAX_SEED}], got {seed!r}")
        for owner, overrides in (("set", self.common), *self.variants.items()):
            owned = [name for name in SWEEP_OWNS if name in overrides]
            if owned:
                raise ValueError(f"{owner}: the sweep itself chooses {', '.join(owned)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as sweep.json holds them."""
        return {
            "envs": list(self.envs),
            "seeds": list(self.seeds),
            "set": dict(self.common),
            "variants": {name: dict(values) for name, values in self.variants.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Grid":
        """The inverse of `to_dict`."""
        return cls(
            envs=tuple(values["envs"]),
            seeds=tuple(values["seeds"]),
            common=values["set"],
            variants=values["variants"],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """One cell of the grid."""

    env_id: str
    variant: str
    seed: int
    config: TrainConfig
    dir: str
    """Of the run, relative to the sweep's folder."""
    follows: str | None = None
    """`dir` of the run that must have finished before this one starts."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.env_id} {self.variant} s{self.seed}"


@dataclass(slots=True)
class RunState:
    """How one run stands."""

    run: PlannedRun
    status: Status = "waiting"
    error: str | None = None
    """One line; error.txt in the run folder has more."""
    global_step: int = 0
    steps_per_second: float = 0.0
    mean_return: float | None = None


class SweepView(Protocol):
    """Somebody who watches a sweep, see `fastrl.sweep_view`."""

    def start(self, folder: Path, states: Sequence[RunState], jobs: int, threads: int) -> None:
        """The sweep begins or goes on."""
        ...

    def changed(self, state: RunState) -> None:
        """A run was started, or ended."""
        ...

    def update(self, states: Sequence[RunState]) -> None:
        """Called a few times a second: must return at once."""
        ...

    def message(self, text: str) -> None:
        """Something that the user should know, one line."""
        ...

    def close(self) -> None:
        """The sweep is over."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Packing:
    """How runs share the machine, or the cluster."""

    jobs: int = 0
    """Runs at a time. 0: on GPUs one for each, else one for each CPU that this process may use."""
    threads: int = 0
    """CPU threads of each run. 0: the CPUs shared out over the runs; with ray 1."""
    executor: Literal["local", "ray"] = "local"
    """local: processes of this machine. ray: tasks of a Ray cluster (needs fastrl[ray])."""
    ray_address: str = ""
    """Of the cluster. Default: $RAY_ADDRESS, or else a Ray of this machine alone."""

    def __post_init__(self) -> None:
        """Checks the numbers.

        Raises:
            ValueError: One of them is negative.
        """
        for name in ("jobs", "threads"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")

    def fitted(self, num_runs: int, gpus: Sequence[str]) -> tuple[int, int]:
        """Jobs at once and threads of each, on this machine.

        Args:
            num_runs: Runs to do.
            gpus: GPUs that the runs may use.
        """
        if self.executor == "ray":
            return self.jobs, self.threads or 1
        cpus = available_cpus()
        fits = len(gpus) or max(1, cpus // (self.threads or 1))
        jobs = self.jobs or min(num_runs, fits)
        return jobs, self.threads or max(1, cpus // jobs)

    def make_executor(self, jobs: int, threads: int, gpus: Sequence[str]) -> Executor:
        """The executor for what `fitted` chose.

        Raises:
            ValueError: Ray is missing, or cannot be reached.
        """
        if self.executor == "ray":
            return RayExecutor(
                jobs, threads=threads, gpu_share=1.0 if gpus else 0.0, address=self.ray_address
            )
        return LocalExecutor(jobs, gpus)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a TOML file: {error}") from error


def read_sweep_file(path: Path) -> dict[str, Any]:
    """The tables of a sweep file, their kinds checked.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not TOML, or has a key that sweeps do not know.
    """
    values = read_toml(path)
    kinds: dict[str, tuple[type, ...]] = {
        "envs": (list,),
        "variants": (list,),
        "seeds": (int, list),
        "set": (dict,),
        "variant": (dict,),
        "grid": (dict,),
    }
    for name, value in values.items():
        if name not in kinds:
            raise ValueError(f"{path}: unknown key {name}; there are {', '.join(kinds)}")
        if not isinstance(value, kinds[name]):
            wanted = " or ".join({list: "a list", int: "a number", dict: "a table"}[kind]
                                 for kind in kinds[name])  # fmt: skip
            raise ValueError(f"{path}: {name} must be {wanted}, got {value!r}")
    for name in ("envs", "variants"):
        wrong = [value for value in values.get(name, []) if not isinstance(value, str)]
        if wrong:
            raise ValueError(f"{path}: {name} must hold strings, got {wrong[0]!r}")
    for name, value in values.get("variant", {}).items():
        if not isinstance(value, dict):
            raise ValueError(f"{path}: variant.{name} must be a table, got {value!r}")
    return values


def make_grid(
    file: Mapping[str, Any],
    *,
    envs: Sequence[str] = (),
    variants: Sequence[str] = (),
    seeds: int | Sequence[int] | None = None,
    common: Mapping[str, Any] | None = None,
    axes: Mapping[str, Any] | None = None,
) -> Grid:
    """The grid of a sweep file, with what the command line says on top.

    Args:
        file: Of `read_sweep_file`; may be empty.
        envs: Instead of the file's.
        variants: Instead of the file's.
        seeds: Instead of the file's; a number n stands for 1 to n.
        common: Over the file's [set].
        axes: Over the file's [grid].

    Raises:
        ValueError: Something is missing, unknown or out of range.
    """
    tables: Mapping[str, Mapping[str, Any]] = file.get("variant", {})
    chosen = _crossed(
        {
            name: variant_overrides(name, tables)
            for name in variants or file.get("variants", ()) or tables or ("ppo",)
        },
        {**file.get("grid", {}), **(axes or {})},
    )
    return Grid(
        envs=tuple(envs or file.get("envs", ())),
        variants=chosen,
        seeds=seed_list(file.get("seeds", 1) if seeds is None else seeds),
        common={**file.get("set", {}), **(common or {})},
    )


def variant_overrides(name: str, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The overrides of a variant: built in, or from a table of a sweep file, or both.

    Raises:
        ValueError: There is no such variant, or its base is unknown.
    """
    table = tables.get(name, {})
    base = table.get("base", name)
    if base not in VARIANTS and (name not in tables or "base" in table):
        raise ValueError(f"there is no variant {base!r}; there are {', '.join(VARIANTS)}")
    own = {key: value for key, value in table.items() if key != "base"}
    return {**VARIANTS.get(base, {}), **own}


def _crossed(
    variants: Mapping[str, Mapping[str, Any]], axes: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """Every variant once for each combination of the axes' values, which its name tells."""
    for name, values in axes.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"grid: {name} must be a list of values, got {values!r}")
    combinations = [
        dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    ]
    return {
        ",".join([name, *(f"{key}={_plain(value)}" for key, value in combination.items())]): {
            **overrides,
            **combination,
        }
        for name, overrides in variants.items()
        for combination in combinations
    }


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEED


def seed_list(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """A number n stands for the seeds 1 to n.

    Raises:
        ValueError: The number is below 1.
    """
    if not isinstance(seeds, int):
        return tuple(seeds)
    if seeds < 1:
        raise ValueError(f"seeds must be a number >= 1, or several seeds, got {seeds!r}")
    return tuple(range(1, seeds + 1))


def on_threads(config: TrainConfig, threads: int) -> TrainConfig:
    """The config with as many threads of torch and of the pool, where it leaves them open."""
    return replace(
        config,
        torch_threads=config.torch_threads or threads,
        env_threads=config.env_threads or threads,
    )


def planned_runs(grid: Grid, folder: Path, *, threads: int = 0) -> list[PlannedRun]:
    """Every run of the grid; seeds go slowest, so a sweep that is cut short has every cell.

    Args:
        grid: What to run.
        folder: Of the sweep.
        threads: Of torch and of the pool, for the runs that leave them open.

    Raises:
        ValueError: A variant's overrides do not make a config, or it follows a run that is not in
            the grid, itself, or runs that follow each other.
    """
    root = folder.resolve()
    runs: list[PlannedRun] = []
    for seed in grid.seeds:
        for env_id in grid.envs:
            for variant, overrides in grid.variants.items():
                run_dir = f"runs/{env_id.replace('/', '-')}/{variant}/s{seed}"
                values: dict[str, Any] = dict(grid.common)
                values.update(overrides)
                values.update(seed=seed, run_dir=str(root / run_dir))
                followed = _followed(values.get("yoked_run", ""), grid, root, env_id, variant, seed)
                if followed:
                    values["yoked_run"] = followed
                try:
                    config = on_threads(config_for(env_id, **values), threads)
                except ValueError as error:
                    raise ValueError(f"{env_id} {variant}: {error}") from error
                inside = followed and Path(followed).is_relative_to(root)
                runs.append(
                    PlannedRun(
                        env_id=env_id,
                        variant=variant,
                        seed=seed,
                        config=config,
                        dir=run_dir,
                        follows=str(Path(followed).relative_to(root)) if inside else None,
                    )
                )
    _check_order(runs)
    return runs


def _followed(template: str, grid: Grid, root: Path, env_id: str, variant: str, seed: int) -> str:
    """The run that a variant follows: absolute, its placeholders filled in."""
    if not template:
        return ""
    names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    known = {"sweep", "env", "seed", "other_seed"}
    if not names <= known:
        allowed = " ".join(f"{{{name}}}" for name in sorted(known))
        raise ValueError(f"{variant}: yoked_run may hold {allowed}, got {template!r}")
    if "other_seed" in names and len(grid.seeds) < 2:
        raise ValueError(f"{variant} follows a run of another seed: the sweep needs two seeds")
    return template.format(
        sweep=root,
        env=env_id.replace("/", "-"),
        seed=seed,
        other_seed=other_seed(grid.seeds, seed) if "other_seed" in names else None,
    )


def other_seed(seeds: Sequence[int], seed: int) -> int:
    """The seed before this one, or after it for the first: it stays when seeds are added."""
    index = seeds.index(seed)
    return seeds[index - 1] if index else seeds[1]


def _check_order(runs: Sequence[PlannedRun]) -> None:
    by_dir = {run.dir: run for run in runs}
    for run in runs:
        seen = [run.dir]
        while (followed := by_dir[seen[-1]].follows) is not None:
            if followed not in by_dir:
                raise ValueError(
                    f"{run.variant} follows {followed}, which is not in this sweep: add its variant"
                )
            if followed in seen:
                raise ValueError(f"these runs follow each other: {', '.join(seen)}")
            seen.append(followed)


def added(recorded: Grid, asked: Grid) -> Grid:
    """The recorded grid and what is new in the one asked for.

    Raises:
        ValueError: They disagree about overrides; the message names the difference.
    """
    changes = _differences("set", recorded.common, asked.common)
    for name, overrides in asked.variants.items():
        if name in recorded.variants:
            changes += _differences(f"variant {name}", recorded.variants[name], overrides)
    if changes:
        raise ValueError(
            f"the sweep was begun with other options, and a changed one is another experiment:"
            f" {'; '.join(changes)}. Use another folder, or leave them as they are"
        )
    return Grid(
        envs=tuple(dict.fromkeys((*recorded.envs, *asked.envs))),
        variants={**recorded.variants, **asked.variants},
        seeds=tuple(dict.fromkeys((*recorded.seeds, *asked.seeds))),
        common=recorded.common,
    )


def _differences(owner: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    absent = object()

    def shown(value: Any) -> str:
        return "(default)" if value is absent else repr(value)

    return [
        f"{owner}: {key} {shown(old.get(key, absent))} -> {shown(new.get(key, absent))}"
        for key in sorted({*old, *new})
        if old.get(key, absent) != new.get(key, absent)
    ]


def read_sweep(folder: Path) -> dict[str, Any]:
    """The sweep.json of a folder.

    Raises:
        ValueError: There is none, or it is not one of this version.
    """
    path = folder / "sweep.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a sweep: it has no sweep.json")
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict) or cast(dict[str, Any], values).get("format") != FORMAT:
        raise ValueError(f"{path} is not a sweep of format {FORMAT}")
    return cast(dict[str, Any], values)


def is_finished(config: TrainConfig) -> bool:
    """Whether the run's summary says that it took all its steps."""
    try:
        text = (Path(config.run_dir) / "summary.json").read_text(encoding="utf-8")
        return int(json.loads(text)["global_step"]) >= config.total_steps
    except (OSError, ValueError, KeyError):
        return False


def last_metrics(run_dir: Path) -> dict[str, Any]:
    """The newest complete line of metrics.jsonl; empty when there is none."""
    try:
        with (run_dir / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
        return json.loads(lines[-1]) if lines else {}
    except (OSError, ValueError):
        return {}


def visible_gpus(configs: Sequence[TrainConfig]) -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name for these runs; empty when all of them stay on the CPU."""
    if all(config.device == "cpu" for config in configs):
        return []
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name for name in listed.split(",") if name]
    return [str(index) for index in range(len(machine.gpu_names()))]


class Sweep:
    """A sweep's folder, and the work that is left in it."""

    def __init__(
        self,
        folder: Path,
        runs: Sequence[PlannedRun],
        record: Mapping[str, Any],
        *,
        keep_checkpoints: bool = False,
    ) -> None:
        """Looks at what the folder already holds.

        Args:
            folder: Of the sweep.
            runs: Every run of the grid.
            record: What sweep.json holds besides the runs.
            keep_checkpoints: Leave a finished run its two checkpoints; else only the last.
        """
        self.folder = folder
        self.states = {run.dir: RunState(run=run) for run in runs}
        self._record = record
        self._keep_checkpoints = keep_checkpoints
        for state in self.states.values():
            self._look(state)
            if is_finished(state.run.config):
                self._finish(state)

    def save(self) -> None:
        """Writes sweep.json, whole or not at all."""
        runs = [
            {
                "dir": state.run.dir,
                "env_id": state.run.env_id,
                "variant": state.run.variant,
                "seed": state.run.seed,
                "follows": state.run.follows,
                "status": state.status,
                "error": state.error,
            }
            for state in self.states.values()
        ]
        write_text(
            self.folder / "sweep.json",
            json.dumps({"format": FORMAT, **self._record, "runs": runs}, indent=1) + "\n",
        )

    def count(self, status: Status) -> int:
        """Runs of this status."""
        return sum(state.status == status for state in self.states.values())

    def work_off(self, executor: Executor, view: SweepView) -> bool:
        """Runs what is not finished; returns whether a signal ended it early."""
        waiting = [state for state in self.states.values() if state.status != "finished"]
        running: dict[Job, RunState] = {}
        self.save()
        with stop_signals() as signals:
            stopped = False
            while True:
                if signals.count and not stopped:
                    stopped = True
                    view.message(str(signals))
                    for job in running:
                        executor.stop(job)
                if signals.count > 1:
                    executor.kill()
                self._skip_followers(waiting, view)
                while not stopped and len(running) < executor.num_slots:
                    state = self._next(waiting)
                    if state is None:
                        break
                    running[self._start(state, executor)] = state
                    view.changed(state)
                for job, code in executor.poll():
                    state = running.pop(job)
                    self._end(state, code, stopped=stopped)
                    view.changed(state)
                if not running and (stopped or not waiting):
                    return stopped
                for state in running.values():
                    self._look(state)
                view.update(list(self.states.values()))
                time.sleep(POLL_S)

    def _next(self, waiting: list[RunState]) -> RunState | None:
        """Takes the first run that need not wait for another."""
        for index, state in enumerate(waiting):
            followed = state.run.follows
            if followed is None or self.states[followed].status == "finished":
                return waiting.pop(index)
        return None

    def _skip_followers(self, waiting: list[RunState], view: SweepView) -> None:
        """Fails the runs that follow one that failed."""
        for state in list(waiting):
            followed = state.run.follows
            if followed is not None and self.states[followed].status == "failed":
                waiting.remove(state)
                state.status = "failed"
                state.error = f"follows {followed}, which failed"
                view.changed(state)
                self.save()

    def _start(self, state: RunState, executor: Executor) -> Job:
        run = state.run
        job = Job(config=run.config, log=self.folder.resolve() / log_of(run))
        (job.run_dir / "error.txt").unlink(missing_ok=True)
        state.status, state.error = "running", None
        self.save()
        executor.start(job)
        return job

    def _end(self, state: RunState, code: int, *, stopped: bool) -> None:
        self._look(state)
        if is_finished(state.run.config):
            self._finish(state)
        elif stopped and code in (INTERRUPTED, -signal.SIGTERM, -signal.SIGKILL):
            state.status = "interrupted"
        else:
            state.status = "failed"
            state.error = self._explain(state.run, code)
        self.save()

    def _explain(self, run: PlannedRun, code: int) -> str:
        """Why a run failed in one line; the log of its process goes into error.txt."""
        log = end_of(self.folder / log_of(run))
        if code < 0:
            error = f"killed by {signal.Signals(-code).name}"
        elif code == INTERRUPTED:
            error = "stopped by a signal from outside; it saved a checkpoint"
        else:
            error = last_line(log) or f"exit code {code}"
        path = self.folder / run.dir / "error.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, f"{error}\n\nexit code {code}; end of {log_of(run)}:\n\n{log}")
        return error

    def _finish(self, state: RunState) -> None:
        state.status, state.error = "finished", None
        if self._keep_checkpoints:
            return
        checkpoints = Path(state.run.config.run_dir) / "checkpoints"
        for path in sorted(checkpoints.glob("step_*.pt"))[:-1]:
            path.unlink(missing_ok=True)

    def _look(self, state: RunState) -> None:
        """Reads how far a run is."""
        metrics = last_metrics(self.folder / state.run.dir)
        state.global_step = metrics.get("global_step", 0)
        state.steps_per_second = metrics.get("sps", 0.0)
        state.mean_return = metrics.get("mean_return")


def end_of(log: Path) -> str:
    """The last of what a process printed; empty when it never began."""
    try:
        return log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
    except OSError:
        return ""


def last_line(text: str) -> str:
    """The last line that is not blank; empty when there is none."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def log_of(run: PlannedRun) -> str:
    """The log of a run's process, relative to the sweep's folder."""
    return f"logs/{run.dir.removeprefix('runs/')}.log"


def run_sweep(
    grid: Grid,
    folder: Path,
    packing: Packing,
    view: SweepView,
    *,
    command: str,
    resume: bool = False,
    keep_checkpoints: bool = False,
) -> int:
    """Works off a grid.

    Args:
        grid: What to run; with `resume` what to add to the recorded grid.
        folder: Of the sweep; new, unless `resume`.
        packing: How runs share the machine.
        view: Is told what happens.
        command: Goes into sweep.json.
        resume: Go on with the sweep that the folder holds.
        keep_checkpoints: Leave a finished run its two checkpoints; else only the last.

    Returns:
        0: all runs finished; 1: some failed; 130: stopped by SIGINT or SIGTERM, after saving.

    Raises:
        ValueError: The grid makes no runs, or differs from the recorded one, or another sweep
            works in the folder.
        OSError: The folder cannot be written.
    """
    old = read_sweep(folder) if resume else None
    if old is not None:
        grid = added(Grid.from_dict(old), grid)
        packing = with_threads(packing, int(old["threads"]))
    plain = planned_runs(grid, folder)
    gpus = visible_gpus([run.config for run in plain])
    jobs, threads = packing.fitted(len(plain), gpus)
    runs = planned_runs(grid, folder, threads=threads)
    executor = packing.make_executor(jobs, threads, gpus)
    try:
        make_folder(folder, resume=resume, what="sweep")
        with locked(folder, in_use(folder)):
            origin = old["origin"] if old is not None else machine.provenance(command)
            sweep = Sweep(
                folder,
                runs,
                {"origin": origin, "threads": threads, **grid.to_dict()},
                keep_checkpoints=keep_checkpoints,
            )
            view.start(folder, list(sweep.states.values()), executor.num_slots, threads)
            try:
                stopped = sweep.work_off(executor, view)
            finally:
                view.close()
                sweep.save()
    finally:
        executor.close()
    if stopped and sweep.count("finished") < len(runs):
        return INTERRUPTED
    return 1 if sweep.count("failed") else 0


def with_threads(packing: Packing, threads: int) -> Packing:
    """A resumed run is bit-exact with the number of threads that it began with."""
    if packing.threads not in (0, threads):
        raise ValueError(
            f"the sweep was begun with {threads} threads for each run, and goes on with as many:"
            f" leave --threads {packing.threads} out"
        )
    return dataclasses.replace(packing, threads=threads)


@dataclass(slots=True)
class Signals:
    """How many SIGINT and SIGTERM came."""

    count: int = 0
    first: str = ""

    def __str__(self) -> str:
        return f"{self.first}: the running runs save and end; once more kills them without saving"


@contextlib.contextmanager
def stop_signals() -> Generator[Signals]:
    """Counts SIGINT and SIGTERM instead of dying of them."""
    signals = Signals()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        signals.count += 1
        if signals.count == 1:
            signals.first = signal.Signals(number).name

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def in_use(folder: Path) -> ValueError:
    """What is said when another process works in the folder of a sweep or a study."""
    return ValueError(f"another process works in {folder}")


def make_folder(folder: Path, *, resume: bool, what: str) -> None:
    """Makes the folder of something new.

    Raises:
        ValueError: There is something in it already.
        OSError: It cannot be made.
    """
    if resume:
        return
    if (folder / f"{what}.json").exists():
        raise ValueError(f"{folder} holds a {what} already: go on with --resume {folder}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists already and is not a {what}: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
