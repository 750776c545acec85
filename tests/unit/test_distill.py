"""Distillation: its loss, and a small student that comes to act as its teacher."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_resume import assert_same_run, lines, small
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence

import fastrl
from fastrl import checkpoint, cli
from fastrl.config import TrainConfig, config_for, load_config, replace
from fastrl.distill import distill_loss
from fastrl.evaluate import evaluate
from fastrl.models import ActorCritic, make_policy
from fastrl.report import aggregate
from fastrl.train import train


class Table(nn.Module):
    """A policy whose logits are its parameters, one row a state."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits[obs.long()], torch.zeros(len(obs))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(2, 18))
def test_the_loss_is_the_divergence_of_the_student_from_the_teacher(
    seed: int, size: int, num_actions: int
) -> None:
    rng = np.random.default_rng(seed)
    student, teacher = torch.from_numpy(2.0 * rng.normal(size=(2, size, num_actions)))
    policy = Table(student)
    p, q = torch.softmax(teacher, -1), torch.softmax(student, -1)

    loss, stats = distill_loss(policy, torch.arange(size), torch.log_softmax(teacher, -1))
    loss.backward()

    expected = kl_divergence(Categorical(logits=teacher), Categorical(logits=student)).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(policy.logits.grad, (q - p) / size)
    torch.testing.assert_close(stats[1], 1.0 - 0.5 * (p - q).abs().sum(-1).mean())
    torch.testing.assert_close(stats[2], Categorical(logits=student).entropy().mean())
    torch.testing.assert_close(stats[3], Categorical(logits=teacher).entropy().mean())


def test_a_student_that_equals_its_teacher_has_nothing_to_learn() -> None:
    policy = Table(torch.tensor([[0.5, -1.0, 2.0]]))
    loss, stats = distill_loss(
        policy, torch.tensor([0]), torch.log_softmax(policy.logits.detach(), -1)
    )
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert float(stats[1]) == pytest.approx(1.0, abs=1e-6)
    # Softmax and exp(log_softmax) round differently.
    torch.testing.assert_close(policy.logits.grad, torch.zeros(1, 3), atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("teacher") / "catch"
    train(config_for("Catch-v0", run_dir=str(run_dir), total_steps=60_000, torch_threads=1))
    return run_dir


def student_config(run_dir: Path, teacher: Path, *options: str) -> TrainConfig:
    line = ["distill", str(teacher), "--policy", "mlp_small", "--run-dir", str(run_dir)]
    command = cli.parse([*line, "--torch-threads", "1", *options])
    assert isinstance(command, cli.Distill)
    return command.config()


def policy_of(run_dir: Path) -> ActorCritic:
    policy = make_policy(load_config(run_dir), (1, 10, 5), 3, obs_high=1)
    policy.load_state_dict(checkpoint.load(checkpoint.latest(run_dir))["policy"])
    return policy


def test_a_small_student_comes_to_act_as_its_teacher(tmp_path: Path, teacher: Path) -> None:
    run_dir = tmp_path / "student"
    train(
        student_config(run_dir, teacher, "--learning-rate", "0.02", "--total-steps", "60000"),
    )

    size = {
        name: sum(p.numel() for p in policy_of(name).parameters()) for name in (run_dir, teacher)
    }
    assert size[run_dir] < 0.1 * size[teacher]
    metrics = lines(run_dir, "metrics.jsonl")
    assert metrics[0]["mean_return"] < 0.0, "it is the student who plays, and it knows nothing yet"
    assert metrics[-1]["kl_teacher"] < 0.01 < 0.3 < metrics[0]["kl_teacher"]
    theirs, ours = (evaluate(one, 64).mean for one in (teacher, run_dir))
    assert ours >= theirs - 0.07, "two of 64 balls"
    assert [result.env_id for result in aggregate([run_dir])] == ["Catch-v0"]

    # The two distributions in states of the student that neither has learned from.
    student, master = policy_of(run_dir), policy_of(teacher)
    pool = fastrl.make("Catch-v0", num_envs=64, num_threads=1)
    obs, _ = pool.reset(seed=5_000_000)
    overlap: list[float] = []
    for _ in range(9):
        with torch.no_grad():
            p, q = (torch.softmax(one(torch.from_numpy(obs))[0], -1) for one in (student, master))
        overlap.append(float(torch.minimum(p, q).sum(-1).mean()))
        obs, *_ = pool.step(torch.multinomial(p, 1).squeeze(-1).numpy())
    assert np.mean(overlap) > 0.97


def test_the_critic_of_a_student_is_not_trained(tmp_path: Path, teacher: Path) -> None:
    config = small(tmp_path / "run", teacher=str(teacher), total_steps=1, checkpoint_every=1)
    train(config)
    first, last = (
        checkpoint.load(path)["policy"] for path in sorted(checkpoint.all_paths(tmp_path / "run"))
    )
    changed = {name for name in first if not torch.equal(first[name], last[name])}
    assert "actor.weight" in changed
    assert not any(name.startswith("critic") for name in changed)


def test_a_student_resumes_bit_exactly_without_its_teacher(tmp_path: Path, teacher: Path) -> None:
    original = tmp_path / "original"
    shutil.copytree(teacher, original)
    whole = small(tmp_path / "whole", anneal_lr=False, teacher=str(original), policy="mlp_small")
    part = replace(whole, run_dir=str(tmp_path / "part"), total_steps=7 * 128)
    train(whole)
    train(part)
    shutil.rmtree(original)

    line = ["train", "--resume", str(tmp_path / "part"), "--total-steps", str(whole.total_steps)]
    assert cli.main(line) == 0

    assert_same_run(tmp_path / "part", tmp_path / "whole")


def test_the_student_plays_the_teachers_environment(tmp_path: Path) -> None:
    options = {"max_episode_steps": 7}
    theirs = small(tmp_path / "run", autoreset_mode="NextStep", env_options=options, seed=9)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(theirs.to_json(), encoding="utf-8")

    config = student_config(tmp_path / "new", tmp_path / "run", "--num-steps", "40")

    assert (config.autoreset_mode, dict(config.env_options)) == ("NextStep", options)
    assert (config.policy, config.num_steps, config.seed) == ("mlp_small", 40, 1)
    assert config.num_envs == config_for("Catch-v0").num_envs, "the preset's, not the teacher's"
    assert config.teacher == str(tmp_path / "run")


def test_a_student_can_be_cut_at_reset_steps_too(tmp_path: Path, teacher: Path) -> None:
    """NextStep: what the policy says at a reset step is nobody's, and is not learned from."""
    summary = train(
        small(tmp_path / "run", teacher=str(teacher), autoreset_mode="NextStep", total_steps=256)
    )
    assert summary.status == "finished"
    assert lines(tmp_path / "run", "metrics.jsonl")[0]["global_step"] == 128 - 8
