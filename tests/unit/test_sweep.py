"""Sweeps: what a grid means, in which order it is run, and that nothing is lost or done twice."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from executing import FakeExecutor
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from test_resume import lines

import fastrl
from fastrl import checkpoint, cli, sweep
from fastrl.config import config_for, replace
from fastrl.executors import Job
from fastrl.models import make_policy
from fastrl.sweep import (
    Grid,
    Packing,
    Sweep,
    added,
    make_grid,
    other_seed,
    planned_runs,
    read_sweep,
    read_sweep_file,
)
from fastrl.sweep_view import LiveView, PlainView, make_sweep_view
from fastrl.train import train
from fastrl.variants import VARIANTS

SMALL: dict[str, Any] = {
    "num_envs": 8,
    "num_steps": 16,
    "num_minibatches": 2,
    "update_epochs": 2,
    "total_steps": 20 * 128,
    "checkpoint_every": 3,
    "device": "cpu",
}

names = st.text("abcdefghij0123456789.,=+-_", min_size=1, max_size=8).filter(
    lambda name: name[0] not in ".,=+-"
)
overrides = st.fixed_dictionaries(
    {}, optional={"gamma": st.floats(0, 1), "gae_lambda": st.floats(0, 1)}
)
grids = st.builds(
    Grid,
    envs=st.lists(
        st.sampled_from(["Catch-v0", "MinAtar/Breakout-v1", "ALE/Pong-v5"]), min_size=1, unique=True
    ).map(tuple),
    variants=st.dictionaries(names, overrides, min_size=1, max_size=4),
    seeds=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4, unique=True).map(tuple),
    common=overrides,
)


@settings(max_examples=30)
@given(grids)
def test_a_grid_is_every_combination_once(grid: Grid) -> None:
    runs = planned_runs(grid, Path("there"))

    cells = {(run.env_id, run.variant, run.seed) for run in runs}
    assert cells == {(e, v, s) for e in grid.envs for v in grid.variants for s in grid.seeds}
    assert len(runs) == len({run.dir for run in runs}) == len(cells)
    assert [run.seed for run in runs] == sorted((run.seed for run in runs), key=grid.seeds.index), (
        "seeds go slowest"
    )


@settings(max_examples=30)
@given(grids)
def test_a_runs_config_is_the_presets_with_the_overrides_on_top(grid: Grid) -> None:
    for run in planned_runs(grid, Path("there")):
        values = {**grid.common, **grid.variants[run.variant]}
        values |= {"seed": run.seed, "run_dir": str(Path("there").resolve() / run.dir)}
        assert run.config == config_for(run.env_id, **values)


@settings(max_examples=30)
@given(grids)
def test_a_grid_survives_sweep_json(grid: Grid) -> None:
    assert Grid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid


@settings(max_examples=30)
@given(grids, grids)
def test_a_resumed_grid_only_grows(old: Grid, new: Grid) -> None:
    same = {name: old.variants.get(name, values) for name, values in new.variants.items()}
    grown = added(old, Grid(envs=new.envs, variants=same, seeds=new.seeds, common=old.common))

    before = planned_runs(old, Path("there"))
    after = {run.dir: run for run in planned_runs(grown, Path("there"))}
    assert all(after[run.dir] == run for run in before)
    assert {run.env_id for run in after.values()} == {*old.envs, *new.envs}
    assert {run.seed for run in after.values()} == {*old.seeds, *new.seeds}


@given(st.lists(st.integers(0, 99), min_size=2, unique=True), st.data())
def test_the_other_seed_is_another_and_stays_when_seeds_are_added(
    seeds: list[int], data: st.DataObject
) -> None:
    first = data.draw(st.integers(2, len(seeds)))
    for seed in seeds[:first]:
        assert other_seed(seeds, seed) != seed
        assert other_seed(seeds[:first], seed) == other_seed(seeds, seed)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_sweep_file_says_all_of_it(tmp_path: Path) -> None:
    file = write(
        tmp_path / "sweep.toml",
        """
        envs = ["Catch-v0"]
        variants = ["ppo", "mine", "ppo-99-95"]
        seeds = [3, 7]
        [set]
        total_steps = 1000
        gamma = 0.5
        [variant.mine]
        base = "ppo-99-95"
        gamma = 0.25
        [variant.ppo-99-95]
        ent_coef = 0.5
        """,
    )

    grid = make_grid(read_sweep_file(file))

    assert grid.seeds == (3, 7)
    assert dict(grid.variants) == {
        "ppo": {},
        "mine": {"gamma": 0.25, "gae_lambda": 0.95},
        "ppo-99-95": {"gamma": 0.99, "gae_lambda": 0.95, "ent_coef": 0.5},
    }
    assert [run.config.gamma for run in planned_runs(grid, tmp_path)[:3]] == [0.5, 0.25, 0.99]


def test_the_command_line_replaces_parts_of_the_file() -> None:
    file = {"envs": ["Catch-v0"], "variants": ["ppo"], "seeds": 5, "set": {"gamma": 0.5}}

    grid = make_grid(
        file, envs=["ALE/Pong-v5"], seeds=2, common={"total_steps": 7}, axes={"gamma": [0.1, 0.2]}
    )

    assert grid.envs == ("ALE/Pong-v5",)
    assert grid.seeds == (1, 2)
    assert dict(grid.common) == {"gamma": 0.5, "total_steps": 7}
    assert dict(grid.variants) == {"ppo,gamma=0.1": {"gamma": 0.1}, "ppo,gamma=0.2": {"gamma": 0.2}}


def test_axes_are_crossed() -> None:
    grid = make_grid(
        {"envs": ["Catch-v0"], "grid": {"gamma": [0.9, 1.0], "norm_adv": [True, False]}}
    )

    assert list(grid.variants) == [
        "ppo,gamma=0.9,norm_adv=true",
        "ppo,gamma=0.9,norm_adv=false",
        "ppo,gamma=1.0,norm_adv=true",
        "ppo,gamma=1.0,norm_adv=false",
    ]


WRONG_FILES = {
    "envs = [": "not a TOML file",
    "env = ['Catch-v0']": "unknown key env; there are envs, variants, seeds, set, variant, grid",
    "seeds = 'two'": "seeds must be a number or a list, got 'two'",
    "envs = [1]": "envs must hold strings, got 1",
    "variants = ['nope']": "there is no variant 'nope'; there are ppo",
    "variants = ['a']\n[variant.a]\nbase = 'nope'": "there is no variant 'nope'",
    "variant.a = 1": "variant.a must be a table, got 1",
    "envs = []": "at least one env",
    "envs = ['Catch-v0', 'Catch-v0']": "env Catch-v0 is given twice",
    "envs = ['Cach-v0']": "did you mean Catch-v0",
    "seeds = 0": "seeds must be a number >= 1",
    "seeds = [1, 1]": "seed 1 is given twice",
    "seeds = [-1]": "a seed is an integer in [0, 2147483647], got -1",
    "seeds = [true]": "a seed is an integer in [0, 2147483647], got True",
    "grid.gamma = 0.9": "grid: gamma must be a list of values, got 0.9",
    "grid.gamma = []": "grid: gamma must be a list of values, got []",
    "grid.gamma = [2.0]": "Catch-v0 ppo,gamma=2.0: gamma must be a number in [0, 1], got 2.0",
    "set.gama = 0.9": "Catch-v0 ppo: unknown config key gama",
    "set.seed = 1": "set: the sweep itself chooses seed",
    "[variant.mine]\nrun_dir = 'x'": "mine: the sweep itself chooses run_dir",
    "[variant.'a/b']\ngamma = 0.5": "a variant's name is its folder's",
    "variants = ['yoked-lambda']": "yoked-lambda follows a run of another seed",
}


@pytest.mark.parametrize("text", WRONG_FILES)
def test_a_wrong_sweep_file_is_named_in_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    envs = "" if "envs" in text else "envs = ['Catch-v0']\n"
    file = write(tmp_path / "sweep.toml", envs + text)

    code = cli.main(["sweep", str(file), "--out", str(tmp_path / "out")])

    err = capsys.readouterr().err
    assert code == 2
    assert WRONG_FILES[text] in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def following(tmp_path: Path, **variants: str) -> list[sweep.PlannedRun]:
    """Runs of Catch with two seeds, whose variants follow others (only the order is real)."""
    runs: list[sweep.PlannedRun] = []
    for seed in (1, 2):
        for name, followed in variants.items():
            run_dir = f"runs/Catch-v0/{name}/s{seed}"
            config = config_for("Catch-v0", seed=seed, run_dir=str(tmp_path / run_dir))
            runs.append(
                sweep.PlannedRun(
                    env_id="Catch-v0",
                    variant=name,
                    seed=seed,
                    config=config,
                    dir=run_dir,
                    follows=f"runs/Catch-v0/{followed}/s{3 - seed}" if followed else None,
                )
            )
    return runs


class Quiet:
    """A view that only remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, *_: Any) -> None: ...

    def changed(self, state: sweep.RunState) -> None:
        self.lines.append(f"{state.status} {state.run.variant} s{state.run.seed}")

    def update(self, states: Any) -> None: ...

    def message(self, text: str) -> None:
        self.lines.append(text)

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "POLL_S", 0.0)


