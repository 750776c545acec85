"""The Atari backend against a plain `ale_py.AtariVectorEnv`: same seeds, same actions, same bytes.

Few environments: ale-py takes a fifth of a second to load each.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ale_py import AtariVectorEnv

from fastrl.ale import AleEnvPool
from fastrl.atari import GAMES, ale_game

EMULATOR_INFO = ("env_id", "lives", "frame_number", "episode_frame_number")
COMMON_INFO = ("env_id", "reward", "game_over", "episode_return", "episode_length")

# Option corners; games are cut short so that every case sees ends of every kind it can have.
CASES: dict[str, dict[str, Any]] = {
    "defaults": {"game": "breakout", "max_num_frames_per_episode": 900},
    "sticky": {
        "game": "space_invaders",
        "repeat_action_probability": 0.25,
        "reward_clipping": False,
        "noop_max": 0,
        "max_num_frames_per_episode": 700,
    },
    "life-loss": {"game": "breakout", "life_loss_info": True, "max_num_frames_per_episode": 700},
    "episodic-life": {"game": "ms_pacman", "episodic_life": True, "full_action_space": True},
    "both": {"game": "breakout", "episodic_life": True, "life_loss_info": True},
    "color": {
        "game": "pong",
        "grayscale": False,
        "img_height": 40,
        "img_width": 30,
        "stack_num": 2,
        "frameskip": 3,
        "maxpool": False,
        "max_num_frames_per_episode": 500,
    },
    "one-life": {
        "game": "freeway",
        "use_fire_reset": False,
        "stack_num": 1,
        "max_num_frames_per_episode": 400,
    },
    "continuous": {"game": "breakout", "continuous": True, "max_num_frames_per_episode": 600},
}


@pytest.fixture
def pool() -> Iterator[AleEnvPool]:
    pool = AleEnvPool("ALE/Breakout-v5", num_envs=3, num_threads=2)
    yield pool
    pool.close()


def camel(rom: str) -> str:
    return next(name for name, game in GAMES.items() if game.name == rom)


def random_actions(rng: np.random.Generator, env: Any, count: int) -> Any:
    space = env.single_action_space
    if hasattr(space, "n"):
        return rng.integers(0, space.n, count)
    return rng.uniform(space.low, space.high, (count, *space.shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("case", "mode"),
    [(case, "NextStep") for case in CASES]
    + [(case, "SameStep") for case in ("defaults", "life-loss", "episodic-life", "both")],
)
def test_every_array_equals_ale_py(case: str, mode: str) -> None:
    options = dict(CASES[case])
    game = options.pop("game")
    theirs = AtariVectorEnv(game, 2, num_threads=1, autoreset_mode=mode, **options)
    ours = AleEnvPool(f"ALE/{camel(game)}-v5", 2, 2, autoreset_mode=mode, **options)
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.single_action_space == theirs.single_action_space

    (obs, info), (their_obs, their_info) = ours.reset(seed=7), theirs.reset(seed=7)
    np.testing.assert_array_equal(obs, their_obs)
    rng = np.random.default_rng(1)
    ends = lives_lost = 0
    while ends < 4:
        for key in EMULATOR_INFO:
            np.testing.assert_array_equal(info[key], their_info[key], err_msg=key)
        actions = random_actions(rng, theirs, 2)
        obs, reward, terminated, truncated, info = ours.step(actions)
        their_obs, their_reward, their_terminated, their_truncated, their_info = theirs.step(
            actions
        )
        np.testing.assert_array_equal(obs, their_obs)
        np.testing.assert_array_equal(reward, their_reward)
        np.testing.assert_array_equal(terminated, their_terminated)
        np.testing.assert_array_equal(truncated, their_truncated)
        assert obs.dtype == np.uint8
        assert reward.dtype == np.float32
        ended = terminated | truncated
        assert ("final_obs" in info) == ("final_obs" in their_info)
        assert ("final_obs" in info) == (mode == "SameStep" and ended.any())
        if "final_obs" in info:
            over = ended & info["game_over"]
            lost_life = ended & ~info["game_over"]
            np.testing.assert_array_equal(info["_final_obs"], ended)
            np.testing.assert_array_equal(info["final_obs"][over], their_info["final_obs"][over])
            # ale-py leaves these rows as the memory was; the game goes on from here.
            np.testing.assert_array_equal(info["final_obs"][lost_life], obs[lost_life])
        ends += int(np.count_nonzero(ended))
        lives_lost += int(np.count_nonzero(ended & ~info["game_over"]))
    assert (lives_lost > 0) == (case == "life-loss")
    ours.close()


def play(pool: Any, rng: np.random.Generator, steps: int) -> Iterator[tuple[Any, ...]]:
    """Steps with random actions; in `Disabled` mode resets the ended, and shows that as well."""
    for _ in range(steps):
        result = pool.step(rng.integers(0, pool.single_action_space.n, pool.num_envs))
        yield result
        over = result[4]["game_over"]
        if pool.autoreset_mode.value == "Disabled" and over.any():
            yield pool.reset(options={"reset_mask": over})


def sums_of_games(mode: str, **options: Any) -> list[list[tuple[float, int]]]:
    """(return, length) of each environment's games, added up from the steps."""
    pool = AleEnvPool("ALE/Breakout-v5", 3, 1, autoreset_mode=mode, **options)
    pool.reset(seed=3)
    games: list[list[tuple[float, int]]] = [[] for _ in range(3)]
    total, length, resetting = np.zeros(3), np.zeros(3, dtype=int), np.zeros(3, dtype=bool)
    for result in play(pool, np.random.default_rng(5), 260):
        if len(result) == 2:  # a reset by mask
            info = result[1]
            np.testing.assert_array_equal(info["episode_length"], length)
            continue
        info = result[4]
        total += np.where(resetting, 0, info["reward"])
        length += ~resetting
        over = info["game_over"]
        final = info.get("final_info", info)
        np.testing.assert_array_equal(final["episode_return"], total)
        np.testing.assert_array_equal(final["episode_length"], length)
        for i in np.flatnonzero(over):
            games[i].append((float(total[i]), int(length[i])))
        total[over], length[over] = 0, 0
        resetting = over & (mode == "NextStep")
        if mode == "SameStep":
            np.testing.assert_array_equal(info["episode_return"], total)
            np.testing.assert_array_equal(info["episode_length"], length)
    pool.close()
    return games


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_statistics_are_of_full_games_in_every_mode(mode: str) -> None:
    games = sums_of_games(mode, max_num_frames_per_episode=600)
    assert min(len(of_one) for of_one in games) >= 1


