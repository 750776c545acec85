"""The figures of a comparison: files for a report, and panels that fit a phone for the page.

A figure is a list of panels. In a file they stand beside each other; on the page each is a picture
of its own, which the browser lays out.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from fastrl.aggregates import Band, Estimate, Floats
from fastrl.compare import LEARNED, Comparison

INK, MUTED, GRID, PAPER = "#1b1f24", "#5a6370", "#d8dde3", "#fefefe"
BASELINE_COLOUR = "#3d444d"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0528e", "#c98500", "#3a9bd6")
"""Okabe and Ito's colour-blind-safe palette, the light ones darkened for thin lines on white."""
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
MAX_BANDS = 6
"""With more groups, intervals of curves would hide the curves."""
MAX_NAMED = 5
"""With more groups, or longer names, curves are labelled by number."""
MAX_NAME = 17
PANEL = (4.7, 3.1)
"""Inches: at 72 dots per inch as wide as a phone's screen."""
LABEL = 0.19
"""Inches between the labels of two curves."""
MAX_ROW_NAME = 24
"""Characters of a name in an interval plot."""
ROW = 0.52
"""Inches of a row of an interval plot."""
DPI = 144
PNG_COLOURS = 96
STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11.0,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "fastrl",
    "path.simplify": True,
}

