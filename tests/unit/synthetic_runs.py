"""Run folders made up by formula, for the tests of what reads them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

ReturnAt = Callable[[float], float]


def write_run(
    folder: Path,
    return_at: ReturnAt,
    *,
    env_id: str = "MinAtar/Breakout-v1",
    seed: int = 1,
    budget: int = 1000,
    done: float = 1.0,
    num_games: int = 100,
    steps_per_second: float = 100.0,
    metrics: Callable[[float], Mapping[str, Any]] | None = None,
    **config: Any,
) -> Path:
    """A run in which game i of `num_games` ends in the middle of its share of the budget.

    Args:
        folder: Of the run; made.
        return_at: Share of the budget in (0, 1) to the return of the game that ends there.
        env_id: What was played.
        seed: Of the run.
        budget: total_steps.
        done: Share of the budget that was reached; less than 1 leaves no summary.
        num_games: In the whole budget.
        steps_per_second: Constant.
        metrics: Share of the budget to more fields of metrics.jsonl.
        **config: More fields of config.json.
    """
    folder.mkdir(parents=True)
    plain = {"env_id": env_id, "seed": seed, "total_steps": budget, "advantage": "gae"}
    (folder / "config.json").write_text(json.dumps({**plain, "gamma": 0.99, **config}))
    shares = [share for i in range(num_games) if (share := (i + 0.5) / num_games) <= done]
    games = [
        {
            "global_step": share * budget,
            "env_id": 0,
            "return": return_at(share),
            "length": 1,
            "wall_s": share * budget / steps_per_second,
        }
        for share in shares
    ]
    updates = [
        {
            "update": i + 1,
            "global_step": share * budget,
            "wall_s": share * budget / steps_per_second,
            "sps": steps_per_second,
            **(metrics(share) if metrics is not None else {}),
        }
        for i in range(50)
        if (share := (i + 1) / 50) <= done
    ]
    for name, rows in (("episodes", games), ("metrics", updates)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if done >= 1.0:
        summary = {"status": "finished", "global_step": budget, "wall_s": budget / steps_per_second}
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def learned(gamma: float, rate: float) -> Callable[[float], dict[str, Any]]:
    """metrics.jsonl of an estimator whose gamma and lambda rise towards a limit."""

    def at(share: float) -> dict[str, Any]:
        level = 1.0 - (1.0 - gamma) * (1.0 + 4.0 * np.exp(-rate * share))
        found: dict[str, Any] = {"explained_variance": share, "approx_kl": 0.004}
        for name, middle in (("gamma", level), ("lambda", 0.9 + 0.08 * share)):
            spread = (1.0 - middle) * 0.6
            found |= {
                f"{name}_mean": middle,
                f"{name}_q05": middle - spread,
                f"{name}_q50": middle,
                f"{name}_q95": middle + spread,
                f"{name}_clipped": 0.01,
            }
        found["horizon_mean"] = 1.0 / (1.0 - level)
        found["z2_by_decile"] = [0.7 + 0.06 * i + 0.3 * (1.0 - share) for i in range(10)]
        found["log_variance_by_time_left"] = [None, *(-1.5 + 0.3 * i for i in range(7))]
        found["sigma_corr"] = 0.4 * share
        return found

    return at


def write_sweep(
    folder: Path,
    *,
    seeds: int = 3,
    variants: int = 3,
    games: tuple[str, ...] = ("Breakout", "Freeway"),
    num_games: int = 400,
) -> Path:
    """A sweep whose variants learn a little faster each, over noisy seeds; PPO is the first."""
    names = ["ppo", "variance-lambda", "variance-gamma", *(f"variant-{i}" for i in range(30))]
    tops = {"Breakout": 38.35, "Freeway": 64.53, "Asterix": 35.67, "Seaquest": 58.94}
    recorded: list[dict[str, Any]] = []
    for game in games:
        for index, variant in enumerate(names[:variants]):
            for seed in range(1, seeds + 1):
                rng = np.random.default_rng((index, seed, len(game)))
                speed = 3.0 * (1.0 + 0.25 * index) * rng.uniform(0.8, 1.2)
                top = tops[game] * rng.uniform(0.85, 1.15)

                def return_at(share: float, speed: float = speed, top: float = top) -> float:
                    return top * (1.0 - float(np.exp(-speed * share)))

                env_id = f"MinAtar/{game}-v1"
                place = f"runs/{env_id.replace('/', '-')}/{variant}/s{seed}"
                write_run(
                    folder / place,
                    return_at,
                    env_id=env_id,
                    seed=seed,
                    budget=1_000_000,
                    num_games=num_games,
                    steps_per_second=9000.0 - 300.0 * index,
                    metrics=learned(1.0 - 0.01 * 0.75**index, 2.0 + index) if index else None,
                    advantage=variant if index else "gae",
                )
                recorded.append(
                    {
                        "dir": place,
                        "env_id": env_id,
                        "variant": variant,
                        "seed": seed,
                        "status": "finished",
                        "error": None,
                    }
                )
    origin = {"hardware": {"cpu": "Some CPU", "usable_cpus": 2, "gpus": []}}
    (folder / "sweep.json").write_text(
        json.dumps({"format": 1, "origin": origin, "runs": recorded})
    )
    return folder
