"""The page of a comparison: one HTML file, without scripts, that needs nothing else.

Pictures are inline SVG whose colours are the page's variables, so that they follow a dark screen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from fastrl.compare import Comparison
from fastrl.compare_figures import (
    BASELINE_COLOUR,
    COLOURS,
    GRID,
    INK,
    MUTED,
    Figure,
    Mark,
    Panel,
    marks,
    panel_svg,
)
from fastrl.compare_report import (
    Table,
    conclusion,
    methods,
    result_table,
    runs_table,
    tables,
)

VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    BASELINE_COLOUR: "base",
    **{colour: f"c{index}" for index, colour in enumerate(COLOURS)},
}
"""CSS variable of each colour of the figures, see data/compare.html."""


def page(comparison: Comparison, drawn: Sequence[Figure], origin: Mapping[str, Any]) -> str:
    """The page as HTML text."""
    from fastrl.machine import describe

    look = list(marks(comparison).values())
    names = [group.name for group in comparison.groups]
    games = len(comparison.tasks)
    title = f"{' vs '.join(names) if len(names) < 4 else f'{len(names)} variants'}"
    template = Template(files("fastrl").joinpath("data/compare.html").read_text(encoding="utf-8"))
    counted = sum(fate == "counted" for _, fate, _ in comparison.runs)
    return template.substitute(
        title=escape(title),
        subtitle=escape(
            f"{counted} of {len(comparison.runs)} runs, {games} task{'s' * (games > 1)}, "
            f"baseline {comparison.baseline}; {origin['date']}"
        ),
        warnings=_warnings(comparison.warnings),
        conclusion=escape(conclusion(comparison)),
        legend=_legend(look) if any(mark.key != mark.name for mark in look) else "",
        result=_table(result_table(comparison)),
        figures="\n".join(_figure(figure) for figure in drawn),
        tables="\n".join(_table(table) for table in tables(comparison)),
        methods="\n".join(f"<p>{escape(text)}</p>" for text in methods(comparison)),
        origin="\n".join(
            f"<li>{escape(line.removeprefix('- ').replace('`', ''))}</li>"
            for line in describe(dict(origin))
        ),
        runs=_table(runs_table(comparison)),
        num_runs=len(comparison.runs),
    )


def inline_svg(text: str, *, prefix: str, alt: str) -> str:
    """A picture of matplotlib, smaller, named, scaling with its box, in the page's colours.

    Args:
        text: The SVG file.
        prefix: Goes before every id: a page has many pictures and each id once.
        alt: What the picture says.
    """
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = re.sub(
        r' id="([^"]+)"',
        lambda found: f' id="{prefix}{found[1]}"' if found[1] in used else "",
        body,
    )
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", body)
    body = re.sub(r"<[^>]+>", _short_numbers, body)
    body = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", body)
    for colour, name in VARIABLES.items():
        body = body.replace(colour, f"var(--{name})")
    box = re.search(r'viewBox="([^"]+)"', body)
    assert box is not None
    head = (
        f'<svg role="img" aria-label="{escape(alt, quote=True)}" viewBox="{box[1]}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    inside = body[body.index(">") + 1 :]
    return head + re.sub(r">\s+<", "><", inside).strip()


def _short_numbers(tag: re.Match[str]) -> str:
    """A tag with its coordinates to a tenth of a point."""
    return re.sub(
        r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), tag[0]
    )


def _figure(figure: Figure) -> str:
    panels = "\n".join(
        _panel(panel, prefix=f"{figure.name}{index}-") for index, panel in enumerate(figure.panels)
    )
    return (
        f'<section id="{figure.name}"><h2>{escape(figure.title)}</h2>\n<div class="panels">{panels}'
        f'</div>\n<p class="note">{escape(figure.caption)}</p></section>'
    )


def _panel(panel: Panel, *, prefix: str) -> str:
    svg = inline_svg(panel_svg(panel), prefix=prefix, alt=panel.alt)
    return f"<figure><figcaption>{escape(panel.title)}</figcaption>{svg}</figure>"


def _legend(look: Sequence[Mark]) -> str:
    """Which number is which group."""
    items = "".join(
        f'<li><span class="key" style="color: var(--{VARIABLES[mark.colour]})">{_stroke(mark)}'
        f"</span><b>{escape(mark.key)}</b> {escape(mark.name)}</li>"
        for mark in look
    )
    return f'<ul class="legend" aria-label="Labels of the curves">{items}</ul>'


def _stroke(mark: Mark) -> str:
    dashes = "" if mark.dashes == "-" else " ".join(f"{2 * x:g}" for x in mark.dashes[1])
    return (
        '<svg aria-hidden="true" viewBox="0 0 28 8" width="28" height="8"><path d="M0 4H28" '
        f'stroke="currentColor" stroke-width="3" stroke-dasharray="{dashes}"/></svg>'
    )


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return f'<aside class="warnings"><h2>Before reading on</h2><ul>{items}</ul></aside>'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{_cell(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<section><h2>{escape(table.title)}</h2>\n<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(table.title, quote=True)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}</section>"
    )


def _cell(text: str) -> str:
    """Intervals and counts are quieter than the number before them."""
    number, space, rest = text.partition(" [")
    if not space:
        return escape(text)
    return f"{escape(number)} <small>[{escape(rest)}</small>"
