"""Two processes that train together learn what one does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fastrl import checkpoint
from fastrl.config import config_for
from fastrl.train import train

OPTIONS = {
    "num_envs": 8,
    "num_steps": 16,
    "num_minibatches": 1,
    "update_epochs": 3,
    "total_steps": 5 * 128,
    "checkpoint_every": 2,
    "device": "cpu",
    "torch_threads": 1,
    "env_threads": 1,
    "learning_rate": 3e-3,
}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def two_ranks(*program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", *program]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    return two_ranks("-m", "fastrl", "train", *arguments)


def flags(**options: Any) -> list[str]:
    return [
        word
        for name, value in options.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_two_ranks_learn_what_one_process_learns(tmp_path: Path, mode: str) -> None:
    """With one minibatch, whose order does not matter; 8 environments in one process, or 4 + 4."""
    one, two = tmp_path / "one", tmp_path / "two"
    train(config_for("Catch-v0", **OPTIONS, run_dir=str(one), autoreset_mode=mode))

    done = torchrun("Catch-v0", *flags(**OPTIONS, run_dir=two, autoreset_mode=mode))

    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("run folder:") == 1, "rank 0 speaks for all"
    theirs, ours = (checkpoint.load(checkpoint.latest(run)) for run in (one, two))
    assert ours["counters"]["global_step"] == theirs["counters"]["global_step"]
    for name, weight in theirs["policy"].items():
        torch.testing.assert_close(
            ours["policy"][name], weight, rtol=0, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    moved = (theirs["policy"]["actor.weight"]).abs().max()
    assert float(moved) > 0.01, "the weights hardly moved"
    games = [
        [(line["env_id"], line["return"], line["length"]) for line in lines(run / "episodes.jsonl")]
        for run in (one, two)
    ]
    assert sorted(games[0]) == sorted(games[1])
    assert {env for env, *_ in games[1]} == set(range(8))
    for ours_line, theirs_line in zip(
        lines(two / "metrics.jsonl"), lines(one / "metrics.jsonl"), strict=True
    ):
        for name in ("policy_loss", "value_loss", "entropy", "grad_norm", "explained_variance"):
            assert ours_line[name] == pytest.approx(theirs_line[name], rel=1e-3, abs=1e-5), name


def test_ranks_resume_together(tmp_path: Path) -> None:
    """Interrupted after three updates and resumed, they end where an unbroken run of them ends."""
    options = OPTIONS | {"num_minibatches": 2}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert torchrun("Catch-v0", *flags(**options, run_dir=whole), "--no-anneal-lr").returncode == 0
    short = options | {"total_steps": 3 * 128}
    assert torchrun("Catch-v0", *flags(**short, run_dir=broken), "--no-anneal-lr").returncode == 0

    done = torchrun("--resume", str(broken), *flags(total_steps=5 * 128))

    assert done.returncode == 0, done.stderr[-3000:]
    theirs, ours = (checkpoint.load(checkpoint.latest(run)) for run in (whole, broken))
    assert len(ours["ranks"]) == 2
    for name, weight in theirs["policy"].items():
        assert torch.equal(ours["policy"][name], weight), name
    with pytest.raises(ValueError, match="is of 2 ranks: resume it with as many, not with 1"):
        train(
            config_for("Catch-v0", **options, run_dir=str(broken), anneal_lr=False), resume=broken
        )


PARTING = """
import weakref
import torch, torch.distributed
from fastrl.ranks import joined
with joined("cpu") as ranks:
    group = weakref.ref(torch.distributed.group.WORLD)
    weight = torch.nn.Parameter(torch.ones(1))
    weight.sum().backward()
    torch.optim.Adam([weight]).step()
    ranks.gathered(1)
assert group() is None, "the group and its threads are left"
"""


def test_nothing_is_left_of_a_group_when_its_ranks_part(tmp_path: Path) -> None:
    """Its threads drop tensors; while Python ends, that aborts the process now and then."""
    program = tmp_path / "parting.py"
    program.write_text(PARTING, encoding="utf-8")
    done = two_ranks(str(program))
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_envs": 9}, "num_envs must be a multiple of 2 * num_pools = 2 with 2 ranks, got 9"),
        ({"reward_scaling": "return_std"}, "reward_scaling must be none or clip with 2 ranks"),
        ({"advantage": "variance-lambda"}, "advantage must be gae with 2 ranks"),
        ({"kl_ref": "elsewhere"}, "kl_ref must be empty with 2 ranks"),
    ],
)
def test_what_ranks_cannot_share_is_refused(changes: dict[str, Any], message: str) -> None:
    config = config_for("Catch-v0", **(OPTIONS | changes))
    config.check_ranks(1)
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        config.check_ranks(2)
