"""Groups of runs against each other: which learns more, how sure that is, and what it cost.

    fastrl compare runs/sweep --baseline ppo --out benchmarks/results/learned_discount

Reads run folders only: config.json, metrics.jsonl, episodes.jsonl, summary.json. Every score is the
undiscounted, unclipped return of full games, never a learned return.

- *Curve*: games are averaged over `BINS` equal bins of agent steps from 0 to the budget. A bin in
  which no game ended takes the line between its neighbours, or the nearest end's value.
- *Normalised score*: (return - zero) / (one - zero), per task. Atari: random play and a human
  tester; MinAtar: random play and this project's PPO; otherwise the lowest and highest point of the
  curves that are compared.
- *Area* (the primary metric): mean over the bins of the normalised curve. *Final*: mean over the
  last tenth of them.
- A group's number is the interquartile mean over its runs in all tasks; intervals are 95 %
  percentile bootstraps within tasks (`fastrl.aggregates`).
- *Budget* of a task: the fewest `total_steps` of its runs. Runs that have not got there are left
  out, and said to be.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from fastrl.aggregates import (
    Band,
    Estimate,
    Floats,
    improvement_estimate,
    iqm,
    iqm_band,
    iqm_estimate,
    optimality_gap,
    paired_difference,
    probability_of_improvement,
    share_band,
    unpaired_difference,
)
from fastrl.runs import Run, by_env, differing_fields, find_runs, group_names, plain, read_run
from fastrl.scores import score_range

BINS = 100
"""Points of a curve."""
FINAL_BINS = BINS // 10
"""The last tenth of a run."""
PROFILE_POINTS = 61
MAX_PROFILE = 3.0
"""Profiles run from 0 to the best final score, at least to 1 and at most to this."""
MIN_SEEDS = 3
"""With fewer, an interval over seeds means nothing."""
UNEVEN_SPEED = 1.5
"""Runs of one group and task whose speeds differ by more than this were not timed alike."""
BASELINES = ("ppo", "gae")
"""Groups that are the baseline when none is named, the first that exists."""

LEARNED = ("gamma", "lambda", "horizon")
"""Quantities of metrics.jsonl that come with _mean, _q05, _q50 and _q95."""
QUANTILES = ("mean", "q05", "q50", "q95")
CALIBRATION = ("z2_by_decile", "log_variance_by_time_left")
"""Lists of metrics.jsonl."""
DIAGNOSTICS = (
    "sps",
    "explained_variance",
    "approx_kl",
    "advantage_var",
    "contraction",
    "effective_horizon",
    "gamma_mean",
    "gamma_clipped",
    "lambda_mean",
    "lambda_clipped",
    "log_variance_mean",
    "sigma_corr",
    "sigma_base2",
    "centre",
    "skill",
    "nonfinite",
)
"""Numbers of metrics.jsonl that are averaged over the last tenth of the updates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """An environment, and the scale on which its returns are counted."""

    env_id: str
    budget: int
    """Agent steps that are compared."""
    seconds: float
    """Of the slowest run, to the budget."""
    zero: float
    """The return that counts as 0."""
    one: float
    """The return that counts as 1."""
    scale: str
    """Where zero and one come from."""
    threshold: float | None
    """The return whose first crossing is timed."""

    def normalized(self, returns: Floats) -> Floats:
        """Returns on the task's scale; all zero when no run differs from another."""
        span = self.one - self.zero
        return (returns - self.zero) / span if span else np.zeros_like(returns)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One group in one task."""

    seeds: tuple[int, ...]
    areas: tuple[float, ...]
    """Normalised, one per seed."""
    finals: tuple[float, ...]
    """Normalised, one per seed."""
    area: Estimate
    final: Estimate
    final_return: Estimate
    """On the game's own scale."""
    by_steps: Band
    """Return against agent steps."""
    by_seconds: Band
    """Return against seconds of training; a run that has ended keeps its last value."""
    threshold_steps: float | None
    """Median over seeds; None when half of them or more never get there."""
    threshold_seconds: float | None
    num_reached: int
    """Seeds that crossed the threshold."""
    steps_per_second: float
    """Median over seeds."""
    learned: Mapping[str, Mapping[str, Floats]]
    """gamma, lambda, horizon: mean, q05, q50, q95 over the run, mean over seeds; x in steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """All runs of one variant."""

    name: str
    area: Estimate
    final: Estimate
    optimality_gap: float
    """Of the final score."""
    cells: Mapping[str, Cell]
    by_steps: Band
    """Normalised; x in agent steps, or in shares of the budget where tasks' budgets differ."""
    by_seconds: Band
    profile: Band
    """Share of runs whose final score exceeds x."""
    threshold_by_steps: Band
    """Share of runs that have crossed their task's threshold."""
    threshold_by_seconds: Band
    difference: Estimate | None
    """Area minus the baseline's, on common seeds; None for the baseline itself."""
    relative: Estimate | None
    """The same as a share of the baseline's area."""
    num_pairs: int
    """Seeds in common with the baseline, all tasks together; 0: drawn independently."""
    improvement: Estimate | None
    """Chance that a run's area exceeds that of a run of the baseline."""
    calibration: Mapping[str, Floats]
    """The lists of `CALIBRATION`, mean over runs and the last tenth."""
    diagnostics: Mapping[str, float]
    """The numbers of `DIAGNOSTICS`, likewise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Everything that table, page and figures show."""

    groups: tuple[Group, ...]
    """The baseline first, then by area, best first."""
    tasks: Mapping[str, Task]
    baseline: str
    threshold: float
    warnings: tuple[str, ...]
    shares_of_budget: bool
    """Whether x of `Group.by_steps` is a share."""
    runs: tuple[tuple[str, str, Run], ...]
    """Group, what became of it (counted, or why not), run."""
    checked_with: str | None
    """The rliable version whose numbers agreed, or None when it is not installed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Curve:
    """A run on the grids of its task."""

    seed: int
    by_steps: Floats
    by_seconds: Floats
    area: float
    final: float
    crossing: tuple[float, float] | None = None
    """Steps and seconds at the threshold."""


def compare(
    paths: Sequence[str | Path],
    *,
    by: Sequence[str] = (),
    baseline: str | None = None,
    budget: int | None = None,
    threshold: float = 0.8,
) -> Comparison:
    """Compares groups of runs.

    Args:
        paths: Run folders, folders of them (sweeps), or glob patterns.
        by: Config fields that make the groups; empty takes the sweep's variant names or, where
            there are none, the fields that differ.
        baseline: Group that the others are held against; None takes `ppo`, `gae`, or the first.
        budget: Agent steps to compare at; None takes the fewest `total_steps` of each task.
        threshold: The return that is timed lies this share of the way from a task's zero to the
            baseline's final return.

    Raises:
        ValueError: Nothing to compare, an unknown field or group, or unreadable files.
    """
    if not threshold > 0.0:
        raise ValueError(f"threshold must be > 0, got {threshold}")
    if budget is not None and budget < 1:
        raise ValueError(f"budget must be >= 1 agent step, got {budget}")
    runs = [read_run(path, facts) for path, facts in find_runs(paths).items()]
    names = group_names(runs, by)
    warnings = list(_config_warnings(runs, names))
    counted, fates, budgets, said = _select(runs, names, budget)
    warnings += said
    groups_of: defaultdict[str, defaultdict[str, list[Run]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for run, name in counted:
        groups_of[name][run.env_id].append(run)
    common = sorted(
        env_id for env_id in budgets if all(env_id in group for group in groups_of.values())
    )
    if not common:
        raise ValueError(
            "no environment was played to its budget by every group: "
            + "; ".join(f"{name}: {', '.join(group)}" for name, group in groups_of.items())
        )
    chosen = _baseline(sorted(groups_of), baseline)
    warnings += _seed_warnings(groups_of, common, sorted(budgets))
    tasks: dict[str, Task] = {}
    curves: dict[str, dict[str, list[_Curve]]] = {name: {} for name in groups_of}
    for env_id in common:
        cells = {name: group[env_id] for name, group in groups_of.items()}
        task, drawn = _curves(env_id, budgets[env_id], cells, chosen, threshold)
        tasks[env_id] = task
        for name, curve in drawn.items():
            curves[name][env_id] = curve
    warnings += _speed_warnings(groups_of)
    flat = [env_id for env_id, task in tasks.items() if task.one == task.zero]
    warnings += [f"{env_id}: every run has the same return, so all scores are 0" for env_id in flat]
    groups = [_group(name, groups_of[name], curves, tasks, chosen) for name in sorted(groups_of)]
    groups.sort(key=lambda group: (group.name != chosen, -group.area.point))
    return Comparison(
        groups=tuple(groups),
        tasks=tasks,
        baseline=chosen,
        threshold=threshold,
        warnings=tuple(warnings),
        shares_of_budget=len({task.budget for task in tasks.values()}) > 1,
        runs=tuple((name, fates[run.path], run) for run, name in zip(runs, names, strict=True)),
        checked_with=_check_with_rliable(curves, chosen),
    )


def _config_warnings(runs: Sequence[Run], names: Sequence[str]) -> Iterator[str]:
    """Runs that share a group but not their options, and groups that share the machine."""
    cells: defaultdict[tuple[str, str], list[Run]] = defaultdict(list)
    for run, name in zip(runs, names, strict=True):
        cells[name, run.env_id].append(run)
    mixed: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for (name, env_id), members in cells.items():
        differing = tuple(sorted(differing_fields(members)))
        if differing:
            mixed[differing].append(f"{name} in {env_id}")
    for differing, where in mixed.items():
        yield f"runs of one group differ in {', '.join(differing)}: {_some(where)}"
    for key in ("device", "torch_threads", "env_threads"):
        values = sorted({plain(run.config.get(key)) for run in runs if run.started})
        if len(values) > 1:
            yield f"runs differ in {key} ({', '.join(values)}): seconds are not comparable"
    machines = sorted({run.machine for run in runs if run.machine})
    if len(machines) > 1:
        yield f"different machines ({'; '.join(machines)}): seconds are not comparable"


def _select(
    runs: Sequence[Run], names: Sequence[str], asked: int | None
) -> tuple[list[tuple[Run, str]], dict[Path, str], dict[str, int], list[str]]:
    """The runs that count, what became of each, every task's budget, and what is to be said."""
    budgets = {
        env_id: asked or min((run.total_steps for run in same if run.started), default=1)
        for env_id, same in by_env(runs).items()
    }
    fates: dict[Path, str] = {}
    kept: dict[tuple[str, str, int], Run] = {}
    owner: dict[Path, str] = {}
    said: list[str] = []
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    for run, name in zip(runs, names, strict=True):
        where = f"{name}, {run.env_id}, seed {run.seed}"
        if not len(run.steps) or run.steps[0] > budgets[run.env_id]:
            fates[run.path] = f"left out: {run.status}, no game ended within the budget"
        elif run.reached < budgets[run.env_id]:
            fates[run.path] = (
                f"left out: {run.status} at {run.reached:,} of {budgets[run.env_id]:,} steps"
            )
        else:
            key = name, run.env_id, run.seed
            twin = kept.get(key)
            if twin is None:
                kept[key] = run
                owner[run.path] = name
                fates[run.path] = "counted"
            else:
                fates[run.path] = f"left out: duplicate of {twin.path}"
                said.append(f"duplicate seed ({where}): {run.path} left out, {twin.path} counted")
            continue
        left_out[run.status].append(f"{where} ({run.reached:,} steps)")
    for status, where in sorted(left_out.items()):
        said.append(
            f"{len(where)} {status} run{'s' * (len(where) > 1)} left out, which flatters a group "
            f"that fails: {_some(where)}"
        )
    for env_id, same in by_env(runs).items():
        totals = sorted({run.total_steps for run in same if run.started})
        if len(totals) > 1 or (asked and totals not in ([], [asked])):
            said.append(
                f"{env_id}: runs were asked for {', '.join(f'{n:,}' for n in totals)} steps; all "
                f"are compared at {budgets[env_id]:,}, in the middle of a longer run's schedule"
            )
    if not kept:
        steps = max((run.reached for run in runs), default=0)
        raise ValueError(
            f"none of the {len(runs)} runs has reached its budget: compare earlier with --budget "
            f"(the furthest is at {steps:,} steps), or wait"
        )
    return [(run, owner[run.path]) for run in kept.values()], fates, budgets, said


