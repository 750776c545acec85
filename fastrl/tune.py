"""Hyper-parameter search: Optuna over whole runs, several environments and seeds each.

<study>/study.db                          Optuna's storage (SQLite); every trial with its curve
        tune.json                         what is searched, and over what
        trials/<number>/<env>/s<seed>/    ordinary run folders
        best.toml                         the best trial, as a file for `fastrl sweep`

A trial trains its environments and seeds one after the other, in the same order for every trial,
and several trials run at a time. Its value is the mean normalised score (`fastrl.scores`) over
these runs, each the mean return of the last 100 training games. After every tenth of a run the mean
so far is reported; a trial below the median of the others at the same point is stopped.

A space (TOML) has one table for each field of `TrainConfig`:

    [learning_rate]
    low = 1e-4
    high = 1e-2
    scale = "log"             # linear (default), log, or log-to-one: log of the distance from 1
    [update_epochs]           # whole numbers
    low = 1
    high = 5
    [num_minibatches]
    choices = [4, 8, 16, 32]

Imports neither torch nor optuna until a study is opened.
"""

import json
import math
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from fastrl import machine
from fastrl.config import TrainConfig, config_for
from fastrl.executors import INTERRUPTED, Executor, Job
from fastrl.folders import locked, write_text
from fastrl.scores import normalized_score, score_range
from fastrl.sweep import (
    SWEEP_OWNS,
    Packing,
    end_of,
    in_use,
    is_finished,
    last_line,
    make_folder,
    on_threads,
    read_toml,
    stop_signals,
    variant_overrides,
    visible_gpus,
    with_threads,
)

POLL_S = 0.5
"""Seconds between two looks at the running trials."""
REPORTS_PER_RUN = 10
"""Points of a run's learning curve that the pruner sees."""
STARTUP_TRIALS = 5
"""Trials that are drawn at random, and finished before any is pruned."""
WARMUP_REPORTS = 3
"""Points of a trial that are never a reason to prune it."""

DEFAULT_SPACE: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "learning_rate": {"low": 1e-4, "high": 1e-2, "scale": "log"},
        "ent_coef": {"low": 1e-4, "high": 0.1, "scale": "log"},
        "gamma": {"low": 0.95, "high": 0.9995, "scale": "log-to-one"},
        "gae_lambda": {"low": 0.7, "high": 0.99, "scale": "log-to-one"},
        "clip_coef": {"low": 0.1, "high": 0.4},
        "update_epochs": {"low": 1, "high": 5},
        "num_minibatches": {"choices": [4, 8, 16, 32, 64]},
    }
)
"""What is searched unless a space is given: the ranges hold every preset and CleanRL's values."""

