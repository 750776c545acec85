"""The terminal view of a training run: live where there is a terminal, plain lines elsewhere."""

import time
from collections import deque
from pathlib import Path
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fastrl.config import TrainConfig
from fastrl.metrics import Observer, Progress, RunSummary

REFRESH_S = 0.25
"""Seconds between two drawings of the live view."""
PLAIN_S = 5.0
"""Seconds between two plain lines."""
SPARKS = "▁▂▃▄▅▆▇█"


def make_dashboard(stream: TextIO) -> Observer:
    """The live view if `stream` is a terminal, plain lines otherwise."""
    return LiveDashboard(Console(file=stream)) if stream.isatty() else PlainDashboard(stream)


def sparkline(values: list[float]) -> str:
    """One block character per value, lowest to highest."""
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(SPARKS[round((value - low) * scale)] for value in values)


def duration(seconds: float) -> str:
    """h:mm:ss."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def remaining(progress: Progress) -> str:
    """Time to the end of the run at the present speed."""
    if progress.steps_per_second <= 0:
        return "?"
    return duration((progress.total_steps - progress.global_step) / progress.steps_per_second)


def shares(progress: Progress) -> str:
    """Where the time goes, in percent."""
    return " ".join(f"{name} {share:.0%}" for name, share in progress.time_shares.items())


def returns(progress: Progress) -> str:
    """Mean return of the last games."""
    return "no game finished" if progress.mean_return is None else f"{progress.mean_return:.2f}"


class PlainDashboard:
    """One line every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        """Writes to `stream`."""
        self._stream = stream
        self._shown = float("-inf")

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def start(self, config: TrainConfig, run_dir: Path, global_step: int) -> None:
        """Names the run."""
        self._print(headline(config, run_dir, global_step))

    def update(self, progress: Progress) -> None:
        """Prints a line unless the last one is recent."""
        now = time.monotonic()
        if now - self._shown < PLAIN_S and progress.global_step < progress.total_steps:
            return
        self._shown = now
        self._print(
            f"step {progress.global_step:,}/{progress.total_steps:,}"
            f"  {progress.steps_per_second:,.0f} steps/s  left {remaining(progress)}"
            f"  return {returns(progress)}  games {progress.num_episodes:,}  {shares(progress)}"
        )

    def message(self, text: str) -> None:
        """Prints it."""
        self._print(text)

    def close(self, summary: RunSummary | None) -> None:
        """Prints the result."""
        if summary is not None:
            self._print(closing_line(summary))


class LiveDashboard:
    """A few lines that stay in place. Drawn from the training loop, at most every REFRESH_S."""

    def __init__(self, console: Console) -> None:
        """Draws on `console`."""
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._shown = float("-inf")
        self._curve: deque[float] = deque(maxlen=40)
        self._title = ""

    def start(self, config: TrainConfig, run_dir: Path, global_step: int) -> None:
        """Takes over the bottom of the terminal."""
        self._title = headline(config, run_dir, global_step)
        self._live.start()
        self._live.update(Text(self._title), refresh=True)

    def update(self, progress: Progress) -> None:
        """Redraws unless the last drawing is recent."""
        if progress.mean_return is not None:
            self._curve.append(progress.mean_return)
        now = time.monotonic()
        if now - self._shown < REFRESH_S and progress.global_step < progress.total_steps:
            return
        self._shown = now
        self._live.update(self._view(progress), refresh=True)

    def _view(self, progress: Progress) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column()
        done = progress.global_step / progress.total_steps
        table.add_row("progress", ProgressBar(total=1.0, completed=min(done, 1.0), width=40))
        table.add_row(
            "steps",
            f"{progress.global_step:,} of {progress.total_steps:,} ({min(done, 1.0):.1%})",
        )
        table.add_row(
            "speed",
            f"{progress.steps_per_second:,.0f} steps/s, {remaining(progress)} left,"
            f" {duration(progress.wall_s)} so far",
        )
        table.add_row("time", shares(progress))
        table.add_row(
            "return",
            f"{returns(progress)} (last 100 of {progress.num_episodes:,} games)"
            f"  {sparkline(list(self._curve))}",
        )
        return Group(Text(self._title, style="bold"), table)

    def message(self, text: str) -> None:
        """Prints it above the view."""
        self._console.print(text, markup=False, highlight=False)

    def close(self, summary: RunSummary | None) -> None:
        """Gives the terminal back."""
        self._live.stop()
        if summary is not None:
            self._console.print(closing_line(summary), markup=False, highlight=False)


def headline(config: TrainConfig, run_dir: Path, global_step: int) -> str:
    """What is being trained, and where it is kept."""
    start = f", from step {global_step:,}" if global_step else ""
    return f"{config.env_id}  preset {config.preset}  seed {config.seed}{start}  -> {run_dir}"


def closing_line(summary: RunSummary) -> str:
    """What the run came to."""
    mean = "no game finished" if summary.mean_return is None else f"{summary.mean_return:.2f}"
    return (
        f"{summary.status}: {summary.global_step:,} steps in {duration(summary.wall_s)}"
        f" ({summary.steps_per_second:,.0f} steps/s), return {mean}"
        f" over the last 100 of {summary.num_episodes:,} games -> {summary.run_dir}"
    )
