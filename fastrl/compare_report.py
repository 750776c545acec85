"""What a comparison says in words, tables and files.

A folder gets table.md, summary.json (every number), index.html (the page) and each figure as PNG
and SVG.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from fastrl.aggregates import CURVE_RESAMPLES, RESAMPLES, Estimate
from fastrl.compare import BINS, DIAGNOSTICS, MIN_SEEDS, Comparison, Group
from fastrl.compare_figures import figures, marks, save
from fastrl.machine import describe, provenance

DIGITS = 6
"""Significant digits in summary.json."""

Origin = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Rows of text under a header; the first column names the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """The table in Markdown, without its title."""
        lines = [self.header, ("---", *["---:"] * (len(self.header) - 1)), *self.rows]
        text = "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )
        return f"{text}\n\n{self.note}" if self.note else text


def write(comparison: Comparison, folder: Path, *, command: str) -> list[Path]:
    """Writes the files of a comparison.

    Args:
        comparison: Of `fastrl.compare.compare`.
        folder: Made if missing; files of an earlier comparison in it are replaced.
        command: The command line, quoted in the files.

    Returns:
        The paths, the page first.
    """
    from fastrl.compare_page import page

    origin = provenance(command)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = figures(comparison)
    texts = {
        "index.html": page(comparison, drawn, origin),
        "table.md": markdown(comparison, [figure.name for figure in drawn], origin),
        "summary.json": json.dumps(summary(comparison, origin), indent=1, allow_nan=False) + "\n",
    }
    written = [folder / name for name in texts]
    for path, text in zip(written, texts.values(), strict=True):
        path.write_text(text, encoding="utf-8")
    look = list(marks(comparison).values())
    return written + [path for figure in drawn for path in save(figure, folder, look)]


def conclusion(comparison: Comparison) -> str:
    """The outcome in one or two sentences, no stronger than the intervals."""
    base = comparison.groups[0]
    if len(comparison.groups) == 1:
        return f"{base.name}: area {words(base.area)}, final score {words(base.final)}."
    found = {group.name: verdict(group, comparison) for group in comparison.groups[1:]}
    if set(found.values()) == {"too few"}:
        return f"Fewer than {MIN_SEEDS} seeds: too few to judge any group against {base.name}."
    sentences: list[str] = []
    for kind, one, several in (
        ("better", "is better than", "are better than"),
        ("worse", "is worse than", "are worse than"),
        ("open", "cannot be told apart from", "cannot be told apart from"),
        ("too few", "has too few seeds to judge against", "have too few seeds to judge against"),
    ):
        names = [name for name, what in found.items() if what == kind]
        if names:
            listed = " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
            sentences.append(f"{listed} {several if names[1:] else one} {base.name}")
    caution = (
        f" {len(found)} groups were held against one baseline, without a correction for that."
        if len(found) > 1
        else ""
    )
    return f"By area under the learning curve, {'; '.join(sentences)}.{caution}"


def verdict(group: Group, comparison: Comparison) -> str:
    """How a group stands to the baseline by the interval of the difference of areas.

    Returns:
        baseline, too few (seeds), better, worse, or open.
    """
    if group.difference is None:
        return "baseline"
    cells = [*group.cells.values(), *comparison.groups[0].cells.values()]
    if min(len(cell.seeds) for cell in cells) < MIN_SEEDS:
        return "too few"
    if group.difference.low > 0:
        return "better"
    return "worse" if group.difference.high < 0 else "open"


def result_table(comparison: Comparison) -> Table:
    """One row per group: scores, and how it stands to the baseline."""
    rows: list[tuple[str, ...]] = []
    for group in comparison.groups:
        seeds = sorted({len(cell.seeds) for cell in group.cells.values()})
        against = ("-", "-", "-")
        if group.difference and group.relative and group.improvement:
            against = (
                words(group.difference, "+.3f"),
                words(group.relative, "+.1%"),
                words(group.improvement, ".2f"),
            )
        rows.append(
            (
                group.name,
                "-".join(str(n) for n in sorted({seeds[0], seeds[-1]})),
                words(group.area),
                words(group.final),
                *against,
            )
        )
    shown = 7 if len(comparison.groups) > 1 else 4
    return Table(
        title="Result",
        header=(
            "group",
            "seeds",
            "area under the curve (primary)",
            "final score",
            f"area minus {comparison.baseline}",
            "in % of it",
            "P(improvement)",
        )[:shown],
        rows=tuple(row[:shown] for row in rows),
        note="Interquartile means over runs and tasks of normalised scores; in brackets 95 % "
        f"stratified bootstrap intervals ({RESAMPLES:,} resamples).",
    )


def tables(comparison: Comparison) -> list[Table]:
    """The other tables: per task, time to the threshold, scales, diagnostics, runs."""
    tasks = comparison.tasks
    groups = comparison.groups
    header = ("group", *(_short(env_id) for env_id in tasks))
    found = [
        Table(
            title="Final return of each task",
            header=header,
            rows=tuple(
                (g.name, *(words(g.cells[t].final_return, ".4g") for t in tasks)) for g in groups
            ),
            note="Undiscounted and unclipped: mean of the last tenth of the run, interquartile "
            "mean over seeds.",
        ),
        Table(
            title="Area of each task",
            header=header,
            rows=tuple((g.name, *(words(g.cells[t].area) for t in tasks)) for g in groups),
            note="Normalised, interquartile mean over seeds.",
        ),
        Table(
            title="Time to the threshold",
            header=header,
            rows=tuple((g.name, *(_time_words(g, t) for t in tasks)) for g in groups),
            note="Agent steps and seconds of training until the curve first reaches "
            f"{comparison.threshold:.0%} of the way from the task's zero to the final return of "
            f"{comparison.baseline}: median over seeds, and how many got there. Steps are exact "
            f"to 1/{BINS} of the budget.",
        ),
        Table(
            title="Speed",
            header=header,
            rows=tuple(
                (g.name, *(f"{g.cells[t].steps_per_second:,.0f}" for t in tasks)) for g in groups
            ),
            note="Agent steps per second of training, median over seeds.",
        ),
        Table(
            title="Scales",
            header=("task", "agent steps", "return of score 0", "of score 1", "threshold", "from"),
            rows=tuple(
                (
                    _short(env_id),
                    f"{task.budget:,}",
                    f"{task.zero:.4g}",
                    f"{task.one:.4g}",
                    "-" if task.threshold is None else f"{task.threshold:.4g}",
                    task.scale,
                )
                for env_id, task in tasks.items()
            ),
            note="Normalised score = (return - return of 0) / (return of 1 - return of 0).",
        ),
    ]
    shown = [key for key in DIAGNOSTICS if any(key in group.diagnostics for group in groups)]
    if shown:
        found.append(
            Table(
                title="Diagnostics",
                header=("group", *shown),
                rows=tuple(
                    (g.name, *(_number(g.diagnostics.get(key)) for key in shown)) for g in groups
                ),
                note="Mean over runs of the last tenth of the updates.",
            )
        )
    return found


def runs_table(comparison: Comparison) -> Table:
    """Every run that was found, and what became of it."""
    return Table(
        title="Runs",
        header=("folder", "group", "environment", "seed", "agent steps", "counted"),
        rows=tuple(
            (str(run.path), name, run.env_id, str(run.seed), f"{run.reached:,}", fate)
            for name, fate, run in comparison.runs
        ),
    )


def methods(comparison: Comparison) -> list[str]:
    """How the numbers were made, a paragraph each."""
    checked = (
        f"rliable {comparison.checked_with} gives the same interquartile means of area and "
        "probabilities of improvement."
        if comparison.checked_with
        else "rliable is not installed, so nothing was checked against it "
        "(pip install fastrl[research])."
    )
    return [
        "Returns are undiscounted and unclipped, of full games of training, never a learned "
        f"return. A curve averages the games that ended in each of {BINS} equal bins of agent "
        "steps up to the budget; a bin in which none ended takes the line between its neighbours, "
        "and before the first and after the last game the nearest value.",
        "Area: mean of the normalised curve. Final: mean of its last tenth. A group's number is "
        "the interquartile mean over its runs in all tasks; tasks weigh the same.",
        f"Intervals: 95 % percentile bootstrap, {RESAMPLES:,} resamples of the runs within each "
        f"task ({CURVE_RESAMPLES:,} at each point of a curve), fixed seed. With few seeds such "
        "intervals are too narrow.",
        "Differences draw the seeds that both groups have together; the probability of "
        "improvement draws the groups apart.",
        f"Definitions of Agarwal et al. 2021 (arXiv:2108.13264). {checked}",
    ]


def markdown(comparison: Comparison, figure_names: Sequence[str], origin: Origin) -> str:
    """table.md."""
    lines = ["# Comparison", ""]
    if comparison.warnings:
        lines += ["**Before reading on:**", ""]
        lines += [f"- {warning}" for warning in comparison.warnings] + [""]
    lines += [conclusion(comparison), "", result_table(comparison).markdown(), ""]
    for table in tables(comparison):
        lines += [f"## {table.title}", "", table.markdown(), ""]
    lines += ["## Figures", ""]
    for name in figure_names:
        lines += [f"![{name}]({name}.png)", ""]
    lines += ["## How", "", *(f"- {text}" for text in methods(comparison)), ""]
    lines += [*describe(dict(origin)), ""]
    lines += ["## Runs", "", runs_table(comparison).markdown(), ""]
    return "\n".join(lines)


def summary(comparison: Comparison, origin: Origin) -> dict[str, Any]:
    """Every number, as JSON can hold it."""
    parts = {
        field.name: _json_value(getattr(comparison, field.name))
        for field in fields(comparison)
        if field.name != "runs"
    }
    return {
        **origin,
        "conclusion": conclusion(comparison),
        **parts,
        "runs": [
            {
                "path": str(run.path),
                "group": name,
                "env_id": run.env_id,
                "seed": run.seed,
                "status": run.status,
                "error": run.error,
                "machine": run.machine,
                "agent_steps": run.reached,
                "total_steps": run.total_steps,
                "num_episodes": len(run.steps),
                "counted": fate,
            }
            for name, fate, run in comparison.runs
        ],
    }


def _json_value(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _json_value(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        items = cast(Mapping[str, Any], value).items()
        return {key: _json_value(inside) for key, inside in items}
    if isinstance(value, np.ndarray):
        return [_json_value(inside) for inside in cast(list[Any], value.tolist())]
    if isinstance(value, tuple | list):
        return [_json_value(inside) for inside in cast(Sequence[Any], value)]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def words(found: Estimate, form: str = ".3f") -> str:
    """`0.61 [0.55, 0.66]`."""
    return f"{found.point:{form}} [{found.low:{form}}, {found.high:{form}}]"


def _time_words(group: Group, env_id: str) -> str:
    cell = group.cells[env_id]
    reached = f"{cell.num_reached}/{len(cell.seeds)}"
    if cell.threshold_steps is None or cell.threshold_seconds is None:
        return f"- ({reached})"
    return f"{_steps_words(cell.threshold_steps)}, {cell.threshold_seconds:,.0f} s ({reached})"


def _steps_words(steps: float) -> str:
    unit, name = next((pair for pair in ((1e6, "M"), (1e3, "k")) if steps >= pair[0]), (1.0, ""))
    return f"{steps / unit:.3g}{name}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _short(env_id: str) -> str:
    """`Breakout` of `MinAtar/Breakout-v1`."""
    return env_id.rpartition("/")[2].rpartition("-v")[0] or env_id
