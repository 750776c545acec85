"""The training loop: it learns, keeps its books, and fails in words."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastrl
from fastrl import checkpoint, cli
from fastrl.config import TrainConfig, config_for, load_config
from fastrl.metrics import Progress, RunSummary
from fastrl.models import make_policy
from fastrl.train import TrainingStoppedError, environment_seeds, train


def small(run_dir: Path, env_id: str = "Catch-v0", **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "run_dir": str(run_dir),
        "num_envs": 8,
        "num_steps": 16,
        "num_minibatches": 2,
        "total_steps": 4 * 128,
        "device": "cpu",
        "torch_threads": 1,
        "env_threads": 1,
    }
    return config_for(env_id, **(values | changes))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Watcher:
    def __init__(self) -> None:
        self.seen: list[Progress] = []
        self.messages: list[str] = []
        self.summary: RunSummary | None = None
        self.closed = 0

    def start(self, config: TrainConfig, run_dir: Path, global_step: int) -> None:
        self.started_at = global_step

    def update(self, progress: Progress) -> None:
        self.seen.append(progress)

    def message(self, text: str) -> None:
        self.messages.append(text)

    def close(self, summary: RunSummary | None) -> None:
        self.closed += 1
        self.summary = summary


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_catch_is_learned(tmp_path: Path, mode: str) -> None:
    """A perfect player gets 1, a random one about -0.6."""
    config = small(
        tmp_path / "run",
        num_envs=32,
        num_steps=32,
        num_minibatches=4,
        total_steps=60_000,
        autoreset_mode=mode,
        reward_scaling="return_std",
    )
    summary = train(config)
    assert summary.mean_return is not None
    assert summary.mean_return > 0.8


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_the_run_folder_keeps_the_books(tmp_path: Path, mode: str) -> None:
    config = small(tmp_path / "run", autoreset_mode=mode)
    watcher = Watcher()

    summary = train(config, observer=watcher)

    run_dir = tmp_path / "run"
    assert load_config(run_dir) == config
    metrics, episodes = (read_lines(run_dir / f"{name}.jsonl") for name in ("metrics", "episodes"))
    assert [line["update"] for line in metrics] == list(range(1, len(metrics) + 1))
    assert metrics[-1]["global_step"] == summary.global_step >= config.total_steps
    for line in metrics:
        shares = [line[f"{name}_share"] for name in ("env", "inference", "copy", "learning")]
        assert sum(shares) == pytest.approx(1.0, abs=1e-3)
        assert min(shares) >= 0.0
    assert len(episodes) == summary.num_episodes == metrics[-1]["num_episodes"]
    assert {line["length"] for line in episodes} == {9}, "every game of catch takes 9 steps"
    assert all(line["global_step"] <= summary.global_step for line in episodes)
    assert [line["global_step"] for line in episodes] == sorted(
        line["global_step"] for line in episodes
    )
    assert summary.mean_return == pytest.approx(
        np.mean([line["return"] for line in episodes[-100:]])
    )
    saved = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    assert saved["mean_return"] == summary.mean_return
    assert saved["status"] == "finished"
    assert (run_dir / "curve.png").stat().st_size > 0
    assert watcher.summary == summary
    assert watcher.closed == 1
    assert [progress.global_step for progress in watcher.seen] == [
        line["global_step"] for line in metrics
    ]
    if mode == "NextStep":
        # A game of 9 steps and its reset: 10 rows of the rollout for 9 steps of experience.
        assert metrics[0]["global_step"] == 128 - 8


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    weights = []
    for name in ("a", "b"):
        train(small(tmp_path / name))
        weights.append(checkpoint.load(checkpoint.latest(tmp_path / name))["policy"])
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_checkpoint_plays(tmp_path: Path) -> None:
    """Weights loaded from the folder give the policy that was trained."""
    train(small(tmp_path / "run", total_steps=40_000))
    pool = fastrl.make("Catch-v0", num_envs=16, num_threads=1)
    obs, _ = pool.reset(seed=123)
    policy = make_policy("auto", (1, 10, 5), 3)
    policy.load_state_dict(checkpoint.load(checkpoint.latest(tmp_path / "run"))["policy"])
    for _ in range(9):
        with torch.no_grad():
            actions = policy(torch.from_numpy(obs))[0].argmax(-1)
        obs, _, terminated, _, info = pool.step(actions.numpy())
    assert terminated.all()
    assert info["episode_return"].mean() > 0.5


def test_training_does_not_touch_the_global_generator(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    train(small(tmp_path / "run"))
    assert torch.equal(torch.rand(1), expected)


def test_environment_seeds_do_not_overlap_between_runs() -> None:
    seeds = [set(environment_seeds(seed, 1000)) for seed in range(20)]
    assert all(len(one) == 1000 for one in seeds)
    assert sum(map(len, seeds)) == len(set[int]().union(*seeds))
    assert all(0 <= seed < 2**31 for one in seeds for seed in one)


class Poisoned:
    """A pool whose rewards become NaN after a while."""

    def __init__(self, config: TrainConfig, good_steps: int) -> None:
        self._pool = fastrl.make(
            config.env_id, num_envs=config.num_envs, autoreset_mode=config.autoreset_mode
        )
        self._good_steps = good_steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def step(self, actions: Any) -> Any:
        obs, reward, terminated, truncated, info = self._pool.step(actions)
        self._good_steps -= 1
        return (
            obs,
            reward if self._good_steps >= 0 else reward + np.nan,
            terminated,
            truncated,
            info,
        )


def test_a_nan_stops_the_run_and_leaves_a_good_checkpoint(tmp_path: Path) -> None:
    config = small(tmp_path / "run", total_steps=10_000, checkpoint_every=2)
    watcher = Watcher()

    with pytest.raises(FloatingPointError, match=r"diverged in update 5: .*step_000000000512\.pt"):
        train(
            config,
            observer=watcher,
            make_pool=lambda config, _: Poisoned(config, good_steps=4 * config.num_steps),
        )

    state = checkpoint.load(checkpoint.latest(tmp_path / "run"))
    assert all(bool(torch.isfinite(x).all()) for x in state["policy"].values())
    assert watcher.closed == 1
    assert watcher.summary is None
    assert train(config, resume=tmp_path / "run").status == "finished"


def test_an_unknown_environment_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Cacth"):
        train(small(tmp_path / "run", env_id="Cacth-v0"))
    assert not (tmp_path / "run").exists()


def test_a_policy_that_does_not_fit_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nature_cnn"):
        train(small(tmp_path / "run", policy="nature_cnn"))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OSError, match=r"cannot write run folder .*file/run"):
        train(small(tmp_path / "file" / "run"))


def test_a_disk_that_fills_up_is_an_error_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.save
    calls = 0

    def fills_up(*args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*args, **kwargs)

    monkeypatch.setattr(torch, "save", fills_up)
    with pytest.raises(TrainingStoppedError, match=r"cannot write checkpoint .*: No space left"):
        train(small(tmp_path / "run"))
    checkpoint.load(checkpoint.latest(tmp_path / "run"))
    monkeypatch.undo()
    assert train(small(tmp_path / "run"), resume=tmp_path / "run").status == "finished"


class Failing:
    """A pool that fails in its hundredth step."""

    def __init__(self, config: TrainConfig, num_envs: int) -> None:
        self._pool = fastrl.make(config.env_id, num_envs=num_envs)
        self._left = 100

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def step(self, actions: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise RuntimeError("environment 3 failed\nin a long story")
        return self._pool.step(actions)


def test_a_worker_that_fails_ends_the_run_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(tmp_path / "run", total_steps=20 * 128, checkpoint_every=2)
    monkeypatch.setattr("fastrl.train._make_pool", Failing)

    assert cli._train(config, None) == 1

    [said] = capsys.readouterr().err.splitlines()
    assert "stopped in update 7: environment 3 failed. " in said
    assert f"step_000000000768.pt is complete; fastrl train --resume {tmp_path / 'run'}" in said
    monkeypatch.undo()
    assert train(config, resume=tmp_path / "run").status == "finished"


FULL_DISK = """
import resource, sys
from fastrl.cli import main
from fastrl.train import train
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
sys.exit(main(["train", "Catch-v0", "--run-dir", {run_dir!r}, "--total-steps", "40000",
    "--num-envs", "8", "--num-steps", "16", "--device", "cpu", "--checkpoint-every", "10"]))
"""


def test_files_that_may_not_grow_end_the_run_in_words(tmp_path: Path) -> None:
    """The limit is above the size of a checkpoint and below that of the metrics."""
    run_dir = tmp_path / "run"
    train(small(run_dir, checkpoint_every=1, total_steps=128))
    size = checkpoint.latest(run_dir).stat().st_size
    shutil.rmtree(run_dir)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK.format(limit=size + 20_000, run_dir=str(run_dir))],
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # On busy cores its threads wait for minutes.
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "training stopped in update" in done.stderr
    assert "Traceback" not in done.stderr
    checkpoint.load(checkpoint.latest(run_dir))
    resumed = train(load_config(run_dir), resume=run_dir)
    assert resumed.status == "finished"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="use device cpu or auto"):
        train(small(tmp_path / "run", device="cuda"))
    assert not (tmp_path / "run").exists()