def _seed_warnings(
    groups: Mapping[str, Mapping[str, list[Run]]], common: Sequence[str], tasks: Sequence[str]
) -> Iterator[str]:
    dropped = [env_id for env_id in tasks if env_id not in common]
    if dropped:
        yield f"not played by every group, so not compared: {', '.join(dropped)}"
    seeds = {
        (name, env_id): tuple(sorted(run.seed for run in group[env_id]))
        for name, group in groups.items()
        for env_id in common
    }
    few = {cell: len(found) for cell, found in seeds.items() if len(found) < MIN_SEEDS}
    if few:
        cells = [f"{name} in {env_id} ({count})" for (name, env_id), count in few.items()]
        where = "every group and task" if len(few) == len(seeds) else _some(cells)
        yield f"fewer than {MIN_SEEDS} seeds, intervals over seeds are meaningless: {where}"
    usual, _ = Counter(seeds.values()).most_common(1)[0]
    other = [
        f"{name} in {env_id} ({', '.join(map(str, found))})"
        for (name, env_id), found in seeds.items()
        if found != usual
    ]
    if other:
        yield (
            f"unequal seeds: most have {', '.join(map(str, usual))}, but {_some(other)}; "
            "every task weighs the same, differences use common seeds only"
        )


def _speed_warnings(groups: Mapping[str, Mapping[str, list[Run]]]) -> Iterator[str]:
    """Seeds of one group that ran at different speeds were not timed alike."""
    uneven: list[str] = []
    for name, group in groups.items():
        for env_id, runs in group.items():
            speeds = [_speed(run) for run in runs]
            if max(speeds) > UNEVEN_SPEED * min(speeds):
                uneven.append(f"{name} in {env_id} ({max(speeds) / min(speeds):.1f}x)")
    if uneven:
        yield (
            "seeds of one group ran at different speeds, so another load or machine is in the "
            f"seconds: {_some(uneven)}"
        )


