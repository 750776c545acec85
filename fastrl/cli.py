"""The `fastrl` command: train, distill, eval, sweep, tune, bench, report, compare, envs.

Each command is a frozen dataclass, and its options are the fields. A user's mistake ends in one
line on stderr and exit code 2. torch is imported by the commands that need it, when they run.

Exit codes: 0 done, 1 training diverged (or runs of a sweep failed), 2 wrong input, 130 interrupted
(runs are saved first).
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar, cast, get_origin

import tyro
from tyro.conf import Positional, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

import fastrl
from fastrl.config import (
    LITERAL,
    PRESETS,
    Device,
    Policy,
    TrainConfig,
    config_for,
    load_config,
)

if TYPE_CHECKING:
    from fastrl.bench import BenchReport
    from fastrl.sweep import Packing

EXAMPLE_ENV = "MinAtar/Breakout-v1"

USAGE = f"""\
usage: fastrl COMMAND ...

  train ENV       train a policy with PPO, e.g. fastrl train {EXAMPLE_ENV}
  distill RUN     train a (smaller) student to act as the policy of a run folder
  eval RUN        play full games with the policy of a run folder
  sweep           train environments x variants x seeds, packed onto this machine or a Ray cluster
  tune ENV...     search hyper-parameters over whole runs of several seeds
  bench pool      steps per second of the environment pool, beside its peers
  bench train     steps per second of training, end to end
  bench kernels   the advantage kernels against their plain definition
  report RUN...   final returns over seeds, and their curve
  compare RUNS... groups of runs against each other, as page, table and figures
  envs            every environment, with its actions and observation

  fastrl COMMAND --help     the options of a command
  fastrl --version          the version
  fastrl --traceback ...    show where an error comes from
"""


class UsageError(ValueError):
    """The command line cannot be carried out as it stands."""


class Command(Protocol):
    """A parsed command line."""

    def run(self, command_line: str) -> int:
        """Carries it out; returns the exit code."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Train(TrainConfig):
    """Train a policy with PPO. Defaults depend on ENV (its preset) or, with --resume, on the run.

    The run folder gets config.json, metrics.jsonl, episodes.jsonl, checkpoints/, summary.json and
    curve.png. Ctrl-C saves first.
    """

    env_id: Annotated[
        str, Positional, arg(metavar="ENV", help_behavior_hint="(required without --resume)")
    ] = ""
    """What to play; `fastrl envs` lists the ids."""
    preset: Annotated[str, arg(metavar="{" + ",".join(PRESETS) + "}")] = ""
    """Where the defaults below come from; ENV picks one, options override it."""
    resume: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="")] = None
    """Continue this run folder from its newest checkpoint; --total-steps may be raised."""

    def __post_init__(self) -> None:
        """Nothing yet: `config` checks, once the preset is known."""

    @classmethod
    def parse(cls, arguments: list[str]) -> Train:
        """Parses twice: first for ENV, --preset and --resume, which make the other defaults."""
        blank = cls()
        first = _parse(
            cls, [x for x in arguments if x not in ("-h", "--help")], prog="train", default=blank
        )
        if first.resume is not None:
            start = load_config(first.resume)
            if first.env_id and first.env_id != start.env_id:
                raise UsageError(f"{first.resume} is a run of {start.env_id}, not {first.env_id}")
        else:
            if first.env_id:
                fastrl.spec(first.env_id)
            chosen: dict[str, Any] = {"obs_type": "ram"} if first.obs_type == "ram" else {}
            chosen |= {"advantage": first.advantage} if first.advantage in LITERAL else {}
            start = config_for(first.env_id or EXAMPLE_ENV, preset=first.preset or None, **chosen)
        values: dict[str, Any] = start.to_dict() | {"env_id": first.env_id}
        return _parse(cls, arguments, prog="train", default=cls(**values))

    def config(self) -> TrainConfig:
        """The checked config.

        Raises:
            ValueError: ENV is missing, or a value is out of range.
        """
        values = {field.name: getattr(self, field.name) for field in fields(TrainConfig)}
        if self.resume is not None:
            values["env_id"] = load_config(self.resume).env_id
        elif not self.env_id:
            raise UsageError(f"which environment? For example: fastrl train {EXAMPLE_ENV}")
        return TrainConfig(**values)

    def run(self, command_line: str) -> int:
        """Trains, with a view in the terminal."""
        del command_line
        return _train(self.config(), self.resume)


