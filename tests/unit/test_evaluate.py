"""Evaluation: how many games, which, and what is counted."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrl
from fastrl import evaluate
from fastrl.config import config_for
from fastrl.train import environment_seeds, train


class Clocks:
    """Environments whose every game lasts `lengths[i]` steps and pays `rewards[i]` a step."""

    def __init__(self, lengths: list[int], rewards: list[float] | None = None) -> None:
        self.num_envs = len(lengths)
        self.lengths = np.array(lengths)
        self.rewards = np.array(rewards if rewards is not None else [1.0] * self.num_envs)
        self.time = np.zeros(self.num_envs, dtype=np.int64)
        self.ended = np.ones(self.num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        mask = np.ones(self.num_envs, dtype=bool) if options is None else options["reset_mask"]
        self.time[mask] = 0
        self.ended[mask] = False
        return self.time.copy(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        assert not self.ended.any(), "an ended game was stepped"
        self.time += 1
        self.ended = self.time >= self.lengths
        info = {
            "reward": self.rewards,
            "episode_return": self.time * self.rewards,
            "episode_length": self.time.copy(),
        }
        clipped = np.sign(self.rewards)
        return self.time.copy(), clipped, self.ended, np.zeros(self.num_envs, dtype=bool), info


def still(obs: Any) -> Any:
    return np.zeros(len(obs), dtype=np.int64)


@given(st.integers(1, 20), st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_each_environment_plays_its_share_however_long_its_games(
    episodes: int, lengths: list[int]
) -> None:
    games = evaluate.play(Clocks(lengths), still, seed=0, episodes=episodes, max_steps=1000)

    assert len(games) == episodes
    counts = np.bincount([game.env_id for game in games], minlength=len(lengths))
    assert counts.max() - counts.min() <= 1
    assert all(game.length == lengths[game.env_id] for game in games)


def test_returns_are_unclipped() -> None:
    (game,) = evaluate.play(Clocks([4], [7.0]), still, seed=0, episodes=1, max_steps=1000)

    assert game.episode_return == 28.0


def test_a_game_is_cut_at_the_step_cap() -> None:
    games = evaluate.play(Clocks([50, 5]), still, seed=0, episodes=2, max_steps=20)

    assert [(game.length, game.ending) for game in games] == [(20, "truncated"), (5, "terminated")]


def test_a_game_without_rewards_is_cut_as_no_progress() -> None:
    pool = Clocks([10**6, 15], [0.0, 0.0])

    games = evaluate.play(pool, still, seed=0, episodes=3, max_steps=10**6, no_progress_steps=20)

    endings = [(game.env_id, game.length, game.ending) for game in games]
    assert endings == [(0, 20, "no_progress"), (0, 20, "no_progress"), (1, 15, "terminated")]


def test_rewards_keep_a_long_game_alive() -> None:
    (game,) = evaluate.play(
        Clocks([500]), still, seed=0, episodes=1, max_steps=1000, no_progress_steps=2
    )

    assert (game.length, game.ending) == (500, "terminated")


def test_the_film_shows_the_first_game_of_environment_0_and_its_end() -> None:
    seen: list[int] = []

    evaluate.play(
        Clocks([3, 9]),
        still,
        seed=0,
        episodes=4,
        max_steps=1000,
        watch=lambda obs: seen.append(int(obs)),
    )

    assert seen == [0, 1, 2, 3]


def test_a_pool_plays_full_games_of_catch() -> None:
    pool: Any = fastrl.make("Catch-v0", num_envs=4, autoreset_mode="Disabled")

    games = evaluate.play(pool, still, seed=3, episodes=10, max_steps=1000)

    pool.close()
    assert [game.env_id for game in games] == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    assert {game.length for game in games} == {9}
    assert {game.episode_return for game in games} <= {-1.0, 1.0}


def test_the_bootstrap_interval_brackets_the_mean_and_repeats() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, size=200).tolist()

    low, high = evaluate.bootstrap_interval(values)

    # The normal approximation of the same interval, within a tenth of its half-width.
    half = 1.96 * np.std(values) / np.sqrt(len(values))
    assert low == pytest.approx(np.mean(values) - half, abs=0.1 * half)
    assert high == pytest.approx(np.mean(values) + half, abs=0.1 * half)
    assert (low, high) == evaluate.bootstrap_interval(values)


def test_every_published_game_is_one_that_can_be_played() -> None:
    named = {f"ALE/{game}-v5" for game in evaluate.human_scores()}
    assert len(named) == 57
    assert named <= set(fastrl.list_envs())


def test_published_scores_are_those_of_atari_57() -> None:
    assert evaluate.published_scores("ALE/Breakout-v5") == (1.7, 30.5)
    assert evaluate.published_scores("MinAtar/Breakout-v1") is None
    assert evaluate.published_scores("ALE/Adventure-v5") is None


def test_the_human_normalised_score_is_0_for_random_and_1_for_human() -> None:
    facts = {
        "env_id": "ALE/Breakout-v5", "checkpoint": "", "global_step": 0, "seed": 0, "num_envs": 1,
        "greedy": False, "max_steps": 1, "no_progress_steps": 0, "env_options": {},
    }  # fmt: skip

    def score(value: float) -> float | None:
        game = evaluate.Game(env_id=0, episode_return=value, length=1, ending="terminated")
        return evaluate._summarise([game], **facts).human_normalized

    assert score(1.7) == 0.0
    assert score(30.5) == 1.0


@given(st.integers(0, 2**31 - 1), st.integers(1, 64))
def test_an_evaluation_never_starts_from_a_seed_of_training(seed: int, num_envs: int) -> None:
    trained_on = environment_seeds(seed, 128)

    first = evaluate.unseen_seed(seed, num_envs, trained_on)

    assert set(range(first, first + num_envs)).isdisjoint(trained_on)
    assert first + num_envs < 2**31 + evaluate.MAX_PARALLEL_GAMES


def test_a_collision_with_training_moves_the_seeds_on() -> None:
    taken = 5 + evaluate.EVAL_SEED_OFFSET + 3

    assert evaluate.unseen_seed(5, 10, [taken]) == 5 + evaluate.EVAL_SEED_OFFSET + 10


@pytest.fixture(scope="module")
def catch_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of Catch that has learned something, in a second."""
    run_dir = tmp_path_factory.mktemp("runs") / "catch"
    train(config_for("Catch-v0", total_steps=4096, run_dir=str(run_dir), torch_threads=1))
    return run_dir


