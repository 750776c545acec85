"""Numbers over tasks and runs: interquartile mean, probability of improvement, their intervals.

The definitions are those of Agarwal et al. 2021 (arXiv:2108.13264) and of its library, rliable;
tests hold them equal to `rliable.metrics`. They are written again because rliable takes the same
number of runs of every task only, draws from numpy's global generator whatever seed it is given,
and its bootstrap (through `arch` < 8) does not import beside pandas 3.

A group's scores are a list with one array per task. Runs are its last axis: (..., n_m) where task
m has n_m runs. Every task weighs the same, however many runs it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Tasks = Sequence[Floats]

RESAMPLES = 2000
"""Bootstrap resamples of a number and of a share (rliable's default for profiles)."""
CURVE_RESAMPLES = 500
"""At each point of a curve, of which there are many."""
SEED = 0
"""Of every bootstrap: the same runs give the same interval, whatever else is compared."""
TAIL = (0.025, 0.975)
"""Quantiles of a 95 % percentile interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A number and its 95 % interval."""

    point: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Band:
    """A curve and its pointwise 95 % interval, all (P,)."""

    x: Floats
    point: Floats
    low: Floats
    high: Floats


def iqm(tasks: Tasks) -> Floats:
    """Interquartile mean over all runs of all tasks: the lowest and highest quarter are left out.

    With the same number of runs of every task this is `rliable.metrics.aggregate_iqm`, which leaves
    out floor(N / 4) of N runs at each end. Otherwise a run weighs one over its task's runs, and the
    same share of the weight is left out at each end.

    Args:
        tasks: Per task (..., n_m).

    Returns:
        (...).
    """
    values: Floats = np.concatenate(list(tasks), axis=-1)
    count = values.shape[-1]
    cut = count // 4
    if len({task.shape[-1] for task in tasks}) == 1:
        kept: Floats = np.sort(values, axis=-1)[..., cut : count - cut]
        return kept.mean(axis=-1)
    weights = np.concatenate(
        [np.full(n, 1.0 / (len(tasks) * n)) for n in (task.shape[-1] for task in tasks)]
    )
    order = np.argsort(values, axis=-1)
    ends = np.cumsum(weights[order], axis=-1)
    starts = ends - weights[order]
    low, high = cut / count, 1.0 - cut / count
    inside = np.clip(np.minimum(ends, high) - np.maximum(starts, low), 0.0, None)
    total: Floats = (inside * np.take_along_axis(values, order, axis=-1)).sum(axis=-1)
    return total / inside.sum(axis=-1)


def task_mean(tasks: Tasks) -> Floats:
    """Mean over tasks of the mean over runs: per task (..., n_m) to (...)."""
    return np.mean([task.mean(axis=-1) for task in tasks], axis=0)


def optimality_gap(tasks: Tasks) -> Floats:
    """How far scores fall short of 1 on average; scores above 1 count as 1."""
    return 1.0 - task_mean([np.minimum(task, 1.0) for task in tasks])


def probability_of_improvement(left: Tasks, right: Tasks) -> Floats:
    """Chance that a run of `left` beats a run of `right`, ties half, averaged over tasks.

    Args:
        left: Per task (..., n_m).
        right: Per task (..., k_m), the same tasks in the same order.

    Returns:
        (...).
    """
    chances: list[Floats] = []
    for ours, theirs in zip(left, right, strict=True):
        gaps = ours[..., :, None] - theirs[..., None, :]
        chances.append(((gaps > 0) + 0.5 * (gaps == 0)).mean(axis=(-2, -1)))
    return np.mean(chances, axis=0)


def resample(tasks: Tasks, *, stream: int = 0, resamples: int = RESAMPLES) -> list[Floats]:
    """Draws runs with replacement within each task (stratified), per task (..., n_m).

    Args:
        tasks: Leading axes see the same draw, so a stack of paired scores stays paired.
        stream: Two groups that are drawn independently need different streams.
        resamples: R.

    Returns:
        Per task (..., R, n_m).
    """
    rng = np.random.default_rng((SEED, stream))
    return [
        task[..., rng.integers(task.shape[-1], size=(resamples, task.shape[-1]))] for task in tasks
    ]


def estimate(point: Floats | float, resampled: Floats) -> Estimate:
    """A number with the percentile interval of its (R,) resamples."""
    low, high = np.quantile(resampled, TAIL).tolist()
    return Estimate(point=float(point), low=low, high=high)


def iqm_estimate(tasks: Tasks) -> Estimate:
    """Interquartile mean of scores, per task (n_m,)."""
    return estimate(iqm(tasks), iqm(resample(tasks)))


def iqm_band(x: Floats, curves: Tasks) -> Band:
    """Interquartile mean of curves, per task (P, n_m), at each of the P points."""
    # Point by point: all at once would hold P x CURVE_RESAMPLES x runs numbers.
    draws = [
        iqm(resample([task[at] for task in curves], resamples=CURVE_RESAMPLES))
        for at in range(len(x))
    ]
    low, high = np.quantile(draws, TAIL, axis=-1)
    return Band(x=x, point=iqm(curves), low=low, high=high)


def share_band(x: Floats, reached: Tasks) -> Band:
    """Share of runs, tasks weighing the same; per task (P, n_m) of zeros and ones."""
    low, high = np.quantile(task_mean(resample(reached)), TAIL, axis=-1)
    return Band(x=x, point=task_mean(reached), low=low, high=high)


def improvement_estimate(left: Tasks, right: Tasks) -> Estimate:
    """`probability_of_improvement`, both groups drawn independently; per task (n_m,), (k_m,)."""
    return estimate(
        probability_of_improvement(left, right),
        probability_of_improvement(resample(left), resample(right, stream=1)),
    )


def paired_difference(left: Tasks, right: Tasks) -> tuple[Estimate, Estimate]:
    """Difference of interquartile means, absolute and as a share of the right one's size.

    Args:
        left: Per task (n_m,), one score per seed.
        right: Per task (n_m,), of the same seeds in the same order: pairs are drawn together.

    Returns:
        iqm(left) - iqm(right), and that divided by abs(iqm(right)).
    """
    pairs = [np.stack([ours, theirs]) for ours, theirs in zip(left, right, strict=True)]
    return _difference(iqm(pairs), iqm(resample(pairs)))


def unpaired_difference(left: Tasks, right: Tasks) -> tuple[Estimate, Estimate]:
    """As `paired_difference` for groups without common seeds, drawn independently."""
    return _difference(
        np.array([iqm(left), iqm(right)]),
        np.array([iqm(resample(left)), iqm(resample(right, stream=1))]),
    )


def _difference(points: Floats, draws: Floats) -> tuple[Estimate, Estimate]:
    gaps, gap = draws[0] - draws[1], points[0] - points[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = estimate(gap / abs(points[1]), np.nan_to_num(gaps / np.abs(draws[1])))
    return estimate(gap, gaps), relative
