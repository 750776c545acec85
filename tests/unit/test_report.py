"""Reports against runs whose returns are known."""

import json
from pathlib import Path

import numpy as np
import pytest

from fastrl import report


def write_run(
    folder: Path, *, returns: list[float], seed: int = 1, env_id: str = "Catch-v0"
) -> Path:
    """A run folder in which game i ended at agent step 10 (i + 1)."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"env_id": env_id, "seed": seed}))
    rows = [{"global_step": 10 * (i + 1), "return": value} for i, value in enumerate(returns)]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_final_return_is_the_mean_of_the_last_hundred_games(tmp_path: Path) -> None:
    run = report.read_run(
        write_run(tmp_path / "run", returns=[1000.0] * 7 + [2.0] * 50 + [4.0] * 50)
    )

    assert run.final_return == 3.0


def test_seeds_are_averaged_and_the_interval_is_students(tmp_path: Path) -> None:
    finals = {1: 10.0, 2: 12.0, 3: 17.0}
    runs = [
        write_run(
            tmp_path / str(seed), returns=[value] * 3, seed=seed, env_id="MinAtar/Breakout-v1"
        )
        for seed, value in finals.items()
    ]

    (result,) = report.aggregate(runs)

    half = 4.303 * np.std([10.0, 12.0, 17.0], ddof=1) / np.sqrt(3)
    assert (result.seeds, result.final_returns) == ((1, 2, 3), (10.0, 12.0, 17.0))
    assert result.mean == 13.0
    assert result.ci_low == pytest.approx(13.0 - half)
    assert result.ci_high == pytest.approx(13.0 + half)
    assert result.agent_steps == 30
    assert result.published == 28.0


def test_students_quantiles_are_those_of_the_distribution() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy has the quantiles to compare with")
    expected = stats.t.ppf(0.975, np.arange(1, len(report.T_QUANTILES) + 1))
    np.testing.assert_allclose(report.T_QUANTILES, expected, atol=5e-4)


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    (result,) = report.aggregate([write_run(tmp_path / "run", returns=[1.0])])

    assert (result.ci_low, result.ci_high) == (None, None)


def test_a_line_that_a_killed_run_left_unfinished_is_skipped(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "run", returns=[1.0, 2.0])
    with (run_dir / "episodes.jsonl").open("a") as file:
        file.write('{"global_step": 30, "ret')

    assert report.read_run(run_dir).returns.tolist() == [1.0, 2.0]


def test_bins_average_the_games_that_ended_in_them(tmp_path: Path) -> None:
    run = report.read_run(write_run(tmp_path / "run", returns=[1.0, 3.0, 5.0, 9.0]))

    means = report.bin_returns(run, np.array([0.0, 25.0, 26.0, 40.0]))

    np.testing.assert_array_equal(means, [2.0, np.nan, 7.0])


def test_two_runs_of_one_seed_are_refused(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, returns=[1.0]) for name in ("a", "b")]

    with pytest.raises(ValueError, match=r"a and .*b are both Catch-v0 with seed 1"):
        report.aggregate(runs)


@pytest.mark.parametrize("returns", [None, []])
def test_a_folder_without_games_is_refused_by_name(
    tmp_path: Path, returns: list[float] | None
) -> None:
    run_dir = tmp_path / "run"
    if returns is None:
        run_dir.mkdir()
    else:
        write_run(run_dir, returns=returns)

    with pytest.raises(ValueError, match=str(run_dir)):
        report.read_run(run_dir)


def test_the_curve_is_a_png_even_of_a_single_game(tmp_path: Path) -> None:
    picture = tmp_path / "curve.png"

    report.plot_curve([write_run(tmp_path / "run", returns=[1.0])], picture)

    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_report_has_text_numbers_and_picture(tmp_path: Path) -> None:
    runs = [
        write_run(
            tmp_path / f"{game}{seed}", returns=[40.0] * 5, seed=seed, env_id=f"MinAtar/{game}-v1"
        )
        for game in ("Breakout", "Seaquest")
        for seed in (1, 2)
    ]

    markdown, data, picture = report.write_markdown(
        runs, tmp_path / "out", command="fastrl report x", name="minatar"
    )

    text = markdown.read_text()
    assert markdown.name.startswith("minatar_")
    assert "command: `fastrl report x`" in text
    assert (
        "| MinAtar/Breakout-v1 | 2 | 50 | 40.00 | [40.00, 40.00] | 40.00, 40.00 | 28 | yes |"
        in text
    )
    assert (
        "| MinAtar/Seaquest-v1 | 2 | 50 | 40.00 | [40.00, 40.00] | 40.00, 40.00 | - | - |" in text
    )
    assert picture.name in text
    results = json.loads(data.read_text())
    assert [row["env_id"] for row in results["results"]] == [
        "MinAtar/Breakout-v1",
        "MinAtar/Seaquest-v1",
    ]
    assert results["hardware"]["usable_cpus"] >= 1
    assert picture.stat().st_size < 100_000