def test_a_run_is_evaluated_on_exactly_the_games_asked_for(catch_run: Path) -> None:
    report = evaluate.evaluate(catch_run, 70)

    assert report.episodes == len(report.games) == 70
    assert report.num_envs == 64
    assert report.global_step == 4096
    assert report.mean == pytest.approx(np.mean([game.episode_return for game in report.games]))
    assert report.ci_low <= report.mean <= report.ci_high
    saved = json.loads((catch_run / "eval.json").read_text())
    assert saved == json.loads(json.dumps(asdict(report)))


def test_the_same_seed_gives_the_same_report(catch_run: Path) -> None:
    first, again, other = (evaluate.evaluate(catch_run, 20, seed=seed) for seed in (7, 7, 8))

    assert first == again
    assert first.games != other.games


def test_greedy_and_sampled_actions_differ(catch_run: Path) -> None:
    sampled = evaluate.evaluate(catch_run, 200, seed=7)
    greedy = evaluate.evaluate(catch_run, 200, seed=7, greedy=True)

    assert sampled.games != greedy.games


def test_an_atari_run_is_scored_beside_random_and_human_play(tmp_path: Path) -> None:
    config = config_for(
        "ALE/Pong-v5",
        total_steps=8,
        num_envs=1,
        num_steps=8,
        num_minibatches=1,
        update_epochs=1,
        torch_threads=1,
        run_dir=str(tmp_path / "run"),
    )
    train(config)

    report = evaluate.evaluate(tmp_path / "run", 1)

    assert report.env_options["episodic_life"] is report.env_options["life_loss_info"] is False
    assert report.max_steps == 27_000
    assert (report.random_score, report.human_score) == (-20.7, 14.6)
    assert report.human_normalized == pytest.approx((report.mean + 20.7) / (14.6 + 20.7))


def test_seeds_of_training_are_refused(catch_run: Path) -> None:
    seed = environment_seeds(1, 64)[0]

    with pytest.raises(ValueError, match=f"trained on {seed}"):
        evaluate.evaluate(catch_run, 1, seed=seed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"episodes": 0}, "episodes"), ({"seed": -1}, "seed"), ({"seed": 2**31}, "seed")],
)
def test_numbers_out_of_range_are_named(
    catch_run: Path, arguments: dict[str, int], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        evaluate.evaluate(catch_run, **arguments)
