"""Comparisons of runs whose scores are known by formula."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_runs import learned, write_run, write_sweep

from fastrl import aggregates, cli
from fastrl.compare import BINS, Comparison, bin_means, compare
from fastrl.compare_figures import figures
from fastrl.compare_report import conclusion, markdown, result_table, summary, verdict
from fastrl.machine import provenance
from fastrl.runs import find_runs, read_run
from fastrl.scores import score_range

BREAKOUT, FREEWAY = "MinAtar/Breakout-v1", "MinAtar/Freeway-v1"


def write_constant(folder: Path, score: float, *, env_id: str = BREAKOUT, **rest: Any) -> Path:
    """A run whose normalised score is the same from the first game to the last."""
    zero, one = score_range(env_id)
    return write_run(folder, lambda _: zero + score * (one - zero), env_id=env_id, **rest)


def write_groups(folder: Path, scores: dict[str, dict[str, list[float]]], **rest: Any) -> Path:
    """Constant runs by advantage, environment and seed 1, 2, ..."""
    for advantage, envs in scores.items():
        for env_id, values in envs.items():
            for seed, score in enumerate(values, 1):
                name = f"{advantage}-{env_id.replace('/', '-')}-s{seed}"
                write_constant(
                    folder / name, score, env_id=env_id, seed=seed, advantage=advantage, **rest
                )
    return folder


THREE = {
    "gae": {BREAKOUT: [0.1, 0.3, 0.2], FREEWAY: [0.5, 0.9, 0.4]},
    "new": {BREAKOUT: [0.2, 0.4, 0.25], FREEWAY: [0.5, 0.8, 0.95]},
}


@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(-5.0, 5.0)), min_size=1, max_size=40),
    st.floats(0.5, 1e7),
)
def test_bins_average_interpolate_and_hold(games: list[tuple[float, float]], end: float) -> None:
    at = np.array([place for place, _ in games]) * end
    values = np.array([value for _, value in games])

    means = bin_means(at, values, end)

    inside: list[list[float]] = [[] for _ in range(BINS)]
    for place, value in zip(at, values, strict=True):
        inside[min(int(place / end * BINS), BINS - 1)].append(value)
    for index, found in enumerate(inside):
        if found:
            expected = float(np.mean(found))
        else:
            left = [i for i in range(index) if inside[i]]
            right = [i for i in range(index + 1, BINS) if inside[i]]
            ends = [np.mean(inside[i]) for i in (left[-1:] + right[:1])]
            weight = (index - left[-1]) / (right[0] - left[-1]) if left and right else 0.0
            expected = float(ends[0] * (1 - weight) + ends[-1] * weight)
        assert means[index] == pytest.approx(expected, abs=1e-9)


def test_group_scores_are_those_of_their_runs(tmp_path: Path) -> None:
    found = compare([write_groups(tmp_path, THREE)])

    base, new = found.groups
    assert (base.name, new.name, found.baseline) == ("gae", "new", "gae")
    for group in found.groups:
        scores = [np.array(values) for values in THREE[group.name].values()]
        flat = sorted(np.concatenate(scores))[1:5]  # Six runs: one is left out at each end.
        assert group.area.point == pytest.approx(np.mean(flat))
        assert group.final.point == pytest.approx(np.mean(flat))
        assert group.area.low == pytest.approx(aggregates.iqm_estimate(scores).low)
        assert group.optimality_gap == pytest.approx(1.0 - np.mean(np.concatenate(scores)))
        assert group.cells[FREEWAY].areas == pytest.approx(THREE[group.name][FREEWAY])
        assert group.cells[FREEWAY].seeds == (1, 2, 3)
    # Pairs of Breakout: 6 of 9 won; of Freeway: .5 beats .4 and draws, .8 beats two, .95 all.
    wins = [
        np.mean([(a > b) + 0.5 * (a == b) for a in THREE["new"][env] for b in THREE["gae"][env]])
        for env in THREE["gae"]
    ]
    assert new.improvement is not None
    assert new.improvement.point == pytest.approx(np.mean(wins))
    assert base.improvement is None


def test_the_area_is_the_mean_of_the_curve_and_the_final_score_of_its_end(tmp_path: Path) -> None:
    zero, one = score_range(BREAKOUT)
    write_run(tmp_path / "run", lambda share: zero + share * (one - zero), num_games=500)

    (cell,) = compare([tmp_path]).groups[0].cells.values()

    assert cell.areas[0] == pytest.approx(0.5)
    assert cell.finals[0] == pytest.approx(0.95)
    assert cell.by_steps.point[10] == pytest.approx(zero + 0.105 * (one - zero))


def test_differences_use_the_seeds_that_both_groups_have(tmp_path: Path) -> None:
    scores = {"gae": {BREAKOUT: [0.1, 0.5, 0.9]}, "new": {BREAKOUT: [0.2, 0.6, 1.0, 5.0]}}

    new = compare([write_groups(tmp_path, scores)]).groups[1]

    assert new.num_pairs == 3
    assert new.difference is not None
    assert (new.difference.point, new.difference.low) == pytest.approx((0.1, 0.1))
    assert new.relative is not None
    assert new.relative.point == pytest.approx(0.2)


def test_without_common_seeds_the_difference_is_drawn_apart(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_constant(tmp_path / f"a{seed}", 0.1 * seed, seed=seed)
        write_constant(tmp_path / f"b{seed}", 0.1 * seed, seed=seed + 10, advantage="new")

    new = compare([tmp_path]).groups[1]

    assert new.num_pairs == 0
    assert new.difference is not None
    assert new.difference.low < new.difference.point == 0.0 < new.difference.high


def test_the_time_to_the_threshold_is_in_steps_and_seconds(tmp_path: Path) -> None:
    zero, one = score_range(BREAKOUT)

    def rises_by(share_at_top: float) -> Callable[[float], float]:
        return lambda share: zero + min(share / share_at_top, 1.0) * (one - zero)

    for seed in (1, 2, 3):
        write_run(
            tmp_path / f"slow{seed}", rises_by(0.8), seed=seed, num_games=2000, steps_per_second=100
        )
        write_run(
            tmp_path / f"fast{seed}",
            rises_by(0.4) if seed < 3 else lambda _: zero,
            seed=seed,
            num_games=2000,
            steps_per_second=50,
            advantage="new",
        )

    found = compare([tmp_path], threshold=0.5)

    slow, fast = (group.cells[BREAKOUT] for group in found.groups)
    assert found.tasks[BREAKOUT].threshold == pytest.approx((zero + one) / 2)
    # Half of the way at 40 % and at 20 % of 1,000 steps, to a bin of 10 steps.
    assert slow.threshold_steps == pytest.approx(400, abs=10)
    assert slow.threshold_seconds == pytest.approx(slow.threshold_steps / 100)
    assert fast.threshold_steps == pytest.approx(200, abs=10)
    assert fast.threshold_seconds == pytest.approx(fast.threshold_steps / 50)
    assert (slow.num_reached, fast.num_reached) == (3, 2)
    band = found.groups[1].threshold_by_steps
    assert band.point[0] == 0.0
    assert band.point[-1] == pytest.approx(2 / 3)


def test_a_threshold_that_most_seeds_never_reach_has_no_time(tmp_path: Path) -> None:
    found = compare([write_groups(tmp_path, {"gae": {BREAKOUT: [1.0]}, "new": {BREAKOUT: [0.1]}})])

    cell = found.groups[1].cells[BREAKOUT]
    assert (cell.threshold_steps, cell.threshold_seconds, cell.num_reached) == (None, None, 0)


def test_against_seconds_a_run_that_has_ended_keeps_its_last_value(tmp_path: Path) -> None:
    write_run(tmp_path / "fast", lambda share: share, env_id="Own-v0", steps_per_second=100.0)
    write_run(
        tmp_path / "slow", lambda share: share, env_id="Own-v0", steps_per_second=50.0,
        advantage="new",
    )  # fmt: skip

    found = compare([tmp_path])

    fast, slow = (group.cells["Own-v0"].by_seconds for group in found.groups)
    assert found.tasks["Own-v0"].seconds == pytest.approx(20.0)
    assert fast.point[60] == pytest.approx(fast.point[-1])
    assert fast.point[24] == pytest.approx(slow.point[49], abs=0.02)


def test_scales_come_from_tables_or_else_from_the_runs(tmp_path: Path) -> None:
    for env_id in ("ALE/Pong-v5", BREAKOUT, "Catch-v0", "Own-v0"):
        for seed in (1, 2):
            write_run(
                tmp_path / f"{env_id.replace('/', '-')}{seed}",
                lambda share, seed=seed: share * seed,
                env_id=env_id,
                seed=seed,
                num_games=1000,
            )

    tasks = compare([tmp_path]).tasks

    assert (tasks["ALE/Pong-v5"].zero, tasks["ALE/Pong-v5"].one) == (-20.7, 14.6)
    assert "human" in tasks["ALE/Pong-v5"].scale
    assert (tasks[BREAKOUT].zero, tasks[BREAKOUT].one) == score_range(BREAKOUT)
    assert (tasks["Catch-v0"].zero, tasks["Catch-v0"].one) == (-1.0, 1.0)
    assert (tasks["Own-v0"].zero, tasks["Own-v0"].one) == pytest.approx((0.005, 1.99), abs=0.005)
    assert "of these curves" in tasks["Own-v0"].scale


def test_runs_that_all_score_the_same_are_no_division_by_zero(tmp_path: Path) -> None:
    write_run(tmp_path / "run", lambda _: 7.0, env_id="Own-v0")

    found = compare([tmp_path])

    assert found.groups[0].area.point == 0.0
    assert any("every run has the same return" in warning for warning in found.warnings)


def test_profiles_are_shares_of_runs_above_a_score(tmp_path: Path) -> None:
    found = compare([write_groups(tmp_path, THREE)])

    profile = found.groups[0].profile
    finals = np.array([*THREE["gae"][BREAKOUT], *THREE["gae"][FREEWAY]])
    for at in (0, 15, 40):
        assert profile.point[at] == pytest.approx(np.mean(finals > profile.x[at]))


def said(found: Comparison, *parts: str) -> bool:
    return any(all(part in warning for part in parts) for warning in found.warnings)


def test_a_clean_comparison_says_nothing(tmp_path: Path) -> None:
    assert compare([write_groups(tmp_path, THREE)]).warnings == ()


def test_unfinished_runs_are_left_out_and_said_to_be(tmp_path: Path) -> None:
    write_groups(tmp_path, THREE)
    write_constant(tmp_path / "late", 9.0, seed=4, advantage="new", done=0.5)

    found = compare([tmp_path])

    assert found.groups[1].cells[BREAKOUT].seeds == (1, 2, 3)
    assert said(found, "1 unfinished run left out", "new, MinAtar/Breakout-v1, seed 4 (50", "steps")
    assert any(fate.startswith("left out: unfinished at 5") for _, fate, _ in found.runs)


def test_a_budget_compares_unfinished_runs_early(tmp_path: Path) -> None:
    write_groups(tmp_path, THREE)
    write_constant(tmp_path / "late", 9.0, seed=4, advantage="new", done=0.5)

    found = compare([tmp_path], budget=400)

    assert found.groups[1].cells[BREAKOUT].seeds == (1, 2, 3, 4)
    assert found.tasks[BREAKOUT].budget == 400
    assert said(found, "asked for 1,000 steps", "compared at 400")


def test_unequal_budgets_are_compared_at_the_smaller_one(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_run(tmp_path / f"a{seed}", lambda s: s, env_id="Own-v0", seed=seed, budget=1000)
        write_run(
            tmp_path / f"b{seed}", lambda s: s, env_id="Own-v0", seed=seed, budget=2000,
            advantage="new",
        )  # fmt: skip

    found = compare([tmp_path])

    assert found.tasks["Own-v0"].budget == 1000
    assert said(found, "Own-v0", "asked for 1,000, 2,000 steps", "compared at 1,000")
    assert found.groups[1].cells["Own-v0"].by_steps.point[-1] == pytest.approx(0.5, abs=0.02)


def test_different_budgets_of_different_tasks_are_no_warning(tmp_path: Path) -> None:
    write_groups(tmp_path, {k: {BREAKOUT: v[BREAKOUT]} for k, v in THREE.items()})
    write_groups(tmp_path, {k: {FREEWAY: v[FREEWAY]} for k, v in THREE.items()}, budget=5000)

    found = compare([tmp_path])

    assert found.warnings == ()
    assert found.shares_of_budget
    assert found.groups[0].by_steps.x[-1] < 1.0


def test_unequal_seeds_are_said(tmp_path: Path) -> None:
    write_groups(tmp_path, THREE)
    write_constant(tmp_path / "more", 0.2, seed=9, advantage="new")

    found = compare([tmp_path])

    assert said(found, "unequal seeds", "1, 2, 3", "new in MinAtar/Breakout-v1 (1, 2, 3, 9)")


def test_fewer_than_three_seeds_make_intervals_meaningless(tmp_path: Path) -> None:
    scores = {"gae": {BREAKOUT: [0.1, 0.2]}, "new": {BREAKOUT: [0.8, 0.9]}}

    found = compare([write_groups(tmp_path, scores)])

    assert said(found, "fewer than 3 seeds", "meaningless", "every group and task")
    assert verdict(found.groups[1], found) == "too few"
    assert conclusion(found) == "Fewer than 3 seeds: too few to judge any group against gae."


def test_a_duplicate_seed_counts_once(tmp_path: Path) -> None:
    write_groups(tmp_path, THREE)
    write_constant(tmp_path / "zz", 9.0, seed=2, advantage="new")

    found = compare([tmp_path])

    assert found.groups[1].cells[BREAKOUT].areas == pytest.approx(THREE["new"][BREAKOUT])
    assert said(found, "duplicate seed", f"{tmp_path / 'zz'} left out")


def test_options_that_differ_inside_a_group_are_said(tmp_path: Path) -> None:
    write_groups(tmp_path, THREE)
    write_constant(tmp_path / "odd", 0.2, seed=4, advantage="new", gamma=0.5)

    found = compare([tmp_path], by=["advantage"])

    assert said(found, "differ in gamma", "new in MinAtar/Breakout-v1")


def test_a_task_that_a_group_did_not_play_is_not_compared(tmp_path: Path) -> None:
    write_groups(tmp_path, THREE)
    write_groups(tmp_path, {"gae": {"MinAtar/Seaquest-v1": [0.1, 0.2, 0.3]}})

    found = compare([tmp_path])

    assert set(found.tasks) == {BREAKOUT, FREEWAY}
    assert said(found, "not played by every group", "MinAtar/Seaquest-v1")


def test_seconds_measured_unlike_are_said(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_constant(
            tmp_path / str(seed), 0.1, seed=seed, steps_per_second=40.0 * seed, torch_threads=seed
        )

    found = compare([tmp_path])

    assert said(found, "different speeds", "gae in MinAtar/Breakout-v1 (3.0x)")
    assert said(found, "differ in torch_threads (1, 2, 3)")


def test_a_sweep_names_variants_and_machines_and_failures(tmp_path: Path) -> None:
    first = write_sweep(tmp_path / "one", variants=2, num_games=50)
    record = json.loads((first / "sweep.json").read_text())
    lost = record["runs"][-1]
    shutil.rmtree(first / lost["dir"])
    lost |= {"status": "failed", "error": "the loss became NaN"}
    (first / "sweep.json").write_text(json.dumps(record))
    second = write_sweep(tmp_path / "two", variants=2, num_games=50, games=("Asterix",))
    other = json.loads((second / "sweep.json").read_text())
    other["origin"]["hardware"]["gpus"] = ["Some GPU"]
    (second / "sweep.json").write_text(json.dumps(other))

    found = compare([first, str(second / "runs" / "*" / "*" / "*")])

    assert [group.name for group in found.groups] == ["ppo", "variance-lambda"]
    assert set(found.tasks) == {BREAKOUT, FREEWAY, "MinAtar/Asterix-v1"}
    assert said(found, "different machines", "some-2c; some-2c + Some GPU")
    assert said(found, "1 failed run left out, which flatters", "variance-lambda", "seed 3")
    errors = [run["error"] for run in summary(found, {})["runs"]]
    assert errors.count("the loss became NaN") == 1


def test_groups_are_the_fields_that_differ_unless_asked(tmp_path: Path) -> None:
    for seed in (1, 2):
        for gamma in (0.9, 0.99):
            write_constant(
                tmp_path / f"{gamma}-{seed}", gamma, seed=seed, gamma=gamma, run_dir=str(seed)
            )

    assert [group.name for group in compare([tmp_path]).groups] == ["gamma=0.9", "gamma=0.99"]
    assert [group.name for group in compare([tmp_path], by=["advantage", "gamma"]).groups] == [
        "gae, gamma=0.9",
        "gae, gamma=0.99",
    ]
    chosen = compare([tmp_path], baseline="gamma=0.99")
    assert [group.name for group in chosen.groups] == ["gamma=0.99", "gamma=0.9"]


def test_a_field_that_old_runs_lack_makes_no_group(tmp_path: Path) -> None:
    write_constant(tmp_path / "old", 0.1, seed=1)
    write_constant(tmp_path / "new", 0.1, seed=2, vd_eta=0.5)

    assert [group.name for group in compare([tmp_path]).groups] == ["gae"]


def test_learned_quantities_are_averaged_over_seeds(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        write_constant(tmp_path / f"a{seed}", 0.2, seed=seed)
        write_constant(
            tmp_path / f"b{seed}", 0.3, seed=seed, advantage="new",
            metrics=lambda share, seed=seed: {
                "gamma_mean": 0.9 + 0.01 * seed, "gamma_q05": 0.8 + 0.01 * seed * share,
                "z2_by_decile": [None, 1.0 * seed], "sigma_corr": 0.1 * seed,
            },
        )  # fmt: skip

    base, new = compare([tmp_path]).groups

    assert base.cells[BREAKOUT].learned == {}
    gamma = new.cells[BREAKOUT].learned["gamma"]
    np.testing.assert_allclose(gamma["mean"], 0.92)
    np.testing.assert_allclose(gamma["q05"][-1], 0.82)
    assert set(gamma) == {"mean", "q05", "x"}
    np.testing.assert_allclose(new.calibration["z2_by_decile"], [np.nan, 2.0])
    assert new.diagnostics["sigma_corr"] == pytest.approx(0.2)
    assert "sigma_corr" not in base.diagnostics


def test_the_last_tenth_is_what_diagnostics_average(tmp_path: Path) -> None:
    """50 updates: those after 90 % of the budget are the last five."""
    write_constant(tmp_path / "run", 0.2, metrics=lambda share: {"skill": share})

    found = compare([tmp_path]).groups[0].diagnostics["skill"]

    assert found == pytest.approx(np.mean([0.92, 0.94, 0.96, 0.98, 1.0]))


def test_the_same_runs_give_the_same_numbers(tmp_path: Path) -> None:
    write_groups(tmp_path, THREE)

    first, second = (json.dumps(summary(compare([tmp_path]), {})) for _ in range(2))

    assert first == second


def test_rliable_agrees_where_it_is_installed(tmp_path: Path) -> None:
    rliable = pytest.importorskip("rliable.metrics", reason="the research extra")
    write_groups(tmp_path, THREE)

    assert compare([tmp_path]).checked_with == "1.2.0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rliable, "aggregate_iqm", lambda scores: 0.123)
        with pytest.raises(AssertionError):
            compare([tmp_path])


def test_an_unfinished_line_is_skipped_and_a_broken_one_named(tmp_path: Path) -> None:
    run_dir = write_constant(tmp_path / "run", 0.2)
    episodes = run_dir / "episodes.jsonl"
    with episodes.open("a") as file:
        file.write('{"global_step": 1')
    assert len(read_run(run_dir).steps) == 100

    episodes.write_text('{"global_step": 1\n' + episodes.read_text())
    with pytest.raises(ValueError, match=r"episodes\.jsonl has a line that is not JSON"):
        read_run(run_dir)


def test_run_folders_are_found_inside_folders_once(tmp_path: Path) -> None:
    write_groups(tmp_path / "a" / "b", THREE)

    found = find_runs([tmp_path, tmp_path / "a" / "b", str(tmp_path / "a" / "*")])

    assert len(found) == 12


WRONG = {
    "": "compare needs at least one run folder",
    "{tmp}/nope": "is not a run folder, and there is none in it",
    "{tmp}/none*": "is not a run folder, and there is none in it",
    "{runs} --by nope": "has no config field 'nope'; there are variant, env_id",
    "{runs} --baseline nope": "there is no group 'nope' with counted runs: gae, new",
    "{runs} --threshold 0": "threshold must be > 0, got 0.0",
    "{runs} --budget 0": "budget must be >= 1 agent step, got 0",
    "{runs} --budget 5000": "none of the 12 runs has reached its budget",
    "{runs} --out {file}": "it is not a folder",
    "{apart}": "no environment was played to its budget by every group",
    "{damaged}": "config.json is not JSON",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_input_gets_one_line_and_exit_code_2(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.write_text("kept")
    write_groups(tmp_path / "runs", THREE, num_games=10)
    write_groups(tmp_path / "apart", {"gae": {BREAKOUT: [0.1]}, "new": {FREEWAY: [0.1]}})
    (write_constant(tmp_path / "damaged", 0.1) / "config.json").write_text("{")
    places = {name: tmp_path / name for name in ("runs", "apart", "damaged")}
    before = sorted(tmp_path.rglob("*"))

    code = cli.main(["compare", *line.format(tmp=tmp_path, file=file, **places).split()])

    said = capsys.readouterr()
    assert code == 2
    assert said.err.startswith("fastrl: error: ")
    assert said.err.count("\n") == 1
    assert WRONG[line] in said.err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_writes_page_table_numbers_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = write_sweep(tmp_path / "sweep", seeds=2, variants=2, num_games=60, games=("Breakout",))
    out = tmp_path / "out"

    assert cli.main(["compare", str(runs), "--out", str(out)]) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("! fewer than 3 seeds")
    assert "too few to judge any group against ppo" in " ".join(printed.split())
    names = {path.name for path in out.iterdir()}
    figures = {name.removesuffix(".png") for name in names if name.endswith(".png")}
    assert figures == {
        "scores", "against_baseline", "curves", "returns_by_steps", "returns_by_seconds",
        "profile", "efficiency", "learned_gamma", "learned_lambda", "learned_horizon",
        "calibration",
    }  # fmt: skip
    assert names == {"index.html", "table.md", "summary.json"} | {
        f"{name}.{kind}" for name in figures for kind in ("png", "svg")
    }
    text = (out / "table.md").read_text()
    assert text.index("fewer than 3 seeds") < text.index("| group |")
    assert f"command: `fastrl compare {runs} --out {out}`" in text
    numbers = json.loads((out / "summary.json").read_text())
    assert {"command", "hardware", "versions", "warnings", "groups", "tasks", "runs"} <= set(
        numbers
    )
    assert len(numbers["groups"][1]["cells"][BREAKOUT]["by_steps"]["x"]) == BINS
    assert len(numbers["runs"]) == 4
    assert all((out / f"{name}.png").stat().st_size < 150_000 for name in figures)


def test_what_no_run_has_logged_is_not_drawn(tmp_path: Path) -> None:
    write_groups(tmp_path / "runs", THREE, num_games=20)

    drawn = [figure.name for figure in figures(compare([tmp_path / "runs"]))]

    assert drawn[:2] == ["scores", "against_baseline"]
    assert not [name for name in drawn if "learned" in name or "calibration" in name]


def test_verdicts_follow_the_interval_of_the_difference(tmp_path: Path) -> None:
    base = [0.5, 0.6, 0.7]
    scores = {
        "gae": {BREAKOUT: base},
        "up": {BREAKOUT: [x + 0.1 for x in base]},
        "down": {BREAKOUT: [x - 0.1 for x in base]},
        "same": {BREAKOUT: [0.6, 0.6, 0.6]},
    }

    found = compare([write_groups(tmp_path, scores, num_games=20)])

    verdicts = {group.name: verdict(group, found) for group in found.groups}
    assert verdicts == {"gae": "baseline", "up": "better", "down": "worse", "same": "open"}
    assert conclusion(found) == (
        "By area under the learning curve, up is better than gae; down is worse than gae; same"
        " cannot be told apart from gae. 3 groups were held against one baseline, without a"
        " correction for that."
    )


def test_names_with_bars_stay_in_their_cell(tmp_path: Path) -> None:
    found = compare([write_groups(tmp_path, {"a|b": {BREAKOUT: [0.1]}}, num_games=20)])

    assert "| a\\|b | 1 |" in result_table(found).markdown()
    assert "a\\|b" in markdown(found, [], provenance("x"))


def test_learned_fields_are_those_that_the_trainer_logs() -> None:
    """The made-up runs of these tests carry the field names of DESIGN and the trainer."""
    assert {"gamma_mean", "gamma_q05", "lambda_q95", "z2_by_decile"} <= set(learned(0.99, 1.0)(0.5))