def fine(job: Job) -> list[float]:
    return [0.25, 0.5]


@pytest.mark.parametrize("num_slots", [1, 2, 5])
def test_a_run_starts_after_the_one_that_it_follows(tmp_path: Path, num_slots: int) -> None:
    runs = following(tmp_path, yoked="learned", learned="", twice="yoked")
    executor = FakeExecutor(fine, num_slots)
    work = Sweep(tmp_path, runs, {})

    assert not work.work_off(executor, Quiet())

    assert [state.status for state in work.states.values()] == ["finished"] * 6
    assert executor.most_at_once == min(num_slots, 2)
    assert len(executor.events) == 12
    for run in runs:
        if run.follows is not None:
            followed = executor.events.index(("end", str(tmp_path / run.follows)))
            assert followed < executor.events.index(("start", run.config.run_dir))


def test_what_follows_a_failed_run_fails_and_the_rest_goes_on(tmp_path: Path) -> None:
    runs = following(tmp_path, yoked="learned", learned="", ppo="", twice="yoked")
    executor = FakeExecutor(lambda job: None if "learned/s1" in job.config.run_dir else fine(job))
    work = Sweep(tmp_path, runs, {})

    work.work_off(executor, Quiet())

    told = {state.run.dir: (state.status, state.error) for state in work.states.values()}
    assert told["runs/Catch-v0/learned/s1"] == ("failed", "ValueError: it cannot be")
    assert told["runs/Catch-v0/yoked/s2"] == (
        "failed",
        "follows runs/Catch-v0/learned/s1, which failed",
    )
    assert told["runs/Catch-v0/twice/s1"] == (
        "failed",
        "follows runs/Catch-v0/yoked/s2, which failed",
    )
    assert sum(status == "finished" for status, _ in told.values()) == 5
    recorded = read_sweep(tmp_path)["runs"]
    assert {(run["dir"], run["status"], run["error"]) for run in recorded} == {
        (name, *state) for name, state in told.items()
    }
    error = (tmp_path / "runs/Catch-v0/learned/s1/error.txt").read_text(encoding="utf-8")
    assert error.startswith("ValueError: it cannot be\n")
    assert "Traceback" in error


