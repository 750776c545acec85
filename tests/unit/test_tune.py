"""Studies: what is searched, what is pruned, and that a study goes on where it stopped."""

import json
import math
import signal
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from executing import FakeExecutor, Play

from fastrl import cli, sweep, tune
from fastrl.config import PRESETS, config_for
from fastrl.executors import Job
from fastrl.scores import normalized_score, score_range
from fastrl.sweep import Packing
from fastrl.tune import DEFAULT_SPACE, Search, command_line, curve_points, dimensions, run_study

optuna = pytest.importorskip("optuna", reason="the research extra")

LR: dict[str, dict[str, Any]] = {"learning_rate": {"low": 1e-4, "high": 1e-2, "scale": "log"}}
STEPS = 10_000


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "POLL_S", 0.0)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, Any]]:
    """Runs a study in tmp_path / "study" on an executor without processes."""

    def run(play: Play, *, trials: int, num_slots: int = 1, **changes: Any) -> tuple[int, Any]:
        executor = FakeExecutor(play, num_slots)
        monkeypatch.setattr(Packing, "make_executor", lambda *_: executor)
        folder = tmp_path / "study"
        resume = (folder / "tune.json").exists()
        values: dict[str, Any] = {
            "envs": ("Catch-v0",),
            "seeds": (1, 2),
            "space": LR,
            "common": {"total_steps": STEPS},
        }
        code = run_study(
            Search(**(values | changes)),
            folder,
            Packing(),
            trials=trials,
            command="fastrl tune",
            say=lambda line: executor.lines.append(line),
            resume=resume,
        )
        return code, executor

    return run


def trials_of(folder: Path) -> list[Any]:
    storage = f"sqlite:///{folder / 'study.db'}"
    return optuna.load_study(study_name="fastrl", storage=storage).trials


def hill(job: Job) -> list[float]:
    """The return of Catch grows to its best at a learning rate of 1e-3."""
    top = 1.0 - abs(math.log10(job.config.learning_rate) + 3.0)
    return [top * tenth / 10 for tenth in range(1, 11)]


def test_a_trial_is_worth_the_mean_normalised_score_of_its_runs(
    study: Callable[..., tuple[int, Any]], tmp_path: Path
) -> None:
    def by_seed(job: Job) -> list[float]:
        return [{1: 0.0, 2: 1.0}[job.config.seed]] * 10

    code, executor = study(by_seed, trials=2)

    assert code == 0
    assert [trial.value for trial in trials_of(tmp_path / "study")] == [0.75, 0.75]
    order = [job.run_dir.relative_to(tmp_path) for job in executor.started]
    assert [str(path) for path in order[:2]] == [
        "study/trials/0000/Catch-v0/s1",
        "study/trials/0000/Catch-v0/s2",
    ]
    assert not list(tmp_path.rglob("*.pt")), "nobody resumes a trial that is over"


def test_the_learning_curve_is_reported_by_tenths(
    study: Callable[..., tuple[int, Any]], tmp_path: Path
) -> None:
    study(lambda job: [job.config.seed - 2 + t / 10 for t in range(1, 11)], trials=1)

    [trial] = trials_of(tmp_path / "study")
    first = {point: (-1 + point / 10 + 1) / 2 for point in range(1, 11)}
    second = {10 + p: (0.5 + (p / 10 + 1) / 2) / 2 for p in range(1, 11)}
    assert trial.intermediate_values == pytest.approx(first | second)


def test_a_hopeless_trial_is_pruned(study: Callable[..., tuple[int, Any]], tmp_path: Path) -> None:
    def play(job: Job) -> list[float]:
        late = int(job.run_dir.parts[-3]) >= 5
        return [-1.0 if late else 0.5] * 10

    code, executor = study(play, trials=8)

    assert code == 0
    states = [trial.state.name for trial in trials_of(tmp_path / "study")]
    assert states == ["COMPLETE"] * 5 + ["PRUNED"] * 3
    pruned = trials_of(tmp_path / "study")[5]
    assert max(pruned.intermediate_values) < 10, "within its first run"
    assert len(executor.started) == 5 * 2 + 3


def test_the_best_is_found_and_written_as_a_sweep(
    study: Callable[..., tuple[int, Any]], tmp_path: Path
) -> None:
    code, executor = study(hill, trials=12, num_slots=2, variant="ppo-99-95")

    assert code == 0
    assert executor.most_at_once == 2
    best = max(
        (trial for trial in trials_of(tmp_path / "study") if trial.value is not None),
        key=lambda trial: trial.value,
    )
    rate = best.params["learning_rate"]
    assert abs(math.log10(rate) + 3.0) < 0.5
    grid = sweep.make_grid(sweep.read_sweep_file(tmp_path / "study" / "best.toml"))
    assert grid.seeds == (1, 2)
    [run, _] = sweep.planned_runs(grid, tmp_path)
    assert (run.config.learning_rate, run.config.gae_lambda) == (rate, 0.95)
    [line] = [line for line in executor.lines if line.startswith("fastrl train Catch-v0 ")]
    command = cli.parse(line.split()[1:])
    assert isinstance(command, cli.Train)
    assert command.config().learning_rate == rate
    assert command.config().total_steps == STEPS


