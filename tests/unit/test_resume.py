"""A run that was killed and resumed equals one that was not, byte for byte."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import fastrl
from fastrl import checkpoint
from fastrl.config import TrainConfig, config_for, load_config, replace
from fastrl.train import train

WALL_CLOCK = {"wall_s", "sps", "env_share", "inference_share", "copy_share", "learning_share"}

RUN = """
import sys
from fastrl.config import TrainConfig
from fastrl.train import train
train(TrainConfig.from_json(sys.argv[1]), resume=sys.argv[2] or None)
"""


def small(run_dir: Path, env_id: str = "Catch-v0", **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "run_dir": str(run_dir),
        "num_envs": 8,
        "num_steps": 16,
        "num_minibatches": 2,
        "update_epochs": 2,
        "total_steps": 20 * 128,
        "checkpoint_every": 3,
        "device": "cpu",
        "torch_threads": 1,
        "env_threads": 1,
    }
    return config_for(env_id, **(values | changes))


def start(config: TrainConfig, resume: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", RUN, config.to_json(), resume]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def lines(run_dir: Path, name: str) -> list[dict[str, Any]]:
    """The lines of a .jsonl file without what a clock wrote."""
    text = (run_dir / name).read_text(encoding="utf-8")
    return [
        {key: value for key, value in json.loads(line).items() if key not in WALL_CLOCK}
        for line in text.splitlines()
    ]


def wait_for_updates(process: subprocess.Popen[bytes], run_dir: Path, count: int) -> None:
    metrics = run_dir / "metrics.jsonl"
    until = time.monotonic() + 60
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < count:
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() < until, "the run makes no progress"
        time.sleep(0.001)


def assert_same_tree(ours: Any, theirs: Any, path: str = "") -> None:
    """Bitwise equality of nested dicts, lists, tensors and numbers."""
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), path
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), path
        for key in ours:
            assert_same_tree(ours[key], theirs[key], f"{path}/{key}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), path
        for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            assert_same_tree(a, b, f"{path}/{i}")
    else:
        assert ours == theirs, path


def assert_same_run(ours: Path, theirs: Path) -> None:
    """Same last checkpoint (weights, optimiser, generators, environments) and same lines."""
    a, b = (checkpoint.load(checkpoint.latest(run_dir)) for run_dir in (ours, theirs))
    for state in (a, b):
        # These hold wall-clock times, their lengths in bytes, and the folder's own name.
        del state["counters"]["wall_s"], state["metrics_bytes"], state["episodes_bytes"]
        del state["config"]
        # Snapshots hold the padding of C++ structs, so equal environments may differ in bytes.
        # What they do until the last step is in the observations, the lines and the weights.
        for rank in state["ranks"]:
            del rank["pools"]
    assert_same_tree(a, b)
    for name in ("metrics.jsonl", "episodes.jsonl"):
        assert lines(ours, name) == lines(theirs, name)


@pytest.mark.parametrize(
    ("env_id", "changes"),
    [
        ("Catch-v0", {"autoreset_mode": "NextStep", "reward_scaling": "return_std"}),
        ("MinAtar/Breakout-v1", {"autoreset_mode": "SameStep", "total_steps": 100 * 128}),
        (
            "ALE/Pong-v5",
            {
                "num_envs": 2,
                "num_steps": 4,
                "update_epochs": 1,
                "total_steps": 40 * 8,
                "env_options": {"max_num_frames_per_episode": 90},
            },
        ),
    ],
)
def test_a_killed_run_resumes_bit_exactly(
    tmp_path: Path, env_id: str, changes: dict[str, Any]
) -> None:
    whole = small(tmp_path / "whole", env_id, **changes)
    killed = replace(whole, run_dir=str(tmp_path / "killed"))
    train(whole)
    process = start(killed)
    wait_for_updates(process, tmp_path / "killed", 5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "summary.json").exists(), "killed too late to prove anything"

    resumed = start(killed, str(tmp_path / "killed"))
    resumed.communicate()

    assert resumed.returncode == 0
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    config = small(tmp_path / "run", total_steps=10_000_000)
    process = start(config)
    wait_for_updates(process, tmp_path / "run", 2)

    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)

    assert process.returncode == 0
    assert b"Traceback" not in stderr
    assert signal.Signals(number).name.encode() in stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "interrupted"
    saved = checkpoint.load(checkpoint.latest(tmp_path / "run"))
    assert saved["counters"]["global_step"] == summary["global_step"]
    assert lines(tmp_path / "run", "metrics.jsonl")[-1]["global_step"] == summary["global_step"]


def test_an_interrupted_run_can_be_resumed_with_more_steps(tmp_path: Path) -> None:
    """The learning rate depends on total_steps, so it is constant here."""
    whole = small(tmp_path / "whole", anneal_lr=False)
    part = replace(whole, run_dir=str(tmp_path / "part"), total_steps=7 * 128)
    train(whole)
    train(part)

    summary = train(replace(part, total_steps=whole.total_steps), resume=tmp_path / "part")

    assert summary.global_step == whole.total_steps
    assert load_config(tmp_path / "part").total_steps == whole.total_steps
    assert_same_run(tmp_path / "part", tmp_path / "whole")


LEARNED: list[dict[str, Any]] = [
    {"advantage": "variance-gamma", "control": "shuffled", "vd_skill_gate": True},
    {"advantage": "variance-lambda", "control": "yoked"},
    {"advantage": "variance-lambda-ensemble", "autoreset_mode": "NextStep"},
    {"advantage": "variance-horizon", "vd_sigma": "state", "vd_n_step": 3},
    {"advantage": "variance-horizon-lite"},
    {"advantage": "stream-lag"},
    {"advantage": "stream-time", "reward_scaling": "return_std"},
    {"advantage": "explained-lambda"},
    {"advantage": "meta-gradient"},
]


@pytest.mark.parametrize("changes", LEARNED)
def test_a_learned_discount_resumes_bit_exactly(
    tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running means, warm-up, generator and place in the schedule are in the checkpoint."""
    monkeypatch.setattr("fastrl.report.plot_curve", lambda *_: None)  # most of the time
    if changes.get("control") == "yoked":
        logged = "".join(json.dumps({"lambda_mean": 0.9 - 0.02 * i}) + "\n" for i in range(12))
        (tmp_path / "metrics.jsonl").write_text(logged, encoding="utf-8")
        changes = changes | {"yoked_run": str(tmp_path)}
    common: dict[str, Any] = {"anneal_lr": False, "vd_horizon": 8, "vd_warmup": 9}
    whole = small(tmp_path / "whole", total_steps=12 * 128, **(common | changes))
    part = replace(whole, run_dir=str(tmp_path / "part"), total_steps=5 * 128)
    train(whole)
    train(part)

    train(replace(part, total_steps=whole.total_steps), resume=tmp_path / "part")

    assert_same_run(tmp_path / "part", tmp_path / "whole")


