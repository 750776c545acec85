"""bfloat16, compilation and CUDA graphs change how a policy is run, not what it learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fastrl
from fastrl import ppo
from fastrl.accelerate import captured_parts, prepare
from fastrl.config import TrainConfig, config_for
from fastrl.models import ActorCritic, make_policy
from fastrl.observations import Observations
from fastrl.ppo import (
    Batch,
    CapturedSteps,
    GradientSteps,
    UpdateStats,
    columns_of,
    ppo_update,
)
from fastrl.rewards import RewardScaler
from fastrl.rollout import Rollout, RolloutCollector
from fastrl.train import train

CPU = torch.device("cpu")
SHAPE = (4, 36, 36)
CONFIG = config_for("ALE/Pong-v5", num_minibatches=2, update_epochs=2, autoreset_mode="SameStep")


def frames(size: int, seed: int) -> Observations:
    generator = torch.Generator().manual_seed(seed)
    store = torch.randint(0, 256, (size + 3, 1, 36, 36), dtype=torch.uint8, generator=generator)
    return Observations(frames=store, rows=torch.arange(size)[:, None] + torch.arange(4))


def batch_of(size: int, seed: int, obs: Observations | None = None) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        obs=frames(size, seed) if obs is None else obs,
        actions=torch.randint(0, 3, (size,), generator=generator),
        logprobs=torch.full((size,), -1.0986),
        advantages=torch.randn(size, generator=generator),
        returns=torch.randn(size, generator=generator),
        values=torch.randn(size, generator=generator),
    )


def on(device: torch.device, batch: Batch) -> Batch:
    columns = {name: x.to(device) for name, x in columns_of(batch).items()}
    assert isinstance(batch.obs, Observations)
    rows = columns.pop("obs")
    return Batch(obs=Observations(frames=batch.obs.frames.to(device), rows=rows), **columns)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("nature_cnn", (4, 84, 84), True),
        ("impala_resnet", (4, 84, 84), True),
        ("minatar_cnn", (10, 10, 10), False),  # its frames are channels-last to begin with
        ("mlp", (128,), False),
    ],
)
def test_frames_are_laid_out_as_convolutions_like_them(
    name: str, shape: tuple[int, ...], expected: bool
) -> None:
    torch.manual_seed(0)
    policy = make_policy(name, shape, 3)
    obs = torch.randint(0, 256, (6, *shape), dtype=torch.uint8)
    before = policy(obs)
    assert prepare(policy, CONFIG, CPU, shape) == []
    assert policy.channels_last == expected
    for ours, theirs in zip(policy(obs), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def updated(
    config: TrainConfig,
    batches: list[Batch],
    device: torch.device = CPU,
    *,
    kind: type[GradientSteps] = GradientSteps,
    capturable: bool = False,
) -> tuple[ActorCritic, list[UpdateStats]]:
    """A policy after an update on each of the batches."""
    torch.manual_seed(1)
    policy = make_policy("nature_cnn", SHAPE, 3).to(device)
    assert prepare(policy, config, device, SHAPE) == []
    rate = torch.tensor(config.learning_rate, device=device)
    optimizer = torch.optim.Adam(
        policy.parameters(),
        lr=rate if capturable else config.learning_rate,
        eps=config.adam_eps,
        fused=True,
        capturable=capturable,
    )
    steps = kind(policy, optimizer, config)
    order = torch.Generator(device).manual_seed(2)
    stats = [ppo_update(policy, optimizer, batch, config, order, steps=steps) for batch in batches]
    return policy, stats


def same_weights(ours: nn.Module, theirs: nn.Module, **tolerance: float) -> None:
    for (name, x), y in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(x.cpu(), y.cpu(), msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def batches_on_one_store(count: int) -> Callable[[], list[Batch]]:
    """Batches whose frames are in one place, as a collector's are; rows and columns differ."""
    obs = frames(64, 0)

    def make() -> list[Batch]:
        rows = [obs.rows.roll(7 * i, 0) for i in range(count)]
        seen = [Observations(frames=obs.frames, rows=row) for row in rows]
        return [batch_of(64, i, obs=x) for i, x in enumerate(seen)]

    return make


class Again:
    """What a CUDA graph does, done anew: the function is called and gets no arguments."""

    def __init__(self, function: Callable[[], Tensor]) -> None:
        self.function = function
        self.result: Tensor | None = None

    def __call__(self) -> Tensor:
        found = self.function()
        if self.result is None:
            self.result = found.clone()
        return self.result.copy_(found)


