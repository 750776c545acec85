"""Aggregates against plain loops over their definitions, and against rliable."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastrl import aggregates
from fastrl.aggregates import Band, Estimate

Floats = NDArray[np.float64]


@st.composite
def scores(draw: st.DrawFn, *, num_tasks: int | None = None, equal: bool = False) -> list[Floats]:
    """Scores per task, with ties; `equal` gives every task as many runs."""
    count = draw(st.integers(1, 4)) if num_tasks is None else num_tasks
    runs = [draw(st.integers(1, 7)) for _ in range(count)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return [rng.integers(-3, 9, size=runs[0] if equal else n) / 4.0 for n in runs]


def iqm_by_definition(tasks: list[Floats]) -> float:
    """Repeats each task's runs until tasks have equally many, then trims a sorted list."""
    total = sum(len(task) for task in tasks)
    common = int(np.lcm.reduce([len(task) for task in tasks])) * total
    values = sorted(x for task in tasks for x in np.repeat(task, common // len(task)))
    cut = total // 4 * len(values) // total
    return float(np.mean(values[cut : len(values) - cut]))


@given(scores())
def test_the_interquartile_mean_drops_a_quarter_of_the_weight_at_each_end(
    tasks: list[Floats],
) -> None:
    assert float(aggregates.iqm(tasks)) == pytest.approx(iqm_by_definition(tasks), abs=1e-12)


@given(scores(equal=True))
def test_the_interquartile_mean_is_rliables(tasks: list[Floats]) -> None:
    metrics = pytest.importorskip("rliable.metrics", reason="the research extra")

    expected = metrics.aggregate_iqm(np.stack(tasks, axis=1))

    assert float(aggregates.iqm(tasks)) == pytest.approx(expected, abs=1e-12)


@given(st.data())
def test_the_probability_of_improvement_counts_pairs(data: st.DataObject) -> None:
    metrics = pytest.importorskip("rliable.metrics", reason="the research extra")
    left, right = (data.draw(scores(num_tasks=3, equal=True)) for _ in range(2))

    chance = float(aggregates.probability_of_improvement(left, right))

    wins = [
        np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(x, y)])
        for x, y in zip(left, right, strict=True)
    ]
    assert chance == pytest.approx(np.mean(wins))
    assert chance == pytest.approx(
        metrics.probability_of_improvement(np.stack(left, axis=1), np.stack(right, axis=1))
    )


def test_the_optimality_gap_is_rliables() -> None:
    metrics = pytest.importorskip("rliable.metrics", reason="the research extra")
    tasks = [np.array([0.2, 1.5, 0.9]), np.array([-0.5, 3.0, 0.0])]

    assert float(aggregates.optimality_gap(tasks)) == pytest.approx(
        metrics.aggregate_optimality_gap(np.stack(tasks, axis=1))
    )


def test_the_interval_is_the_percentile_bootstrap_within_tasks() -> None:
    """A plain loop with another generator: equal up to the noise of 2,000 draws."""
    rng = np.random.default_rng(5)
    tasks = [rng.normal(size=6), 10.0 + rng.normal(size=3)]
    draws = [
        iqm_by_definition([rng.choice(task, size=len(task)) for task in tasks]) for _ in range(2000)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))

    found = aggregates.iqm_estimate(tasks)

    # Standard error of an estimated 2.5 % quantile: about 2 % of the interval's width.
    assert found.low == pytest.approx(low, abs=0.08 * (high - low))
    assert found.high == pytest.approx(high, abs=0.08 * (high - low))
    assert found == aggregates.iqm_estimate(tasks)


def test_runs_are_never_drawn_for_another_task() -> None:
    tasks = [np.array([1.0, 2.0]), np.array([100.0, 101.0, 102.0])]

    low, high = aggregates.resample(tasks, resamples=50)

    assert low.shape == (50, 2)
    assert high.shape == (50, 3)
    assert set(np.unique(low)) == {1.0, 2.0}
    assert set(np.unique(high)) == {100.0, 101.0, 102.0}


def test_pairs_are_drawn_together() -> None:
    """A constant advantage on very different seeds has no spread; unpaired it has."""
    base = [np.array([1.0, 5.0, 9.0, 30.0]), np.array([2.0, 50.0, 8.0])]
    better = [task + 0.5 for task in base]

    difference, relative = aggregates.paired_difference(better, base)
    loose, _ = aggregates.unpaired_difference(better, base)

    assert (difference.point, difference.low, difference.high) == pytest.approx((0.5, 0.5, 0.5))
    assert relative.point == pytest.approx(0.5 / float(aggregates.iqm(base)))
    assert loose.low < 0 < loose.high


def test_equal_groups_improve_on_each_other_half_of_the_time() -> None:
    tasks = [np.array([1.0, 2.0, 3.0])]

    found = aggregates.improvement_estimate(tasks, tasks)

    assert found.point == 0.5
    assert found.low < 0.5 < found.high


def test_a_curves_band_is_the_estimate_at_each_point() -> None:
    rng = np.random.default_rng(2)
    curves = [rng.normal(size=(3, 5)), rng.normal(size=(3, 4))]

    band = aggregates.iqm_band(np.arange(3.0), curves)

    for at in range(3):
        points = [task[at] for task in curves]
        draws = aggregates.iqm(aggregates.resample(points, resamples=aggregates.CURVE_RESAMPLES))
        expected = aggregates.estimate(aggregates.iqm(points), draws)
        assert Estimate(point=band.point[at], low=band.low[at], high=band.high[at]) == expected


def test_a_share_weighs_tasks_the_same() -> None:
    reached = [np.array([[1.0], [1.0]]), np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])]

    band = aggregates.share_band(np.arange(2.0), reached)

    assert isinstance(band, Band)
    assert band.point.tolist() == [0.5, 1.0]
    assert band.low.tolist() == [0.5, 1.0]
