"""What runs have learned: curves over agent steps, and final returns over seeds.

    fastrl report runs/a runs/b runs/c --out benchmarks/results --name minatar

Reads run folders only (config.json, episodes.jsonl); needs neither torch nor the native module.
"""

from __future__ import annotations

import io
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrl.machine import describe, hardware_slug, provenance

Floats = NDArray[np.float64]

LAST_EPISODES = 100
"""A run's final return is the mean of this many last training episodes (Open RL Benchmark)."""
CURVE_BINS = 100
"""Points along a curve's horizontal axis."""
PNG_COLOURS = 64
"""A palette makes the file a third as large, and lines do not need more."""

PUBLISHED = {"Asterix": 15.0, "Breakout": 28.0, "Freeway": 58.0, "SpaceInvaders": 131.0}
"""MinAtar returns of the PPO checkpoints in gymnax's README: the bar to reach in 10M steps."""

# Two-sided 95 % quantiles of Student's t for 1, 2, ... 30 degrees of freedom; 1.96 beyond.
T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run folder: what was trained, and the games it finished."""

    path: Path
    env_id: str
    seed: int
    steps: Floats
    """(E,) agent steps taken by the whole run when each game ended."""
    returns: Floats
    """(E,) unclipped return of each full game, in the order in which they ended."""

    @property
    def final_return(self) -> float:
        """Mean return of the last `LAST_EPISODES` games."""
        return float(self.returns[-LAST_EPISODES:].mean())


@dataclass(frozen=True, kw_only=True, slots=True)
class GameResult:
    """The final return in one environment, over seeds."""

    env_id: str
    seeds: tuple[int, ...]
    final_returns: tuple[float, ...]
    """One per seed: the mean of its last `LAST_EPISODES` games."""
    agent_steps: int
    """Agent steps of the shortest of the runs, at its last finished game."""
    mean: float
    ci_low: float | None
    """Lower end of the 95 % t-interval of the mean over seeds; None with a single seed."""
    ci_high: float | None
    published: float | None
    """The published bar (`PUBLISHED`), where there is one."""


def read_run(run_dir: Path) -> Run:
    """Reads a run folder.

    Raises:
        ValueError: It is no run folder, or no game has ended in it yet.
    """
    config_path, episodes_path = run_dir / "config.json", run_dir / "episodes.jsonl"
    if not config_path.is_file():
        raise ValueError(f"{run_dir} is not a run folder: it has no config.json")
    config = json.loads(config_path.read_text(encoding="utf-8"))
    episodes = list(_json_lines(episodes_path)) if episodes_path.is_file() else []
    if not episodes:
        raise ValueError(f"no game has ended in {run_dir}: episodes.jsonl is missing or empty")
    return Run(
        path=run_dir,
        env_id=str(config["env_id"]),
        seed=int(config["seed"]),
        steps=np.array([row["global_step"] for row in episodes], dtype=np.float64),
        returns=np.array([row["return"] for row in episodes], dtype=np.float64),
    )


def bin_returns(run: Run, edges: Floats) -> Floats:
    """Mean return of the games that ended in each bin of agent steps; NaN where none did.

    Args:
        run: The run.
        edges: (B + 1,) ascending agent steps.

    Returns:
        (B,) means.
    """
    bins = np.clip(np.digitize(run.steps, edges) - 1, 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1)
    sums = np.bincount(bins, weights=run.returns, minlength=len(edges) - 1)
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def plot_curve(run_dirs: Sequence[Path], out_png: Path) -> None:
    """Draws return against agent steps: one panel per environment, mean and range over seeds.

    Raises:
        ValueError: A folder is not a run, has no finished game, or repeats a seed.
    """
    from matplotlib.figure import Figure
    from PIL import Image

    games = _by_game(run_dirs)
    columns = min(3, len(games))
    rows = math.ceil(len(games) / columns)
    figure: Any = Figure(figsize=(5.2 * columns, 3.6 * rows), dpi=100, layout="constrained")
    axes = np.atleast_1d(np.asarray(figure.subplots(rows, columns))).ravel()
    for axis, (env_id, runs) in zip(axes, games.items(), strict=False):
        _draw_game(axis, env_id, runs)
    for axis in axes[len(games) :]:
        axis.set_axis_off()
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    # Written beside and moved into place: a reader never sees half a picture.
    beside = out_png.with_name(f".{out_png.name}.tmp")
    Image.open(drawn).convert("RGB").quantize(PNG_COLOURS).save(beside, "png", optimize=True)
    beside.replace(out_png)


def aggregate(run_dirs: Sequence[Path]) -> list[GameResult]:
    """Final return per environment: mean over seeds with a 95 % t-interval, sorted by id.

    Raises:
        ValueError: A folder is not a run, has no finished game, or repeats a seed.
    """
    results: list[GameResult] = []
    for env_id, runs in _by_game(run_dirs).items():
        finals = np.array([run.final_return for run in runs])
        low, high = t_interval(finals)
        results.append(
            GameResult(
                env_id=env_id,
                seeds=tuple(run.seed for run in runs),
                final_returns=tuple(finals.tolist()),
                agent_steps=int(min(run.steps[-1] for run in runs)),
                mean=float(finals.mean()),
                ci_low=low,
                ci_high=high,
                published=published_bar(env_id),
            )
        )
    return results


def t_interval(values: Floats) -> tuple[float | None, float | None]:
    """95 % interval of the mean of independent values by Student's t; (None, None) for one value.

    Preferred to a bootstrap, which with three seeds can only return their own range.
    """
    count = len(values)
    if count < 2:
        return None, None
    quantile = T_QUANTILES[count - 2] if count - 1 <= len(T_QUANTILES) else 1.96
    half = quantile * float(values.std(ddof=1)) / math.sqrt(count)
    mean = float(values.mean())
    return mean - half, mean + half


def published_bar(env_id: str) -> float | None:
    """The published MinAtar return for an id such as `MinAtar/Breakout-v1`, or None."""
    family, _, game = env_id.partition("/")
    return PUBLISHED.get(game.rsplit("-", 1)[0]) if family == "MinAtar" else None


def markdown_table(results: Iterable[GameResult]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| environment | seeds | agent steps | final return | 95 % interval | per seed "
        "| published | reached |",
        "|---|---:|---:|---:|---|---|---:|---|",
    ]
    for result in results:
        interval = "-" if result.ci_low is None else f"[{result.ci_low:.2f}, {result.ci_high:.2f}]"
        bar = "-" if result.published is None else f"{result.published:g}"
        reached = "-" if result.published is None else _yes(result.mean >= result.published)
        lines.append(
            f"| {result.env_id} | {len(result.seeds)} | {result.agent_steps:,} "
            f"| {result.mean:.2f} | {interval} "
            f"| {', '.join(f'{value:.2f}' for value in result.final_returns)} "
            f"| {bar} | {reached} |"
        )
    return "\n".join(lines)


def write_markdown(
    run_dirs: Sequence[Path], out_dir: Path, *, command: str, name: str
) -> list[Path]:
    """Writes `<name>_<hardware>_<date>.md`, `.json` and `.png` into `out_dir`.

    Args:
        run_dirs: The runs to report.
        out_dir: Made if missing.
        command: The command line that produced the report, quoted in it.
        name: First part of the file names.

    Returns:
        The three paths.

    Raises:
        ValueError: A folder is not a run, has no finished game, or repeats a seed.
    """
    results = aggregate(run_dirs)
    origin = provenance(command)
    out_dir.mkdir(parents=True, exist_ok=True)
    stem = f"{name}_{hardware_slug(origin['hardware'])}_{origin['date']}"
    markdown, data, picture = (out_dir / f"{stem}.{kind}" for kind in ("md", "json", "png"))
    plot_curve(run_dirs, picture)
    payload = {**origin, "results": [asdict(result) for result in results]}
    data.write_text(json.dumps(payload, indent=1) + "\n", encoding="utf-8")
    text = [
        f"# Final returns: {name}",
        "",
        *describe(origin),
        "- runs: " + ", ".join(f"`{path}`" for path in run_dirs),
        "",
        markdown_table(results),
        "",
        f"Final return: mean unclipped return of the last {LAST_EPISODES} training games of a seed,"
        " then the mean over seeds; 95 % interval by Student's t over seeds. Steps are agent steps."
        " Published: PPO checkpoints in gymnax's README (its own JAX games, short runs).",
        "",
        f"![return against agent steps]({picture.name})",
        "",
    ]
    markdown.write_text("\n".join(text), encoding="utf-8")
    return [markdown, data, picture]


def _by_game(run_dirs: Sequence[Path]) -> dict[str, list[Run]]:
    """The runs by environment, both in order; two runs of one seed are an error."""
    if not run_dirs:
        raise ValueError("a report needs at least one run folder")
    games: defaultdict[str, dict[int, Run]] = defaultdict(dict)
    for run in map(read_run, run_dirs):
        twin = games[run.env_id].setdefault(run.seed, run)
        if twin is not run:
            raise ValueError(
                f"{twin.path} and {run.path} are both {run.env_id} with seed {run.seed}: "
                "seeds must differ"
            )
    return {env_id: [runs[seed] for seed in sorted(runs)] for env_id, runs in sorted(games.items())}


def _draw_game(axis: Any, env_id: str, runs: list[Run]) -> None:
    from matplotlib.ticker import EngFormatter

    edges: Floats = np.linspace(0.0, float(max(run.steps[-1] for run in runs)), CURVE_BINS + 1)
    centres: Floats = (edges[:-1] + edges[1:]) / 2
    # A seed has a value from its first finished game to its last; between, a bin in which no game
    # ended takes the line between its neighbours.
    curves = np.full((len(runs), CURVE_BINS), np.nan)
    for curve, run in zip(curves, runs, strict=True):
        means = bin_returns(run, edges)
        seen = np.flatnonzero(~np.isnan(means))
        span = slice(seen[0], seen[-1] + 1)
        curve[span] = np.interp(centres[span], centres[seen], means[seen])
    # Only where every seed has a value: a mean over fewer seeds would jump where one joins.
    common = ~np.isnan(curves).any(axis=0)
    seeds = f"{len(runs)} seeds: mean, and range" if len(runs) > 1 else f"seed {runs[0].seed}"
    marker = "o" if common.sum() < 2 else None
    axis.plot(centres[common], curves[:, common].mean(axis=0), label=seeds, marker=marker)
    if len(runs) > 1:
        low, high = curves[:, common].min(axis=0), curves[:, common].max(axis=0)
        axis.fill_between(centres[common], low, high, alpha=0.25, linewidth=0)
    bar = published_bar(env_id)
    if bar is not None and bar < 2.0 * axis.get_ylim()[1]:  # Else it would flatten the curve.
        axis.axhline(bar, color="grey", linestyle="--", linewidth=1, label=f"published {bar:g}")
    axis.set_title(env_id)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.set_xlabel("agent steps")
    axis.set_ylabel("return of a game")
    axis.set_xlim(0.0, edges[-1])
    axis.grid(alpha=0.3)
    axis.legend(loc="best", fontsize="small")


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines file; a last line that a killed run left unfinished is skipped."""
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n") and line.strip():
            yield json.loads(line)


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"