def test_captured_steps_read_each_batch_and_minibatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that changes between replays is copied to where the captured tensors are."""
    monkeypatch.setattr(ppo, "Captured", Again)
    batches = batches_on_one_store(3)
    plain, their_stats = updated(CONFIG, batches())
    captured, our_stats = updated(CONFIG, batches(), kind=CapturedSteps)
    same_weights(captured, plain, rtol=0.0, atol=0.0)
    assert our_stats == their_stats


def test_bf16_stays_close_to_fp32_over_an_update() -> None:
    """Weights stay float32; what the two policies would do after the update differs little."""
    half = TrainConfig.from_dict(CONFIG.to_dict() | {"precision": "bf16"})
    full_policy, [full] = updated(CONFIG, [batch_of(64, 0)])
    half_policy, [ours] = updated(half, [batch_of(64, 0)])

    assert {x.dtype for x in half_policy.parameters()} == {torch.float32}
    assert ours.policy_loss == pytest.approx(full.policy_loss, abs=2e-3)
    assert ours.value_loss == pytest.approx(full.value_loss, rel=0.02)
    assert ours.grad_norm == pytest.approx(full.grad_norm, rel=0.05)
    assert ours != full, "nothing was computed in bfloat16"
    with torch.no_grad():
        (ours_logits, ours_values), (logits, values) = (
            policy(batch_of(64, 5).obs[:]) for policy in (half_policy, full_policy)
        )
    assert ours_logits.dtype == ours_values.dtype == torch.float32
    probs = logits.softmax(-1)
    divergence = (probs * (probs.log() - ours_logits.log_softmax(-1))).sum(-1).mean()
    assert float(divergence) < 1e-3
    torch.testing.assert_close(ours_values, values, rtol=0.05, atol=0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own
def test_a_compiled_policy_learns_the_same() -> None:
    compiled = TrainConfig.from_dict(CONFIG.to_dict() | {"compile": True})
    plain_policy, [plain] = updated(CONFIG, [batch_of(64, 0)])
    policy, [ours] = updated(compiled, [batch_of(64, 0)])
    assert policy._compiled_call_impl is not None
    same_weights(policy, plain_policy, rtol=0.0, atol=1e-4)
    assert ours.value_loss == pytest.approx(plain.value_loss, rel=1e-4)
    assert list(policy.state_dict()) == list(plain_policy.state_dict())


def test_a_failing_compiler_is_said_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: nn.Module, obs: Tensor) -> Tensor:
        raise RuntimeError("no compiler\nand a long story")

    def compile_to_failure(self: nn.Module) -> None:
        self._compiled_call_impl = fails.__get__(self)

    monkeypatch.setattr(nn.Module, "compile", compile_to_failure)
    policy = make_policy("nature_cnn", SHAPE, 3)
    config = TrainConfig.from_dict(CONFIG.to_dict() | {"compile": True})

    [said] = prepare(policy, config, CPU, SHAPE)

    assert "no compiler" in said
    assert "story" not in said
    assert policy(torch.zeros(1, *SHAPE, dtype=torch.uint8))[0].shape == (1, 3)


@pytest.mark.parametrize(
    ("changes", "learning", "why"),
    [
        ({}, True, None),
        ({"autoreset_mode": "NextStep"}, False, "NextStep leaves out reset steps"),
        ({"advantage": "variance-lambda"}, False, "advantage variance-lambda"),
        ({"num_envs": 3, "num_steps": 3}, False, "does not divide num_envs * num_steps = 9"),
        ({"cuda_graphs": False}, False, None),
    ],
)
def test_what_cannot_be_captured_is_said(
    changes: dict[str, Any], learning: bool, why: str | None
) -> None:
    config = TrainConfig.from_dict(CONFIG.to_dict() | {"cuda_graphs": True} | changes)
    parts = captured_parts(config, torch.device("cuda"))
    assert parts.learning == learning
    assert parts.inference == config.cuda_graphs
    assert len(parts.left_out) == (why is not None)
    assert all(why in said for said in parts.left_out if why)


def test_a_run_on_the_cpu_says_that_nothing_is_captured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_for(
        "Catch-v0",
        run_dir=str(tmp_path / "run"),
        total_steps=64,
        num_envs=4,
        num_steps=16,
        device="cpu",
        cuda_graphs=True,
        precision="bf16",
    )
    assert train(config).status == "finished"
    assert "nothing is captured, because the device is cpu" in capsys.readouterr().err


# On a GPU.

CUDA = torch.device("cuda")


@pytest.mark.gpu
def test_replayed_steps_equal_eager_ones() -> None:
    batches = batches_on_one_store(4)
    eager, their_stats = updated(CONFIG, [on(CUDA, x) for x in batches()], CUDA, capturable=True)
    shared = on(CUDA, batches()[0]).obs
    assert isinstance(shared, Observations)
    placed: list[Batch] = []
    for batch in batches():
        moved = on(CUDA, batch)
        assert isinstance(moved.obs, Observations)
        obs = Observations(frames=shared.frames, rows=moved.obs.rows)
        placed.append(Batch(obs=obs, **{k: v for k, v in columns_of(moved).items() if k != "obs"}))
    captured, our_stats = updated(CONFIG, placed, CUDA, kind=CapturedSteps, capturable=True)
    same_weights(captured, eager, rtol=0.0, atol=1e-6)
    for ours, theirs in zip(our_stats, their_stats, strict=True):
        assert ours.value_loss == pytest.approx(theirs.value_loss, rel=1e-5)


@pytest.mark.gpu
def test_cpu_and_cuda_learn_the_same_in_fp32() -> None:
    """The order of minibatches is the device's own; so one minibatch is the whole batch."""
    whole = TrainConfig.from_dict(CONFIG.to_dict() | {"num_minibatches": 1})
    torch.backends.cudnn.allow_tf32 = False
    host, [theirs] = updated(whole, [batch_of(64, 0)])
    device, [ours] = updated(whole, [on(CUDA, batch_of(64, 0))], CUDA)
    same_weights(device, host, rtol=0.0, atol=1e-4)
    assert ours.value_loss == pytest.approx(theirs.value_loss, rel=1e-4)