Draw = Callable[[Any], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One picture: a title, and what draws it into matplotlib axes."""

    title: str
    alt: str
    draw: Draw
    height: float = PANEL[1]
    """Inches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """Panels that belong together."""

    name: str
    """Of its files."""
    title: str
    caption: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """How a group looks everywhere."""

    name: str
    key: str
    """The label of its curves: its name, or a number."""
    colour: str
    dashes: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    mark: Mark
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    steps: bool = False
    """Drawn as stairs."""


def marks(comparison: Comparison) -> dict[str, Mark]:
    """The look of each group, by name; the baseline is dark grey."""
    names = [group.name for group in comparison.groups]
    named = len(names) <= MAX_NAMED and max(map(len, names)) <= MAX_NAME
    found: dict[str, Mark] = {}
    for index, name in enumerate(names):
        others = index - 1
        found[name] = Mark(
            name=name,
            key=name if named else str(index + 1),
            colour=COLOURS[others % len(COLOURS)] if index else BASELINE_COLOUR,
            dashes=DASHES[others // len(COLOURS) % len(DASHES)] if index else "-",
        )
    return found


def figures(comparison: Comparison) -> list[Figure]:
    """Every figure for which the runs have data."""
    found = [_scores(comparison), _curves(comparison)]
    if len(comparison.groups) > 1:
        found.insert(1, _against_baseline(comparison))
    found += [
        _returns(comparison, seconds=False),
        _returns(comparison, seconds=True),
        _profile(comparison),
    ]
    if any(task.threshold is not None for task in comparison.tasks.values()):
        found.append(_efficiency(comparison))
    found += [figure for quantity in LEARNED if (figure := _learned(comparison, quantity))]
    calibration = _calibration(comparison)
    return [*found, calibration] if calibration else found


def save(figure: Figure, folder: Path, look: Sequence[Mark]) -> list[Path]:
    """Writes `<name>.png` and `<name>.svg`, the panels beside each other; returns the paths."""
    import matplotlib as mpl
    from PIL import Image

    with cast(Any, mpl).rc_context(STYLE):
        drawn = _compose(figure, look)
        png, svg = folder / f"{figure.name}.png", folder / f"{figure.name}.svg"
        buffer = io.BytesIO()
        drawn.savefig(buffer, format="png", dpi=DPI)
        drawn.set_layout_engine("none")  # Places are found; finding them again takes as long.
        Image.open(buffer).convert("RGB").quantize(PNG_COLOURS).save(png, "png", optimize=True)
        drawn.savefig(svg, format="svg", metadata={"Date": None, "Creator": "fastrl compare"})
    return [png, svg]


def panel_svg(panel: Panel) -> str:
    """One panel as SVG text with a transparent background, as matplotlib writes it."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    with cast(Any, mpl).rc_context(STYLE):
        canvas: Any = Canvas(figsize=(PANEL[0], panel.height), layout="constrained")
        axis = canvas.subplots()
        panel.draw(axis)
        text = io.StringIO()
        canvas.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()


def _compose(figure: Figure, look: Sequence[Mark]) -> Any:
    from matplotlib.figure import Figure as Canvas
    from matplotlib.lines import Line2D

    columns = min(3, len(figure.panels)) if len(figure.panels) != 4 else 2
    rows = math.ceil(len(figure.panels) / columns)
    height = max(panel.height for panel in figure.panels)
    numbered = any(mark.key != mark.name for mark in look)
    longest = max((len(f"{mark.key} {mark.name}") for mark in look), default=0)
    entry = 0.75 + 0.075 * longest  # inches: a line, the gaps and the letters
    legend_columns = max(1, min(2 * columns, int(PANEL[0] * columns / entry)))
    legend_rows = math.ceil(len(look) / legend_columns) if numbered else 0
    size = PANEL[0] * columns, height * rows + 0.25 * legend_rows + 0.1
    canvas: Any = Canvas(figsize=size, layout="constrained")
    canvas.get_layout_engine().set(w_pad=0.15, h_pad=0.08)
    axes = np.atleast_1d(np.asarray(canvas.subplots(rows, columns))).ravel()
    for axis, panel in zip(axes, figure.panels, strict=False):
        panel.draw(axis)
        axis.set_title(panel.title)
    for axis in axes[len(figure.panels) :]:
        axis.set_axis_off()
    if numbered:
        handles = [
            Line2D([], [], color=m.colour, linestyle=m.dashes, label=f"{m.key} {m.name}")
            for m in look
        ]
        canvas.legend(
            handles=handles,
            loc="outside lower center",
            ncols=legend_columns,
            frameon=False,
            fontsize=9.5,
            handlelength=2.4,
        )
    return canvas


def _scores(comparison: Comparison) -> Figure:
    look = marks(comparison)
    kinds = (("area", "Area under the curve"), ("final", "Final score"))
    return Figure(
        name="scores",
        title="Scores",
        caption="Interquartile mean over all runs and tasks of the normalised score, with 95 % "
        "stratified bootstrap intervals. The area under the learning curve is the primary metric; "
        "the final score is the mean of the last tenth of the run.",
        panels=tuple(
            _intervals(title, [(look[g.name], getattr(g, kind)) for g in comparison.groups])
            for kind, title in kinds
        ),
    )


def _against_baseline(comparison: Comparison) -> Figure:
    look = marks(comparison)
    others = comparison.groups[1:]
    name = comparison.baseline
    gaps = [(look[g.name], g.difference) for g in others if g.difference is not None]
    chances = [(look[g.name], g.improvement) for g in others if g.improvement is not None]
    return Figure(
        name="against_baseline",
        title=f"Against {name}",
        caption=f"The difference of area to {name} draws common seeds together where there are "
        "any; the probability of improvement is the chance that a run has a larger area than a run "
        f"of {name} in the same task. A whisker that crosses the line leaves the sign open.",
        panels=(
            _intervals(f"Difference of area to {name}", gaps, line=0.0, signed=True),
            _intervals(f"Probability of improvement on {name}", chances, line=0.5, span=(0, 1)),
        ),
    )


def _curves(comparison: Comparison) -> Figure:
    look = marks(comparison)
    return Figure(
        name="curves",
        title="Learning curves over all tasks",
        caption="Interquartile mean of the normalised score over all runs and tasks"
        f"{_band_words(comparison)}. Against seconds, a run that has ended keeps its last value.",
        panels=(
            _line_panel(
                "Against agent steps",
                [_banded(look[g.name], g.by_steps) for g in comparison.groups],
                partial(_step_axis, share=comparison.shares_of_budget),
                "normalised score",
            ),
            _line_panel(
                "Against training time",
                [_banded(look[g.name], g.by_seconds) for g in comparison.groups],
                _time_axis,
                "normalised score",
            ),
        ),
    )


def _returns(comparison: Comparison, *, seconds: bool) -> Figure:
    look = marks(comparison)
    panels: list[Panel] = []
    for env_id in comparison.tasks:
        cells = [(look[g.name], g.cells[env_id]) for g in comparison.groups]
        lines = [_banded(m, cell.by_seconds if seconds else cell.by_steps) for m, cell in cells]
        panels.append(_line_panel(env_id, lines, _time_axis if seconds else _step_axis, "return"))
    against = "training time" if seconds else "agent steps"
    return Figure(
        name=f"returns_by_{'seconds' if seconds else 'steps'}",
        title=f"Return against {against}",
        caption="Undiscounted, unclipped return of full games: interquartile mean over seeds"
        f"{_band_words(comparison)}.",
        panels=tuple(panels),
    )


def _profile(comparison: Comparison) -> Figure:
    look = marks(comparison)
    lines = [_banded(look[g.name], g.profile, steps=True) for g in comparison.groups]

    def axis_of(axis: Any, end: float) -> None:
        axis.set_xlim(0.0, end)
        axis.set_xlabel("final score")
        axis.set_ylim(0.0, 1.02)

    return Figure(
        name="profile",
        title="Performance profile",
        caption="Share of runs whose final normalised score exceeds the score on the horizontal "
        f"axis, tasks weighing the same{_band_words(comparison)}. Higher is better.",
        panels=(_line_panel("Share of runs above a score", lines, axis_of, "share of runs"),),
    )


def _efficiency(comparison: Comparison) -> Figure:
    look = marks(comparison)

    def share(draw: Callable[[Any, float], None]) -> Callable[[Any, float], None]:
        def axis_of(axis: Any, end: float) -> None:
            draw(axis, end)
            axis.set_ylim(0.0, 1.02)

        return axis_of

    return Figure(
        name="efficiency",
        title="Time to the threshold",
        caption=f"Share of runs that have reached {comparison.threshold:.0%} of the way from a "
        f"task's zero to the final return of {comparison.baseline}.",
        panels=(
            _line_panel(
                "Agent steps needed",
                [
                    _banded(look[g.name], g.threshold_by_steps, steps=True)
                    for g in comparison.groups
                ],
                share(partial(_step_axis, share=comparison.shares_of_budget)),
                "share of runs",
            ),
            _line_panel(
                "Training time needed",
                [
                    _banded(look[g.name], g.threshold_by_seconds, steps=True)
                    for g in comparison.groups
                ],
                share(_time_axis),
                "share of runs",
            ),
        ),
    )


def _learned(comparison: Comparison, quantity: str) -> Figure | None:
    look = marks(comparison)
    panels: list[Panel] = []
    for env_id in comparison.tasks:
        lines: list[_Line] = []
        for group in comparison.groups:
            found = group.cells[env_id].learned.get(quantity, {})
            middle = found.get("mean", found.get("q50"))
            if middle is not None:
                lines.append(
                    _Line(
                        mark=look[group.name],
                        x=found["x"],
                        y=middle,
                        low=found.get("q05"),
                        high=found.get("q95"),
                    )
                )
        if lines:
            draw_axis = _gamma_axis if quantity == "gamma" else _step_axis
            scaled = [_on_gamma_axis(line) for line in lines] if quantity == "gamma" else lines
            panels.append(_line_panel(env_id, scaled, draw_axis, quantity, numbers=lines))
    if not panels:
        return None
    scale = " The axis is logarithmic in the horizon, 1 / (1 - gamma)." * (quantity == "gamma")
    word = {"gamma": "discount", "lambda": "lambda", "horizon": "horizon (agent steps)"}[quantity]
    return Figure(
        name=f"learned_{quantity}",
        title=f"Learned {word}",
        caption="Mean over the states of a rollout, then over seeds; shaded from the 5 % to the "
        f"95 % quantile over states{_band_limit(comparison)}. Groups that log none are not shown."
        f"{scale}",
        panels=tuple(panels),
    )


def _calibration(comparison: Comparison) -> Figure | None:
    look = marks(comparison)
    panels: list[Panel] = []
    for key, title, label, draw_axis in (
        ("z2_by_decile", "Squared z-score by decile of sigma", "mean of z²", _decile_axis),
        (
            "log_variance_by_time_left",
            "Log variance by time left",
            "log relative variance",
            _time_left_axis,
        ),
    ):
        lines = [
            _Line(mark=look[g.name], x=np.arange(float(len(found))), y=found)
            for g in comparison.groups
            if (found := g.calibration.get(key)) is not None
        ]
        if lines:
            panels.append(_line_panel(title, lines, draw_axis, label))
    if not panels:
        return None
    return Figure(
        name="calibration",
        title="Calibration of sigma",
        caption="Last tenth of the run, mean over runs. z is the value's error over the predicted "
        "sigma: 1 everywhere is calibrated, above 1 is overconfident. Log variance by time left "
        "tells whether the critic is merely unsure early in an episode.",
        panels=tuple(panels),
    )


def _banded(mark: Mark, band: Band, *, steps: bool = False) -> _Line:
    return _Line(mark=mark, x=band.x, y=band.point, low=band.low, high=band.high, steps=steps)


def _band_limit(comparison: Comparison) -> str:
    return f" (not drawn for more than {MAX_BANDS} groups)" * (len(comparison.groups) > MAX_BANDS)


def _band_words(comparison: Comparison) -> str:
    if len(comparison.groups) > MAX_BANDS:
        return f"; 95 % intervals are in summary.json (more than {MAX_BANDS} groups)"
    return ", shaded: pointwise 95 % bootstrap interval"


def _line_panel(
    title: str,
    lines: Sequence[_Line],
    draw_axis: Callable[[Any, float], None],
    y_label: str,
    *,
    numbers: Sequence[_Line] | None = None,
) -> Panel:
    """Curves with their labels at the right end. `numbers`: what the alternative text quotes."""
    ends = ", ".join(f"{line.mark.name} {_last(line.y):.3g}" for line in numbers or lines)

    def draw(axis: Any) -> None:
        for line in reversed(lines):  # The baseline comes first and is drawn on top.
            style: dict[str, Any] = {"color": line.mark.colour, "linestyle": line.mark.dashes}
            if line.steps:
                style["drawstyle"] = "steps-post"
            axis.plot(line.x, line.y, **style)
            if line.low is not None and line.high is not None and len(lines) <= MAX_BANDS:
                step = "post" if line.steps else None
                axis.fill_between(
                    line.x,
                    line.low,
                    line.high,
                    color=line.mark.colour,
                    alpha=0.16,
                    linewidth=0,
                    step=step,
                )
        axis.grid(visible=True)
        axis.set_ylabel(y_label)
        draw_axis(axis, max(float(line.x[-1]) for line in lines))
        if any(line.steps for line in lines):  # Stairs that end at 0 or 1 cannot be told there.
            _add_legend(axis, lines)
        else:
            _label_ends(axis, lines)

    return Panel(
        title=title,
        alt=f"{title}: {y_label} at the end: {ends}.",
        draw=draw,
        height=max(PANEL[1], 0.8 + LABEL * len(lines)),
    )


def _add_legend(axis: Any, lines: Sequence[_Line]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=m.colour, linestyle=m.dashes, label=m.key)
        for m in (line.mark for line in lines)
    ]
    axis.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize=10.5,
        handlelength=1.3,
        handletextpad=0.5,
        labelspacing=0.3,
        borderaxespad=0.3,
    )


def _last(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else math.nan


def _label_ends(axis: Any, lines: Sequence[_Line]) -> None:
    """Names beside the right ends, moved apart where they would touch."""
    low, high = axis.get_ylim()
    room = min(0.085, 1.0 / max(len(lines) - 1, 1))
    places = [((_last(line.y) - low) / (high - low), line) for line in lines]
    places = sorted((min(max(at, 0.0), 1.0), i, line) for i, (at, line) in enumerate(places))
    moved: list[float] = []
    for at, _, _ in places:
        moved.append(at if not moved else max(at, moved[-1] + room))
    over = max(0.0, moved[-1] - max(1.0, room * (len(moved) - 1)))
    for index in reversed(range(len(moved))):
        ceiling = moved[-1] - over if index == len(moved) - 1 else moved[index + 1] - room
        moved[index] = min(moved[index], ceiling)
    for (at, _, line), to in zip(places, moved, strict=True):
        axis.plot(
            [1.0, 1.025],
            [at, to],
            color=line.mark.colour,
            linewidth=1.2,
            transform=axis.transAxes,
            clip_on=False,
        )
        axis.text(1.035, to, line.mark.key, transform=axis.transAxes, va="center", fontsize=10.5)


def _intervals(
    title: str,
    rows: Sequence[tuple[Mark, Estimate]],
    *,
    line: float | None = None,
    span: tuple[float, float] | None = None,
    signed: bool = False,
) -> Panel:
    """A dot and a whisker per group, its name and numbers above them."""
    from matplotlib.ticker import MaxNLocator

    sign = "+" if signed else ""

    def words(found: Estimate) -> str:
        return f"{found.point:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"

    def draw(axis: Any) -> None:
        for row, (mark, found) in enumerate(rows):
            style = {"color": mark.colour, "clip_on": False}
            axis.plot([found.low, found.high], [row, row], linewidth=2.6, **style)
            axis.plot(found.point, row, "o", markersize=7, **style)
            place = {"transform": axis.get_yaxis_transform(), "va": "center", "fontsize": 10.5}
            axis.text(0.0, row - 0.42, _row_name(mark), **place)
            axis.text(1.0, row - 0.42, words(found), ha="right", color=MUTED, **place)
        if line is not None:
            axis.update_datalim([(line, 0.0)])
            axis.autoscale_view()
            axis.axvline(line, color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)), zorder=0)
        if span is not None:
            axis.set_xlim(*span)
        axis.set_ylim(len(rows) - 0.6, -0.75)
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
        axis.grid(visible=True, axis="x")

    return Panel(
        title=title,
        alt=f"{title}: " + "; ".join(f"{mark.name} {words(found)}" for mark, found in rows) + ".",
        draw=draw,
        height=0.55 + ROW * max(len(rows), 2),
    )


def _row_name(mark: Mark) -> str:
    """A name that leaves room for its numbers, after its number where curves have those."""
    name = mark.name
    if len(name) > MAX_ROW_NAME:
        name = f"{name[: MAX_ROW_NAME - 1]}…"
    return name if mark.key == mark.name else f"{mark.key}  {name}"


def _step_axis(axis: Any, end: float, *, share: bool = False) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

    axis.set_xlim(0.0, end)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(PercentFormatter(1.0) if share else EngFormatter(sep=""))
    axis.set_xlabel("share of the task's agent steps" if share else "agent steps")


def _time_axis(axis: Any, end: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    units = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
    unit, word = next((unit for unit in units if end > 3 * unit[0]), units[-1])
    axis.set_xlim(0.0, end)
    ticks = MaxNLocator(5).tick_values(0.0, end / unit)
    axis.set_xticks([tick * unit for tick in ticks if tick * unit <= end])

    def words(place: float, _: int | None) -> str:
        return f"{place / unit:g}"

    axis.xaxis.set_major_formatter(FuncFormatter(words))
    axis.set_xlabel(f"{word} of training")


GAMMA_TICKS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995)


def _on_gamma_axis(line: _Line) -> _Line:
    """A discount as the logarithm of its horizon, 1 / (1 - gamma)."""

    def place(gamma: Floats | None) -> Floats | None:
        return None if gamma is None else -np.log10(np.maximum(1.0 - gamma, 1e-5))

    y = place(line.y)
    assert y is not None
    return _Line(mark=line.mark, x=line.x, y=y, low=place(line.low), high=place(line.high))


def _gamma_axis(axis: Any, end: float) -> None:
    _step_axis(axis, end)
    low, high = axis.get_ylim()
    ticks = [g for g in GAMMA_TICKS if low - 0.05 <= -math.log10(1.0 - g) <= high + 0.05]
    axis.set_yticks([-math.log10(1.0 - g) for g in ticks], [f"{g:g}" for g in ticks])
    axis.set_ylim(low, high)


def _decile_axis(axis: Any, end: float) -> None:
    axis.set_xlim(0.0, end)
    axis.set_xticks(range(int(end) + 1), [str(bin + 1) for bin in range(int(end) + 1)])
    axis.set_xlabel("decile of sigma")
    axis.axhline(1.0, color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)), zorder=0)
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.0), max(high, 1.5))


def _time_left_axis(axis: Any, end: float) -> None:
    """Bin k holds the states that have 2^k to 2^(k + 1) - 1 steps left; the last, all others."""
    last = int(end)
    axis.set_xlim(0.0, end)
    axis.set_xticks(range(last + 1), [*(str(2**bin) for bin in range(last)), f"{2**last}+"])
    axis.set_xlabel("agent steps to the end of the episode, from")