def test_a_stopped_study_goes_on_with_the_same_trials(
    study: Callable[..., tuple[int, Any]], tmp_path: Path
) -> None:
    def interrupt(job: Job) -> list[float]:
        if "0001" in str(job.run_dir) and job.config.seed == 2:
            signal.raise_signal(signal.SIGTERM)
        return hill(job)

    code, first = study(interrupt, trials=4)
    before = trials_of(tmp_path / "study")
    again, second = study(hill, trials=4)

    assert (code, again) == (130, 0)
    assert [trial.state.name for trial in before] == ["COMPLETE", "RUNNING"]
    after = trials_of(tmp_path / "study")
    assert [trial.state.name for trial in after] == ["COMPLETE"] * 4
    assert after[1].params == before[1].params
    assert len({trial.params["learning_rate"] for trial in after}) == 4
    assert [job.run_dir.parts[-3:] for job in second.started[:1]] == [("0001", "Catch-v0", "s2")]
    assert "SIGTERM: the running runs save and end" in " ".join(first.lines)


def test_a_failed_trial_is_recorded_and_the_study_goes_on(
    study: Callable[..., tuple[int, Any]], tmp_path: Path
) -> None:
    code, executor = study(lambda job: None if "0000" in str(job.run_dir) else hill(job), trials=2)

    assert code == 0
    failed, complete = trials_of(tmp_path / "study")
    assert (failed.state.name, complete.state.name) == ("FAIL", "COMPLETE")
    assert failed.user_attrs["error"] == "exit code 1: ValueError: it cannot be"
    assert any("trial 0: failed: exit code 1" in line for line in executor.lines)


def test_a_study_without_a_complete_trial_fails(study: Callable[..., tuple[int, Any]]) -> None:
    code, executor = study(lambda job: None, trials=2)

    assert code == 1
    assert executor.lines[-1] == "no trial came to its end"


def test_parameters_that_make_no_config_fail_their_trial(
    study: Callable[..., tuple[int, Any]], tmp_path: Path
) -> None:
    code, executor = study(hill, trials=1, space={"num_minibatches": {"choices": [10**9]}})

    assert code == 1
    assert executor.started == []
    assert "num_minibatches must be at most" in trials_of(tmp_path / "study")[0].user_attrs["error"]