def _speed(run: Run) -> float:
    """Agent steps per second of the whole run."""
    return float(run.steps[-1] / max(run.seconds[-1], 1e-9))


def _some(items: Sequence[str], shown: int = 6) -> str:
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return "; ".join(items[:shown]) + more


def _baseline(names: Sequence[str], asked: str | None) -> str:
    if asked is None:
        return next((name for name in BASELINES if name in names), names[0])
    if asked not in names:
        raise ValueError(f"there is no group {asked!r} with counted runs: {', '.join(names)}")
    return asked


def bin_means(at: Floats, values: Floats, end: float) -> Floats:
    """Mean of `values` in each of `BINS` equal bins of `at` from 0 to `end`.

    A bin without values takes the line between its neighbours; before the first and after the last
    value, theirs.

    Args:
        at: (E,) places, none beyond `end`.
        values: (E,).
        end: Right end of the last bin.

    Returns:
        (BINS,).
    """
    bins = np.clip((at / end * BINS).astype(np.int64), 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = np.bincount(bins, weights=values, minlength=BINS)
    seen = np.flatnonzero(counts)
    return np.interp(np.arange(BINS), seen, sums[seen] / counts[seen])


def _curves(
    env_id: str, budget: int, cells: Mapping[str, list[Run]], baseline: str, share: float
) -> tuple[Task, dict[str, list[_Curve]]]:
    """Every run of a task on common grids."""
    seconds = max(_seconds_at(run, budget) for runs in cells.values() for run in runs)
    raw: dict[str, list[tuple[Run, Floats, Floats]]] = {}
    for name, runs in cells.items():
        raw[name] = []
        for run in sorted(runs, key=lambda run: run.seed):
            inside = run.steps <= budget
            returns = run.returns[inside]
            raw[name].append(
                (
                    run,
                    bin_means(run.steps[inside], returns, budget),
                    bin_means(run.seconds[inside], returns, seconds),
                )
            )
    drawn = np.stack([curve for group in raw.values() for _, curve, _ in group])
    zero, one, scale = _scale(env_id, drawn)
    finals = [float(curve[-FINAL_BINS:].mean()) for _, curve, _ in raw[baseline]]
    level = zero + share * (float(np.mean(finals)) - zero)
    task = Task(
        env_id=env_id,
        budget=budget,
        seconds=seconds,
        zero=zero,
        one=one,
        scale=scale,
        threshold=level if np.mean(finals) > zero else None,
    )
    curves: dict[str, list[_Curve]] = {}
    for name, group in raw.items():
        curves[name] = [
            _Curve(
                seed=run.seed,
                by_steps=by_steps,
                by_seconds=by_seconds,
                area=float(task.normalized(by_steps).mean()),
                final=float(task.normalized(by_steps)[-FINAL_BINS:].mean()),
                crossing=_crossing(run, by_steps, task),
            )
            for run, by_steps, by_seconds in group
        ]
    return task, curves


def _scale(env_id: str, curves: Floats) -> tuple[float, float, str]:
    try:
        zero, one = score_range(env_id)
    except ValueError:
        return float(curves.min()), float(curves.max()), "lowest and highest point of these curves"
    family = env_id.partition("/")[0]
    return zero, one, SCALES.get(family, "worst and best possible return")


SCALES = {
    "ALE": "random play and human tester (dqn_zoo's atari_data.py)",
    "MinAtar": "random play and this project's PPO after 5M steps (fastrl/scores.py)",
}


def _seconds_at(run: Run, step: float) -> float:
    """Seconds of training after `step` agent steps."""
    steps, seconds = run.metrics["global_step"], run.metrics["wall_s"]
    if len(steps) and np.isfinite(seconds).all():
        return float(np.interp(step, np.append(0.0, steps), np.append(0.0, seconds)))
    return float(np.interp(step, np.append(0.0, run.steps), np.append(0.0, run.seconds)))


def _crossing(run: Run, by_steps: Floats, task: Task) -> tuple[float, float] | None:
    """Steps and seconds at the end of the first bin that is above the threshold."""
    if task.threshold is None or by_steps.max() < task.threshold:
        return None
    above = np.flatnonzero(by_steps >= task.threshold)
    step = float((above[0] + 1) * task.budget / BINS)
    return step, _seconds_at(run, step)


def _group(
    name: str,
    runs: Mapping[str, list[Run]],
    curves: Mapping[str, Mapping[str, list[_Curve]]],
    tasks: Mapping[str, Task],
    baseline: str,
) -> Group:
    ours = curves[name]
    areas = _scores(ours, "area")
    finals = _scores(ours, "final")
    normal = [
        [
            task.normalized(np.stack([getattr(curve, axis) for curve in ours[env_id]], axis=-1))
            for env_id, task in tasks.items()
        ]
        for axis in ("by_steps", "by_seconds")
    ]
    shares = len({task.budget for task in tasks.values()}) > 1
    steps_end = 1.0 if shares else float(next(iter(tasks.values())).budget)
    seconds_end = max(task.seconds for task in tasks.values())
    highest = max(curve.final for group in curves.values() for c in group.values() for curve in c)
    taus: Floats = np.linspace(0.0, min(max(1.0, highest), MAX_PROFILE), PROFILE_POINTS)
    difference, relative, num_pairs, improvement = None, None, 0, None
    if name != baseline:
        theirs = curves[baseline]
        improvement = improvement_estimate(areas, _scores(theirs, "area"))
        difference, relative, num_pairs = _difference(ours, theirs)
    counted = [run for env_id in tasks for run in runs[env_id]]
    return Group(
        name=name,
        area=iqm_estimate(areas),
        final=iqm_estimate(finals),
        optimality_gap=float(optimality_gap(finals)),
        cells={env_id: _cell(ours[env_id], runs[env_id], task) for env_id, task in tasks.items()},
        by_steps=iqm_band(_centres(steps_end), normal[0]),
        by_seconds=iqm_band(
            _centres(seconds_end),
            [
                _stretched(task, curve, seconds_end)
                for task, curve in zip(tasks.values(), normal[1], strict=True)
            ],
        ),
        profile=share_band(taus, [(final > taus[:, None]).astype(float) for final in finals]),
        threshold_by_steps=_reached_band(ours, tasks, seconds=False, end=steps_end),
        threshold_by_seconds=_reached_band(ours, tasks, seconds=True, end=seconds_end),
        difference=difference,
        relative=relative,
        num_pairs=num_pairs,
        improvement=improvement,
        calibration=_calibration(counted, tasks),
        diagnostics=_diagnostics(counted, tasks),
    )


def _scores(cells: Mapping[str, list[_Curve]], kind: str) -> list[Floats]:
    """Per task (n_m,)."""
    return [np.array([getattr(curve, kind) for curve in cell]) for cell in cells.values()]


def _centres(end: float) -> Floats:
    return (np.arange(BINS) + 0.5) * end / BINS


def _stretched(task: Task, curves: Floats, end: float) -> Floats:
    """Curves (BINS, n) of a task's seconds on a grid of as many or more; then the last value."""
    grid, own = _centres(end), _centres(task.seconds)
    stretched: list[Floats] = [np.interp(grid, own, curve) for curve in curves.T]
    return np.stack(stretched, axis=-1)


def _difference(
    ours: Mapping[str, list[_Curve]], theirs: Mapping[str, list[_Curve]]
) -> tuple[Estimate, Estimate, int]:
    """Of areas, on common seeds where every task has some."""
    left: list[Floats] = []
    right: list[Floats] = []
    for env_id, cell in ours.items():
        mine, other = ({c.seed: c.area for c in x} for x in (cell, theirs[env_id]))
        common = sorted(set(mine) & set(other))
        left.append(np.array([mine[seed] for seed in common]))
        right.append(np.array([other[seed] for seed in common]))
    if all(map(len, left)):
        return *paired_difference(left, right), sum(map(len, left))
    return *unpaired_difference(_scores(ours, "area"), _scores(theirs, "area")), 0


def _reached_band(
    cells: Mapping[str, list[_Curve]], tasks: Mapping[str, Task], *, seconds: bool, end: float
) -> Band:
    """Share of runs that have crossed their threshold by x, from 0 to `end`.

    Steps are shares of the budget when `end` is 1.
    """
    grid = np.linspace(0.0, end, BINS + 1)
    reached: list[Floats] = []
    for env_id, cell in cells.items():
        unit = tasks[env_id].budget if not seconds and end == 1.0 else 1.0
        at = [np.inf if c.crossing is None else c.crossing[seconds] / unit for c in cell]
        reached.append((np.array(at) <= grid[:, None]).astype(np.float64))
    return share_band(grid, reached)


def _cell(curves: list[_Curve], runs: list[Run], task: Task) -> Cell:
    by_steps, by_seconds = (
        np.stack([getattr(curve, axis) for curve in curves], axis=-1)
        for axis in ("by_steps", "by_seconds")
    )
    areas, finals = (np.array([getattr(c, kind) for c in curves]) for kind in ("area", "final"))
    crossings = np.array([c.crossing or (np.inf, np.inf) for c in curves])
    steps, seconds = np.median(crossings, axis=0).tolist()
    in_time = bool(np.isfinite(steps))
    return Cell(
        seeds=tuple(curve.seed for curve in curves),
        areas=tuple(areas.tolist()),
        finals=tuple(finals.tolist()),
        area=iqm_estimate([areas]),
        final=iqm_estimate([finals]),
        final_return=iqm_estimate([by_steps[-FINAL_BINS:].mean(axis=0)]),
        by_steps=iqm_band(_centres(task.budget), [by_steps]),
        by_seconds=iqm_band(_centres(task.seconds), [by_seconds]),
        threshold_steps=steps if in_time else None,
        threshold_seconds=seconds if in_time else None,
        num_reached=int(np.isfinite(crossings[:, 0]).sum()),
        steps_per_second=float(np.median([_speed(run) for run in runs])),
        learned={q: x for q in LEARNED if (x := _learned(q, runs, task))},
    )


def _learned(quantity: str, runs: Sequence[Run], task: Task) -> dict[str, Floats]:
    """Mean and quantiles of a learned quantity over the run, mean over seeds; empty without."""
    found: dict[str, Floats] = {}
    for kind in QUANTILES:
        curves: list[Floats] = []
        for run in runs:
            values = run.metrics.get(f"{quantity}_{kind}")
            if values is None:
                continue
            steps = run.metrics["global_step"]
            inside = np.isfinite(values) & (steps <= task.budget)
            if inside.any():
                curves.append(bin_means(steps[inside], values[inside], task.budget))
        if curves:
            found[kind] = np.mean(curves, axis=0)
    return found | {"x": _centres(task.budget)} if found else {}


def _at_the_end(run: Run, task: Task) -> slice:
    """The updates of the last tenth of the budget."""
    steps = run.metrics["global_step"]
    first, last = np.searchsorted(steps, (0.9 * task.budget, task.budget), side="right")
    return slice(min(int(first), int(last) - 1), int(last))


def _calibration(runs: Sequence[Run], tasks: Mapping[str, Task]) -> dict[str, Floats]:
    found: dict[str, Floats] = {}
    for key in CALIBRATION:
        rows = [
            _mean(run.metrics[key][_at_the_end(run, tasks[run.env_id])])
            for run in runs
            if run.metrics.get(key, np.empty(0)).ndim == 2
        ]
        if rows and len({len(row) for row in rows}) == 1:
            found[key] = _mean(np.stack(rows))
    return found


def _diagnostics(runs: Sequence[Run], tasks: Mapping[str, Task]) -> dict[str, float]:
    found: dict[str, float] = {}
    for key in DIAGNOSTICS:
        rows = [
            _mean(run.metrics[key][_at_the_end(run, tasks[run.env_id])][:, None])
            for run in runs
            if run.metrics.get(key, np.empty((0, 0))).ndim == 1
        ]
        mean = _mean(np.stack(rows))[0] if rows else np.nan
        if np.isfinite(mean):
            found[key] = float(mean)
    return found


def _mean(rows: Floats) -> Floats:
    """Mean of the numbers in each column; NaN where a column has none."""
    numbers = np.isfinite(rows)
    counts = numbers.sum(axis=0)
    sums = np.where(numbers, rows, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _check_with_rliable(
    curves: Mapping[str, Mapping[str, list[_Curve]]], baseline: str
) -> str | None:
    """Recomputes the point estimates with rliable; its version, or None when it is not installed.

    Groups with different numbers of runs per task are beyond it and left out.
    """
    try:
        from importlib.metadata import version

        from rliable import metrics  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        return None
    library = cast(Any, metrics)
    matrices: dict[str, Floats] = {}
    for name, cells in curves.items():
        areas = _scores(cells, "area")
        if len({len(x) for x in areas}) == 1:
            matrices[name] = np.stack(areas, axis=1)
            assert np.isclose(library.aggregate_iqm(matrices[name]), iqm(areas))
    if baseline in matrices:
        base = matrices[baseline]
        for matrix in matrices.values():
            chance = probability_of_improvement(list(matrix.T), list(base.T))
            assert np.isclose(library.probability_of_improvement(matrix, base), chance)
    return version("rliable") if matrices else None
