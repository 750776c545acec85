"""The `fastrl` command: train, distill, eval, bench, report, envs.

Each command is a frozen dataclass, and its options are the fields. A user's mistake ends in one
line on stderr and exit code 2. torch is imported by the commands that need it, when they run.

Exit codes: 0 done, 1 training diverged, 2 wrong input, 130 interrupted (a run is saved first).
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
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar, cast, get_origin

import tyro
from tyro.conf import Positional, arg
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

import fastrl
from fastrl.config import PRESETS, Device, Policy, TrainConfig, config_for, load_config

if TYPE_CHECKING:
    from fastrl.bench import BenchReport

EXAMPLE_ENV = "MinAtar/Breakout-v1"

USAGE = f"""\
usage: fastrl COMMAND ...

  train ENV       train a policy with PPO, e.g. fastrl train {EXAMPLE_ENV}
  distill RUN     train a (smaller) student to act as the policy of a run folder
  eval RUN        play full games with the policy of a run folder
  bench pool      steps per second of the environment pool, beside its peers
  bench train     steps per second of training, end to end
  bench kernels   the advantage kernels against their plain definition
  report RUN...   final returns over seeds, and their curve
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
            obs_type = {"obs_type": "ram"} if first.obs_type == "ram" else {}
            start = config_for(first.env_id or EXAMPLE_ENV, preset=first.preset or None, **obs_type)
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
    """Agent steps per second of training, end to end, and where the time goes."""

    env: Annotated[str, arg(metavar="ENV")] = EXAMPLE_ENV
    """What to play."""
    preset: Annotated[str | None, arg(metavar="{" + ",".join(PRESETS) + "}")] = None
    """Preset of the run; ENV picks one."""
    total_steps: int = 200_000
    """Agent steps of one run."""
    repeats: int = 1
    """Runs, in a temporary folder, with seeds 1, 2, ..."""

    def run(self, command_line: str) -> int:
        """Measures."""
        self.check_outputs()
        from fastrl.bench import bench_train

        return self.show(
            bench_train(
                self.env,
                preset=self.preset,
                total_steps=self.total_steps,
                repeats=self.repeats,
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
    "bench pool": BenchPool,
    "bench train": BenchTrain,
    "bench kernels": BenchKernels,
    "report": Report,
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
    from fastrl.train import RunInUseError, choose_device, train

    try:
        choose_device(config)
    except RuntimeError as error:
        raise UsageError(str(error)) from error
    try:
        summary = train(config, resume=resume, observer=make_dashboard(sys.stdout))
    except RunInUseError as error:
        raise UsageError(str(error)) from error
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