def test_lost_lives_and_clipping_leave_the_statistics_alone() -> None:
    options = {"max_num_frames_per_episode": 600}
    plain = sums_of_games("SameStep", **options)
    assert sums_of_games("SameStep", life_loss_info=True, **options) == plain
    assert sums_of_games("SameStep", reward_clipping=False, **options) == plain


def test_disabled_equals_next_step_without_the_reset_steps() -> None:
    def trajectory(mode: str) -> list[bytes]:
        pool = AleEnvPool("ALE/Pong-v5", 1, 1, autoreset_mode=mode, max_num_frames_per_episode=200)
        seen = [pool.reset(seed=11)[0].tobytes()]
        for t in range(150):
            action = np.array([t % 6])
            obs, _, _, _, info = pool.step(action)
            seen.append(obs.tobytes())
            if info["game_over"]:
                obs = (
                    pool.step(action)[0]
                    if mode == "NextStep"
                    else pool.reset(options={"reset_mask": np.array([True])})[0]
                )
                seen.append(obs.tobytes())
        pool.close()
        return seen

    assert trajectory("Disabled") == trajectory("NextStep")


def test_disabled_refuses_to_step_what_has_ended() -> None:
    pool = AleEnvPool("ALE/Pong-v5", 2, 1, autoreset_mode="Disabled", max_num_frames_per_episode=60)
    pool.reset(seed=1)
    while not (info := pool.step([0, 0])[4])["game_over"].any():
        pass
    frames = info["frame_number"]

    with pytest.raises(ValueError, match=r"environments .* have ended"):
        pool.step([0, 0])

    pool.reset(options={"reset_mask": info["game_over"]})
    after = pool.step([0, 0])[4]["frame_number"]
    over = info["game_over"]
    assert (after[~over] <= frames[~over] + 4).all()  # the refused step was not taken
    pool.close()


def test_a_masked_reset_equals_ale_py(pool: AleEnvPool) -> None:
    theirs = AtariVectorEnv("breakout", 3, num_threads=1)
    mask = np.array([True, False, True])
    pool.reset(seed=[4, 40, 400])
    theirs.reset(seed=np.array([4, 40, 400]))
    for env in (pool, theirs):
        for _ in range(20):
            env.step(np.array([1, 2, 3]))

    obs, info = pool.reset(seed=9, options={"reset_mask": mask})
    their_obs, their_info = theirs.reset(seed=9, options={"reset_mask": mask})

    np.testing.assert_array_equal(obs, their_obs)
    for key in EMULATOR_INFO:
        np.testing.assert_array_equal(info[key], their_info[key])
    assert info["episode_length"].tolist() == [0, 20, 0]
    assert not info["game_over"].any()
    np.testing.assert_array_equal(pool.step([0, 0, 0])[0], theirs.step(np.zeros(3, int))[0])


