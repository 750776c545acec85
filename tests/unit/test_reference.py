"""The KL penalty to a frozen policy: its estimate, its gradient, and its place in a run."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_resume import assert_same_run, assert_same_tree, lines, small
from torch import Tensor

from fastrl import checkpoint
from fastrl.config import load_config, replace
from fastrl.ppo import reference_kl
from fastrl.train import train


def log_policies(seed: int, num_actions: int, spread: float) -> list[Tensor]:
    """Log-probabilities (A,) float64 of pi, pi_old and pi_ref; pi needs a gradient."""
    rng = np.random.default_rng(seed)
    logits = [torch.from_numpy(spread * rng.normal(size=num_actions)) for _ in range(3)]
    logits[0].requires_grad_(True)
    return [logits[0], *(torch.log_softmax(x, -1) for x in logits)]


def expected(policies: list[Tensor]) -> Tensor:
    """The mean of the estimate over actions of pi_old, action by action."""
    _, new, old, ref = policies
    each = [reference_kl(new[[a]], old[[a]], ref[[a]]) for a in range(len(new))]
    return (old.exp() * torch.stack(each)).sum()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 18), st.floats(0.0, 3.0))
def test_the_estimate_has_the_mean_and_the_gradient_of_the_divergence(
    seed: int, num_actions: int, spread: float
) -> None:
    """Whatever policy drew the actions: not only when it is the one that learns."""
    policies = log_policies(seed, num_actions, spread)
    logits, new, _, ref = policies
    exact = (new.exp() * (new - ref)).sum()

    estimate = expected(policies)

    torch.testing.assert_close(estimate, exact, atol=1e-10, rtol=1e-10)
    ours, theirs = (torch.autograd.grad(x, logits, retain_graph=True) for x in (estimate, exact))
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)


@given(st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_on_its_own_actions_the_estimate_is_schulmans_k3(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    new, ref = (torch.from_numpy(-rng.exponential(size=size)) for _ in range(2))
    r = (ref - new).exp()

    torch.testing.assert_close(reference_kl(new, new, ref), ((r - 1) - r.log()).mean())


def test_an_action_that_the_policy_has_left_gives_no_nan() -> None:
    new = torch.tensor([-300.0], requires_grad=True)
    estimate = reference_kl(new, torch.tensor([-1.0]), torch.tensor([-1.0]))
    estimate.backward()
    assert torch.isfinite(estimate)
    assert torch.isfinite(new.grad).all()


@pytest.fixture(scope="module")
def catch_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that has learned something, on the resume tests' tiny setting."""
    run_dir = tmp_path_factory.mktemp("reference") / "catch"
    train(small(run_dir, total_steps=60 * 128))
    return run_dir


def weights(run_dir: Path) -> dict[str, Any]:
    state = checkpoint.load(checkpoint.latest(run_dir))
    found = {key: state[key] for key in ("policy", "optimizer", "action_generator")}
    return found | {"collector": state["ranks"][0]["collector"]}


def test_without_a_weight_the_divergence_is_measured_and_changes_no_bit(
    tmp_path: Path, catch_run: Path
) -> None:
    config = small(tmp_path / "plain")
    train(config)
    train(replace(config, run_dir=str(tmp_path / "measured"), kl_ref=str(catch_run)))

    assert_same_tree(weights(tmp_path / "measured"), weights(tmp_path / "plain"))
    plain, measured = (lines(tmp_path / name, "metrics.jsonl") for name in ("plain", "measured"))
    assert all(line.pop("kl_ref") is None for line in plain)
    assert all(line.pop("kl_ref") > 0.01 for line in measured)
    assert plain == measured