def test_finished_runs_are_not_repeated_and_failed_ones_are_tried_again(tmp_path: Path) -> None:
    runs = following(tmp_path, ppo="", broken="")
    first = FakeExecutor(lambda job: None if "broken" in job.config.run_dir else fine(job))
    Sweep(tmp_path, runs, {}).work_off(first, Quiet())
    second = FakeExecutor(fine)
    work = Sweep(tmp_path, runs, {})

    work.work_off(second, Quiet())

    assert sorted(job.run_dir.parent.name for job in second.started) == ["broken", "broken"]
    assert [state.status for state in work.states.values()] == ["finished"] * 4
    assert not list(tmp_path.rglob("error.txt"))


@pytest.mark.parametrize(("keep", "left"), [(False, 1), (True, 3)])
def test_a_finished_run_keeps_one_checkpoint(tmp_path: Path, keep: bool, left: int) -> None:
    Sweep(tmp_path, following(tmp_path, ppo=""), {}, keep_checkpoints=keep).work_off(
        FakeExecutor(fine), Quiet()
    )

    for seed in (1, 2):
        found = sorted(tmp_path.glob(f"runs/Catch-v0/ppo/s{seed}/checkpoints/*.pt"))
        assert len(found) == left
        assert found[-1].name == "step_000000000128.pt"