def test_asynchronous_equals_synchronous_up_to_order() -> None:
    options = {"max_num_frames_per_episode": 160}
    together = AleEnvPool("ALE/Breakout-v5", 3, 1, **options)
    apart = AleEnvPool("ALE/Breakout-v5", 3, 2, batch_size=2, **options)
    expected: list[list[bytes]] = [[] for _ in range(3)]
    seen: list[list[bytes]] = [[] for _ in range(3)]

    def record(into: list[list[bytes]], *arrays: Any, info: dict[str, Any]) -> None:
        columns = (*arrays, *(info[key] for key in (*COMMON_INFO, *EMULATOR_INFO)))
        for row, i in enumerate(info["env_id"]):
            into[i].append(b"".join(column[row].tobytes() for column in columns))

    obs, info = together.reset(seed=2)
    record(expected, obs, info=info)
    for t in range(60):
        obs, *_, info = together.step(np.full(3, t % 4))
        record(expected, obs, info=info)
    apart.async_reset(seed=2)
    while min(len(of_one) for of_one in seen) < 50:
        obs, *_, info = apart.recv()
        record(seen, obs, info=info)
        ids = info["env_id"][::-1]  # any order
        apart.send([(len(seen[i]) - 1) % 4 for i in ids], ids)

    for ours, theirs in zip(seen, expected, strict=True):
        assert ours[:50] == theirs[:50]
    apart.async_reset(seed=2)  # drops what is in flight
    obs, *_, info = apart.recv()
    assert info["episode_length"].tolist() == [0, 0]
    record(fresh := [[], [], []], obs, info=info)
    assert all(not rows or rows == theirs[:1] for rows, theirs in zip(fresh, expected, strict=True))
    together.close()
    apart.close()


def test_what_the_asynchronous_pool_cannot_do_is_refused() -> None:
    pool = AleEnvPool("ALE/Pong-v5", 3, 1, batch_size=2)
    with pytest.raises(ValueError, match="use async_reset and recv"):
        pool.reset(seed=1)
    with pytest.raises(RuntimeError, match="use send and recv"):
        pool.step([0, 0, 0])
    with pytest.raises(RuntimeError, match="reset"):
        pool.recv()
    pool.async_reset(seed=1)
    with pytest.raises(RuntimeError, match="no batch waits for actions"):
        pool.send([0, 0], [0, 1])
    ids = pool.recv()[4]["env_id"]
    with pytest.raises(RuntimeError, match="wait for actions"):
        pool.recv()
    with pytest.raises(ValueError, match=r"received last, \[0, 1\] in any order, got \[0, 2\]"):
        pool.send([0, 0], [0, 2])
    pool.send([0, 0], ids)
    pool.recv()
    pool.close()


def test_a_timeout_loses_nothing(pool: AleEnvPool) -> None:
    expected, _ = pool.reset(seed=1)
    expected = pool.step([1, 1, 1])[0]
    pool.async_reset(seed=1)
    pool.recv()
    deliver, started = pool._env.recv, time.perf_counter()

    class Slow:
        """ale-py on a slow day."""

        def recv(self) -> Any:
            time.sleep(0.3)
            return deliver()

        def __getattr__(self, name: str) -> Any:
            return getattr(ale_py_env, name)

    ale_py_env, pool._env = pool._env, Slow()
    pool.send([1, 1, 1], [0, 1, 2])
    with pytest.raises(TimeoutError, match="nothing is lost"):
        pool.recv(timeout=0.01)
    assert time.perf_counter() - started < 0.3
    np.testing.assert_array_equal(pool.recv(timeout=30)[0], expected)
    with pytest.raises(RuntimeError, match="wait for actions"):
        pool.recv(timeout=0)


