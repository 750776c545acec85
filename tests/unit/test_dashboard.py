"""The terminal view: plain lines without a terminal, a live view with one."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fastrl import dashboard
from fastrl.config import config_for
from fastrl.dashboard import LiveDashboard, PlainDashboard, duration, make_dashboard, sparkline
from fastrl.metrics import Progress, RunSummary

CONFIG = config_for("MinAtar/Breakout-v1", seed=3)
SUMMARY = RunSummary(
    env_id=CONFIG.env_id,
    seed=3,
    status="finished",
    global_step=1_000_000,
    num_episodes=1234,
    mean_return=12.5,
    mean_length=100.0,
    wall_s=60.0,
    steps_per_second=16_667.0,
    run_dir="runs/x",
)


def progress(**changes: Any) -> Progress:
    values: dict[str, Any] = {
        "update": 5,
        "global_step": 400_000,
        "total_steps": 1_000_000,
        "wall_s": 40.0,
        "steps_per_second": 10_000.0,
        "time_shares": {"env": 0.1, "inference": 0.2, "copy": 0.05, "learning": 0.65},
        "mean_return": 7.25,
        "num_episodes": 1234,
    }
    return Progress(**(values | changes))


def test_a_stream_that_is_no_terminal_gets_plain_lines() -> None:
    assert isinstance(make_dashboard(io.StringIO()), PlainDashboard)


def test_a_plain_line_says_how_far_how_fast_how_long_and_where_the_time_goes() -> None:
    stream = io.StringIO()
    view = PlainDashboard(stream)
    view.start(CONFIG, Path("runs/x"), 0)
    view.update(progress())
    view.close(SUMMARY)

    first, line, last = stream.getvalue().splitlines()
    assert first == "MinAtar/Breakout-v1  preset minatar  seed 3  -> runs/x"
    for part in (
        "step 400,000/1,000,000",
        "10,000 steps/s",
        "left 0:01:00",
        "return 7.25",
        "env 10% inference 20% copy 5% learning 65%",
    ):
        assert part in line
    assert last.startswith("finished: 1,000,000 steps in 0:01:00 (16,667 steps/s), return 12.50")
    assert "\x1b" not in stream.getvalue(), "no escape codes outside a terminal"


def test_plain_lines_come_every_few_seconds_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(dashboard.time, "monotonic", lambda: now)
    stream = io.StringIO()
    view = PlainDashboard(stream)
    for _ in range(100):
        view.update(progress())
        now += 0.1
    assert stream.getvalue().count("\n") == 2
    view.update(progress(global_step=1_000_000))
    assert stream.getvalue().count("\n") == 3


def test_the_live_view_shows_the_same_and_gives_the_terminal_back() -> None:
    stream = io.StringIO()
    view = LiveDashboard(Console(file=stream, force_terminal=True, width=120))
    view.start(CONFIG, Path("runs/x"), 4096)
    view.update(progress(mean_return=None, num_episodes=0))
    view.message("careful [now]")
    for mean_return in (1.0, 4.0, 8.0):
        view._shown = float("-inf")
        view.update(progress(mean_return=mean_return))
    view.close(SUMMARY)

    shown = stream.getvalue()
    for part in (
        "from step 4,096",
        "400,000 of 1,000,000 (40.0%)",
        "10,000 steps/s, 0:01:00 left",
        "learning 65%",
        "no game finished",
        "8.00 (last 100 of 1,234 games)",
        "▁▄█",
        "careful [now]",
        "finished: 1,000,000 steps",
    ):
        assert part in shown
    assert shown.rstrip().endswith("runs/x")
    assert "\x1b[?25h" in shown, "the cursor is back"


def test_the_live_view_redraws_a_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(dashboard.time, "monotonic", lambda: now)
    stream = io.StringIO()
    view = LiveDashboard(Console(file=stream, force_terminal=True, width=120))
    view.start(CONFIG, Path("runs/x"), 0)
    for _ in range(100):
        view.update(progress())
        now += 0.01
    drawn = stream.getvalue().count("400,000 of")
    view.close(None)
    assert drawn == 4


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], ""), ([3.0], "▁"), ([2.0, 2.0], "▁▁"), ([0.0, 3.5, 7.0], "▁▅█")],
)
def test_sparkline(values: list[float], expected: str) -> None:
    assert sparkline(values) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (86_399, "23:59:59"), (-3, "0:00:00")],
)
def test_duration(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected
