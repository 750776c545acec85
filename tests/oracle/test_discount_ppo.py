"""Learned discounts in their limits are PPO, bit for bit: advantages, weights and logged numbers.

Oracles 2, 3 and 10 of the specification, on whole training runs.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fastrl import checkpoint
from fastrl.config import config_for
from fastrl.train import train

CLOCKS = {"wall_s", "sps", "env_share", "inference_share", "copy_share", "learning_share"}
OFF = [
    {"advantage": "variance-gamma", "vd_eta": 0.0},
    {"advantage": "variance-gamma", "vd_eta": 0.0, "vd_signal": "td", "vd_ref": "self"},
    {"advantage": "variance-gamma", "control": "head-only"},
    {"advantage": "variance-gamma", "control": "head-only", "vd_map": "ev", "vd_base": "var"},
    {"advantage": "variance-lambda", "vd_zeta": 0.0},
    {"advantage": "variance-lambda", "control": "head-only", "vd_skill_gate": True},
    {"advantage": "variance-lambda-ensemble", "control": "head-only"},
    {"advantage": "variance-horizon-lite", "control": "head-only", "vd_horizon": 8},
    {"advantage": "variance-horizon-lite", "gamma_low": 0.99, "gamma_high": 0.99, "vd_horizon": 8},
]


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a short run's time."""
    monkeypatch.setattr("fastrl.report.plot_curve", lambda *_: None)


def trained(run_dir: Path, **changes: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The last checkpoint and the metrics of a short run."""
    values: dict[str, Any] = {
        "num_envs": 8,
        "num_steps": 16,
        "num_minibatches": 2,
        "update_epochs": 2,
        "total_steps": 50 * 128,
        "device": "cpu",
        "torch_threads": 1,
        "env_threads": 1,
        "vd_warmup": 0,
        "gamma": 0.99,
    }
    env_id = changes.pop("env_id", "Catch-v0")
    train(config_for(env_id, run_dir=str(run_dir), **(values | changes)))
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return checkpoint.load(checkpoint.latest(run_dir)), [json.loads(line) for line in lines]


def assert_same_learning(
    ours: tuple[dict[str, Any], list[dict[str, Any]]],
    theirs: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    """Every weight and moment that PPO has, and every line that it logged."""
    for name, weights in theirs[0]["policy"].items():
        assert torch.equal(ours[0]["policy"][name], weights), name
    for index, moments in theirs[0]["optimizer"]["state"].items():
        for name, moment in moments.items():
            assert torch.equal(ours[0]["optimizer"]["state"][index][name], moment), (index, name)
    for ours_line, line in zip(ours[1], theirs[1], strict=True):
        shared = {key: value for key, value in line.items() if key not in CLOCKS}
        assert {key: ours_line[key] for key in shared} == shared


@pytest.mark.parametrize(("mode", "every"), [("NextStep", 1), ("SameStep", 4)])
def test_switched_off_the_parameters_are_ppos_for_fifty_updates(
    tmp_path: Path, mode: str, every: int
) -> None:
    ppo = trained(tmp_path / "ppo", autoreset_mode=mode)
    assert len(ppo[1]) >= 50
    for i, changes in enumerate(OFF[::every]):
        ours = trained(tmp_path / str(i), autoreset_mode=mode, **changes)
        head = ours[0]["policy"]["value_head.weight"]
        assert head.abs().max() > 1e-4, "the head did not learn: the test would prove nothing"
        assert_same_learning(ours, ppo)


def test_switched_off_on_minatar_too(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"env_id": "MinAtar/Breakout-v1", "total_steps": 10 * 128}
    ppo = trained(tmp_path / "ppo", **changes)
    ours = trained(tmp_path / "eta0", advantage="variance-gamma", vd_eta=0.0, **changes)
    assert_same_learning(ours, ppo)


@pytest.mark.parametrize(
    "changes",
    [
        {"advantage": "variance-gamma", "vd_eta": 1.0},
        {"advantage": "variance-gamma", "vd_eta": -2.0, "vd_ref": "self", "vd_base": "var"},
        {"advantage": "variance-lambda", "vd_zeta": 0.5},
        {"advantage": "variance-lambda", "vd_zeta": -0.5, "control": "shuffled"},
        {"advantage": "explained-lambda"},
        {"advantage": "meta-gradient"},
    ],
)
def test_the_first_update_is_ppos_for_every_strength(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """A head that is zero knows of no difference between states; nothing else has been seen yet."""
    ppo = trained(tmp_path / "ppo", total_steps=128)
    ours = trained(tmp_path / "ours", total_steps=128, **changes)
    assert_same_learning(ours, ppo)


def test_a_meta_gradient_without_a_step_is_ppo(tmp_path: Path) -> None:
    ppo = trained(tmp_path / "ppo")
    assert_same_learning(trained(tmp_path / "0", advantage="meta-gradient", meta_lr=0.0), ppo)


@pytest.mark.parametrize(
    "advantage", ["variance-gamma", "variance-lambda", "explained-lambda", "meta-gradient"]
)
def test_switched_on_the_parameters_are_others(tmp_path: Path, advantage: str) -> None:
    """Else the tests above could not fail."""
    ppo = trained(tmp_path / "ppo", total_steps=5 * 128)
    ours = trained(tmp_path / "ours", total_steps=5 * 128, advantage=advantage)
    assert not torch.equal(ours[0]["policy"]["critic.weight"], ppo[0]["policy"]["critic.weight"])


def test_the_likelihood_trains_the_body(tmp_path: Path) -> None:
    """With vd_loss nll and no effect on advantages, the critic is another."""
    ppo = trained(tmp_path / "ppo", total_steps=5 * 128)
    changes = {"advantage": "variance-gamma", "control": "head-only", "vd_loss": "nll"}
    ours = trained(tmp_path / "nll", total_steps=5 * 128, **changes)
    assert not torch.equal(ours[0]["policy"]["critic.weight"], ppo[0]["policy"]["critic.weight"])