def test_out_is_written_and_returned(pool: AleEnvPool) -> None:
    expected = pool.reset(seed=1)[0]
    out = {"obs": np.empty_like(expected), "reward": np.empty(3, np.float32)}
    obs, _ = pool.reset(seed=1, out=out["obs"])
    assert obs is out["obs"]
    np.testing.assert_array_equal(obs, expected)
    obs, reward, *_ = pool.step([1, 1, 1], out=out)
    assert obs is out["obs"]
    assert reward is out["reward"]
    before = pool.reset(seed=1)[1]["frame_number"]
    for wrong, message in (
        ({"obs": np.empty((3, 4), np.uint8)}, r"out\['obs'\] must be uint8 of shape"),
        ({"reward": np.empty(3)}, r"out\['reward'\] must be float32.*got float64"),
        ({"lives": np.empty(3)}, "no field 'lives'"),
    ):
        with pytest.raises(ValueError, match=message):
            pool.step([1, 1, 1], out=wrong)
    np.testing.assert_array_equal(pool.step([1, 1, 1])[4]["frame_number"], before + 4)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 4, 0], r"in \[0, 3\], got 4"),
        ([0, -1, 0], r"in \[0, 3\], got -1"),
        ([0, 0], r"shape \(3,\), got \(2,\)"),
        ([0.0, 0.0, 0.0], "int64, got float64"),
    ],
)
def test_bad_actions_are_refused_before_anything_moves(
    pool: AleEnvPool, actions: Any, message: str
) -> None:
    frames = pool.reset(seed=1)[1]["frame_number"]
    with pytest.raises(ValueError, match=message):
        pool.step(actions)
    np.testing.assert_array_equal(pool.step([0, 0, 0])[4]["frame_number"], frames + 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": "ALE/Combat-v5"}, "ALE/Combat-v5"),
        ({"id": "Pong-v5"}, "'Pong-v5' is not"),
        ({"frame_skip": 4}, "no option frame_skip; ALE games have frameskip,"),
        ({"mode": 2}, "mode=2: the ale backend"),
        ({"difficulty": 1}, "difficulty=1: the ale backend"),
        ({"obs_type": "ram"}, "obs_type='ram': the ale backend"),
        ({"frameskip": 0}, "frameskip must be an integer >= 1, got 0"),
        ({"stack_num": 0}, "stack_num"),
        ({"img_height": 8.5}, "img_height"),
        ({"noop_max": -1}, "noop_max must be an integer >= 0"),
        ({"max_num_frames_per_episode": 0}, "max_num_frames_per_episode"),
        ({"repeat_action_probability": 2.0}, r"in \[0, 1\], got 2\.0"),
        ({"grayscale": 1}, "grayscale must be bool, got 1"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
        ({"num_threads": -1}, "num_threads"),
        ({"batch_size": 3}, "batch_size must be at most num_envs 2"),
        ({"autoreset_mode": "Sometimes"}, "Sometimes"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AleEnvPool(**({"id": "ALE/Pong-v5", "num_envs": 2} | options))


@pytest.mark.parametrize(
    ("seed", "message"),
    [
        (-1, "got -1 to 1"),
        (2**31 - 2, "got 2147483646 to 2147483648"),
        ([1, 2], "seed needs 3 values"),
        (1.5, "must be an int"),
        (True, "must be an int"),
    ],
)
def test_bad_seeds_are_named(pool: AleEnvPool, seed: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool.reset(seed=seed)


def test_bad_masks_are_named(pool: AleEnvPool) -> None:
    mask = {"reset_mask": np.array([True, False, False])}
    with pytest.raises(ValueError, match="reset of all environments before"):
        pool.reset(options=mask)
    pool.reset(seed=1)
    with pytest.raises(ValueError, match=r"bool of shape \(3,\)"):
        pool.reset(options={"reset_mask": [1, 0, 0]})
    with pytest.raises(ValueError, match="no option"):
        pool.reset(options={"mask": None})


def test_a_pool_refuses_what_it_cannot_do(pool: AleEnvPool) -> None:
    with pytest.raises(RuntimeError, match="no batch waits"):
        pool.step([0, 0, 0])
    with pytest.raises(NotImplementedError, match="ale backend"):
        pool.get_state()
    with pytest.raises(NotImplementedError, match="ale backend"):
        pool.set_state(b"")
    pool.reset(seed=1)
    pool._process -= 1
    with pytest.raises(RuntimeError, match="fork"):
        pool.step([0, 0, 0])
    pool._process = os.getpid()
    pool.close()
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.step([0, 0, 0])


def test_a_pool_may_be_dropped_in_flight_and_at_exit() -> None:
    code = """
import fastrl.ale
pool = fastrl.ale.AleEnvPool("ALE/Pong-v5", num_envs=2, num_threads=1)
pool.reset(seed=1)
pool.send([0, 0], [0, 1])
try:
    pool.recv(timeout=0)
except TimeoutError:
    pass
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_list_of_games_is_ale_pys() -> None:
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    registered = {
        spec.id.removeprefix("ALE/").removesuffix("-v5"): spec.kwargs["game"]
        for spec in gymnasium.registry.values()
        if spec.id.startswith("ALE/") and spec.id.endswith("-v5")
    }
    assert {name: ale_game(f"ALE/{name}-v5").name for name in GAMES} == registered
    assert len(GAMES) == 104
    for rom in registered.values():
        assert ale_py.roms.get_rom_path(rom) is not None


def test_importing_the_backend_does_not_load_ale_py() -> None:
    code = "import sys, fastrl.ale; assert not {'ale_py', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_new_game_with_fewer_lives_than_the_last_is_no_lost_life() -> None:
    pool = AleEnvPool("ALE/Pong-v5", 1, 1, life_loss_info=True, max_num_frames_per_episode=60)
    pool.reset(seed=1)
    while not pool.step([0])[4]["game_over"].any():
        pass
    pool._lives[:] = 9  # as in a game that hands out lives, cut by the time limit

    _, _, terminated, truncated, info = pool.step([0])

    assert info["episode_length"] == [0]
    assert not terminated.any()
    assert not truncated.any()
    pool.close()