def test_a_signal_stops_the_running_runs_and_starts_no_more(tmp_path: Path) -> None:
    def interrupt(job: Job) -> list[float]:
        if "a/s2" in job.config.run_dir:
            signal.raise_signal(signal.SIGINT)
        return [0.5] * 100

    executor, view = FakeExecutor(interrupt, num_slots=2), Quiet()
    work = Sweep(tmp_path, following(tmp_path, a="", b="", c=""), {})
    handler = signal.getsignal(signal.SIGINT)

    assert work.work_off(executor, view)

    statuses = [state.status for state in work.states.values()]
    assert statuses == ["finished", "finished", *["interrupted"] * 2, "waiting", "waiting"]
    assert any(line.startswith("SIGINT: the running runs save and end") for line in view.lines)
    assert signal.getsignal(signal.SIGINT) is handler


def test_yoked_runs_follow_the_learned_run_of_another_seed(tmp_path: Path) -> None:
    grid = make_grid(
        {}, envs=["MinAtar/Asterix-v1"], variants=["yoked-lambda", "variance-lambda"], seeds=3
    )

    runs = planned_runs(grid, tmp_path)

    follows = {run.seed: run.follows for run in runs if run.variant == "yoked-lambda"}
    learned = "runs/MinAtar-Asterix-v1/variance-lambda"
    assert follows == {1: f"{learned}/s2", 2: f"{learned}/s1", 3: f"{learned}/s2"}
    assert {run.dir for run in runs} >= set(follows.values())
    [config] = [run.config for run in runs if run.variant == "yoked-lambda" and run.seed == 3]
    assert config.yoked_run == str(tmp_path.resolve() / learned / "s2")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{sweep}/runs/{env}/nope/s{seed}", "is not in this sweep"),
        ("{sweep}/runs/{env}/y/s{other_seed}", "follow each other"),
        ("{there}", "may hold {env} {other_seed} {seed} {sweep}, got '{there}'"),
    ],
)
def test_a_run_cannot_follow_what_will_not_finish(tmp_path: Path, template: str, said: str) -> None:
    yoked = {**VARIANTS["yoked-lambda"], "yoked_run": template}
    grid = Grid(envs=("Catch-v0",), variants={"y": yoked}, seeds=(1, 2))

    with pytest.raises(ValueError, match=re.escape(said)):
        planned_runs(grid, tmp_path)


def test_a_run_outside_the_sweep_may_be_followed(tmp_path: Path) -> None:
    outside = str(tmp_path / "elsewhere" / "s1")
    yoked = {**VARIANTS["yoked-lambda"], "yoked_run": outside}

    [run] = planned_runs(
        Grid(envs=("Catch-v0",), variants={"y": yoked}, seeds=(1,)), tmp_path / "sweep"
    )

    assert (run.follows, run.config.yoked_run) == (None, outside)