SCALES = ("linear", "log", "log-to-one")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimension:
    """The values that one field of the config may take."""

    name: str
    low: float = 0.0
    high: float = 0.0
    scale: str = "linear"
    choices: tuple[Any, ...] = ()
    """Instead of a range."""

    def suggest(self, trial: Any) -> Any:
        """A value for an Optuna trial; the same trial gets the same value again."""
        if self.choices:
            return trial.suggest_categorical(self.name, list(self.choices))
        if self.scale == "log-to-one":
            low, high = 1.0 - self.high, 1.0 - self.low
            return 1.0 - trial.suggest_float(f"1 - {self.name}", low, high, log=True)
        log = self.scale == "log"
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.name, self.low, self.high, log=log)
        return trial.suggest_float(self.name, self.low, self.high, log=log)


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """What a study searches; recorded in tune.json."""

    envs: tuple[str, ...]
    seeds: tuple[int, ...] = (1, 2, 3)
    variant: str = "ppo"
    """What is tuned, one of `fastrl.variants`."""
    common: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Overrides of every run, e.g. total_steps."""
    space: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: DEFAULT_SPACE)

    def __post_init__(self) -> None:
        """Checks everything that can be checked before a run.

        Raises:
            ValueError: An environment has no normalised score, a field is unknown, a range is
                empty, or the fixed part makes no config.
        """
        if not self.envs:
            raise ValueError(
                "tune on which environment? For example: fastrl tune MinAtar/Breakout-v1"
            )
        if not self.seeds:
            raise ValueError("a study needs at least one seed")
        if "yoked_run" in variant_overrides(self.variant, {}):
            raise ValueError(f"{self.variant} follows another run and cannot be tuned by itself")
        owned = [name for name in (*SWEEP_OWNS, *self.space) if name in self.common]
        if owned:
            raise ValueError(f"set: the study itself chooses {', '.join(owned)}")
        for env_id in self.envs:
            score_range(env_id)
        dimensions(self.space)
        self.configs(Path(), {})

    def configs(self, folder: Path, params: Mapping[str, Any]) -> list[TrainConfig]:
        """The runs of a trial, in their order: every environment with the first seed, and so on.

        Raises:
            ValueError: The parameters make no config.
        """
        fixed = {**self.common, **variant_overrides(self.variant, {}), **params}
        configs: list[TrainConfig] = []
        for seed in self.seeds:
            for env_id in self.envs:
                run_dir = str(folder / env_id.replace("/", "-") / f"s{seed}")
                values: dict[str, Any] = dict(fixed)
                values.update(seed=seed, run_dir=run_dir)
                configs.append(config_for(env_id, **values))
        return configs

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as tune.json holds them."""
        return {
            "envs": list(self.envs),
            "seeds": list(self.seeds),
            "variant": self.variant,
            "set": dict(self.common),
            "space": {name: dict(table) for name, table in self.space.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Search":
        """The inverse of `to_dict`."""
        return cls(
            envs=tuple(values["envs"]),
            seeds=tuple(values["seeds"]),
            variant=values["variant"],
            common=values["set"],
            space=values["space"],
        )


def read_space(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a space file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not TOML, or not a space.
    """
    space = read_toml(path)
    try:
        dimensions(space)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return space


def dimensions(space: Mapping[str, Any]) -> list[Dimension]:
    """The checked dimensions of a space.

    Raises:
        ValueError: A field is unknown, or a table is no range and no choice.
    """
    if not space:
        raise ValueError("the space is empty: nothing to search")
    return [_dimension(name, table) for name, table in space.items()]


def _dimension(name: str, table: Any) -> Dimension:
    if name not in {found.name for found in fields(TrainConfig)} - set(SWEEP_OWNS):
        raise ValueError(f"{name} is not a training option that can be searched")
    if not isinstance(table, Mapping):
        raise ValueError(f"{name} must be a table with low and high, or choices, got {table!r}")
    values = cast(Mapping[str, Any], table)
    if "choices" in values:
        if set(values) != {"choices"} or not isinstance(values["choices"], list):
            raise ValueError(f"{name}: choices is a list and stands alone, got {dict(values)!r}")
        if not values["choices"]:
            raise ValueError(f"{name}: choices is empty")
        return Dimension(name=name, choices=tuple(cast(list[Any], values["choices"])))
    if not {"low", "high"} <= set(values) <= {"low", "high", "scale"}:
        raise ValueError(f"{name} needs low and high, or choices, got {dict(values)!r}")
    low, high, scale = values["low"], values["high"], values.get("scale", "linear")
    numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (low, high))
    if not numbers or not low < high:
        raise ValueError(
            f"{name}: low and high must be numbers, low below high, got {low!r} {high!r}"
        )
    if scale not in SCALES:
        raise ValueError(f"{name}: scale must be one of {', '.join(SCALES)}, got {scale!r}")
    if (scale == "log" and low <= 0) or (scale == "log-to-one" and high >= 1):
        bound = "low > 0" if scale == "log" else "high < 1"
        raise ValueError(f"{name}: scale {scale} needs {bound}, got {low!r} {high!r}")
    return Dimension(name=name, low=low, high=high, scale=scale)


def read_study(folder: Path) -> dict[str, Any]:
    """The tune.json of a folder.

    Raises:
        ValueError: There is none.
    """
    path = folder / "tune.json"
    if not path.is_file():
        raise ValueError(f"{folder} is not a study: it has no tune.json")
    return json.loads(path.read_text(encoding="utf-8"))


class _Trial:
    """One trial that is under way."""

    def __init__(self, trial: Any, folder: Path, search: Search, threads: int) -> None:
        self.trial = trial
        self.folder = folder / "trials" / f"{trial.number:04d}"
        self.params = {d.name: d.suggest(trial) for d in dimensions(search.space)}
        self.configs = [
            on_threads(config, threads)
            for config in search.configs(self.folder.resolve(), self.params)
        ]
        self.scores: list[float] = []
        """Of the runs that have finished."""
        self.job: Job | None = None
        self.pruned = False
        storage = trial.study.get_trials(deepcopy=False)[trial.number]
        self.reported = set(storage.intermediate_values)

    def take_finished(self) -> None:
        """Scores the runs that have finished, in their order."""
        while len(self.scores) < len(self.configs):
            config = self.configs[len(self.scores)]
            if not is_finished(config):
                return
            self._report(config)
            text = (Path(config.run_dir) / "summary.json").read_text(encoding="utf-8")
            mean = json.loads(text)["mean_return"]
            if mean is None:
                raise ValueError(f"no game ended in {config.run_dir}: raise total_steps")
            self.scores.append(normalized_score(config.env_id, mean))

    def next_job(self) -> Job:
        """The first run that has not finished."""
        config = self.configs[len(self.scores)]
        return Job(config=config, log=Path(f"{config.run_dir}.log"))

    def look(self) -> None:
        """Reports the points that the present run has reached."""
        if len(self.scores) < len(self.configs):
            self._report(self.configs[len(self.scores)])

    def should_prune(self) -> bool:
        """Whether the other trials were better at this point."""
        return bool(self.reported) and self.trial.should_prune()

    def value(self) -> float:
        """Mean score of all runs."""
        return sum(self.scores) / len(self.scores)

    def clean(self) -> None:
        """Deletes the checkpoints, which no one resumes."""
        for config in self.configs:
            shutil.rmtree(Path(config.run_dir) / "checkpoints", ignore_errors=True)

    def _report(self, config: TrainConfig) -> None:
        for point, mean in curve_points(config).items():
            step = len(self.scores) * REPORTS_PER_RUN + point
            if step not in self.reported:
                self.reported.add(step)
                scores = [*self.scores, normalized_score(config.env_id, mean)]
                self.trial.report(sum(scores) / len(scores), step)


def curve_points(config: TrainConfig) -> dict[int, float]:
    """Mean return at each tenth of a run that it has reached, numbered from 1.

    A tenth before the first finished game is left out.
    """
    try:
        text = (Path(config.run_dir) / "metrics.jsonl").read_text(encoding="utf-8")
    except OSError:
        return {}
    points: dict[int, float] = {}
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        metrics = json.loads(line)
        reached = min(
            REPORTS_PER_RUN, metrics["global_step"] * REPORTS_PER_RUN // config.total_steps
        )
        if reached >= 1 and reached not in points and metrics["mean_return"] is not None:
            points[reached] = float(metrics["mean_return"])
    return points


def run_study(
    search: Search,
    folder: Path,
    packing: Packing,
    *,
    trials: int,
    command: str,
    say: Callable[[str], None],
    resume: bool = False,
) -> int:
    """Searches until the study has `trials` trials.

    Args:
        search: What to search; with `resume` that of the folder's tune.json.
        folder: Of the study; new, unless `resume`.
        packing: How trials share the machine.
        trials: Trials of the study altogether, those of earlier sittings included.
        command: Goes into tune.json.
        say: Is told what happens, in lines.
        resume: Go on with the study that the folder holds.

    Returns:
        0: done; 1: no trial came to its end; 130: stopped by SIGINT or SIGTERM, after saving.

    Raises:
        ValueError: Optuna is missing, or a number is out of range.
        OSError: The folder cannot be written.
    """
    if trials < 1:
        raise ValueError(f"trials must be >= 1, got {trials}")
    optuna = _optuna()
    old = read_study(folder) if resume else None
    if old is not None:
        packing = with_threads(packing, int(old["threads"]))
    gpus = visible_gpus(search.configs(folder, {}))
    jobs, threads = packing.fitted(trials, gpus)
    executor = packing.make_executor(jobs, threads, gpus)
    try:
        make_folder(folder, resume=resume, what="tune")
        with locked(folder, in_use(folder)):
            if old is None:
                record = {"origin": machine.provenance(command), "threads": threads}
                text = json.dumps(record | search.to_dict(), indent=1) + "\n"
                write_text(folder / "tune.json", text)
            study = _open_study(optuna, folder)
            say(
                f"{trials} trials of {len(search.envs) * len(search.seeds)} runs,"
                f" {executor.num_slots} at a time -> {folder}"
            )
            searcher = _Searcher(optuna, study, search, folder, threads, say)
            stopped = searcher.work_off(executor, trials)
            best = _write_best(optuna, study, search, folder)
    finally:
        executor.close()
    if best is None:
        say("no trial came to its end")
        return INTERRUPTED if stopped else 1
    for line in best:
        say(line)
    return INTERRUPTED if stopped else 0


class _Searcher:
    """The loop of a study."""

    def __init__(
        self,
        optuna: Any,
        study: Any,
        search: Search,
        folder: Path,
        threads: int,
        say: Callable[[str], None],
    ) -> None:
        self.optuna = optuna
        self.study = study
        self.search = search
        self.folder = folder
        self.threads = threads
        self.say = say

    def work_off(self, executor: Executor, trials: int) -> bool:
        """Runs trials until there are enough; returns whether a signal ended it early."""
        running_state = self.optuna.trial.TrialState.RUNNING
        begun = [x._trial_id for x in self.study.get_trials(states=(running_state,))]
        running: dict[Job, _Trial] = {}
        stopped = False
        with stop_signals() as signals:
            while True:
                if signals.count and not stopped:
                    stopped = True
                    self.say(str(signals))
                    for job in running:
                        executor.stop(job)
                if signals.count > 1:
                    executor.kill()
                while not stopped and len(running) < executor.num_slots:
                    if begun:
                        trial = self.optuna.trial.Trial(self.study, begun.pop(0))
                    elif len(self.study.trials) < trials:
                        trial = self.study.ask()
                    else:
                        break
                    self._begin(trial, running, executor)
                for job, code in executor.poll():
                    self._end(running.pop(job), code, running, executor, stopped=stopped)
                if not running and (stopped or (not begun and len(self.study.trials) >= trials)):
                    return stopped
                for job, trial in running.items():
                    trial.look()
                    if not stopped and not trial.pruned and trial.should_prune():
                        trial.pruned = True
                        executor.stop(job)
                time.sleep(POLL_S)

    def _begin(self, asked: Any, running: dict[Job, _Trial], executor: Executor) -> None:
        try:
            trial = _Trial(asked, self.folder, self.search, self.threads)
        except ValueError as error:
            self._fail(asked, str(error))
            return
        shown = ", ".join(f"{name} {_short(value)}" for name, value in trial.params.items())
        self.say(f"trial {asked.number}: {shown}")
        self._go_on(trial, running, executor)

    def _go_on(self, trial: _Trial, running: dict[Job, _Trial], executor: Executor) -> None:
        """Starts the trial's next run, or ends the trial."""
        try:
            trial.take_finished()
        except ValueError as error:
            self._fail(trial.trial, str(error))
            return
        if len(trial.scores) == len(trial.configs):
            self.study.tell(trial.trial, trial.value())
            self.say(f"trial {trial.trial.number}: score {trial.value():.4f}{self._leading()}")
            trial.clean()
            return
        job = trial.next_job()
        executor.start(job)
        running[job] = trial

    def _end(
        self,
        trial: _Trial,
        code: int,
        running: dict[Job, _Trial],
        executor: Executor,
        *,
        stopped: bool,
    ) -> None:
        trial.look()
        config = trial.configs[len(trial.scores)]
        if trial.pruned:
            self.study.tell(trial.trial, state=self.optuna.trial.TrialState.PRUNED)
            self.say(f"trial {trial.trial.number}: pruned")
            trial.clean()
        elif is_finished(config) and not stopped:
            self._go_on(trial, running, executor)
        elif not stopped:
            said = last_line(end_of(Path(f"{config.run_dir}.log")))
            self._fail(trial.trial, f"exit code {code}: {said}")

    def _fail(self, trial: Any, error: str) -> None:
        trial.set_user_attr("error", error)
        self.study.tell(trial, state=self.optuna.trial.TrialState.FAIL)
        self.say(f"trial {trial.number}: failed: {error}")

    def _leading(self) -> str:
        best = self.study.best_trial
        return f" (best: trial {best.number}, {best.value:.4f})"


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ValueError("fastrl tune needs Optuna: pip install 'fastrl[research]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _open_study(optuna: Any, folder: Path) -> Any:
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder.resolve() / 'study.db'}")
    study = optuna.create_study(
        study_name="fastrl", storage=storage, direction="maximize", load_if_exists=True
    )
    # Another sitting must not draw the points of the first one again.
    study.sampler = optuna.samplers.TPESampler(
        seed=len(study.trials), n_startup_trials=STARTUP_TRIALS, constant_liar=True
    )
    study.pruner = optuna.pruners.MedianPruner(
        n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARMUP_REPORTS
    )
    return study


def _write_best(optuna: Any, study: Any, search: Search, folder: Path) -> list[str] | None:
    """Writes best.toml and returns what to print; None when no trial came to its end."""
    complete = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if not complete:
        return None
    best = study.best_trial
    params = {
        d.name: d.suggest(optuna.trial.FixedTrial(best.params)) for d in dimensions(search.space)
    }
    total = len(study.trials)
    overrides = {**variant_overrides(search.variant, {}), **params}
    lines = [
        f"# Trial {best.number} of {total}: score {best.value:.4f}. Run it: fastrl sweep best.toml",
        f"envs = {_toml(list(search.envs))}",
        'variants = ["tuned"]',
        f"seeds = {_toml(list(search.seeds))}",
        "",
        "[set]",
        *(f"{name} = {_toml(value)}" for name, value in search.common.items()),
        "",
        "[variant.tuned]",
        *(f"{name} = {_toml(value)}" for name, value in overrides.items()),
    ]
    write_text(folder / "best.toml", "\n".join(lines) + "\n")
    return [
        f"best: trial {best.number} of {total}, score {best.value:.4f}"
        f" ({len(complete)} came to their end)",
        *(command_line(env_id, {**search.common, **overrides}) for env_id in search.envs),
        f"written: {folder / 'best.toml'}",
    ]


def command_line(env_id: str, overrides: Mapping[str, Any]) -> str:
    """The `fastrl train` that trains with these overrides."""
    words = ["fastrl", "train", env_id]
    for name, value in overrides.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, Mapping):
            pairs = cast(Mapping[str, Any], value).items()
            words += [f"--{option}", *(f"{key}={json.dumps(x)}" for key, x in pairs)]
        else:
            words += [f"--{option}", str(value)]
    return shlex.join(words)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = cast(Mapping[str, Any], value).items()
        return "{ " + ", ".join(f"{key} = {_toml(x)}" for key, x in pairs) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(x) for x in cast(list[Any], value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return json.dumps(value)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