class Greedy(nn.Module):
    """Acts on a checksum of what it sees, so that any wrong byte changes the game."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        weight = torch.randint(-9, 10, (4 * 84 * 84,), generator=generator).double()
        self.register_buffer("weight", weight)

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        values = (obs.flatten(1).double() @ self.weight).float()
        chosen = values.abs().long() % 4
        return 1e6 * (chosen[:, None] == torch.arange(4, device=obs.device)).float(), values


def played(device: torch.device, num_pools: int, *, cuda_graphs: bool) -> list[dict[str, Any]]:
    """Three rollouts of Breakout as arrays."""
    options: dict[str, Any] = {"stack_num": 1, "max_num_frames_per_episode": 40}
    pools: list[Any] = [
        fastrl.make("ALE/Breakout-v5", 8 // num_pools, 1, autoreset_mode="SameStep", **options)
        for _ in range(num_pools)
    ]
    collector = RolloutCollector(
        *pools,
        num_steps=25,
        autoreset_mode="SameStep",
        scaler=RewardScaler("none", 8, 0.9),
        generator=torch.Generator(device).manual_seed(0),
        stack=4,
        cuda_graphs=cuda_graphs,
    )
    collector.reset(list(range(8)))
    policy, found = Greedy().to(device), list[dict[str, Any]]()
    for _ in range(3):
        rollout: Rollout = collector.collect(policy)[0]
        names = ("actions", "values", "next_values", "rewards", "terminated", "truncated")
        arrays = {name: getattr(rollout, name).cpu().numpy() for name in names}
        found.append(arrays | {"obs": rollout.obs[:].cpu().numpy()})
    return found


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graphs", [False, True])
@pytest.mark.parametrize("num_pools", [1, 2])
def test_a_rollout_on_the_gpu_is_that_of_the_cpu(num_pools: int, cuda_graphs: bool) -> None:
    expected = played(CPU, 1, cuda_graphs=False)
    found = played(CUDA, num_pools, cuda_graphs=cuda_graphs)
    for theirs, ours in zip(expected, found, strict=True):
        for name, array in theirs.items():
            assert np.array_equal(array, ours[name]), name


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [{}, {"precision": "bf16"}, {"compile": True}])
def test_a_captured_run_trains_and_resumes(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = config_for(
        "ALE/Pong-v5",
        run_dir=str(tmp_path / "run"),
        total_steps=4 * 512,
        num_envs=16,
        num_pools=2,
        num_steps=32,
        autoreset_mode="SameStep",
        device="cuda",
        cuda_graphs=True,
        **changes,
    )
    assert train(config).global_step == 4 * 512
    longer = TrainConfig.from_dict(config.to_dict() | {"total_steps": 6 * 512})
    assert train(longer, resume=tmp_path / "run").global_step == 6 * 512