@dataclass(frozen=True, kw_only=True, slots=True)
class Distill:
    """Train a student to act as the policy of a run folder, in the states the student meets.

    Makes a run folder as `fastrl train` does; eval, report and `fastrl train --resume` work on it.
    metrics.jsonl has kl_teacher and agreement. For every other option of training:
    fastrl train ENV --teacher RUN.
    """

    teacher: Annotated[Path, Positional, arg(metavar="TEACHER")]
    """Run folder whose newest checkpoint is the teacher; the student plays its environment."""
    policy: Policy = "auto"
    """Network of the student; auto is what `fastrl train` takes. mlp_small is the smallest."""
    total_steps: int | None = None
    """Agent steps of the student. Default: as `fastrl train` in that environment, like the rest."""
    run_dir: str = ""
    """Folder of the student's run, which must not exist yet. Default: as `fastrl train`."""
    seed: int = 1
    """Seed of the student's run."""
    num_envs: int | None = None
    """Environments stepped together."""
    num_steps: int | None = None
    """Steps of each environment per rollout."""
    learning_rate: float | None = None
    """Adam step size at the start."""
    device: Device = "auto"
    """auto takes CUDA when torch sees a GPU."""
    torch_threads: int = 0
    """CPU threads of torch; 0 leaves torch's choice."""

    def config(self) -> TrainConfig:
        """The student's: the teacher's environment and preset, and the options given.

        Raises:
            ValueError: The teacher is no run folder, or a value is out of range.
        """
        if not self.teacher.is_dir():
            raise UsageError(f"there is no run folder {self.teacher}")
        teacher = load_config(self.teacher)
        same = ("preset", "protocol", "obs_type", "autoreset_mode", "env_options")
        values = {name: getattr(teacher, name) for name in same}
        asked = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {name: value for name, value in asked.items() if value is not None}
        return config_for(teacher.env_id, **values | {"teacher": str(self.teacher)})

    def run(self, command_line: str) -> int:
        """Trains the student, with a view in the terminal."""
        del command_line
        return _train(self.config(), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Eval:
    """Play full games with a run's newest checkpoint; prints a table and writes RUN/eval.json."""

    run_dir: Annotated[Path, Positional, arg(metavar="RUN")]
    """Folder of the run."""
    episodes: int = 30
    """Games, exactly this many, shared out over the environments beforehand."""
    seed: int | None = None
    """Environment i gets seed + i. Default: seeds that the run was not trained on."""
    greedy: bool = False
    """Take the likeliest action; the default draws actions from the policy, as in training."""
    video: Annotated[Path | None, arg(metavar="FILE.mp4")] = None
    """Film the first game (needs fastrl[video])."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the policy runs."""

    def run(self, command_line: str) -> int:
        """Evaluates."""
        del command_line
        if not self.run_dir.is_dir():
            raise UsageError(f"there is no run folder {self.run_dir}")
        from rich.console import Console

        from fastrl.evaluate import evaluate

        report = evaluate(
            self.run_dir,
            self.episodes,
            seed=self.seed,
            greedy=self.greedy,
            video=self.video,
            device=self.device,
        )
        Console().print(report.table())
        print(f"written: {self.run_dir / 'eval.json'}")
        if self.video is not None:
            print(f"written: {self.video}")
        return 0


Repeated = tyro.conf.UseAppendAction


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """What commands that train many runs have in common."""

    jobs: int = 0
    """Runs at a time. 0: one for each GPU that the runs may use, else for each usable CPU."""
    threads: int = 0
    """CPU threads of each run. 0: the usable CPUs shared out over the jobs; with ray 1."""
    executor: Literal["local", "ray"] = "local"
    """local: processes of this machine. ray: tasks of a Ray cluster (needs fastrl[ray]); all its
    machines must see the output folder."""
    ray_address: Annotated[str, arg(metavar="ADDRESS", help_behavior_hint="")] = ""
    """Of the cluster. Default: $RAY_ADDRESS, or else a Ray of this machine alone."""

    def packing(self) -> Packing:
        """The options as `fastrl.sweep.Packing`."""
        from fastrl.sweep import Packing

        return Packing(
            jobs=self.jobs,
            threads=self.threads,
            executor=self.executor,
            ray_address=self.ray_address,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep(Packed):
    """Train every environment with every variant and every seed; one process and folder each.

    The seed alone decides weights, environments and random numbers, so variants are paired. Ctrl-C
    saves the running runs; --resume goes on. A run that fails is listed at the end (exit code 1).

    A file may hold: envs, variants, seeds, [set], [grid] and a table [variant.NAME] of overrides
    for each variant of your own (base = "..." names what it starts from).
    """

    file: Annotated[Path | None, Positional, arg(metavar="[FILE.toml]", help_behavior_hint="")] = (
        None
    )
    """What to run; the options below replace its parts."""
    env: Annotated[tuple[str, ...], Repeated, arg(metavar="ENV", help_behavior_hint="")] = ()
    """What to play; once for each environment."""
    variant: Annotated[tuple[str, ...], Repeated, arg(metavar="NAME", help_behavior_hint="")] = ()
    """How to train: of fastrl/variants.py or of the file; once for each. Default: ppo."""
    seeds: Annotated[tuple[int, ...], arg(metavar="N", help_behavior_hint="")] = ()
    """One number: the seeds 1 to N. Several: these seeds. Default: 1."""
    overrides: Annotated[
        tuple[str, ...], Repeated, arg(name="set", metavar="OPTION=VALUE", help_behavior_hint="")
    ] = ()
    """An option of `fastrl train` for every run, e.g. --set total_steps=1000000; repeatable."""
    grid: Annotated[
        tuple[str, ...], Repeated, arg(metavar="OPTION=[...]", help_behavior_hint="")
    ] = ()
    """Every variant once for each value, e.g. --grid gamma=[0.98,0.99]; repeatable."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """New folder of the sweep. Default: runs/sweeps/<file>-<time>."""
    resume: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Go on with this sweep. FILE and options may add runs to it, but not change any."""
    keep_checkpoints: bool = False
    """Keep two checkpoints of a finished run instead of the last."""
    dry_run: bool = False
    """Only list the runs."""

    def run(self, command_line: str) -> int:
        """Sweeps, with a view in the terminal."""
        if self.out is not None and self.resume is not None:
            raise UsageError("--out is for a new sweep, --resume for an old one: use one of them")
        from fastrl import sweep
        from fastrl.sweep_view import make_sweep_view

        grid = sweep.make_grid(
            self._file(),
            envs=self.env,
            variants=self.variant,
            seeds=_seeds(self.seeds),
            common=_options_from(list(self.overrides)),
            axes=_options_from(list(self.grid)),
        )
        folder = self.resume or self.out or _dated("sweeps", self.file)
        packing = self.packing()
        if self.dry_run:
            if self.resume is not None:
                grid = sweep.added(sweep.Grid.from_dict(sweep.read_sweep(self.resume)), grid)
            runs = sweep.planned_runs(grid, folder)
            for run in runs:
                print(folder / run.dir)
            gpus = sweep.visible_gpus([run.config for run in runs])
            jobs, threads = packing.fitted(len(runs), gpus)
            steps = sum(run.config.total_steps for run in runs)
            print(f"{len(runs)} runs, {steps:,} agent steps; {jobs} jobs of {threads} threads")
            return 0
        code = sweep.run_sweep(
            grid,
            folder,
            packing,
            make_sweep_view(sys.stdout),
            command=command_line,
            resume=self.resume is not None,
            keep_checkpoints=self.keep_checkpoints,
        )
        print(f"sweep folder: {folder}")
        if code:
            print(f"go on with: fastrl sweep --resume {shlex.quote(str(folder))}")
        return code

    def _file(self) -> dict[str, Any]:
        """The sweep file, or on --resume without one what was recorded."""
        from fastrl import sweep

        if self.file is not None:
            return sweep.read_sweep_file(self.file)
        if self.resume is None:
            return {}
        recorded = sweep.Grid.from_dict(sweep.read_sweep(self.resume)).to_dict()
        tables = recorded["variants"]
        return recorded | {"variants": list(tables), "variant": tables}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tune(Packed):
    """Search hyper-parameters with Optuna: each trial trains every ENV with every seed.

    A trial's value is the mean normalised score of its runs (random play 0; a human 1 for Atari,
    PPO after 5M steps 1 for MinAtar). Trials below the median learning curve are pruned. Ctrl-C
    saves; --resume goes on. Prints the best as a command line, and writes best.toml.
    """

    envs: Annotated[
        tuple[str, ...], Positional, arg(metavar="[ENV ...]", help_behavior_hint="")
    ] = ()
    """What to play; the same parameters must do for all."""
    trials: int = 50
    """Trials of the study altogether, those before --resume included."""
    seeds: Annotated[tuple[int, ...], arg(metavar="N", help_behavior_hint="")] = ()
    """One number: the seeds 1 to N. Several: these seeds. Default: 3."""
    variant: Annotated[str, arg(metavar="NAME", help_behavior_hint="")] = ""
    """What is tuned, of fastrl/variants.py. Default: ppo."""
    overrides: Annotated[
        tuple[str, ...], Repeated, arg(name="set", metavar="OPTION=VALUE", help_behavior_hint="")
    ] = ()
    """An option of `fastrl train` for every run, e.g. --set total_steps=1000000; repeatable."""
    space: Annotated[Path | None, arg(metavar="FILE.toml", help_behavior_hint="")] = None
    """What is searched: a table for each option, with low, high and scale (linear, log,
    log-to-one), or with choices. Default: learning_rate, ent_coef, gamma, gae_lambda, clip_coef,
    update_epochs, num_minibatches (DEFAULT_SPACE in fastrl/tune.py)."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """New folder of the study. Default: runs/studies/<time>."""
    resume: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Go on with this study."""

    def run(self, command_line: str) -> int:
        """Searches."""
        from fastrl import tune
        from fastrl.sweep import seed_list

        if self.resume is not None:
            fixed = ("envs", "seeds", "variant", "overrides", "space", "out")
            given = [
                "set" if name == "overrides" else name for name in fixed if getattr(self, name)
            ]
            if given:
                raise UsageError(f"a study goes on as it began: leave {', '.join(given)} out")
            search = tune.Search.from_dict(tune.read_study(self.resume))
        else:
            seeds = _seeds(self.seeds)
            search = tune.Search(
                envs=self.envs,
                seeds=(1, 2, 3) if seeds is None else seed_list(seeds),
                variant=self.variant or "ppo",
                common=_options_from(list(self.overrides)),
                space=tune.DEFAULT_SPACE if self.space is None else tune.read_space(self.space),
            )
        folder = self.resume or self.out or _dated("studies", None)
        code = tune.run_study(
            search,
            folder,
            self.packing(),
            trials=self.trials,
            command=command_line,
            say=partial(print, flush=True),
            resume=self.resume is not None,
        )
        print(f"study folder: {folder}")
        if code:
            print(f"go on with: fastrl tune --resume {shlex.quote(str(folder))}")
        return code


def _seeds(given: tuple[int, ...]) -> int | list[int] | None:
    """One number is how many, several are the seeds themselves."""
    if not given:
        return None
    return given[0] if len(given) == 1 else list(given)


def _dated(kind: str, file: Path | None) -> Path:
    name = f"{file.stem}-" if file is not None else ""
    return Path("runs") / kind / f"{name}{time.strftime('%Y%m%d-%H%M%S')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What the benchmarks have in common."""

    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write every number into this file."""
    markdown: Annotated[Path | None, arg(metavar="DIR")] = None
    """Write <what>[-<env>]_<hardware>_<date>.md into this folder."""

    def check_outputs(self) -> None:
        """Refuses, before anything is measured, a file that could not be written afterwards."""
        if self.json is not None and (self.json.is_dir() or not self.json.parent.is_dir()):
            raise UsageError(f"cannot write {self.json}: it needs an existing folder and a name")
        if self.markdown is not None and self.markdown.exists() and not self.markdown.is_dir():
            raise UsageError(f"cannot write into {self.markdown}: it is not a folder")

    def show(self, report: BenchReport) -> int:
        """Prints the report and writes the files that were asked for."""
        from rich.console import Console
        from rich.table import Table

        from fastrl.machine import describe

        console = Console()
        for line in describe(report.origin):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        for rows in report.tables:
            table = Table(title=rows.title, title_justify="left")
            for index, name in enumerate(rows.header):
                table.add_column(name, justify="right" if index else "left")
            for row in rows.rows:
                table.add_row(*row)
            console.print(table)
        if self.json is not None:
            self.json.write_text(report.to_json(), encoding="utf-8")
            print(f"written: {self.json}")
        if self.markdown is not None:
            print(f"written: {report.write_markdown(self.markdown)}")
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchPool(Bench):
    """Agent steps per second of the pool with random actions.

    Beside it, when installed and in the same run, taking turns: ale_py.AtariVectorEnv and EnvPool
    for ALE/ and the minatar package for MinAtar/. Also threads from 1 to 4 per CPU, and the share
    of a step that is synchronisation.
    """

    env: Annotated[str, arg(metavar="ENV")] = EXAMPLE_ENV
    """What to step; `fastrl envs` lists the ids."""
    suite: Literal["", "atari16", "atari57"] = ""
    """Instead of one environment these games, each on every contender with the same threads."""
    num_envs: int = 0
    """Environments of each contender; 0 takes 1024, or 64 for ALE/."""
    num_threads: Annotated[tuple[int, ...], arg(help_behavior_hint="")] = ()
    """Thread counts of the scaling table. Default: 1, 2, 4 ... four times the usable CPUs; of a
    suite: 1 and all usable CPUs."""
    seconds: float = 1.0
    """Length of one measurement."""
    repeats: int = 5
    """Measurements of each contender."""

    def run(self, command_line: str) -> int:
        """Measures."""
        self.check_outputs()
        from fastrl.bench import bench_pool
        from fastrl.bench_suite import bench_suite

        measure = partial(bench_suite, self.suite) if self.suite else partial(bench_pool, self.env)
        return self.show(
            measure(
                num_envs=self.num_envs,
                num_threads=self.num_threads,
                seconds=self.seconds,
                repeats=self.repeats,
                command=command_line,
            )
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchTrain(Bench):
    """Agent steps per second of training, end to end and of each stage alone."""

    env: Annotated[str, arg(metavar="ENV")] = EXAMPLE_ENV
    """What to play."""
    preset: Annotated[str | None, arg(metavar="{" + ",".join(PRESETS) + "}")] = None
    """Preset of the run; ENV picks one."""
    total_steps: int = 200_000
    """Agent steps of one run."""
    repeats: int = 1
    """Runs, in a temporary folder, with seeds 1, 2, ..."""
    overrides: Annotated[
        tuple[str, ...], Repeated, arg(name="set", metavar="OPTION=VALUE", help_behavior_hint="")
    ] = ()
    """An option of `fastrl train`, e.g. --set num_envs=1024; repeatable."""
    plain_loop: bool = False
    """Measure a common PPO loop beside it (eager torch, EnvPool), with the same network and
    batch."""

    def run(self, command_line: str) -> int:
        """Measures."""
        self.check_outputs()
        from fastrl.bench_train import bench_train

        return self.show(
            bench_train(
                self.env,
                preset=self.preset,
                total_steps=self.total_steps,
                repeats=self.repeats,
                options=_options_from(list(self.overrides)),
                plain_loop=self.plain_loop,
                command=command_line,
            )
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchKernels(Bench):
    """The advantage kernels against their plain definition in Python."""

    device: Literal["cpu", "cuda"] = "cpu"
    """cpu times the C++ twin, cuda the CUDA kernel."""

    def run(self, command_line: str) -> int:
        """Measures."""
        self.check_outputs()
        from fastrl.bench import bench_kernels

        return self.show(bench_kernels(device=self.device, command=command_line))


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Final returns of runs: mean over seeds with a 95 % interval, per environment."""

    runs: Annotated[
        tuple[Path, ...], Positional, arg(metavar="RUN [RUN ...]", help_behavior_hint="")
    ]
    """Run folders; those of one environment are its seeds."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Write <name>_<hardware>_<date>.md, .json and .png into this folder."""
    name: str = "returns"
    """First part of those file names."""
    curve: Annotated[Path | None, arg(metavar="FILE.png")] = None
    """Draw return against agent steps into this file."""

    def run(self, command_line: str) -> int:
        """Reports."""
        from fastrl.report import aggregate, markdown_table, plot_curve, write_markdown

        print(markdown_table(aggregate(self.runs)))
        if self.curve is not None:
            plot_curve(self.runs, self.curve)
            print(f"written: {self.curve}")
        if self.out is not None:
            for path in write_markdown(self.runs, self.out, command=command_line, name=self.name):
                print(f"written: {path}")
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Compare:
    """Compare groups of runs: curves, intervals, what was learned; one page, readable on a phone.

    Writes index.html, table.md, summary.json and every figure as PNG and SVG.
    """

    runs: Annotated[
        tuple[str, ...], Positional, arg(metavar="RUNS [RUNS ...]", help_behavior_hint="")
    ]
    """Run folders, folders of them such as a sweep, or glob patterns in quotes."""
    by: Annotated[tuple[str, ...], arg(metavar="FIELD [FIELD ...]", help_behavior_hint="")] = ()
    """Config fields that make the groups, e.g. advantage. Default: the sweep's variants, or else
    the fields that differ."""
    baseline: Annotated[str | None, arg(metavar="GROUP")] = None
    """Group that the others are held against. Default: ppo, or gae, or the first."""
    budget: Annotated[int | None, arg(metavar="STEPS")] = None
    """Compare at this many agent steps. Default: what the shortest run of each task was asked
    for."""
    threshold: float = 0.8
    """The time is taken to this share of the baseline's final return."""
    out: Annotated[
        Path | None, arg(metavar="DIR", help_behavior_hint="(default: compare-<date>)")
    ] = None
    """Folder for the files."""

    def run(self, command_line: str) -> int:
        """Compares."""
        out = self.out or Path(f"compare-{time.strftime('%Y-%m-%d')}")
        if out.exists() and not out.is_dir():
            raise UsageError(f"cannot write into {out}: it is not a folder")
        from rich.console import Console
        from rich.table import Table

        from fastrl.compare import compare
        from fastrl.compare_report import conclusion, result_table, write

        found = compare(
            self.runs,
            by=self.by,
            baseline=self.baseline,
            budget=self.budget,
            threshold=self.threshold,
        )
        console = Console()
        for warning in found.warnings:
            console.print(f"! {warning}", style="yellow", markup=False, highlight=False)
        rows = result_table(found)
        table = Table(title=rows.title, title_justify="left", caption=rows.note)
        for index, name in enumerate(rows.header):
            table.add_column(name, justify="right" if index else "left", no_wrap=index == 0)
        for row in rows.rows:
            table.add_row(*row)
        console.print(table)
        console.print(conclusion(found), markup=False, highlight=False)
        page, *others = write(found, out, command=command_line)
        print(f"written: {page}")
        print(f"and {len(others)} files beside it: table.md, summary.json, figures")
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Envs:
    """List every environment: id, number of actions, shape of an observation, backends."""

    part: Annotated[str, Positional, arg(metavar="[PART]", help_behavior_hint="")] = ""
    """Only ids that contain this, in upper or lower case."""

    def run(self, command_line: str) -> int:
        """Prints the list."""
        del command_line
        ids = [name for name in fastrl.list_envs() if self.part.lower() in name.lower()]
        if not ids:
            fastrl.spec(self.part)  # Names the closest ids.
        width = max(map(len, ids))
        for name in ids:
            found = fastrl.spec(name)
            shape = "x".join(map(str, found.obs_shape))
            backends = ", ".join(found.backends)
            print(f"{name:<{width}}  {found.num_actions:>2} actions  {shape:<8}  {backends}")
        return 0


COMMANDS: dict[str, type[Command]] = {
    "train": Train,
    "distill": Distill,
    "eval": Eval,
    "sweep": Sweep,
    "tune": Tune,
    "bench pool": BenchPool,
    "bench train": BenchTrain,
    "bench kernels": BenchKernels,
    "report": Report,
    "compare": Compare,
    "envs": Envs,
}

Parsed = TypeVar("Parsed")


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        argv: Arguments after the program's name; None takes those of the process.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    show_traceback = arguments[:1] == ["--traceback"]
    if show_traceback:
        del arguments[0]
    try:
        if arguments in (["-h"], ["--help"], ["bench", "-h"], ["bench", "--help"]):
            print(USAGE, end="")
            return 0
        if arguments[:1] == ["--version"]:
            print(f"fastrl {fastrl.__version__}")
            return 0
        return parse(arguments).run(shlex.join(["fastrl", *arguments]))
    except SystemExit as stop:  # After --help.
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("fastrl: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # The reader of our output left, as in `fastrl envs | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, FloatingPointError) as error:
        if show_traceback:
            raise
        print(f"fastrl: error: {_message(error)}", file=sys.stderr)
        return 1 if isinstance(error, FloatingPointError) else 2


def parse(arguments: list[str]) -> Command:
    """The command that the arguments ask for.

    Raises:
        UsageError: They ask for none, in one line.
        SystemExit: They asked for help, which has been printed.
    """
    name, rest = _split(arguments)
    if name == "train":
        return Train.parse(rest)
    return _parse(COMMANDS[name], rest, prog=name)


def _train(config: TrainConfig, resume: Path | None) -> int:
    """Trains with a view in the terminal; returns the exit code."""
    from fastrl.dashboard import make_dashboard
    from fastrl.ranks import is_first
    from fastrl.train import RunInUseError, TrainingStoppedError, choose_device, train

    try:
        choose_device(config)
    except RuntimeError as error:
        raise UsageError(str(error)) from error
    try:
        summary = train(config, resume=resume, observer=make_dashboard(sys.stdout))
    except RunInUseError as error:
        raise UsageError(str(error)) from error
    except TrainingStoppedError as error:
        print(f"fastrl: error: {error}", file=sys.stderr)
        return 1
    if not is_first():
        return 0
    print(f"run folder: {summary.run_dir}")
    curve = Path(summary.run_dir) / "curve.png"
    print(f"return curve: {curve}" if curve.exists() else "return curve: no game has ended yet")
    return 0 if summary.status == "finished" else 130


def _split(arguments: list[str]) -> tuple[str, list[str]]:
    """The command's name, of one word or two, and what follows it."""
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in COMMANDS:
            return name, arguments[words:]
    if not arguments:
        raise UsageError(f"which command? There are {', '.join(COMMANDS)}; see fastrl --help")
    if arguments[0] == "bench":
        kinds = [name for name in COMMANDS if name.startswith("bench ")]
        raise UsageError(f"bench what? There are {', '.join(kinds)}; see fastrl --help")
    asked = arguments[0]
    close = difflib.get_close_matches(asked, COMMANDS, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(COMMANDS)}"
    raise UsageError(f"there is no command '{asked}'{hint}")


_registry = ConstructorRegistry()


@cast(Any, _registry).primitive_rule
def _options_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """`--env-options sticky_action_prob=0.25 difficulty_ramping=false`: values are JSON."""
    if get_origin(cast(Any, info).type) is not Mapping:
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="NAME=VALUE ...",
        instance_from_str=_options_from,
        is_instance=lambda value: isinstance(value, Mapping),
        str_from_instance=lambda options: [f"{k}={json.dumps(v)}" for k, v in options.items()],
    )


def _options_from(arguments: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for text in arguments:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"expected NAME=VALUE, got {text!r}")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def _parse(
    kind: type[Parsed], arguments: list[str], *, prog: str, default: Parsed | None = None
) -> Parsed:
    """`tyro.cli`, its boxed errors reduced to one line."""
    errors = io.StringIO()
    extra: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(errors):
            cli = cast(Any, tyro.cli)
            parsed = cli(kind, args=arguments, prog=f"fastrl {prog}", registry=_registry, **extra)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(f"{_unboxed(errors.getvalue())}; see fastrl {prog} --help") from None
    return cast(Parsed, parsed)


def _unboxed(box: str) -> str:
    """What tyro's box says under its title, down to the next rule, and the options it suggests.

    The box is drawn with lines where stdout is UTF-8 and with hyphens elsewhere.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line for raw in plain.splitlines() if (line := raw.strip(" │╭╮╰╯"))]
    rules = [index for index, line in enumerate(lines) if not line.strip("─-")]
    first = 2 if rules[:1] == [1] else 1
    last = next((index for index in rules if index >= first), len(lines))
    text = " ".join(" ".join(lines[first:last]).split()).rstrip(".")
    if "Perhaps you meant:" in lines:
        meant = [line.split()[0].rstrip(",") for line in lines[last:] if re.match(r"--\w", line)]
        text += f"; did you mean {' or '.join(meant[:3])}?"
    return text


def _message(error: Exception) -> str:
    """An error in one line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror is not None:
        text = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return " ".join(text.split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