@pytest.mark.parametrize(
    ("jobs", "threads", "gpus", "fitted"),
    [
        (0, 0, 0, (8, 1)),
        (2, 0, 0, (2, 4)),
        (0, 4, 0, (2, 4)),
        (0, 16, 0, (1, 16)),
        (3, 5, 0, (3, 5)),
        (0, 0, 2, (2, 4)),
        (6, 0, 2, (6, 1)),
    ],
)
def test_runs_share_the_machine(
    jobs: int, threads: int, gpus: int, fitted: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "available_cpus", lambda: 8)
    packing = Packing(jobs=jobs, threads=threads)

    assert packing.fitted(100, [str(gpu) for gpu in range(gpus)]) == fitted
    assert packing.fitted(1, [])[0] == (jobs or 1)


def test_gpus_are_those_that_the_process_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu, on_cpu = config_for("Catch-v0"), config_for("Catch-v0", device="cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")

    assert sweep.visible_gpus([on_gpu, on_cpu]) == ["3", "5"]
    assert sweep.visible_gpus([on_cpu]) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert sweep.visible_gpus([on_gpu]) == []


def test_the_views_tell_how_the_sweep_stands(tmp_path: Path) -> None:
    runs = following(tmp_path, ppo="", broken="")
    text, live = io.StringIO(), io.StringIO()
    for view in (PlainView(text), LiveView(Console(file=live, width=100, force_terminal=True))):
        work = Sweep(tmp_path, runs, {})
        view.start(tmp_path, list(work.states.values()), 2, 1)
        work.work_off(
            FakeExecutor(lambda job: None if "broken" in job.config.run_dir else fine(job), 2), view
        )
        view.close()
        for path in tmp_path.rglob("summary.json"):
            path.unlink()

    lines = text.getvalue().splitlines()
    assert lines[0] == f"4 runs, 2 at a time with 1 thread each -> {tmp_path}"
    assert "started: Catch-v0 ppo s1" in lines
    assert "finished: Catch-v0 ppo s1 at step 200,000, return 0.50" in lines
    assert "failed: Catch-v0 broken s2: ValueError: it cannot be" in lines
    assert lines[-4] == "2 of 4 runs finished, 2 failed, 50.0% of all steps"
    assert lines[-3:] == [
        "2 runs failed:",
        "  runs/Catch-v0/broken/s1: ValueError: it cannot be",
        "  runs/Catch-v0/broken/s2: ValueError: it cannot be",
    ]
    drawn = live.getvalue()
    assert "2/2  0.50" in drawn
    assert "2 failed" in drawn
    assert isinstance(make_sweep_view(text), PlainView)