def test_points_before_the_first_game_are_left_out(tmp_path: Path) -> None:
    config = config_for("Catch-v0", total_steps=1000, run_dir=str(tmp_path))
    assert curve_points(config) == {}
    lines = [(100, None), (150, 2.0), (199, 3.0), (200, 4.0), (990, 5.0), (1010, 6.0)]
    text = "".join(json.dumps({"global_step": s, "mean_return": m}) + "\n" for s, m in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"global_st', encoding="utf-8")

    assert curve_points(config) == {1: 2.0, 2: 4.0, 9: 5.0, 10: 6.0}


def test_dimensions_stay_in_their_range() -> None:
    space = {
        "gamma": {"low": 0.9, "high": 0.999, "scale": "log-to-one"},
        "update_epochs": {"low": 1, "high": 5},
        "ent_coef": {"low": 0, "high": 0.1},
        "norm_adv": {"choices": [True, False]},
    }
    trials = [optuna.create_study().ask() for _ in range(30)]

    drawn = [{d.name: d.suggest(trial) for d in dimensions(space)} for trial in trials]

    assert all(0.9 - 1e-9 <= x["gamma"] <= 0.999 + 1e-9 for x in drawn)
    assert {x["update_epochs"] for x in drawn} == {1, 2, 3, 4, 5}
    assert {type(x["ent_coef"]) for x in drawn} == {float}
    assert {x["norm_adv"] for x in drawn} == {True, False}


def test_the_default_space_holds_every_preset() -> None:
    for name, table in DEFAULT_SPACE.items():
        for preset, values in PRESETS.items():
            env_id = "ALE/Pong-v5" if "atari" in preset or preset == "machado" else "Catch-v0"
            value = values.get(name, getattr(config_for(env_id, preset=preset), name))
            if "choices" in table:
                assert value in table["choices"], (name, preset)
            else:
                assert table["low"] <= value <= table["high"], (name, preset)


def test_scores_are_0_at_random_and_1_at_the_reference() -> None:
    for env_id in ("MinAtar/Breakout-v1", "MinAtar/Seaquest-v0", "ALE/Pong-v5", "Catch-v0"):
        low, high = score_range(env_id)
        assert normalized_score(env_id, low) == 0.0
        assert normalized_score(env_id, high) == 1.0
        assert normalized_score(env_id, (low + high) / 2) == pytest.approx(0.5)
    assert score_range("ALE/Breakout-v5") == (1.7, 30.5)
    with pytest.raises(ValueError, match="has no normalised score"):
        score_range("ALE/Adventure-v5")


def test_options_of_any_kind_fit_a_command_line() -> None:
    overrides: dict[str, Any] = {
        "anneal_lr": False,
        "norm_adv": True,
        "gamma": 0.97,
        "env_options": {"max_episode_steps": 5},
        "preset": "catch",
    }

    command = cli.parse(command_line("Catch-v0", overrides).split()[1:])

    assert isinstance(command, cli.Train)
    assert command.config() == config_for("Catch-v0", **overrides)


WRONG = {
    "": "tune on which environment?",
    "nope": "nope has no normalised score",
    "Catch-v0 --trials 0": "trials must be >= 1, got 0",
    "Catch-v0 --seeds 0": "seeds must be a number >= 1",
    "Catch-v0 --variant nope": "there is no variant 'nope'",
    "Catch-v0 --variant yoked-lambda": "yoked-lambda follows another run",
    "Catch-v0 --set gamma=0.9": "set: the study itself chooses gamma",
    "Catch-v0 --set ga=0.9": "unknown config key ga",
    "Catch-v0 --jobs -1": "jobs must be >= 0, got -1",
    "Catch-v0 --space {tmp}/nope": "nope",
    "Catch-v0 --out {tmp}": "exists already",
    "--resume {tmp}": "is not a study",
    "Catch-v0 --resume {tmp}": "leave envs out",
    "Catch-v0 --set gamma=0.9 --seeds 2 --resume {tmp}": "leave envs, seeds, set out",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_study_is_named_in_one_line(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept").touch()

    code = cli.main(["tune", *line.format(tmp=tmp_path).split()])

    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (2, 1)
    assert WRONG[line] in err
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


WRONG_SPACES = {
    "[": "not a TOML file",
    "": "the space is empty",
    "[nope]\nlow = 1": "nope is not a training option",
    "[seed]\nlow = 1\nhigh = 2": "seed is not a training option that can be searched",
    "gamma = 0.9": "gamma must be a table",
    "[gamma]\nlow = 0.9": "gamma needs low and high, or choices",
    "[gamma]\nlow = 0.9\nhigh = 0.8": "low below high, got 0.9 0.8",
    "[gamma]\nlow = 0.9\nhigh = 1.0\nscale = 'log-to-one'": "needs high < 1",
    "[gamma]\nlow = 0\nhigh = 1.0\nscale = 'log'": "needs low > 0",
    "[gamma]\nlow = 0\nhigh = 1\nscale = 'square'": "one of linear, log, log-to-one, got 'square'",
    "[gamma]\nchoices = []": "choices is empty",
    "[gamma]\nchoices = 1": "choices is a list",
}


@pytest.mark.parametrize("text", WRONG_SPACES)
def test_a_wrong_space_is_named_in_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "space.toml"
    file.write_text(text, encoding="utf-8")

    assert cli.main(["tune", "Catch-v0", "--space", str(file), "--out", str(tmp_path / "s")]) == 2

    err = capsys.readouterr().err
    assert WRONG_SPACES[text] in err
    assert err.startswith(f"fastrl: error: {file}: ")
    assert err.count("\n") == 1


def test_a_real_study_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = tmp_path / "space.toml"
    space.write_text("[learning_rate]\nlow = 1e-3\nhigh = 1e-2\n", encoding="utf-8")
    out = tmp_path / "study"
    line = f"tune Catch-v0 --trials 2 --seeds 1 --set total_steps=8192 --space {space} --out {out}"

    assert cli.main(line.split()) == 0

    said = capsys.readouterr().out
    assert "best: trial " in said
    assert "fastrl train Catch-v0 --total-steps 8192 --learning-rate 0.00" in said
    assert f"study folder: {out}" in said
    values = [trial.value for trial in trials_of(out)]
    assert all(0.0 <= value <= 1.0 for value in values)
    best = tomllib.loads((out / "best.toml").read_text(encoding="utf-8"))
    assert best["seeds"] == [1]
    summary = json.loads((out / "trials/0000/Catch-v0/s1/summary.json").read_text())
    assert values[0] == normalized_score("Catch-v0", summary["mean_return"])
