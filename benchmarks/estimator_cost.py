"""What each advantage estimator adds to an update of PPO, in CPU time.

    python benchmarks/estimator_cost.py --rounds 9

Short runs of the MinAtar preset take turns in one process and on one thread: gae, each estimator,
gae again with another seed (what chance alone does), the next round. An update is rollout,
estimate and gradient steps; the first two of a run are left out. The work is the same in every
update, and what disturbs it only adds time: so a contender's figure is its fastest update, and the
table says how far its slowest round was from that.
"""

import argparse
import tempfile
import time
from pathlib import Path

from fastrl.bench import BenchReport, Table
from fastrl.config import TrainConfig, config_for, replace
from fastrl.machine import provenance
from fastrl.metrics import Progress, RunSummary
from fastrl.train import train

BASELINE = "gae"
ANOTHER_SEED = "gae, another seed"
CONTENDERS = (
    BASELINE,
    "variance-gamma",
    "variance-lambda",
    "variance-lambda-ensemble",
    "variance-horizon",
    "variance-horizon-return",
    "variance-horizon-lite",
    "explained-lambda",
    "meta-gradient",
    ANOTHER_SEED,
)
LEFT_OUT = 2


class Clock:
    """An observer that notes the CPU seconds of every update."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def start(self, config: TrainConfig, run_dir: Path, global_step: int) -> None:
        del config, run_dir, global_step
        self._last = time.process_time()

    def update(self, progress: Progress) -> None:
        del progress
        now = time.process_time()
        self.seconds.append(now - self._last)
        self._last = now

    def message(self, text: str) -> None:
        raise RuntimeError(f"a measured run had something to say: {text}")

    def close(self, summary: RunSummary | None) -> None: ...


def update_seconds(name: str, env_id: str, updates: int, seed: int) -> float:
    """CPU seconds of an update, the fastest of one short run."""
    config = config_for(env_id)
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="fastrl-cost-") as folder:
        train(
            replace(
                config,
                advantage=BASELINE if name == ANOTHER_SEED else name,
                vd_warmup=0,
                seed=seed + 1000 * (name == ANOTHER_SEED),
                total_steps=(LEFT_OUT + updates) * config.num_envs * config.num_steps,
                checkpoint_every=LEFT_OUT + updates,
                torch_threads=1,
                env_threads=1,
                device="cpu",
                run_dir=str(Path(folder) / "run"),
            ),
            observer=clock,
        )
    return min(clock.seconds[LEFT_OUT:])


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of an update by estimator")
    parser.add_argument("--env", default="MinAtar/Breakout-v1")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--updates", type=int, default=4, help="measured in each run")
    parser.add_argument("--out", type=Path, help="folder for the Markdown table")
    args = parser.parse_args()

    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for seed in range(1, args.rounds + 1):
        for name in CONTENDERS:
            seconds[name].append(update_seconds(name, args.env, args.updates, seed))
        print(f"round {seed} of {args.rounds}", flush=True)

    rows: list[tuple[str, ...]] = []
    results: dict[str, object] = {"env_id": args.env, "unit": "CPU seconds per update"}
    for name, found in seconds.items():
        fastest = min(found)
        ratio = fastest / min(seconds[BASELINE])
        slowest = f"{max(found) / fastest:.2f}"
        rows.append((name, f"{1e3 * fastest:.1f}", f"{ratio:.3f}", slowest))
        results[name] = {"seconds": found, "ratio": ratio}
    command = f"python benchmarks/estimator_cost.py --env {args.env}"
    report = BenchReport(
        what="estimators",
        origin=provenance(f"{command} --rounds {args.rounds} --updates {args.updates}"),
        results=results,
        tables=[
            Table(
                f"{args.env}: CPU time of an update on one thread, {args.rounds} rounds",
                ("advantage", "ms", "against gae", "slowest round"),
                rows,
            )
        ],
    )
    for table in report.tables:
        print(table.markdown())
    if args.out is not None:
        print(report.write_markdown(args.out))


if __name__ == "__main__":
    main()