def lines_of(run_dir: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock wrote."""
    return lines(run_dir, "metrics.jsonl")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "fastrl", "sweep", *arguments]


def small(tmp_path: Path, text: str = "", **changes: Any) -> Path:
    values = {**SMALL, **changes}
    settings = "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
    return write(
        tmp_path / "small.toml",
        f"envs = ['Catch-v0']\n{text}\n[set]\n{settings}\n[variant.low]\ngamma = 0.5\n",
    )


def next_steps(saved: dict[str, Any]) -> list[bytes]:
    """What the environments of a checkpoint show next; resets draw from their own streams."""
    num_envs = SMALL["num_envs"]
    pool = fastrl.make("Catch-v0", num_envs)
    pool.set_state(saved["ranks"][0]["pools"][0].numpy().tobytes())
    actions = np.ones(num_envs, int)
    return [np.asarray(pool.step(actions)[0]).tobytes() for _ in range(40)]


def test_a_real_sweep_lists_what_failed_and_pairs_its_seeds(tmp_path: Path) -> None:
    file = small(tmp_path, "variants = ['ppo', 'low', 'broken']", checkpoint_every=1000)
    file.write_text(
        file.read_text(encoding="utf-8") + "[variant.broken]\nenv_options = { nope = 1 }\n",
        encoding="utf-8",
    )
    out = tmp_path / "out"

    done = subprocess.run(
        command(str(file), "--out", str(out), "--keep-checkpoints", "--jobs", "3"),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    assert "1 run failed:\n  runs/Catch-v0/broken/s1: ValueError: " in done.stdout
    assert f"go on with: fastrl sweep --resume {out}" in done.stdout
    recorded = read_sweep(out)
    assert [run["status"] for run in recorded["runs"]] == ["finished", "finished", "failed"]
    assert recorded["origin"]["command"].startswith(f"fastrl sweep {file}")
    ppo, low = (
        checkpoint.load(checkpoint.path_for(out / f"runs/Catch-v0/{name}/s1", 0))
        for name in ("ppo", "low")
    )
    assert ppo["policy"].keys() == low["policy"].keys()
    assert all(torch.equal(ppo["policy"][key], low["policy"][key]) for key in ppo["policy"])
    assert next_steps(ppo) == next_steps(low)
    assert torch.equal(ppo["action_generator"], low["action_generator"])
    assert torch.equal(ppo["order_generator"], low["order_generator"])
    first = [
        (out / f"runs/Catch-v0/{name}/s1/episodes.jsonl").read_text().splitlines()[0].split("wall")
        for name in ("ppo", "low")
    ]
    assert first[0][0] == first[1][0]
    assert lines_of(out / "runs/Catch-v0/ppo/s1") != lines_of(out / "runs/Catch-v0/low/s1")


def children(process: subprocess.Popen[bytes]) -> list[int]:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(word) for word in path.read_text().split()]


def wait_for(path: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 240
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, "the sweep ended too early"
        assert time.monotonic() < until, "the sweep makes no progress"
        time.sleep(0.005)


@pytest.mark.slow
def test_a_killed_sweep_resumes_bit_exactly(tmp_path: Path) -> None:
    """The sweep and one of its runs die at once; the other run sees that its sweep is gone."""
    steps = 300 * 128
    file = small(tmp_path, "variants = ['ppo', 'low']\nseeds = 2", total_steps=steps)
    out = tmp_path / "out"
    process = subprocess.Popen(command(str(file), "--out", str(out)), stdout=subprocess.DEVNULL)
    for name in ("ppo", "low"):
        wait_for(out / f"runs/Catch-v0/{name}/s1/metrics.jsonl", 5, process)
    victim, _orphan = children(process)
    os.kill(process.pid, signal.SIGKILL)
    os.kill(victim, signal.SIGKILL)
    process.wait()
    assert not list(out.rglob("summary.json")), "killed too late to prove anything"

    done = subprocess.run(command("--resume", str(out)), capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
    assert [run["status"] for run in read_sweep(out)["runs"]] == ["finished"] * 4
    for run in planned_runs(make_grid(read_sweep_file(file)), out):
        whole = tmp_path / "whole" / run.dir
        train(replace(run.config, run_dir=str(whole), torch_threads=1, env_threads=1))
        assert lines_of(out / run.dir) == lines_of(whole)
        assert len(checkpoint.all_paths(out / run.dir)) == 1
    again = subprocess.run(command("--resume", str(out)), capture_output=True, text=True)
    assert again.returncode == 0
    assert "started" not in again.stdout


@pytest.mark.slow
def test_ctrl_c_saves_every_running_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(
            str(small(tmp_path, "variants = ['ppo']\nseeds = 3", total_steps=10_000_000)),
            "--out",
            str(out),
            "--jobs=2",
        ),
        stdout=subprocess.PIPE,
    )
    for seed in (1, 2):
        wait_for(out / f"runs/Catch-v0/ppo/s{seed}/metrics.jsonl", 5, process)

    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)

    assert process.returncode == 130
    assert b"2 interrupted" in stdout
    statuses = [run["status"] for run in read_sweep(out)["runs"]]
    assert statuses == ["interrupted", "interrupted", "waiting"]
    for seed in (1, 2):
        run_dir = out / f"runs/Catch-v0/ppo/s{seed}"
        saved = checkpoint.load(checkpoint.latest(run_dir))
        assert saved["counters"]["global_step"] == lines_of(run_dir)[-1]["global_step"]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A sweep that was begun, and has run nothing."""
    grid = make_grid({}, envs=["Catch-v0"], seeds=2, common={"gamma": 0.5})
    work = Sweep(
        tmp_path, planned_runs(grid, tmp_path), {"origin": {}, "threads": 1, **grid.to_dict()}
    )
    work.save()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--resume {there} --set gamma=0.9", "set: gamma 0.5 -> 0.9"),
        ("--resume {there} --set ent_coef=0.9", "set: ent_coef (default) -> 0.9"),
        ("--resume {there} {file}", "set: gamma 0.5 -> (default); variant ppo: gamma"),
        ("--resume {there} --threads 7", "leave --threads 7 out"),
        ("--resume {there} --env nope", "there is no environment 'nope'"),
        ("--out {there} --env Catch-v0", "holds a sweep already"),
        ("--out {there}/runs --env Catch-v0", "exists already and is not a sweep"),
        ("--out {there} --resume {there}", "use one of them"),
        ("--resume {there}/nope", "is not a sweep"),
    ],
)
def test_a_changed_sweep_is_refused_with_the_difference(
    line: str, said: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recorded / "runs").mkdir()
    (recorded / "runs" / "kept").touch()
    file = recorded / "other.toml"
    file.write_text(
        "envs=['Catch-v0']\nvariants=['ppo']\n[variant.ppo]\ngamma=0.1\n", encoding="utf-8"
    )
    before = (recorded / "sweep.json").read_bytes()

    code = cli.main(["sweep", *line.format(there=recorded, file=file).split()])

    err = capsys.readouterr().err
    assert (code, err.count("\n")) == (2, 1)
    assert said in err
    assert (recorded / "sweep.json").read_bytes() == before


