"""The table of exactness claims no more than its records."""

from pathlib import Path

import pytest
import records
from atari_exactness import checks_of, table

ORIGIN = {
    "command": "test",
    "date": "",
    "commit": None,
    "hardware": {
        "cpu": "",
        "usable_cpus": 1,
        "cpus": 1,
        "memory_gib": 1,
        "gpus": [],
        "system": "",
    },
    "load_average": 0.0,
    "versions": {},
}


def row_of(game: str, found: list[records.Record]) -> str:
    return next(line for line in table(found, ORIGIN, "fast") if line.startswith(f"| {game} |"))


def passed(game: str) -> list[records.Record]:
    return [check.record(ok=True, frames=10) for check in checks_of("fast", game)]


def test_the_last_record_of_a_check_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.jsonl"
    monkeypatch.setenv("FASTRL_RECORDS", str(path))
    records.record("pong", "pool", "stack 1", ok=False, frames=3, note="step 2: reward")
    records.record("pong", "pool", "stack 1", ok=True, frames=9)

    (last,) = records.read(path).values()

    assert (last["ok"], last["frames"]) == (True, 9)


def test_a_failure_is_recorded_with_the_first_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "records.jsonl"
    monkeypatch.setenv("FASTRL_RECORDS", str(path))
    with records.recorded("pong", "pool", "stack 1", frames=9):
        pass
    with (
        pytest.raises(AssertionError),
        records.recorded("boxing", "pool", "stack 1", frames=9),
    ):
        raise AssertionError("step 2: reward")

    passed, failed = records.read(path).values()

    assert (passed["game"], passed["ok"], passed["frames"]) == ("pong", True, 9)
    assert (failed["game"], failed["ok"], failed["note"]) == ("boxing", False, "step 2: reward")


def test_a_line_cut_short_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    records.append(path, records.make("pong", "pool", "a", ok=True, frames=1))
    path.write_text(path.read_text() + '{"key": "0')

    assert len(records.read(path)) == 1


def test_a_game_is_exact_when_every_check_is_recorded_and_passed() -> None:
    assert row_of("boxing", passed("boxing")).endswith("| yes |")
    assert row_of("boxing", passed("boxing")[1:]).endswith("| no |")
    assert row_of("pong", passed("boxing")).endswith("| no |")


def test_one_failed_check_of_another_column_makes_a_game_inexact() -> None:
    pool = [records.make("boxing", "pool", c, ok=c != "RGB", frames=5) for c in ("a", "RGB")]

    row = row_of("boxing", passed("boxing") + pool)

    assert "| 1/2 |" in row
    assert row.endswith("| no |")
