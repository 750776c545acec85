"""The terminal view of a sweep: live where there is a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fastrl.dashboard import duration
from fastrl.sweep import RunState, SweepView

REFRESH_S = 0.5
"""Seconds between two drawings of the live view."""
PLAIN_S = 30.0
"""Seconds between two plain lines that say how far the sweep is."""


def make_sweep_view(stream: TextIO) -> SweepView:
    """The live view if `stream` is a terminal, plain lines otherwise."""
    return LiveView(Console(file=stream)) if stream.isatty() else PlainView(stream)


def total_progress(states: Sequence[RunState]) -> tuple[float, float]:
    """Share of all agent steps that is done, and seconds left at the speed of the running runs.

    The seconds are infinite while nothing runs.
    """
    wanted = sum(state.run.config.total_steps for state in states)
    done = sum(min(state.global_step, state.run.config.total_steps) for state in states)
    left = sum(
        max(0, state.run.config.total_steps - state.global_step)
        for state in states
        if state.status in ("waiting", "running")
    )
    return done / wanted, left / speed(states) if speed(states) else float("inf")


def speed(states: Sequence[RunState]) -> float:
    """Agent steps per second of all running runs together."""
    return sum(state.steps_per_second for state in states if state.status == "running")


def headline(states: Sequence[RunState]) -> str:
    """How far the sweep is, in one line."""
    counts = {
        status: sum(state.status == status for state in states)
        for status in ("finished", "running", "failed", "interrupted")
    }
    share, left = total_progress(states)
    told = [f"{counts['finished']} of {len(states)} runs finished"]
    told += [f"{count} {name}" for name, count in list(counts.items())[1:] if count]
    told.append(f"{share:.1%} of all steps")
    if left != float("inf"):
        told.append(f"{speed(states):,.0f} steps/s")
        told.append(f"{duration(left)} left")
    return ", ".join(told)


def opening(folder: Path, states: Sequence[RunState], jobs: int, threads: int) -> str:
    """What is about to happen."""
    finished = sum(state.status == "finished" for state in states)
    before = f", {finished} finished before" if finished else ""
    plural = "s" if threads > 1 else ""
    return (
        f"{len(states)} runs{before}, {jobs} at a time with {threads} thread{plural} each"
        f" -> {folder}"
    )


def ending(state: RunState) -> str:
    """What just happened to a run."""
    line = f"{state.status}: {state.run.name}"
    if state.status == "running":
        at = f" from step {state.global_step:,}" if state.global_step else ""
        return f"started: {state.run.name}{at}"
    if state.error is not None:
        return f"{line}: {state.error}"
    mean = "no game finished" if state.mean_return is None else f"return {state.mean_return:.2f}"
    return f"{line} at step {state.global_step:,}, {mean}"


def failures(states: Sequence[RunState]) -> list[str]:
    """One line for each run that failed; empty when none did."""
    failed = [state for state in states if state.status == "failed"]
    if not failed:
        return []
    return [f"{len(failed)} runs failed:" if len(failed) > 1 else "1 run failed:"] + [
        f"  {state.run.dir}: {state.error}" for state in failed
    ]


class PlainView:
    """A line for each run that starts or ends, and one now and then for the whole."""

    def __init__(self, stream: TextIO) -> None:
        """Writes to `stream`."""
        self._stream = stream
        self._states: Sequence[RunState] = ()
        self._shown = time.monotonic()

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def start(self, folder: Path, states: Sequence[RunState], jobs: int, threads: int) -> None:
        """Says what is to be done."""
        self._states = states
        self._print(opening(folder, states, jobs, threads))

    def changed(self, state: RunState) -> None:
        """Prints it."""
        self._print(ending(state))

    def update(self, states: Sequence[RunState]) -> None:
        """Prints a line unless the last one is recent."""
        now = time.monotonic()
        if now - self._shown >= PLAIN_S:
            self._shown = now
            self._print(headline(states))

    def message(self, text: str) -> None:
        """Prints it."""
        self._print(text)

    def close(self) -> None:
        """Prints how it ended, and what failed."""
        for line in (headline(self._states), *failures(self._states)):
            self._print(line)


class LiveView:
    """A bar for the whole, the running runs, and a table of variants by environments."""

    def __init__(self, console: Console) -> None:
        """Draws on `console`."""
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._states: Sequence[RunState] = ()
        self._title = ""
        self._shown = float("-inf")
        self._begin = time.monotonic()

    def start(self, folder: Path, states: Sequence[RunState], jobs: int, threads: int) -> None:
        """Takes over the bottom of the terminal."""
        self._states = states
        self._title = opening(folder, states, jobs, threads)
        self._live.start()
        self._live.update(self._view(), refresh=True)

    def changed(self, state: RunState) -> None:
        """Prints failures above the view; the rest is in it."""
        if state.status == "failed":
            self.message(ending(state))
        self._shown = float("-inf")

    def update(self, states: Sequence[RunState]) -> None:
        """Redraws unless the last drawing is recent."""
        self._states = states
        now = time.monotonic()
        if now - self._shown >= REFRESH_S:
            self._shown = now
            self._live.update(self._view(), refresh=True)

    def message(self, text: str) -> None:
        """Prints it above the view."""
        self._console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Gives the terminal back, and lists what failed."""
        self._live.update(self._view(), refresh=True)
        self._live.stop()
        for line in failures(self._states):
            self.message(line)

    def _view(self) -> RenderableType:
        share, _ = total_progress(self._states)
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=1.0, completed=min(share, 1.0), width=40),
            f"{duration(time.monotonic() - self._begin)} so far",
        )
        return Group(
            Text(self._title, style="bold"),
            Text(headline(self._states)),
            bar,
            *([self._running()] if any(s.status == "running" for s in self._states) else []),
            self._table(),
        )

    def _running(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), title="running", title_justify="left")
        for name in ("environment", "variant", "seed"):
            table.add_column(name, style="dim", header_style="dim")
        for name in ("steps", "done", "steps/s", "return"):
            table.add_column(name, justify="right", header_style="dim")
        for state in self._states:
            if state.status != "running":
                continue
            run = state.run
            table.add_row(
                run.env_id,
                escape(run.variant),
                str(run.seed),
                f"{state.global_step:,}",
                f"{min(1.0, state.global_step / run.config.total_steps):.0%}",
                f"{state.steps_per_second:,.0f}",
                "-" if state.mean_return is None else f"{state.mean_return:.2f}",
            )
        return table

    def _table(self) -> Table:
        """Finished runs of each cell, and the mean return of their last games."""
        envs = list(dict.fromkeys(state.run.env_id for state in self._states))
        variants = list(dict.fromkeys(state.run.variant for state in self._states))
        cells: dict[tuple[str, str], list[RunState]] = {}
        for state in self._states:
            cells.setdefault((state.run.variant, state.run.env_id), []).append(state)
        table = Table(
            box=None,
            padding=(0, 2, 0, 0),
            title="finished, mean return",
            title_justify="left",
        )
        table.add_column("variant", style="dim", header_style="dim")
        for env_id in envs:
            table.add_column(env_id.rpartition("/")[2], justify="right", header_style="dim")
        for variant in variants:
            table.add_row(escape(variant), *(_cell(cells[variant, env_id]) for env_id in envs))
        return table


def _cell(states: Sequence[RunState]) -> Text:
    finished = [state for state in states if state.status == "finished"]
    failed = sum(state.status == "failed" for state in states)
    returns = [state.mean_return for state in finished if state.mean_return is not None]
    text = Text(f"{len(finished)}/{len(states)}")
    if failed:
        text.append(f" {failed} failed", style="red")
    text.append(f"  {sum(returns) / len(returns):.2f}" if returns else "     -")
    return text