def test_a_second_sweep_in_the_same_folder_is_refused(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sweep.locked(recorded, sweep.in_use(recorded)):
        assert cli.main(["sweep", "--resume", str(recorded)]) == 2

    assert f"another process works in {recorded}" in capsys.readouterr().err


def test_a_dry_run_lists_the_runs_and_makes_nothing(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(recorded.rglob("*"))

    assert cli.main(["sweep", "--resume", str(recorded), "--seeds", "3", "--dry-run"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [str(recorded / f"runs/Catch-v0/ppo/s{seed}") for seed in (1, 2, 3)]
    assert lines[3].startswith("3 runs, 600,000 agent steps; ")
    assert sorted(recorded.rglob("*")) == before


SWEEPS = Path(__file__).parents[2] / "benchmarks" / "sweeps"


@pytest.mark.parametrize(
    ("name", "runs", "steps"),
    [
        ("learned_discount_minatar", 2700, 13_500_000_000),
        ("learned_discount_minatar_small", 405, 162_000_000),
        ("fixed_discount_minatar_small", 120, 48_000_000),
        ("fixed_discount_minatar", 300, 1_500_000_000),
        ("learned_discount_atari", 800, 8_000_000_000),
        ("large_batch_minatar", 18, 75_497_472),
        ("large_batch_minatar_search", 16, 16_777_216),
    ],
)
def test_the_repositorys_sweeps_can_be_run(
    name: str, runs: int, steps: int, tmp_path: Path
) -> None:
    planned = planned_runs(make_grid(read_sweep_file(SWEEPS / f"{name}.toml")), tmp_path)

    assert len(planned) == runs
    assert sum(run.config.total_steps for run in planned) == steps


def test_every_variant_has_a_place_in_both_experiments() -> None:
    for name in ("learned_discount_minatar", "learned_discount_minatar_small"):
        assert set(read_sweep_file(SWEEPS / f"{name}.toml")["variants"]) == set(VARIANTS)


def test_no_two_variants_are_the_same(tmp_path: Path) -> None:
    grid = make_grid({}, envs=["MinAtar/Asterix-v1"], variants=list(VARIANTS), seeds=2)

    configs = [
        replace(run.config, run_dir="").to_json()
        for run in planned_runs(grid, tmp_path)
        if run.seed == 1
    ]

    assert len(configs) == len(set(configs)) == len(VARIANTS)


def test_every_variant_starts_from_the_weights_of_ppo(tmp_path: Path) -> None:
    grid = make_grid({}, envs=["MinAtar/Asterix-v1"], variants=list(VARIANTS), seeds=2)
    start: dict[str, dict[int, dict[str, torch.Tensor]]] = {}
    for run in planned_runs(grid, tmp_path):
        torch.manual_seed(run.seed)
        policy = make_policy(run.config, (10, 10, 4), 5, obs_high=1)
        start.setdefault(run.variant, {})[run.seed] = policy.state_dict()

    for variant, by_seed in start.items():
        for seed, weights in start["ppo"].items():
            for name, expected in weights.items():
                assert torch.equal(by_seed[seed][name], expected), (variant, seed, name)
    assert any(not torch.equal(x, start["ppo"][2][name]) for name, x in start["ppo"][1].items())


@pytest.mark.slow
def test_ray_runs_the_same_sweep_on_two_workers(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the ray extra")
    file = small(tmp_path, "variants = ['ppo', 'broken']\nseeds = 2")
    file.write_text(
        file.read_text(encoding="utf-8") + "[variant.broken]\nenv_options = { nope = 1 }\n",
        encoding="utf-8",
    )
    out = tmp_path / "ray"

    done = subprocess.run(
        command(str(file), "--out", str(out), "--executor", "ray", "--jobs", "2"),
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 1, done.stdout + done.stderr
    assert "4 runs, 2 at a time with 1 thread each" in done.stdout
    assert "2 runs failed:\n  runs/Catch-v0/broken/s1: ValueError: 'Catch-v0' has" in done.stdout
    for run in planned_runs(make_grid(read_sweep_file(file)), out):
        if run.variant == "ppo":
            whole = tmp_path / "whole" / run.dir
            train(replace(run.config, run_dir=str(whole), torch_threads=1, env_threads=1))
            assert lines_of(out / run.dir) == lines_of(whole)


@pytest.mark.slow
def test_ctrl_c_saves_the_runs_of_a_ray_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the ray extra")
    out = tmp_path / "ray"
    file = small(tmp_path, "variants = ['ppo']\nseeds = 2", total_steps=10_000_000)
    process = subprocess.Popen(
        command(str(file), "--out", str(out), "--executor", "ray", "--jobs", "2"),
        stdout=subprocess.PIPE,
    )
    for seed in (1, 2):
        wait_for(out / f"runs/Catch-v0/ppo/s{seed}/metrics.jsonl", 5, process)

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)

    assert process.returncode == 130
    assert [run["status"] for run in read_sweep(out)["runs"]] == ["interrupted"] * 2
    for seed in (1, 2):
        run_dir = out / f"runs/Catch-v0/ppo/s{seed}"
        saved = checkpoint.load(checkpoint.latest(run_dir))
        assert saved["counters"]["global_step"] == lines_of(run_dir)[-1]["global_step"]


def test_ray_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    line = f"sweep --env Catch-v0 --executor ray --out {tmp_path / 'out'}"

    assert cli.main(line.split()) == 2

    assert "pip install 'fastrl[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
