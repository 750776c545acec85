"""Sinks: the lines on disk, W&B without a network, TensorBoard."""

import json
from pathlib import Path

import pytest

from fastrl.config import config_for
from fastrl.metrics import JsonLines, open_sinks
from fastrl.train import train

METRICS = {"global_step": 128, "policy_loss": 0.5, "mean_return": None}


def test_lines_are_appended_and_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path, 0)
    lines.write([{"update": 1}, {"update": 2, "mean_return": None}])
    size = lines.sync()
    lines.write([{"update": 3}])
    lines.close()

    resumed = JsonLines(path, size)
    resumed.write([{"update": 30}])
    resumed.close()

    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert found == [{"update": 1}, {"update": 2, "mean_return": None}, {"update": 30}]


def test_a_file_shorter_than_the_checkpoint_knows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"update": 1}\n', encoding="utf-8")

    with pytest.raises(ValueError, match="has 14 bytes, but the checkpoint knows 100"):
        JsonLines(path, 100)

    assert path.read_text(encoding="utf-8") == '{"update": 1}\n'


def test_no_sink_unless_asked(tmp_path: Path) -> None:
    assert open_sinks(config_for("Catch-v0"), tmp_path, 0) == []


def test_tensorboard_gets_every_number(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    [sink] = open_sinks(config_for("Catch-v0", tensorboard=True), tmp_path, 0)
    sink.write(METRICS)
    sink.close()

    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()

    assert set(events.Tags()["scalars"]) == {"global_step", "policy_loss"}
    [scalar] = events.Scalars("policy_loss")
    assert (scalar.step, scalar.value) == (128, 0.5)


@pytest.mark.filterwarnings("ignore:::wandb")
def test_wandb_offline_writes_into_the_run_folder(tmp_path: Path) -> None:
    config = config_for(
        "Catch-v0",
        run_dir=str(tmp_path / "run"),
        num_envs=4,
        num_steps=16,
        num_minibatches=2,
        total_steps=64,
        device="cpu",
        torch_threads=1,
        track=True,
        wandb_mode="offline",
    )

    train(config)

    [recorded] = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    assert recorded.stat().st_size > 0
    assert (tmp_path / "run" / "metrics.jsonl").exists(), "W&B is beside the files, not instead"
