"""The speed of training: `fastrl bench train`.

End to end, then each stage of it alone, on the run's own tensors. Stages that overlap take less
time together than one after another:

    overlap = (env + copy + inference + learning, each alone) / (an update, end to end)

1 means that nothing overlaps; less, that the stages hinder each other or that time goes elsewhere.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import fastrl
from fastrl.bench import FRAMESKIP, BenchReport, Rate, Table, calls_per_second
from fastrl.config import TrainConfig, config_for, replace
from fastrl.graphs import WARMUP
from fastrl.machine import provenance
from fastrl.runs import read_run

STAGE_SECONDS = 1.0
"""For how long each stage is repeated, at least."""
SHARES = ("env", "inference", "copy", "learning")
"""Of a run's time, as its metrics name them."""
WARM_UP = WARMUP + 1
"""Calls before: in the last of them a CUDA graph is captured."""


def bench_train(
    env_id: str = "MinAtar/Breakout-v1",
    *,
    preset: str | None = None,
    total_steps: int = 200_000,
    repeats: int = 1,
    options: Mapping[str, Any] | None = None,
    plain_loop: bool = False,
    command: str,
) -> BenchReport:
    """Trains in a temporary folder and reports agent steps per second, end to end and by stage.

    End to end counts everything: making environments and networks, checkpoints, the picture of the
    curve. "In updates" leaves those out, and "a median update" what the first ones do once (compile
    and capture); that is what a long run tends to.

    Args:
        env_id: What to play.
        preset: Preset of the run; None picks by environment.
        total_steps: Agent steps per repeat.
        repeats: Runs, with seeds 1, 2, ...
        options: More fields of `TrainConfig`.
        plain_loop: Measure `fastrl.plain_loop` beside, update by update in turn.
        command: The command line, for the record.

    Raises:
        ValueError: The id or preset is unknown, or a number is out of range.
        ModuleNotFoundError: The plain loop's EnvPool is not installed.
    """
    from fastrl.train import train

    fastrl.spec(env_id)
    if repeats < 1:
        raise ValueError(f"bench train needs repeats >= 1, got {repeats}")
    given = dict(options or {}) | {"total_steps": total_steps}
    config = config_for(env_id, preset=preset, **given)
    rate = Rate(f"fastrl train {env_id}", 0, config.num_envs)
    in_updates: list[float] = []
    median_updates: list[float] = []
    shares: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="fastrl-bench-") as folder:
        for seed in range(1, repeats + 1):
            run_dir = Path(folder) / f"seed{seed}"
            start = time.perf_counter()
            summary = train(replace(config, seed=seed, run_dir=str(run_dir)))
            rate.samples.append(summary.global_step / (time.perf_counter() - start))
            in_updates.append(summary.steps_per_second)
            updates = read_run(run_dir).metrics
            median_updates.append(float(np.median(updates["sps"])))
            shares.append({name: float(updates[f"{name}_share"].mean()) for name in SHARES})
        stages = stage_rates(replace(config, run_dir=str(Path(folder) / "stages")))
        beside = _beside(config, Path(folder) / "beside") if plain_loop else None
    means = {name: statistics.fmean(x[name] for x in shares) for name in shares[0]}
    update = statistics.median(median_updates)
    overlap = update * sum(1.0 / x for x in stages.values())
    frames = FRAMESKIP if config.is_ale else 1

    rows = [("agent steps/s", f"{rate.median:,.0f}")]
    if config.is_ale:
        rows.append(("frames/s", f"{rate.median * frames:,.0f}"))
    rows.append(("range", f"{min(rate.samples):,.0f} - {max(rate.samples):,.0f}"))
    rows.append(("agent steps/s in updates", f"{statistics.median(in_updates):,.0f}"))
    rows.append(("agent steps/s in a median update", f"{update:,.0f}"))
    rows += [(f"time share: {name}", f"{means[name]:.1%}") for name in means]
    title = (
        f"{env_id}, preset {config.preset}, {config.num_envs} environments, "
        f"{total_steps:,} agent steps x {repeats}, end to end"
    )
    tables = [
        Table(title, ("", "value"), rows),
        Table(
            f"Each stage alone; overlap achieved: {overlap:.2f}",
            ("stage", "agent steps/s"),
            [(name, f"{x:,.0f}") for name, x in stages.items()],
        ),
    ]
    if beside is not None:
        tables.append(_beside_table(beside))
    return BenchReport(
        what="train",
        origin=provenance(command),
        results={
            "env_id": env_id,
            "unit": "agent steps per second",
            "frames_per_step": frames,
            "config": config.to_dict(),
            "rate": rate.to_dict(),
            "steps_per_second_in_updates": in_updates,
            "steps_per_second_in_a_median_update": median_updates,
            "time_shares": means,
            "stages_alone": stages,
            "overlap": overlap,
            "plain_loop": beside,
        },
        tables=tables,
    )


def stage_rates(config: TrainConfig) -> dict[str, float]:
    """Agent steps per second of each stage of a run alone, in a folder of its own.

    env: the pools, with actions at hand. copy: observations to where they are kept, on the device
    if that is one. inference: the policy's decisions, until the host has them. learning: advantages
    and gradient steps on one rollout.
    """
    from fastrl.train import opened

    with opened(config) as run:
        rollout, *_ = run.collector.collect(run.policy)
        learning = _rate(lambda: run.learn(rollout), int(rollout.valid.sum()), warm_up=1)
        stages = run.collector.stages(run.policy)
        return {
            name: _rate(stage, config.num_envs, warm_up=WARM_UP) for name, stage in stages.items()
        } | {"learning": learning}


def _rate(stage: Callable[[], object], count: int, *, warm_up: int) -> float:
    """How many times `count` per second."""
    for _ in range(warm_up):
        stage()
    return count * calls_per_second(stage, STAGE_SECONDS)


def _beside(config: TrainConfig, run_dir: Path) -> dict[str, Any]:
    """Updates of ours and of the plain loop, in turn, after one of each to warm up."""
    from fastrl.plain_loop import PlainLoop
    from fastrl.train import choose_device, opened

    count = max(3, min(20, config.num_updates))
    with (
        opened(replace(config, run_dir=str(run_dir))) as run,
        contextlib.closing(PlainLoop(config, choose_device(config))) as plain,
    ):
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(count + 1):
            start = time.perf_counter()
            rollout, *_ = run.collector.collect(run.policy)
            steps, *_ = run.learn(rollout)
            ours.append(steps / (time.perf_counter() - start))
            theirs.append(plain.update())
    ratios = [a / b for a, b in zip(ours[1:], theirs[1:], strict=True)]
    return {
        "name": plain.name,
        "ours": ours[1:],
        "plain": theirs[1:],
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def _beside_table(beside: Mapping[str, Any]) -> Table:
    rows = [
        ("fastrl", f"{statistics.median(beside['ours']):,.0f}"),
        (beside["name"], f"{statistics.median(beside['plain']):,.0f}"),
        ("ratio", f"{beside['ratio']:.2f}"),
        ("range", f"{beside['ratio_min']:.2f} - {beside['ratio_max']:.2f}"),
    ]
    return Table(f"Updates in turn, {len(beside['ours'])} of each", ("", "agent steps/s"), rows)