def test_the_penalty_pulls_the_policy_towards_the_reference(
    tmp_path: Path, catch_run: Path
) -> None:
    """The other way round, or with the wrong sign, it would drive the two apart."""
    free = small(tmp_path / "free", kl_ref=str(catch_run), total_steps=40 * 128)
    train(free)
    train(replace(free, run_dir=str(tmp_path / "tied"), kl_ref_coef=10.0))

    ends = {name: lines(tmp_path / name, "metrics.jsonl") for name in ("free", "tied")}
    assert ends["tied"][-1]["kl_ref"] < 0.1 * ends["tied"][0]["kl_ref"]
    assert ends["tied"][-1]["kl_ref"] < 0.1 * ends["free"][-1]["kl_ref"]


def test_a_run_keeps_its_reference_and_resumes_bit_exactly_without_the_original(
    tmp_path: Path, catch_run: Path
) -> None:
    original = tmp_path / "original"
    shutil.copytree(catch_run, original)
    whole = small(tmp_path / "whole", anneal_lr=False, kl_ref=str(original), kl_ref_coef=0.5)
    part = replace(whole, run_dir=str(tmp_path / "part"), total_steps=7 * 128)
    train(whole)
    train(part)
    shutil.rmtree(original)

    train(replace(part, total_steps=whole.total_steps), resume=tmp_path / "part")

    assert load_config(tmp_path / "part").kl_ref == str(original)
    assert_same_run(tmp_path / "part", tmp_path / "whole")


def test_a_checkpoint_is_a_reference_as_well_as_its_run(tmp_path: Path, catch_run: Path) -> None:
    run = small(tmp_path / "run", kl_ref=str(catch_run), kl_ref_coef=0.5, total_steps=256)
    file = replace(run, run_dir=str(tmp_path / "file"), kl_ref=str(checkpoint.latest(catch_run)))
    train(run)
    train(file)
    again = replace(run, run_dir=str(tmp_path / "again"), kl_ref=str(tmp_path / "reference.pt"))
    shutil.copy(tmp_path / "run" / "reference.pt", tmp_path)
    train(again)

    assert_same_tree(weights(tmp_path / "run"), weights(tmp_path / "file"))
    assert_same_tree(weights(tmp_path / "run"), weights(tmp_path / "again"))


def test_a_reference_of_other_observations_or_actions_is_refused(
    tmp_path: Path, catch_run: Path
) -> None:
    says = (
        r"catch was trained on Catch-v0 with observations \(1, 10, 5\) up to 1 and 3 actions, "
        r"but this run is of MinAtar/Freeway-v1 with observations \(10, 10, 7\) up to 1 and 3 act"
    )
    with pytest.raises(ValueError, match=says):
        train(small(tmp_path / "run", "MinAtar/Freeway-v1", kl_ref=str(catch_run)))
    assert not (tmp_path / "run").exists()


def test_actions_of_the_same_number_but_other_meaning_are_refused(tmp_path: Path) -> None:
    """Pong and Qbert both have six, of which only three are the same buttons."""
    options = {"num_envs": 1, "num_steps": 2, "num_minibatches": 1, "total_steps": 2}
    train(small(tmp_path / "pong", "ALE/Pong-v5", **options))
    with pytest.raises(
        ValueError, match=r"6 actions \(NOOP, FIRE, RIGHT, .*6 actions \(NOOP, FIRE, UP"
    ):
        train(small(tmp_path / "run", "ALE/Qbert-v5", kl_ref=str(tmp_path / "pong"), **options))


def test_a_damaged_reference_is_refused(tmp_path: Path, catch_run: Path) -> None:
    path = tmp_path / "damaged.pt"
    content = bytearray(checkpoint.latest(catch_run).read_bytes())
    for i in range(len(content) // 2, len(content) // 2 + 256):  # Up to 64 may be padding.
        content[i] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(checkpoint.CorruptCheckpointError, match=r"damaged\.pt"):
        train(small(tmp_path / "run", kl_ref=str(path)))
    assert not (tmp_path / "run").exists()


def test_loading_the_reference_does_not_touch_the_global_generator(
    tmp_path: Path, catch_run: Path
) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    train(small(tmp_path / "run", kl_ref=str(catch_run), total_steps=128))
    assert torch.equal(torch.rand(1), expected)