def test_a_checkpoint_from_before_there_were_estimators_goes_on(tmp_path: Path) -> None:
    config = small(tmp_path / "run", total_steps=3 * 128)
    train(config)
    path = checkpoint.latest(tmp_path / "run")
    state = checkpoint.load(path)
    del state["estimator"], state["format"]
    checkpoint.save(path, state)
    written = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    old = {name: x for name, x in written.items() if not name.startswith(("vd_", "gamma_", "lam"))}
    (tmp_path / "run" / "config.json").write_text(json.dumps(old), encoding="utf-8")

    longer = replace(load_config(tmp_path / "run"), total_steps=5 * 128)

    assert train(longer, resume=tmp_path / "run").global_step == 5 * 128


def test_a_corrupt_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = small(tmp_path / "whole")
    part = replace(whole, run_dir=str(tmp_path / "part"))
    train(whole)
    train(part)
    newest = checkpoint.latest(tmp_path / "part")
    damaged = bytearray(newest.read_bytes())
    for i in range(len(damaged) // 2, len(damaged) // 2 + 256):  # Up to 64 may be padding.
        damaged[i] ^= 0xFF
    newest.write_bytes(damaged)

    train(part, resume=tmp_path / "part")

    warning = capsys.readouterr().err
    assert "warning" in warning
    assert newest.name in warning
    assert_same_run(tmp_path / "part", tmp_path / "whole")


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    config = small(tmp_path / "run")
    first = train(config)
    files = {
        path: path.read_bytes()
        for path in (tmp_path / "run").rglob("*")
        if path.is_file() and path.suffix != ".png"
    }

    second = train(config, resume=tmp_path / "run")

    assert second == first
    assert files == {path: path.read_bytes() for path in files}


def test_resume_refuses_another_experiment(tmp_path: Path) -> None:
    config = small(tmp_path / "run", total_steps=256)
    train(config)
    before = (tmp_path / "run" / "config.json").read_bytes()

    with pytest.raises(ValueError, match=r"gamma 0\.99 -> 0\.5"):
        train(replace(config, gamma=0.5), resume=tmp_path / "run")

    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_resume_refuses_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        train(small(tmp_path / "new"), resume=tmp_path)


def test_a_new_run_refuses_an_existing_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").write_text("kept", encoding="utf-8")

    with pytest.raises(FileExistsError, match="exists already"):
        train(small(tmp_path / "run"))

    assert os.listdir(tmp_path / "run") == ["precious"]


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    config = small(tmp_path / "run", total_steps=10_000_000)
    process = start(config)
    try:
        wait_for_updates(process, tmp_path / "run", 1)
        with pytest.raises(RuntimeError, match="another process"):
            train(config, resume=tmp_path / "run")
    finally:
        process.kill()
        process.communicate()


class WithoutSnapshots:
    """A pool of the kind that ale-py gives."""

    def __init__(self, config: TrainConfig, num_envs: int) -> None:
        self._pool = fastrl.make(
            config.env_id, num_envs=num_envs, autoreset_mode=config.autoreset_mode
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def get_state(self) -> bytes:
        raise NotImplementedError("this backend has no snapshots")


def test_without_snapshots_the_environments_start_anew_and_the_run_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small(tmp_path / "run", total_steps=7 * 128)
    train(config, make_pool=WithoutSnapshots)
    capsys.readouterr()

    summary = train(
        replace(config, total_steps=9 * 128), resume=tmp_path / "run", make_pool=WithoutSnapshots
    )

    assert summary.global_step == 9 * 128
    [said] = capsys.readouterr().err.splitlines()
    assert "no snapshots" in said
    assert "step_000000000896.pt" in said
    updates = [line["update"] for line in lines(tmp_path / "run", "metrics.jsonl")]
    assert updates == list(range(1, 10))
