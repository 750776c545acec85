"""Stage 0 of the learned discount: small tasks whose advantages are known exactly.

    python benchmarks/stage0.py                 # all of it, results into benchmarks/results
    python benchmarks/stage0.py --quick         # a few seconds, into a folder of its own
    python benchmarks/stage0.py --report JSON   # table and figure of an earlier run, again

First a frozen uniform policy is evaluated: every arm learns its critic and head from the same
rollouts, and its advantages are compared with the exact ones. Then policies are learned. What was
expected, and what may be claimed when, is in results/learned_discount_stage0_expectations.md, which
was written first.
"""

import argparse
import json
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stage0_learning import Evaluation, evaluate, learn, play_frozen
from stage0_report import write_report
from stage0_tasks import EVALUATED, LEARNED

from fastrl import machine
from fastrl.config import LITERAL, TrainConfig

RESULTS = Path(__file__).resolve().parent / "results"

BASE: dict[str, Any] = {
    "env_id": "stage0",
    "preset": "stage0",
    "device": "cpu",
    "num_envs": 16,
    "num_steps": 128,
    "num_minibatches": 1,
    "update_epochs": 3,
    "learning_rate": 0.1,
}
"""Beside these, a warm-up of 6 updates and the defaults of TrainConfig: gamma 0.99, lambda 0.95,
H 64, eta and zeta 0.5."""
NUM_UPDATES = 24

