"""Benchmarks: what they count and write. No test here looks at how fast anything was."""

import json
import statistics
from pathlib import Path

import numpy as np
import pytest

from fastrl import bench, bench_suite, bench_train, peers
from fastrl.cpus import available_cpus


class Counter:
    """A contender that notes its turns."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.threads, self.num_envs, self.log = name, 1, 8, log

    def step(self) -> None:
        self.log.append(self.name)

    def close(self) -> None:
        pass


def test_contenders_take_turns() -> None:
    log: list[str] = []
    contenders = [Counter(name, log) for name in "abc"]

    rates = bench.take_turns(contenders, seconds=1e-9, repeats=3)

    warm_up, rounds = log[:3], log[3:]
    assert warm_up == ["a", "b", "c"]
    assert rounds == ["a", "b", "c"] * 3
    assert [len(rate.samples) for rate in rates] == [3, 3, 3]


def test_a_ratio_is_of_medians_and_its_range_of_rounds() -> None:
    ours = bench.Rate("ours", 1, 8, [10.0, 40.0, 20.0])
    peer = bench.Rate("peer", 1, 8, [1.0, 2.0, 4.0])

    assert bench.compare(ours, peer) == {
        "ours": "ours",
        "peer": "peer",
        "ratio": 10.0,
        "ratio_min": 5.0,
        "ratio_max": 20.0,
        "ratio_per_core": 10.0,
    }


def test_the_ratio_per_core_divides_by_the_cores_that_threads_can_use() -> None:
    cores = available_cpus()
    ours, peer = bench.Rate("ours", 10**6, 8, [12.0]), bench.Rate("peer", 1, 8, [3.0])

    assert bench.compare(ours, peer)["ratio_per_core"] == pytest.approx(4.0 / cores)


@pytest.mark.parametrize(("num_envs", "batches"), [(1, 1), (4, 2), (6, 2)])
def test_the_asynchronous_contender_steps_as_often_as_it_says(num_envs: int, batches: int) -> None:
    contender = peers.OursAsync("Catch-v0", num_envs, 1)
    try:
        for _ in range(3):
            contender.step()
        for _ in range(batches):
            contender._pool.recv()
        assert contender._pool.stats()["steps"] == num_envs + 3 * contender.num_envs
    finally:
        contender.close()


def test_random_actions_repeat_without_end_and_stay_in_range() -> None:
    rows = peers.random_actions(3, 5, np.int32)

    drawn = [next(rows) for _ in range(peers.ACTION_ROWS + 1)]

    assert {row.shape for row in drawn} == {(5,)}
    assert {int(action) for row in drawn for action in row} == {0, 1, 2}
    assert (drawn[0] == drawn[-1]).all()


def test_games_are_called_as_the_peers_call_them() -> None:
    assert peers._snake("SpaceInvaders") == "space_invaders"
    assert peers._snake("Breakout") == "breakout"


def test_threads_grow_to_four_times_the_cpus() -> None:
    threads = bench.default_threads()

    assert threads[0] == 1
    assert threads[-1] == 4 * available_cpus()
    assert sorted(set(threads)) == list(threads)


def test_bench_pool_measures_the_minatar_package_beside_ours(tmp_path: Path) -> None:
    pytest.importorskip("minatar", reason="the peer that is measured")

    report = bench.bench_pool(
        "MinAtar/Breakout-v1",
        num_envs=8,
        num_threads=(1, 2),
        seconds=0.001,
        repeats=2,
        command="fastrl bench pool",
    )

    found = json.loads(report.to_json())
    assert found["unit"] == "agent steps per second"
    assert {x["peer"] for x in found["ratios"]} == {"minatar package"}
    assert all(x["ratio"] > 0 and x["ratio_per_core"] > 0 for x in found["ratios"])
    assert [x["threads"] for x in found["scaling"]] == [1, 2]
    assert all(len(x["samples"]) == 2 for x in [*found["rates"], *found["scaling"]])
    assert found["asynchronous"]["ratio"] > 0
    assert found["asynchronous"]["threads"] == min(available_cpus(), 8)
    assert all(x["share"] < 1 for x in found["overhead"])
    assert {"cpu", "usable_cpus", "memory_gib"} <= set(found["hardware"])
    assert "numpy" in found["versions"]

    text = report.write_markdown(tmp_path / "results").read_text()
    assert "command: `fastrl bench pool`" in text
    assert "minatar package" in text


def test_bench_pool_measures_ale_py_beside_ours() -> None:
    report = bench.bench_pool(
        "ALE/Pong-v5", num_envs=2, num_threads=(1,), seconds=0.001, repeats=1, command="x"
    )

    assert "ale-py AtariVectorEnv" in {x["peer"] for x in report.results["ratios"]}
    assert report.results["frames_per_step"] == 4
    assert "frames/s" in report.tables[0].header


def test_peers_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)

    assert peers.peers_of("ALE/Pong-v5", 2, 1) == ([], ["ale-py", "envpool"])
    assert peers.peers_of("MinAtar/Breakout-v1", 2, 1) == ([], ["MinAtar"])


@pytest.mark.parametrize(
    "wrong", [{"num_envs": -1}, {"seconds": 0.0}, {"repeats": 0}, {"num_threads": (0,)}]
)
def test_bench_pool_refuses_numbers_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        bench.bench_pool("Catch-v0", command="x", **wrong)


def test_bench_pool_refuses_more_threads_than_environments() -> None:
    with pytest.raises(ValueError, match="at most num_envs = 2"):
        bench.bench_pool("Catch-v0", num_envs=2, num_threads=(4,), command="x")


def test_bench_train_reports_where_the_time_went() -> None:
    # More threads than CPUs wait for each other: beside other tests a stage took 15 times as long.
    options = {"torch_threads": 1, "env_threads": 1}
    report = bench_train.bench_train(
        "Catch-v0", total_steps=4096, repeats=2, options=options, command="x"
    )

    assert len(report.results["rate"]["samples"]) == 2
    assert set(report.results["time_shares"]) == {"env", "inference", "copy", "learning"}
    assert sum(report.results["time_shares"].values()) == pytest.approx(1.0, abs=1e-3)
    assert report.results["config"]["run_dir"] == ""
    stages = report.results["stages_alone"]
    assert set(stages) == {"env", "inference", "copy", "learning"}
    alone = sum(1.0 / rate for rate in stages.values())
    whole = statistics.median(report.results["steps_per_second_in_a_median_update"])
    assert report.results["overlap"] == pytest.approx(alone * whole)
    assert 0.2 < report.results["overlap"] < 5.0


@pytest.mark.slow
def test_bench_train_measures_the_plain_loop_beside() -> None:
    pytest.importorskip("envpool")
    options = {"num_envs": 4, "num_steps": 16, "device": "cpu"}
    report = bench_train.bench_train(
        "ALE/Pong-v5", total_steps=192, options=options, plain_loop=True, command="x"
    )
    beside = report.results["plain_loop"]
    assert len(beside["ours"]) == len(beside["plain"]) == 3
    assert beside["ratio_min"] <= beside["ratio"] <= beside["ratio_max"]


def test_bench_kernels_reports_a_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastrl import bench_kernels

    small = bench_kernels.bench_kernel
    monkeypatch.setattr(
        bench_kernels,
        "bench_kernel",
        lambda kernel, device: small(kernel, num_steps=8, num_envs=4, repeats=5, device=device),
    )

    report = bench.bench_kernels(command="x")

    assert set(report.results) == set(bench_kernels.KERNELS)
    for result, table in zip(report.results.values(), report.tables, strict=True):
        assert all(ratio > 0 for ratio in result["ratio"].values())
        assert "| microseconds.definition.median |" in table.markdown()


def test_a_suite_compares_every_game_with_every_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_suite, "suites", lambda: {"two": ("Pong", "Boxing")})

    report = bench_suite.bench_suite(
        "two", num_envs=2, num_threads=[1], seconds=0.001, repeats=3, command="it"
    )

    games = report.results["games"]
    assert [game["game"] for game in games] == ["Pong", "Boxing"]
    for game in games:
        ours, ram, *others = game["rates"]
        assert (ours["name"], ram["name"]) == ("fastrl", "fastrl, RAM")
        assert list(game["ratios"]) == [peer["name"] for peer in others]
        assert "ale-py AtariVectorEnv" in game["ratios"]
        fastest = max(others, key=lambda peer: peer["steps_per_second"])
        assert game["best_peer"] == fastest["name"]
        assert game["ratio"] == game["ratios"][fastest["name"]]
        rounds = [a / b for a, b in zip(ours["samples"], fastest["samples"], strict=True)]
        assert game["ratio"]["median"] == statistics.median(rounds)
        assert (game["ratio"]["min"], game["ratio"]["max"]) == (min(rounds), max(rounds))

    (mean,) = report.results["geometric_means"]
    medians = [game["ratio"]["median"] for game in games]
    assert mean["ratio"] == pytest.approx(statistics.geometric_mean(medians))
    assert mean["lowest"] == min(medians)

    (table,) = report.tables
    assert table.title == "two, 1 thread, random actions, a step is 4 frames"
    assert all(len(row) == len(table.header) for row in table.rows)
    assert f"fastrl / {games[0]['best_peer']}" in table.header
    assert [row[0] for row in table.rows] == ["Pong", "Boxing", "geometric mean"]
    assert table.rows[-1][-3] == f"{mean['ratio']:.2f}"