ARMS: dict[str, dict[str, Any]] = {
    "gae": {},
    "gae-1-1": {"gamma": 1.0, "gae_lambda": 1.0},
    "variance-gamma": {"advantage": "variance-gamma"},
    "variance-gamma-td": {"advantage": "variance-gamma", "vd_signal": "td"},
    "variance-gamma-ev": {"advantage": "variance-gamma", "vd_map": "ev", "vd_base": "var"},
    "shuffled-gamma": {"advantage": "variance-gamma", "control": "shuffled"},
    "negated-gamma": {"advantage": "variance-gamma", "control": "negated"},
    "variance-lambda": {"advantage": "variance-lambda"},
    "shuffled-lambda": {"advantage": "variance-lambda", "control": "shuffled"},
    "negated-lambda": {"advantage": "variance-lambda", "control": "negated"},
    "variance-lambda-ensemble": {"advantage": "variance-lambda-ensemble"},
    "shuffled-ensemble": {"advantage": "variance-lambda-ensemble", "control": "shuffled"},
    "negated-ensemble": {"advantage": "variance-lambda-ensemble", "control": "negated"},
    "constant-ensemble": {"advantage": "variance-lambda-ensemble", "vd_lmax": 0.0},
    "variance-horizon": {"advantage": "variance-horizon"},
    "variance-horizon-lite": {"advantage": "variance-horizon-lite"},
    "stream-time": {"advantage": "stream-time", **LITERAL["stream-time"]},
    "stream-lag": {"advantage": "stream-lag", **LITERAL["stream-lag"]},
}
NOT_LEARNED = (
    *("gae-1-1", "variance-gamma-ev", "shuffled-lambda", "stream-lag"),
    *("negated-ensemble", "shuffled-ensemble", "constant-ensemble"),
)
"""Arms that are evaluated only, to save time."""
FOLLOWERS = {
    "yoked-gamma": ("variance-gamma", "gamma_mean"),
    "yoked-lambda": ("variance-lambda", "lambda_mean"),
    "yoked-ensemble": ("variance-lambda-ensemble", "lambda_mean"),
    "yoked-lite": ("variance-horizon-lite", "gamma_mean"),
}
"""Arms that follow the mean rate of the next seed's run of another arm."""
MATCHED = {
    "matched-gamma": "variance-gamma",
    "matched-lambda": "variance-lambda",
    "matched-ensemble": "variance-lambda-ensemble",
}
"""Fixed gamma, or lambda, whose contraction is that of another arm, task by task, seed by seed."""
GRID = [
    (gamma, lam)
    for gamma in (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
    for lam in (0.8, 0.9, 0.95, 0.98)
]
TASKS = {task.name: task for task in (*EVALUATED, *LEARNED)}

Jobs = Iterable[tuple[Any, ...]]


def arm_config(seed: int, num_updates: int, **overrides: Any) -> TrainConfig:
    """The config of an arm."""
    warmup = num_updates // 4
    values = BASE | {"seed": seed, "vd_warmup": warmup} | overrides
    values["total_steps"] = num_updates * values["num_envs"] * values["num_steps"]
    return TrainConfig(**values)


def fixed_at_contraction(
    contraction: float, *, gamma: float | None = None, gae_lambda: float | None = None
) -> tuple[float, float]:
    """(gamma, lambda) with gamma (1 - lambda) / (1 - gamma lambda) = contraction, one given."""
    if gamma is not None:
        return gamma, max(0.0, (gamma - contraction) / (gamma * (1.0 - contraction)))
    assert gae_lambda is not None
    return contraction / (1.0 - gae_lambda + contraction * gae_lambda), gae_lambda


# Jobs: each is one task with one seed, in a process of its own.


def grid_job(name: str, seed: int, num_updates: int) -> dict[str, dict[str, float]]:
    """The settled window of every fixed pair."""
    task = TASKS[name]
    data = play_frozen(task, arm_config(seed, num_updates))
    found = {}
    for gamma, lam in GRID:
        config = arm_config(seed, num_updates, gamma=gamma, gae_lambda=lam)
        settled = evaluate(task, config, data).windows["settled"]
        found[f"{gamma:g}/{lam:g}"] = {
            key: settled[key]
            for key in ("mse_undiscounted", "corr_undiscounted", "mse_gamma0", "corr_gamma0")
        }
    return found


def evaluation_job(
    name: str, seed: int, num_updates: int, arms: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Every arm on the same rollouts."""
    task = TASKS[name]
    data = play_frozen(task, arm_config(seed, num_updates))
    found: dict[str, Evaluation] = {}
    with tempfile.TemporaryDirectory() as folder:
        for arm, overrides in arms.items():
            config = arm_config(seed, num_updates, **with_schedule(overrides, Path(folder) / arm))
            found[arm] = evaluate(task, config, data)
            if arm == "gae" and task.longest_limit:
                found["gae-limit-is-end"] = evaluate(task, config, data, as_terminal=True)
    return {arm: asdict(x) for arm, x in found.items()}


def learning_job(
    name: str, seed: int, num_updates: int, arms: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """A policy for every arm."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for arm, overrides in arms.items():
            config = arm_config(seed, num_updates, **with_schedule(overrides, Path(folder) / arm))
            found[arm] = asdict(learn(TASKS[name], config))
    return found


def once(kept: Path | None, what: str, job: Callable[..., Any], *arguments: Any) -> Any:
    """A job's result, read from the folder `kept` if it is there and written to it if not."""
    if kept is None:
        return job(*arguments)
    name, seed, num_updates, *_ = arguments
    path = kept / f"{what} {name} {seed} {num_updates}.json".replace(" ", "_")
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    found = job(*arguments)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.replace(path)
    return found


def with_schedule(overrides: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Writes a schedule as the metrics of a run, for the control yoked to follow."""
    if "schedule" not in overrides:
        return overrides
    folder.mkdir()
    (key, values), rest = overrides["schedule"], dict(overrides)
    lines = [json.dumps({key: x}) for x in values]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    del rest["schedule"]
    return rest | {"control": "yoked", "yoked_run": str(folder)}


def yoked_arms(following: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What the followers do, given another seed's results by arm."""
    return {
        arm: {**ARMS[led], "schedule": (key, following[led]["schedule"][key])}
        for arm, (led, key) in FOLLOWERS.items()
        if led in following
    }


def matched_arms(mine: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Fixed rates at the contraction that this seed's arms had when settled."""
    found = {}
    for arm, led in MATCHED.items():
        if led not in mine:
            continue
        contraction = mine[led]["windows"]["settled"]["contraction"]
        given = {"gae_lambda": 0.95} if led == "variance-gamma" else {"gamma": 0.99}
        gamma, lam = fixed_at_contraction(contraction, **given)
        found[arm] = {"gamma": gamma, "gae_lambda": lam}
    return found


def best_of(grid: dict[str, list[dict[str, dict[str, float]]]]) -> dict[str, dict[str, str]]:
    """By task: the pair of the grid with the least error, the most correlation, and the suite's."""

    def mean(task: str, pair: str, key: str) -> float:
        return float(np.mean([x[pair][key] for x in grid[task]]))

    pairs = [f"{gamma:g}/{lam:g}" for gamma, lam in GRID]
    suite = max(pairs, key=lambda p: np.mean([mean(t, p, "corr_undiscounted") for t in grid]))
    return {
        task: {
            "best-mse": min(pairs, key=lambda p: mean(task, p, "mse_undiscounted")),
            "best-corr": max(pairs, key=lambda p: mean(task, p, "corr_undiscounted")),
            "best-suite": suite,
        }
        for task in grid
    }


def rates_of(pair: str) -> dict[str, float]:
    """Overrides for a pair of the grid."""
    gamma, lam = pair.split("/")
    return {"gamma": float(gamma), "gae_lambda": float(lam)}


def run_all(
    pool: Executor,
    *,
    evaluated: list[str],
    learned: list[str],
    seeds: list[int],
    selection_seeds: list[int],
    num_updates: int,
    arms: dict[str, dict[str, Any]],
    kept: Path | None,
) -> dict[str, Any]:
    """All numbers, as JSON holds them; jobs whose result is in the folder `kept` are not done."""

    def over(what: str, job: Callable[..., Any], names: list[str], jobs: Jobs) -> dict[str, Any]:
        begin = time.perf_counter()
        waiting = [pool.submit(once, kept, what, job, *x) for x in jobs]
        done = [x.result() for x in waiting]
        print(f"{what}: {len(done)} jobs in {time.perf_counter() - begin:.0f} s", flush=True)
        count = len(done) // max(len(names), 1)
        return {x: done[i * count : (i + 1) * count] for i, x in enumerate(names)}

    grid = over(
        "grid",
        grid_job,
        evaluated,
        [(n, s, num_updates) for n in evaluated for s in selection_seeds],
    )
    best = best_of(grid)
    first = over(
        "evaluation",
        evaluation_job,
        evaluated,
        [(n, s, num_updates, arms) for n in evaluated for s in seeds],
    )
    second = over(
        "evaluation of the arms that follow",
        evaluation_job,
        evaluated,
        [
            (
                n,
                seed,
                num_updates,
                yoked_arms(first[n][(i + 1) % len(seeds)])
                | matched_arms(first[n][i])
                | {arm: rates_of(pair) for arm, pair in best[n].items()},
            )
            for n in evaluated
            for i, seed in enumerate(seeds)
        ],
    )
    to_learn = {arm: x for arm, x in arms.items() if arm not in NOT_LEARNED}
    trained = over(
        "learning",
        learning_job,
        learned,
        [(n, s, num_updates, to_learn) for n in learned for s in seeds],
    )
    trained_after = over(
        "learning of the arms that follow",
        learning_job,
        learned,
        [
            (n, seed, num_updates, yoked_arms(trained[n][(i + 1) % len(seeds)]))
            for n in learned
            for i, seed in enumerate(seeds)
        ],
    )
    return {
        "grid": {n: averaged([{p: r[p] for p in r} for r in grid[n]]) for n in evaluated},
        "best": best,
        "evaluation": {n: by_arm(first[n], second[n], of_evaluation) for n in evaluated},
        "learning": {n: by_arm(trained[n], trained_after[n], of_learning) for n in learned},
    }


def run_quick(pool: Executor) -> dict[str, Any]:
    """A part that takes seconds: two tasks, four arms and their followers, two seeds."""
    chosen = ("gae", "variance-gamma", "variance-lambda", "variance-horizon-lite")
    return run_all(
        pool,
        evaluated=["chain-4", "chain-16-limit"],
        learned=["corridor-cost-worse"],
        seeds=[0, 1],
        selection_seeds=[1000],
        num_updates=4,
        arms={arm: ARMS[arm] for arm in chosen},
        kept=None,
    )


def averaged(runs: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Means over seeds."""
    return {
        pair: {key: short(np.mean([x[pair][key] for x in runs])) for key in runs[0][pair]}
        for pair in runs[0]
    }


def by_arm(
    first: list[dict[str, Any]],
    second: list[dict[str, Any]],
    numbers: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Arm to name to the list over seeds."""
    runs = [a | b for a, b in zip(first, second, strict=True)]
    result: dict[str, Any] = {}
    for arm in runs[0]:
        rows = [numbers(x[arm]) for x in runs]
        result[arm] = {key: [x[key] for x in rows] for key in rows[0]}
    return result


def of_evaluation(run: dict[str, Any]) -> dict[str, float]:
    """Flat names, such as settled/mse_undiscounted."""
    return {
        f"{window}/{key}": short(x)
        for window, numbers in run["windows"].items()
        for key, x in numbers.items()
    }


def of_learning(run: dict[str, Any]) -> dict[str, Any]:
    """Where it ended, what that is worth, and the way there in about ten points."""
    curve = run["curve"]
    every = max(1, (len(curve) - 1) // 10)
    return {
        "final": short(curve[-1]),
        "value": short(run["value"]),
        "curve": [short(x) for x in curve[::every]],
    }


def short(x: float) -> float:
    """Five digits: enough, and half the file."""
    return float(f"{x:.5g}") if math.isfinite(x) else x


def one_thread() -> None:
    """Of each worker."""
    torch.set_num_threads(1)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder (default: benchmarks/results)")
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds (default: 20)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--keep", type=Path, help="folder of finished jobs, to go on after a stop")
    parser.add_argument("--quick", action="store_true", help="a small part of it, needs --out")
    parser.add_argument("--report", type=Path, metavar="JSON", help="only table and figure, again")
    args = parser.parse_args(argv)
    if args.report is not None:
        results = json.loads(args.report.read_text(encoding="utf-8"))
        print(write_report(results, args.report.with_suffix("")))
        return 0
    if args.quick and args.out is None:
        parser.error("--quick needs --out: its numbers are not to be published")
    if args.seeds < 2 or args.jobs < 1:
        parser.error(f"--seeds must be at least 2, --jobs at least 1: {args.seeds} {args.jobs}")
    out = args.out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    if args.keep is not None:
        args.keep.mkdir(parents=True, exist_ok=True)

    origin = machine.provenance("python benchmarks/stage0.py" + " --quick" * args.quick)
    begin = time.perf_counter()
    if args.quick:
        with ThreadPoolExecutor(1, initializer=one_thread) as pool:
            results = run_quick(pool)
        args.seeds = 2
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(args.jobs, mp_context=context, initializer=one_thread) as pool:
            results = run_all(
                pool,
                evaluated=[task.name for task in EVALUATED],
                learned=[task.name for task in LEARNED],
                seeds=list(range(args.seeds)),
                selection_seeds=list(range(1000, 1005)),
                num_updates=NUM_UPDATES,
                arms=ARMS,
                kept=args.keep,
            )
    origin["seconds"] = round(time.perf_counter() - begin)
    results = {"origin": origin, "seeds": args.seeds, "base": BASE} | results
    name = f"learned_discount_stage0_{machine.hardware_slug(origin['hardware'])}_{origin['date']}"
    path = out / f"{name}.json"
    path.write_text(json.dumps(results) + "\n", encoding="utf-8")
    print(write_report(results, out / name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
